"""The commands that read the ledger: `log`, and `show` for one call in full."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from promptkit.batch.columns import usd_text
from promptkit.cli import option_texts, options
from promptkit.errors import counted
from promptkit.ledger.records import LogFilter, LoggedCall
from promptkit.types import Fault, Json
from promptkit.types.ids import show_id

from .call_page import find_call, page_json, print_page, read_page
from .face import Face
from .money import spent
from .times import iso, read_since, shortly
from .verdicts import Verdict

_SHOWN_TAGS = 3


Count = Annotated[int, typer.Option("-n", "--count", metavar="N", min=1, max=100_000, help="So many calls.")]


Text = Annotated[
    str | None,
    typer.Option(
        "-q",
        "--text",
        metavar="TEXT",
        help='Calls with these words in variables, reply or error; "in quotes" as they stand.',
    ),
]


RowKey = Annotated[str | None, typer.Option("--key", metavar="KEY", help="Calls for the row of that key.")]


Template = Annotated[
    str | None,
    typer.Option("--template", metavar="REF", help="Calls of that template: ugc/hooks, ugc/hooks@1."),
]


Target = Annotated[
    str | None,
    typer.Option("--target", metavar="TARGET", help="Calls that asked that provider or provider/model."),
]


FaultName = Annotated[
    Fault | None,
    typer.Option("--fault", metavar="FAULT", help="Calls with such an attempt: rate_limit, auth ..."),
]


Job = Annotated[str | None, typer.Option("--job", metavar="NAME", help="Calls of that job.")]


Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="2h, 3d, today, 2026-11-21, 2026-11-21T22:00.")
]


Judged = Annotated[
    Verdict | None, typer.Option("--verdict", metavar="accept|reject|none", help="Calls rated so.")
]


Id = Annotated[
    str, typer.Argument(metavar="ID", help="The call, as log prints it; its first characters will do.")
]


def log(
    face: Face,
    count: Count = 20,
    text: Text = None,
    key: RowKey = None,
    template: Template = None,
    target: Target = None,
    tag: options.Tags = None,
    fault: FaultName = None,
    job: Job = None,
    since: Since = None,
    verdict: Judged = None,
) -> None:
    """List the calls that were made, newest first.

    Examples:
        promptkit log
        promptkit log -n 50 --tag client=barly --since today
        promptkit log -q "slump" --template ugc/hooks
        promptkit log --fault rate_limit --since 2h --json
    """
    settings = face.settings()
    began = None if since is None else read_since(since, datetime.now(UTC), settings.timezone)
    where = LogFilter(
        text=text,
        key=key,
        template=template,
        target=target,
        tags=option_texts.read_tags(tag),
        fault=fault,
        job=job,
        since_us=None if began is None else int(began.timestamp() * 1e6),
        verdict=None if verdict is None else verdict.value,
    )
    with face.ledger(settings) as ledger:
        calls = ledger.calls.search(count, where)
    if face.as_json:
        face.print_json([call_json(call) for call in calls])
    elif calls:
        face.table(_COLUMNS, [_row(call, settings.timezone) for call in calls])
    else:
        face.say("no such call" if where != LogFilter() else "no call was made yet")


def show(face: Face, id_: Id) -> None:
    """Show one call in full.

    The prompt is rendered again from the source and the variables that the ledger keeps, and
    its digest is compared with the one of the prompt that was sent.

    Examples:
        promptkit show 38g0qj26ewp2c
        promptkit show 38g0qj26 --json
    """
    settings = face.settings()
    with face.ledger(settings) as ledger:
        page = read_page(ledger, find_call(ledger, id_))
    if face.as_json:
        face.print_json(page_json(page))
    else:
        print_page(face, page, settings.timezone)


_COLUMNS = ("call", "when", "~template", "status", "~target", ">in", ">out", ">cost", "~of")


def _row(call: LoggedCall, zone: ZoneInfo) -> tuple[str, ...]:
    return (
        show_id(call.id),
        shortly(call.started_us, zone),
        call.template_ref,
        "open" if call.status is None else f"{call.status.value}{', flagged' if call.flags else ''}",
        "" if call.target is None else str(call.target),
        _number(call.input_tokens),
        _number(call.output_tokens),
        _cost(call),
        _belongs(call),
    )


def _cost(call: LoggedCall) -> str:
    """The cost; of a request that carried rows, in brackets: it stands with theirs again."""
    if call.cached_from_id is not None:
        return "cached"
    return f"({spent(call.money)})" if call.pack_items is not None else spent(call.money)


def _belongs(call: LoggedCall) -> str:
    """Job, row and the first tags of a call, in one cell."""
    told = [f"{name}={value}" for name, value in call.tags.items()][:_SHOWN_TAGS]
    carried = [f"{counted(call.pack_items, 'row')} of"] if call.pack_items is not None else []
    return " ".join([*carried, *([call.job] if call.job else []), *told])


def _number(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def call_json(call: LoggedCall) -> dict[str, Json]:
    """A call of the log as JSON; times in UTC, what is unknown as null."""
    return {
        "id": show_id(call.id),
        "started": iso(call.started_us),
        "ended": iso(call.ended_us),
        "template": call.template_ref,
        "status": None if call.status is None else call.status.value,
        "error": call.error,
        "flags": list(call.flags),
        "target": None if call.target is None else str(call.target),
        "faults": [fault.value for fault in call.faults],
        "input_tokens": call.input_tokens,
        "output_tokens": call.output_tokens,
        "cost_usd": None if call.money.unknown else usd_text(call.money.known_pico),
        "charged_usd": usd_text(call.money.charged_pico),
        "attempts": call.money.attempts,
        "pack": None if call.pack_id is None else show_id(call.pack_id),
        "pack_items": call.pack_items,
        "cached_from": None if call.cached_from_id is None else show_id(call.cached_from_id),
        "tags": dict(call.tags),
        "job": call.job,
        "key": call.key,
        "verdict": call.verdict,
    }
