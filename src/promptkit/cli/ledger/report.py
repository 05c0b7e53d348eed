"""`promptkit report`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from typer import Option

from promptkit.cli import options, values
from promptkit.cli.command import Cli
from promptkit.cli.output import facts_text, listed, spent, to_json, usd_text
from promptkit.errors import counted
from promptkit.reports.report import Report, ReportGroup, ReportQuery, make_report, parse_by
from promptkit.types import Json, dollars

if TYPE_CHECKING:
    from promptkit.ledger.records import Money

By = Annotated[
    list[str] | None,
    Option(
        "--by",
        metavar="NAMES",
        help="template, client, target, job, day, deliverable or any tag; several with commas.",
    ),
]
Until = Annotated[
    str | None, Option("--until", metavar="TIME", help="The end; a date includes the whole day.")
]
Count = Annotated[
    int, Option("-n", "--count", metavar="N", min=1, help="Show at most N groups; JSON contains all.")
]


def report(
    cli: Cli,
    by: By = None,
    since: options.Since = None,
    until: Until = None,
    tag: options.WithTags = None,
    template: options.OfTemplate = None,
    job: options.OfJob = None,
    count: Count = 100,
) -> None:
    """Add up costs by client, template, day or any tag.

    Every call and every attempt is in one group, so the groups add up to the ledger. Days are budget
    days, which begin at day_starts_at. Failed attempts are those whose reply was not kept. A rate in
    [clients.NAME] gives the margin.

    Examples:
        promptkit report
        promptkit report --by client --since 7d
        promptkit report --by day,template --tag client=barly --since 2026-11-01 --until 2026-11-30
        promptkit report --by deliverable --json
    """
    settings = cli.settings()
    now, zone, starts_at = datetime.now(UTC), settings.timezone, settings.day_starts_at
    query = ReportQuery(
        parse_by(by or ()),
        None if since is None else values.read_time(since, now, zone, option="--since", starts_at=starts_at),
        None
        if until is None
        else values.read_time(until, now, zone, option="--until", starts_at=starts_at, ends=True),
        values.read_tags(tag),
        template,
        job,
    )
    with cli.ledger(settings) as ledger:
        result = make_report(ledger, settings, query)
    if cli.as_json:
        cli.print_json(report_json(result, query))
    elif result.total.tally.calls == result.total.tally.attempts == 0:
        cli.notice("no such call" if query != ReportQuery(query.by) else "there are no calls yet")
    else:
        if result.by:
            _print_groups(cli, result, count)
        cli.print(facts_text(_facts(result.total)))


# -------------------------------------------------------------------------------------- text


def _print_groups(cli: Cli, result: Report, count: int) -> None:
    columns = [
        (name, cell)
        for name, cell in _COLUMNS
        if any(map(cell, result.groups)) and not (name == ">per deliverable" and "deliverable" in result.by)
    ]
    cli.print_table(
        [*result.by, *(name for name, _ in columns)],
        [
            [*("-" if name is None else name for name in group.key), *(cell(group) for _, cell in columns)]
            for group in result.groups[:count]
        ],
    )
    missing = [
        name
        for number, name in enumerate(result.by)
        if all(group.key[number] is None for group in result.groups)
    ]
    if missing:
        cli.notice(f"none of these calls has {' or '.join(missing)}")
    more = len(result.groups) - count
    cli.print(f"... and {more:,} more (-n shows more, --json all)\n" if more > 0 else "")


_COLUMNS: tuple[tuple[str, Callable[[ReportGroup], str]], ...] = (
    (">calls", lambda group: f"{group.tally.calls:,}"),
    (">rows", lambda group: _count_text(group.tally.rows)),
    (">in", lambda group: _tokens_text(group.tally.input_tokens)),
    (">out", lambda group: _tokens_text(group.tally.output_tokens)),
    (">cost", lambda group: dollars(group.tally.known_pico)),
    (">unknown", lambda group: _unknown_text(group.tally.money)),
    (
        ">failed attempts",
        lambda group: dollars(group.tally.lost.charged_pico) if group.tally.lost.attempts else "",
    ),
    (
        ">per deliverable",
        lambda group: "" if group.per_deliverable_pico is None else dollars(group.per_deliverable_pico),
    ),
    (">margin", lambda group: "" if group.margin is None else _signed(group.margin.margin_pico)),
)
"""A column that is empty in every group is left out."""


def _facts(total: ReportGroup) -> dict[str, str]:
    tally = total.tally
    replies = listed(
        (
            f"{tally.replied:,} with a reply",
            f"{tally.ended - tally.replied:,} failed" if tally.ended > tally.replied else "",
            f"{tally.calls - tally.ended:,} open" if tally.calls > tally.ended else "",
        )
    )
    cached = f" ({tally.cache_read_tokens:,} cached)" if tally.cache_read_tokens else ""
    reasoning = f" ({tally.reasoning_tokens:,} reasoning)" if tally.reasoning_tokens else ""
    is_rated = tally.accepted or tally.rejected
    pico = total.per_deliverable_pico
    return {
        "calls": f"{tally.calls:,} ({replies}), {counted(tally.attempts, 'attempt')}",
        "rows": _count_text(tally.rows),
        "rated": f"{tally.accepted:,} accepted, {tally.rejected:,} rejected" if is_rated else "",
        "tokens": f"{tally.input_tokens:,} in{cached}, {tally.output_tokens:,} out{reasoning}",
        "cost": spent(tally.money),
        "failed attempts": f"{tally.lost_attempts:,}, cost {spent(tally.lost)}"
        if tally.lost_attempts
        else "",
        "failovers": _failovers_text(total),
        "saved": listed(
            (
                f"{_signed(tally.cache_saved_pico)} by prompt caches" if tally.cache_saved_pico else "",
                f"{dollars(tally.reply_saved_pico)} by the reply cache" if tally.reply_saved_pico else "",
            )
        ),
        "per deliverable": "" if pico is None else f"{dollars(pico)} ({total.deliverables:,})",
        "margin": _margin_text(total),
    }


def _failovers_text(total: ReportGroup) -> str:
    """Return `17 (12 transient, 5 rate_limit)`."""
    if not total.fallbacks:
        return ""
    faults = ", ".join(f"{count:,} {fault}" for fault, count in total.fallbacks.items())
    return f"{sum(total.fallbacks.values()):,} ({faults})"


def _margin_text(total: ReportGroup) -> str:
    margin = total.margin
    if margin is None:
        return ""
    text = f"{_signed(margin.margin_pico)} of {dollars(margin.earned_pico)}"
    if margin.least_pico == margin.margin_pico:
        return text
    return f"{text}, at least {_signed(margin.least_pico)}"


def _signed(pico: int) -> str:
    return f"-{dollars(-pico)}" if pico < 0 else dollars(pico)


def _unknown_text(money: Money) -> str:
    if not money.unknown:
        return ""
    most_pico = money.at_most_unknown_pico
    return f"<= {dollars(most_pico)}" if most_pico else f"{money.unknown:,} calls"


def _count_text(number: int) -> str:
    return f"{number:,}" if number else ""


def _tokens_text(number: int) -> str:
    """Return a number of tokens in at most five characters: `950`, `12.3k`, `4.5M`."""
    for size, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:.1f}{letter}" if number < 100 * size else f"{number / size:.0f}{letter}"
    return _count_text(number)


# -------------------------------------------------------------------------------------- JSON

_NOT_IN_JSON = (
    "ended", "unknown", "known_pico", "charged_pico", "lost_attempts", "lost_unknown", "lost_known_pico",
    "lost_charged_pico", "named_known_pico", "named_charged_pico", "cache_saved_pico", "reply_saved_pico",
)  # fmt: skip


def report_json(result: Report, query: ReportQuery) -> dict[str, Json]:
    """Return a report as JSON: amounts as decimal strings, missing values as null."""
    return {
        "by": list(result.by),
        "since": None if query.since is None else query.since.astimezone(UTC).isoformat(),
        "until": None if query.until is None else query.until.astimezone(UTC).isoformat(),
        "groups": [
            {"key": dict(zip(result.by, group.key, strict=True)), **_total_json(group)}
            for group in result.groups
        ],
        "total": _total_json(result.total),
    }


def _total_json(total: ReportGroup) -> dict[str, Json]:
    tally, margin = total.tally, total.margin
    return to_json(
        tally,
        _NOT_IN_JSON,
        failed=tally.ended - tally.replied,
        open=tally.calls - tally.ended,
        **_sum_json("", tally.money),
        **_sum_json("lost_", tally.lost),
        prompt_cache_saved_usd=usd_text(tally.cache_saved_pico),
        reply_cache_saved_usd=usd_text(tally.reply_saved_pico),
        fallbacks=dict(total.fallbacks),
        deliverables=total.deliverables,
        cost_per_deliverable_usd=usd_text(total.per_deliverable_pico),
        earned_usd=None if margin is None else usd_text(margin.earned_pico),
        margin_usd=None if margin is None else usd_text(margin.margin_pico),
        least_margin_usd=None if margin is None else usd_text(margin.least_pico),
    )


def _sum_json(prefix: str, money: Money) -> dict[str, Json]:
    return {
        f"{prefix}cost_usd": usd_text(money.known_pico),
        f"{prefix}unknown_attempts": money.unknown,
        f"{prefix}unknown_at_most_usd": usd_text(money.at_most_unknown_pico),
    }
