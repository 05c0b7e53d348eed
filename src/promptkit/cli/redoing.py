"""`jobs redo`: the rows of a bad version made again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from promptkit.batch.job import Job, job_named
from promptkit.batch.options import JobOptions, pinned_options
from promptkit.batch.redo import Redo, prepare
from promptkit.batch.tables import Format
from promptkit.cli import option_texts, options
from promptkit.ledger.records import RowState

from .conduct import Order, conduct
from .face import Face
from .jobs import BudgetAgain, ConcurrencyAgain, Name

if TYPE_CHECKING:
    from pathlib import Path

    from promptkit.engine.context import Session
    from promptkit.ledger.records import JobRecord


MadeBy = Annotated[
    str | None,
    typer.Option("--template", metavar="REF", help="Only rows that this version made: ugc/script@7, or @7."),
]


With = Annotated[
    str, typer.Option("--with", metavar="REF", help="The version to make them with: @6, @LABEL, @sha256:...")
]


Ended = Annotated[
    list[RowState] | None,
    typer.Option(
        "--status", metavar="STATUS", help="Only rows that ended so: failed, truncated ... Repeatable."
    ),
]


Rejected = Annotated[bool, typer.Option("--rejected", help="Only rows whose text was rated reject.")]


NewName = Annotated[
    str | None, typer.Option("--job", metavar="NAME", help="The new job's name. Else NAME-redo-VERSION.")
]


def redo(
    face: Face,
    name: Name,
    with_: With,
    template: MadeBy = None,
    status: Ended = None,
    rejected: Rejected = False,
    out: options.Out = None,
    format_: options.OutFormat = None,
    job: NewName = None,
    route: options.RouteName = None,
    target: options.Targets = None,
    concurrency: ConcurrencyAgain = None,
    budget: BudgetAgain = None,
    limit: options.Limit = None,
    canary: options.Canary = None,
    max_fail_rate: options.MaxFailRate = None,
) -> int:
    """Make rows of a job again with another version: those that a bad one made.

    It is a job of its own, linked to the first: its own output, its own cost; the first one's
    rows, texts and costs stay. Rows come from the ledger. Run the same command again to go on.

    Examples:
        promptkit jobs redo night-2026-11-21 --template ugc/script@7 --with @6 -o again.csv
        promptkit jobs redo night-2026-11-21 --with @production --rejected -o again.csv
        promptkit jobs redo night-2026-11-21 --with @8 --status failed --status truncated --canary 20 -o again.csv
    """
    session = face.session()
    with face.ledger(session.settings) as ledger:
        original = job_named(ledger, name, session.today())
    other = session.route(route, target) if route or target else None
    chosen = Redo(with_, template, tuple(status or ()), rejected, other)
    before = pinned_options(original)
    cap_pico = option_texts.read_cap(budget)
    wanted = replace(
        before,
        name=None if job is None else job.replace("{date}", session.today()),
        cap_pico=before.cap_pico if cap_pico is None else cap_pico,
        concurrency=concurrency or before.concurrency,
        limit=limit,
        canary=canary,
        max_fail_rate=max_fail_rate,
    )
    return asyncio.run(_redo(face, session, original, chosen, wanted, out, format_))


async def _redo(
    face: Face,
    session: Session,
    original: JobRecord,
    chosen: Redo,
    wanted: JobOptions,
    out: Path | None,
    format_: Format | None,
) -> int:
    try:
        record = await prepare(session, original, chosen, wanted)
        return await conduct(face, session, Job.resume(session, record, wanted), Order(None, out, format_))
    finally:
        await session.aclose()
