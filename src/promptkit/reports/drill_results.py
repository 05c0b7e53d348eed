"""The result of a drill: the counts of each outage, which checks fail, and what to change. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from promptkit.errors import counted
from promptkit.reports.drill_outages import ALL, ALL_S, HINT_S, WELL, Outage
from promptkit.reports.drill_setup import DrillFacts
from promptkit.types import dollars

MAX_REQUESTS_PER_ROW, EXTRA_REQUESTS = 3, 30
"""The requests that are acceptable per row, and to detect the outage and its end."""
_LONG_S = 60.0
"""A longer wait for the first reply is worth a note."""
_ALL_OUTAGE_S = 600
"""Long enough for the outage of all providers and the backoff after it."""


@dataclass(frozen=True, slots=True)
class OutageCounts:
    """What happened to the rows of one outage. Times are simulated seconds.

    Attributes:
        rows: all rows.
        replied: rows with a reply from the route.
        degraded: rows with a reply from the last resort.
        pending: rows that need another start.
        requests: requests to the providers; a refused connection counts.
        paid_twice: complete, billed replies beyond one per row.
        over_pico: spent above a cap, or billed above what the ledger charged.
        charged_pico: charged in the ledger, unknown costs at their max cost.
        hints_ignored: requests that were sent before a Retry-After had passed.
        first_reply_s: until the first reply; None without any.
        seconds: until the last row ended.
        stop: the reason why the job stopped early.
    """

    rows: int
    replied: int = 0
    degraded: int = 0
    pending: int = 0
    requests: int = 0
    paid_twice: int = 0
    over_pico: int = 0
    charged_pico: int = 0
    hints_ignored: int = 0
    first_reply_s: float | None = None
    seconds: float = 0.0
    stop: str = ""

    @property
    def lost(self) -> int:
        """Rows without a reply."""
        return self.rows - self.replied - self.degraded

    @property
    def requests_per_reply(self) -> float | None:
        """Requests per reply; None without a reply."""
        replies = self.replied + self.degraded
        return self.requests / replies if replies else None


@dataclass(frozen=True, slots=True)
class OutageResult:
    """An outage and its counts."""

    outage: Outage
    counts: OutageCounts


def paid_twice(lines: Iterable[Mapping[str, Any]], replies: int) -> int:
    """Return the number of complete, billed replies beyond those that the rows have.

    Args:
        lines: the lines of the simulator's bill.
        replies: how many rows have a reply.
    """
    return max(sum(line["billed"] and line["delivered"] for line in lines) - replies, 0)


def hints_ignored(journal: Iterable[Mapping[str, Any]], concurrency: int) -> int:
    """Return the number of requests that were sent to a provider before its retry-after hint had passed.

    Args:
        journal: the simulator's journal, in order.
        concurrency: calls in flight at once. So many requests may be on their way at the first hint.
    """
    until: dict[str, float] = {}
    in_flight: dict[str, int] = {}
    ignored = 0
    for entry in journal:
        provider, hint_s = entry["provider"], entry["retry_after_s"]
        at_s = datetime.fromisoformat(entry["time"]).timestamp()
        if at_s < until.get(provider, 0.0):
            ignored += in_flight[provider] == 0
            in_flight[provider] -= in_flight[provider] > 0
        elif hint_s is not None:
            in_flight[provider] = concurrency - 1
        if hint_s is not None:
            until[provider] = max(until.get(provider, 0.0), at_s + hint_s)
    return ignored


def failed_checks(counts: OutageCounts) -> tuple[str, ...]:
    """Return the checks that an outage fails; none if it passes."""
    checks = (
        (counts.lost, counted(counts.lost, "row") + " lost"),
        (counts.paid_twice, f"{counts.paid_twice} paid twice"),
        (counts.over_pico, f"{dollars(counts.over_pico)} overspent"),
        (counts.hints_ignored, counted(counts.hints_ignored, "hint") + " ignored"),
        (
            counts.requests > MAX_REQUESTS_PER_ROW * counts.rows + EXTRA_REQUESTS,
            counted(counts.requests, "request"),
        ),
    )
    return tuple(text for fails, text in checks if fails)


def advice(facts: DrillFacts, results: Sequence[OutageResult]) -> tuple[str, ...]:
    """Return what to change so that the next drill passes, the most helpful first."""
    return tuple(dict.fromkeys(text for rule in _ADVICE for text in rule(facts, results)))


def notes(facts: DrillFacts, results: Sequence[OutageResult]) -> tuple[str, ...]:
    """Return what is worth knowing, although it fails no check."""
    return tuple(text for rule in _NOTES for text in rule(facts, results))


def _lost(results: Sequence[OutageResult], *kinds: str) -> list[OutageResult]:
    return [result for result in results if result.counts.lost and result.outage.kind in kinds]


def _without_outage(_facts: DrillFacts, results: Sequence[OutageResult]) -> Iterator[str]:
    for result in _lost(results, WELL):
        why = f": {result.counts.stop}" if result.counts.stop else ""
        yield f"rows are lost without an outage{why}; `promptkit render` and `promptkit budgets` show more"


def _caps(facts: DrillFacts, results: Sequence[OutageResult]) -> Iterator[str]:
    stops = [result.counts.stop for result in results if "cap" in result.counts.stop]
    if stops:
        yield (
            f"[budgets] has no room for {counted(facts.rows, 'call')} and their failed attempts: {stops[0]}. "
            "Raise that cap; an attempt without an answer is charged at its max cost"
        )


def _single_provider(facts: DrillFacts, results: Sequence[OutageResult]) -> Iterator[str]:
    kinds = ("down", "silent", "credit", "cut", "stream", "throttled")
    if len(facts.providers) == 1 and _lost(results, *kinds):
        yield (
            f"all calls go to {facts.providers[0].name} alone: "
            f"add a target at another provider to {facts.config_table}"
        )


def _two_providers(facts: DrillFacts, results: Sequence[OutageResult]) -> Iterator[str]:
    if len(facts.providers) == 2 and _lost(results, ALL):  # noqa: PLR2004 - a pair
        yield "two providers can be down at once: a third provider, or a last_resort, still replies then"


def _attempts(facts: DrillFacts, results: Sequence[OutageResult]) -> Iterator[str]:
    route = facts.route
    targets = len(route.targets) + (route.last_resort is not None)
    if route.attempts < targets and any(result.counts.lost for result in results):
        yield (
            f"attempts = {route.attempts} in {facts.config_table} is fewer than its {targets} targets: "
            f"attempts = {2 * targets} allows two per target"
        )


def _outage(facts: DrillFacts, results: Sequence[OutageResult]) -> Iterator[str]:
    route = facts.route
    if not _lost(results, ALL):
        return
    if route.outage_s < _ALL_OUTAGE_S:
        yield (
            f"outage_s = {route.outage_s:g} is shorter than {ALL_S / 60:.0f} minutes without any provider and "
            f"the backoff after them: outage_s = {_ALL_OUTAGE_S} is long enough. The same command sends "
            "pending rows, and --retry-failed those that failed"
        )
    if route.last_resort is None:
        yield (
            f'{facts.config_table} has no last_resort: last_resort = "local/smollm2-135m" replies when '
            "no provider does, and such rows are degraded"
        )


def _never(_facts: DrillFacts, results: Sequence[OutageResult]) -> Iterator[str]:
    names = [
        result.outage.name
        for result in results
        if result.counts.paid_twice or result.counts.over_pico or result.counts.hints_ignored
    ]
    if names:
        yield (
            f"no configuration should pay twice, overspend or ignore a hint ({', '.join(names)}): "
            "please report it, with the output of --json"
        )


def _keys(facts: DrillFacts, _results: Sequence[OutageResult]) -> Iterator[str]:
    if facts.keyless:
        with_key = [provider.name for provider in facts.providers if provider.name not in facts.keyless]
        have = "has" if len(facts.keyless) == 1 else "have"
        rest = f"only {' and '.join(with_key)} can be called" if with_key else "no call is possible"
        yield f"the drill assumes a key for every provider; {', '.join(facts.keyless)} {have} none, so {rest}"


def _short_outage_s(facts: DrillFacts, results: Sequence[OutageResult]) -> Iterator[str]:
    late = [
        result
        for result in results
        if result.outage.kind == "throttled" and (result.counts.first_reply_s or 0.0) > 2 * HINT_S
    ]
    if max(facts.route.max_wait_s, facts.route.outage_s) < HINT_S and late:
        yield (
            f"outage_s = {facts.route.outage_s:g} is shorter than the {HINT_S:.0f} s retry-after hint of a "
            f"throttled provider, so the job stopped until its next start: outage_s = {2 * HINT_S:.0f} waits for it"
        )


def _long_timeouts(facts: DrillFacts, results: Sequence[OutageResult]) -> Iterator[str]:
    for result in results:
        for name in result.outage.affected if result.outage.kind == "silent" else ():
            if min(result.counts.first_reply_s or 0.0, facts.timeouts_s[name]) > _LONG_S:
                yield (
                    f"calls to a silent {name} wait for timeout_s = {facts.timeouts_s[name]:g}: "
                    f"[providers.{name}] timeout_s = 60 starts the failover sooner"
                )


def _degraded(_facts: DrillFacts, results: Sequence[OutageResult]) -> Iterator[str]:
    names = [result.outage.name for result in results if result.counts.degraded]
    if names:
        yield (
            f"the last resort replied in {', '.join(names)}: such rows are degraded, "
            "and --retry-failed sends them again"
        )


_Rule = Callable[[DrillFacts, Sequence[OutageResult]], Iterator[str]]
_ADVICE: tuple[_Rule, ...] = (
    _without_outage,
    _caps,
    _single_provider,
    _attempts,
    _outage,
    _two_providers,
    _never,
)
_NOTES: tuple[_Rule, ...] = (_keys, _short_outage_s, _long_timeouts, _degraded)
