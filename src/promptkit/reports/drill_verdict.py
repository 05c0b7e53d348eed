"""Whether what was played is clean, and what to change in the configuration where it isn't. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from promptkit.errors import counted
from promptkit.types import dollars

from .drill import Facts, Played, Tally
from .drill_scenarios import ALL, ALL_S, HINT_S, WELL

MOST_A_ROW, SPARE = 3, 30
"""So many requests a row, and so many to find out that targets are ill and when they are well; more hammer them."""


_LONG_S: Final = 60.0
"""Who waits longer for the first answer should know it."""


_PATIENT_S: Final = 600
"""Waits out the longest pause that follows five minutes of an outage."""


def faults_of(tally: Tally) -> tuple[str, ...]:
    """What isn't clean; nothing where all is."""
    told = (
        (tally.lost, counted(tally.lost, "row") + " lost"),
        (tally.paid_twice, f"{tally.paid_twice} paid twice"),
        (tally.over_pico, f"{dollars(tally.over_pico)} overspent"),
        (tally.hints_ignored, counted(tally.hints_ignored, "hint") + " ignored"),
        (tally.requests > MOST_A_ROW * tally.rows + SPARE, counted(tally.requests, "request")),
    )
    return tuple(text for wrong, text in told if wrong)


def advice(facts: Facts, played: Sequence[Played]) -> tuple[str, ...]:
    """What to change so that the next drill is clean, the most helpful first."""
    return tuple(dict.fromkeys(text for rule in _RULES for text in rule(facts, played)))


def notes(facts: Facts, played: Sequence[Played]) -> tuple[str, ...]:
    """What is worth knowing, though it spoils no verdict."""
    return tuple(text for rule in _NOTES for text in rule(facts, played))


def _lost(played: Sequence[Played], *kinds: str) -> list[Played]:
    return [one for one in played if one.tally.lost and one.outage.kind in kinds]


def _on_a_good_day(facts: Facts, played: Sequence[Played]) -> Iterator[str]:
    del facts
    for one in _lost(played, WELL):
        why = f": {one.tally.stop}" if one.tally.stop else ""
        yield f"rows are lost though nothing is wrong{why}; `promptkit render` and `promptkit budgets` tell more"


def _caps(facts: Facts, played: Sequence[Played]) -> Iterator[str]:
    stops = [one.tally.stop for one in played if "cap" in one.tally.stop]
    if stops:
        yield (
            f"[budgets] leaves no room for {counted(facts.rows, 'call')} and what fails among them: {stops[0]}. "
            "Raise that cap; what is never answered counts at its ceiling"
        )


def _one_provider(facts: Facts, played: Sequence[Played]) -> Iterator[str]:
    if len(facts.players) == 1 and _lost(played, "down", "silent", "credit", "cut", "stream", "throttled"):
        yield (
            f"all of it leads to {facts.players[0].name} alone: add a target at another provider to {facts.place}"
        )


def _two_providers(facts: Facts, played: Sequence[Played]) -> Iterator[str]:
    if len(facts.players) == 2 and _lost(played, ALL):  # noqa: PLR2004 - a pair
        yield "two providers can be down at once: a third one, or a last_resort, still answers then"


def _attempts(facts: Facts, played: Sequence[Played]) -> Iterator[str]:
    route = facts.route
    wanted = len(route.targets) + (route.last_resort is not None)
    if route.attempts < wanted and any(one.tally.lost for one in played):
        yield (
            f"attempts = {route.attempts} in {facts.place} is fewer than its {wanted} targets: "
            f"attempts = {2 * wanted} gives each its turn, and one more"
        )


def _hint(facts: Facts, played: Sequence[Played]) -> Iterator[str]:
    late = [
        one for one in played if one.outage.kind == "throttled" and (one.tally.first_s or 0.0) > 2 * HINT_S
    ]
    if max(facts.route.max_wait_s, facts.route.outage_s) < HINT_S and late:
        yield (
            f"outage_s = {facts.route.outage_s:g} is shorter than the {HINT_S:.0f} s that a throttled provider "
            f"asks for, so the job stopped and waited for its next start: outage_s = {2 * HINT_S:.0f} waits for it"
        )


def _outage(facts: Facts, played: Sequence[Played]) -> Iterator[str]:
    route = facts.route
    if not _lost(played, ALL):
        return
    if route.outage_s < _PATIENT_S:
        yield (
            f"outage_s = {route.outage_s:g} is shorter than {ALL_S / 60:.0f} minutes without any provider and the "
            f"pauses after them: outage_s = {_PATIENT_S} waits them out. Rows that wait nevertheless are sent by "
            "the same command, those that failed with --retry-failed"
        )
    if route.last_resort is None:
        yield (
            f'{facts.place} has no last_resort: last_resort = "local/smollm2-135m" answers, marked degraded, '
            "where nobody else does"
        )


def _never(facts: Facts, played: Sequence[Played]) -> Iterator[str]:
    del facts
    spoiled = [
        one for one in played if one.tally.paid_twice or one.tally.over_pico or one.tally.hints_ignored
    ]
    if spoiled:
        yield (
            f"no configuration should pay twice, overspend or ignore a hint ({', '.join(one.outage.name for one in spoiled)}): "
            "please report it, with the output of --json"
        )


def _keys(facts: Facts, played: Sequence[Played]) -> Iterator[str]:
    del played
    if not facts.keyless:
        return
    left = [one.name for one in facts.players if one.name not in facts.keyless]
    rest = f"{' and '.join(left)} alone" if left else "no one"
    yield f"played with keys for all: here {', '.join(facts.keyless)} {'has' if len(facts.keyless) == 1 else 'have'} none, so calls go to {rest}"


def _waits(facts: Facts, played: Sequence[Played]) -> Iterator[str]:
    for one in played:
        for name in one.outage.struck if one.outage.kind == "silent" else ():
            if min(one.tally.first_s or 0.0, facts.timeouts_s[name]) > _LONG_S:
                yield (
                    f"a silent {name} holds its calls for timeout_s = {facts.timeouts_s[name]:g}: "
                    f"[providers.{name}] timeout_s = 60 lets the others answer sooner"
                )


def _waiting(facts: Facts, played: Sequence[Played]) -> Iterator[str]:
    del facts
    names = [one.outage.name for one in played if one.tally.degraded]
    if names:
        yield f"the last resort answered in {', '.join(names)}: such rows are degraded, --retry-failed does them again"


_Rule = Callable[[Facts, Sequence[Played]], Iterator[str]]


_RULES: Final[tuple[_Rule, ...]] = (
    _on_a_good_day,
    _caps,
    _one_provider,
    _attempts,
    _outage,
    _two_providers,
    _never,
)


_NOTES: Final[tuple[_Rule, ...]] = (_keys, _hint, _waits, _waiting)
