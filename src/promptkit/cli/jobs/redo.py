"""`promptkit jobs redo`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated

from typer import Option

from promptkit.batch.job import Job, job_named
from promptkit.batch.options import pinned_options
from promptkit.batch.output import OutputFiles
from promptkit.batch.redo import Redo, prepare
from promptkit.cli import options, values
from promptkit.cli.command import Cli
from promptkit.cli.job_run import run_job
from promptkit.ledger.records import RowState

Template = Annotated[
    str | None, Option("--template", metavar="REF", help="Only rows of this version: ugc/script@7, or @7.")
]
With = Annotated[
    str, Option("--with", metavar="REF", help="The version to use instead: @6, @LABEL, @sha256:...")
]
Statuses = Annotated[
    list[RowState] | None,
    Option("--status", metavar="STATUS", help="Only rows in this state: failed, truncated ... Repeatable."),
]
Rejected = Annotated[bool, Option("--rejected", help="Only rows whose text was rated reject.")]
NewName = Annotated[
    str | None, Option("--job", metavar="NAME", help="The new job's name. Default: NAME-redo-VERSION.")
]


def redo(
    cli: Cli,
    name: options.Job,
    with_: With,
    template: Template = None,
    status: Statuses = None,
    rejected: Rejected = False,
    out: options.Out = None,
    format_: options.OutFormat = None,
    job: NewName = None,
    route: options.RouteName = None,
    target: options.Targets = None,
    concurrency: options.JobConcurrency = None,
    budget: options.JobBudget = None,
    limit: options.Limit = None,
    canary: options.Canary = None,
    max_fail_rate: options.MaxFailRate = None,
) -> int:
    """Write rows of a job again with another version.

    The redo is a job of its own, linked to the first one, with its own output and cost. The first
    job keeps its rows, texts and costs. The rows come from the ledger. The same command continues a
    redo.

    Examples:
        promptkit jobs redo night-2026-11-21 --template ugc/script@7 --with @6 -o again.csv
        promptkit jobs redo night-2026-11-21 --with @production --rejected -o again.csv
        promptkit jobs redo night-2026-11-21 --with @8 --status failed --status truncated --canary 20 -o again.csv
    """
    session = cli.session()
    with cli.ledger(session.settings) as ledger:
        original = job_named(ledger, name, session.today())
    other_route = session.route(route, target) if route or target else None
    selection = Redo(with_, template, tuple(status or ()), rejected, other_route)
    before = pinned_options(original)
    cap_pico = values.read_cap(budget)
    job_options = replace(
        before,
        name=None if job is None else job.replace("{date}", session.today()),
        cap_pico=before.cap_pico if cap_pico is None else cap_pico,
        concurrency=concurrency or before.concurrency,
        limit=limit,
        canary=canary,
        max_fail_rate=max_fail_rate,
    )

    async def run() -> int:
        try:
            record = await prepare(session, original, selection, job_options)
            new_job = Job.resume(session, record, job_options)
            return await run_job(cli, session, new_job, None, OutputFiles(out, format_))
        finally:
            await session.aclose()

    return asyncio.run(run())
