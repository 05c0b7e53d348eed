"""The command `report`: the books added up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from promptkit.batch.columns import usd_text
from promptkit.cli import option_texts
from promptkit.errors import counted
from promptkit.ledger.records import Money
from promptkit.reports.report import Report, ReportGroup, ReportQuery, make_report, parse_by
from promptkit.types import Json, dollars

from .face import Face
from .money import spent
from .times import read_time

By = Annotated[
    list[str] | None,
    typer.Option(
        "--by",
        metavar="NAMES",
        help="template, client, target, job, day, deliverable or any tag; several with commas.",
    ),
]


Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="2h, 7d, today, yesterday, 2026-11-21, 2026-11-21T22:00."),
]


Until = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Up to then; a day counts to its end.")
]


Template = Annotated[
    str | None, typer.Option("--template", metavar="REF", help="Only that template: ugc/hooks, ugc/hooks@1.")
]


Job = Annotated[str | None, typer.Option("--job", metavar="NAME", help="Only that job.")]


Count = Annotated[
    int, typer.Option("-n", "--count", metavar="N", min=1, help="So many groups in the table; JSON has all.")
]


Tags = Annotated[
    list[str] | None, typer.Option("--tag", metavar="K=V", help="Only calls with that tag. Repeatable.")
]


def report(
    face: Face,
    by: By = None,
    since: Since = None,
    until: Until = None,
    tag: Tags = None,
    template: Template = None,
    job: Job = None,
    count: Count = 100,
) -> None:
    """Add up what was spent, by client, template, day ...

    Every call and every attempt is in one group, so that groups add up to the ledger. Days are
    budget days: they begin at day_starts_at. What was lost to retries is the cost of attempts
    whose reply was not kept. A rate in [clients.NAME] gives the margin.

    Examples:
        promptkit report
        promptkit report --by client --since 7d
        promptkit report --by day,template --tag client=barly --since 2026-11-01 --until 2026-11-30
        promptkit report --by deliverable --json
    """
    settings = face.settings()
    now, zone, starts_at = datetime.now(UTC), settings.timezone, settings.day_starts_at
    asked = ReportQuery(
        parse_by(by or ()),
        None if since is None else read_time(since, now, zone, option="--since", starts_at=starts_at),
        None
        if until is None
        else read_time(until, now, zone, option="--until", starts_at=starts_at, ends=True),
        option_texts.read_tags(tag),
        template,
        job,
    )
    with face.ledger(settings) as ledger:
        made = make_report(ledger, settings, asked)
    if face.as_json:
        face.print_json(report_json(made, asked))
        return
    if made.total.tally.calls == made.total.tally.attempts == 0:
        face.say("no such call" if asked != ReportQuery(asked.by) else "no call was made yet")
        return
    if made.by:
        columns = _columns(made)
        face.table(
            [*made.by, *(name for name, _ in columns)],
            [[*_names(one), *(cell(one) for _, cell in columns)] for one in made.groups[:count]],
        )
        nowhere = [name for at, name in enumerate(made.by) if all(one.key[at] is None for one in made.groups)]
        if nowhere:
            face.say(f"none of these calls has {' or '.join(nowhere)}")
        left = len(made.groups) - count
        face.print(f"... and {left:,} more (-n shows more, --json all)\n" if left > 0 else "")
    face.print("\n".join(f"{name:<10} {fact}" for name, fact in _facts(made.total) if fact))


# ------------------------------------------------------------------------------- for people
_Cell = Callable[[ReportGroup], str]


_COLUMNS: Final[tuple[tuple[str, _Cell], ...]] = (
    (">calls", lambda one: f"{one.tally.calls:,}"),
    (">rows", lambda one: _count(one.tally.rows)),
    (">in", lambda one: _short(one.tally.input_tokens)),
    (">out", lambda one: _short(one.tally.output_tokens)),
    (">cost", lambda one: dollars(one.tally.known_pico)),
    (">unknown", lambda one: _unknown(one.tally.money)),
    (">lost", lambda one: _money(one.tally.lost)),
    (">each", lambda one: "" if one.per_deliverable_pico is None else dollars(one.per_deliverable_pico)),
    (">margin", lambda one: "" if one.margin is None else _signed(one.margin.margin_pico)),
)
"""`each` is a deliverable. A column that is empty in every group is left out."""


def _columns(made: Report) -> list[tuple[str, _Cell]]:
    ours = [one for one in _COLUMNS if "deliverable" not in made.by or one[0] != ">each"]
    return [(name, cell) for name, cell in ours if any(cell(one) for one in made.groups)]


def _names(one: ReportGroup) -> list[str]:
    return ["-" if name is None else name for name in one.key]


def _facts(one: ReportGroup) -> Sequence[tuple[str, str]]:
    tally = one.tally
    replies = [f"{tally.answered:,} answered"]
    replies += [f"{tally.ended - tally.answered:,} failed"] if tally.ended > tally.answered else []
    replies += [f"{tally.calls - tally.ended:,} open"] if tally.calls > tally.ended else []
    went_on = ", ".join(f"{fault} {count:,}" for fault, count in one.fallbacks.items())
    each = one.per_deliverable_pico
    return (
        ("calls", f"{tally.calls:,} ({', '.join(replies)}), {counted(tally.attempts, 'attempt')}"),
        ("rows", _count(tally.rows)),
        ("rated", _rated(tally.accepted, tally.rejected)),
        ("tokens", _tokens(one)),
        ("cost", spent(tally.money)),
        (
            "lost",
            f"{spent(tally.lost)} to {counted(tally.lost_attempts, 'attempt')}"
            if tally.lost_attempts
            else "",
        ),
        ("went on", f"to another target after {went_on}" if went_on else ""),
        ("saved", _saved(tally.cache_saved_pico, tally.reply_saved_pico)),
        ("each", "" if each is None else f"{dollars(each)} a deliverable, of {one.deliverables:,}"),
        ("margin", _margin(one)),
    )


def _tokens(one: ReportGroup) -> str:
    tally = one.tally
    cached = f" ({tally.cache_read_tokens:,} cached)" if tally.cache_read_tokens else ""
    thought = f" ({tally.reasoning_tokens:,} reasoning)" if tally.reasoning_tokens else ""
    return f"{tally.input_tokens:,} in{cached}, {tally.output_tokens:,} out{thought}"


def _margin(one: ReportGroup) -> str:
    margin = one.margin
    if margin is None:
        return ""
    told = f"{_signed(margin.margin_pico)} of {dollars(margin.earned_pico)}"
    return (
        told if margin.least_pico == margin.margin_pico else f"{told}, at least {_signed(margin.least_pico)}"
    )


def _saved(by_prompts: int, by_replies: int) -> str:
    told = [f"{_signed(by_prompts)} by prompt caches"] if by_prompts else []
    told += [f"{dollars(by_replies)} by replies used again"] if by_replies else []
    return ", ".join(told)


def _rated(accepted: int, rejected: int) -> str:
    return f"{accepted:,} accepted, {rejected:,} rejected" if accepted or rejected else ""


def _signed(pico: int) -> str:
    return f"-{dollars(-pico)}" if pico < 0 else dollars(pico)


def _money(money: Money) -> str:
    return dollars(money.charged_pico) if money.attempts else ""


def _unknown(money: Money) -> str:
    if not money.unknown:
        return ""
    return (
        f"<= {dollars(money.at_most_unknown_pico)}"
        if money.at_most_unknown_pico
        else f"{money.unknown:,} calls"
    )


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _short(number: int) -> str:
    """A count of tokens in at most five characters: `950`, `12.3k`, `4.5M`."""
    for size, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:.1f}{letter}" if number < 100 * size else f"{number / size:.0f}{letter}"
    return _count(number)


# ----------------------------------------------------------------------------- for programs
def report_json(made: Report, asked: ReportQuery) -> dict[str, Json]:
    """A report as JSON: money as decimal strings, what a group has none of as null."""
    return {
        "by": list(made.by),
        "since": None if asked.since is None else asked.since.astimezone(UTC).isoformat(),
        "until": None if asked.until is None else asked.until.astimezone(UTC).isoformat(),
        "groups": [
            {"key": dict(zip(made.by, one.key, strict=True)), **_total_json(one)} for one in made.groups
        ],
        "total": _total_json(made.total),
    }


def _total_json(one: ReportGroup) -> dict[str, Json]:
    tally, margin = one.tally, one.margin
    return {
        "calls": tally.calls,
        "answered": tally.answered,
        "failed": tally.ended - tally.answered,
        "open": tally.calls - tally.ended,
        "rows": tally.rows,
        "accepted": tally.accepted,
        "rejected": tally.rejected,
        "attempts": tally.attempts,
        "input_tokens": tally.input_tokens,
        "output_tokens": tally.output_tokens,
        "cache_read_tokens": tally.cache_read_tokens,
        "cache_write_tokens": tally.cache_write_tokens,
        "reasoning_tokens": tally.reasoning_tokens,
        **_money_json("", tally.money),
        **_money_json("lost_", tally.lost),
        "prompt_cache_saved_usd": usd_text(tally.cache_saved_pico),
        "reply_cache_saved_usd": usd_text(tally.reply_saved_pico),
        "fallbacks": dict(one.fallbacks),
        "deliverables": one.deliverables,
        "cost_per_deliverable_usd": usd_text(one.per_deliverable_pico),
        "earned_usd": None if margin is None else usd_text(margin.earned_pico),
        "margin_usd": None if margin is None else usd_text(margin.margin_pico),
        "least_margin_usd": None if margin is None else usd_text(margin.least_pico),
    }


def _money_json(prefix: str, money: Money) -> dict[str, Json]:
    return {
        f"{prefix}cost_usd": usd_text(money.known_pico),
        f"{prefix}unknown_attempts": money.unknown,
        f"{prefix}unknown_at_most_usd": usd_text(money.at_most_unknown_pico),
    }
