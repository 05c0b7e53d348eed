"""`promptkit log`."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated
from zoneinfo import ZoneInfo

from typer import Option

from promptkit.cli import options, values
from promptkit.cli.command import Cli
from promptkit.cli.output import cost_json, number_text, short_time, spent, to_json
from promptkit.errors import counted
from promptkit.ledger.records import LogFilter, LoggedCall
from promptkit.types import Fault
from promptkit.types.ids import show_id

_SHOWN_TAGS = 3


class Verdict(StrEnum):
    """What `--verdict` takes."""

    ACCEPT = "accept"
    REJECT = "reject"
    NONE = "none"


Count = Annotated[int, Option("-n", "--count", metavar="N", min=1, max=100_000, help="List at most N calls.")]
Text = Annotated[
    str | None,
    Option(
        "-q",
        "--text",
        metavar="TEXT",
        help='Only calls with these words in variables, reply or error; "in quotes" as a phrase.',
    ),
]
RowKey = Annotated[str | None, Option("--key", metavar="KEY", help="Only calls for the row with this key.")]
Target = Annotated[
    str | None, Option("--target", metavar="TARGET", help="Only calls to this provider or provider/model.")
]
FaultName = Annotated[
    Fault | None,
    Option("--fault", metavar="FAULT", help="Only calls with an attempt of this fault: rate_limit, auth ..."),
]
Rated = Annotated[
    Verdict | None, Option("--verdict", metavar="accept|reject|none", help="Only calls with this rating.")
]


def log(
    cli: Cli,
    count: Count = 20,
    text: Text = None,
    key: RowKey = None,
    template: options.OfTemplate = None,
    target: Target = None,
    tag: options.WithTags = None,
    fault: FaultName = None,
    job: options.OfJob = None,
    since: options.Since = None,
    verdict: Rated = None,
) -> None:
    """List calls, newest first.

    Examples:
        promptkit log
        promptkit log -n 50 --tag client=barly --since today
        promptkit log -q "slump" --template ugc/hooks
        promptkit log --fault rate_limit --since 2h --json
    """
    settings = cli.settings()
    zone = settings.timezone
    began = None if since is None else values.read_time(since, datetime.now(UTC), zone, option="--since")
    where = LogFilter(
        text=text,
        key=key,
        template=template,
        target=target,
        tags=values.read_tags(tag),
        fault=fault,
        job=job,
        since_us=None if began is None else int(began.timestamp() * 1e6),
        verdict=None if verdict is None else verdict.value,
    )
    with cli.ledger(settings) as ledger:
        calls = ledger.calls.search(count, where)
    if cli.as_json:
        cli.print_json([to_json(call, ("money", "saved_pico"), **cost_json(call.money)) for call in calls])
    elif calls:
        cli.print_table(_COLUMNS, [_table_row(call, zone) for call in calls])
    else:
        cli.notice("no such call" if where != LogFilter() else "there are no calls yet")


_COLUMNS = ("call", "when", "~template", "status", "~target", ">in", ">out", ">cost", "~of")


def _table_row(call: LoggedCall, zone: ZoneInfo) -> tuple[str, ...]:
    return (
        show_id(call.id),
        short_time(call.started_us, zone),
        call.template_ref,
        "open" if call.status is None else f"{call.status.value}{', flagged' if call.flags else ''}",
        "" if call.target is None else str(call.target),
        number_text(call.input_tokens),
        number_text(call.output_tokens),
        _cost_text(call),
        _context_text(call),
    )


def _cost_text(call: LoggedCall) -> str:
    """Return the cost; that of a packed request in brackets, because its rows include it."""
    if call.cached_from_id is not None:
        return "cached"
    return f"({spent(call.money)})" if call.pack_items is not None else spent(call.money)


def _context_text(call: LoggedCall) -> str:
    """Return the job, rows and first tags of a call."""
    tags = [f"{name}={value}" for name, value in call.tags.items()][:_SHOWN_TAGS]
    rows = [f"{counted(call.pack_items, 'row')} of"] if call.pack_items is not None else []
    return " ".join([*rows, *([call.job] if call.job else []), *tags])
