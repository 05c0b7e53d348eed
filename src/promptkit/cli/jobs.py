"""`jobs`: which there are, how one stands, and what it takes to go on, to stop and to write out."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from promptkit.batch.job import job_named
from promptkit.cli import option_texts, options
from promptkit.ledger.records import JobRecord, JobState, JobSummary
from promptkit.types import OnMiss

from .face import Face
from .job_page import LIST, Standing, job_json, list_row, page_json, print_page, read_page, standing_of

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The job, as jobs list prints it; {date} is the budget day.")
]


Count = Annotated[int, typer.Option("-n", "--count", metavar="N", min=1, max=10_000, help="So many jobs.")]


States = Annotated[
    list[Standing] | None,
    typer.Option("--state", metavar="STATE", help="Only those: running, open, done, cancelled. Repeatable."),
]


OutAgain = Annotated[
    Path | None,
    typer.Option("-o", "--out", metavar="FILE", help="The output file. Else where the job wrote it before."),
]


BudgetAgain = Annotated[
    str | None, typer.Option("--budget", metavar="USD", help="Hard cap of the job. Else what it had.")
]


ConcurrencyAgain = Annotated[
    int | None,
    typer.Option(
        "--concurrency", metavar="N", min=1, max=1000, help="Rows under way at once. Else what it had."
    ),
]


ExportOut = Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="The file. Else stdout.")]


def list_jobs(face: Face, count: Count = 20, state: States = None) -> None:
    """List the jobs, newest first: rows done, failed and waiting, and what each cost.

    `running`: a process is at it now. `open`: its rows wait for somebody to go on with it.

    Examples:
        promptkit jobs list
        promptkit jobs list --state open --json
    """
    settings = face.settings()
    with face.ledger(settings) as ledger:
        found: list[tuple[JobSummary, Standing]] = []
        for job in ledger.jobs.newest(sys.maxsize if state else count):
            standing = standing_of(ledger, job)
            if not state or standing in state:
                found.append((ledger.jobs.summaries([job])[0], standing))
            if len(found) == count:
                break
    if face.as_json:
        face.print_json([job_json(summary, standing) for summary, standing in found])
    elif found:
        face.table(LIST, [list_row(summary, standing, settings.timezone) for summary, standing in found])
    else:
        face.say("no such job" if state else "no job was started yet")


def show_job(face: Face, name: Name) -> None:
    """Show one job in full: its rows, what failed and why, its money, and what to do next.

    Examples:
        promptkit jobs show night-2026-11-21
        promptkit jobs show "night-{date}" --json
    """
    session = face.session()
    with face.ledger(session.settings) as ledger:
        page = read_page(ledger, job_named(ledger, name, session.today()))
    if face.as_json:
        face.print_json(page_json(page))
    else:
        print_page(face, page, session.settings.timezone)


def resume(
    face: Face,
    name: Name,
    out: OutAgain = None,
    concurrency: ConcurrencyAgain = None,
    limit: options.Limit = None,
    canary: options.Canary = None,
    max_fail_rate: options.MaxFailRate = None,
    deadline: options.Deadline = None,
    on_miss: options.OnMissing = OnMiss.WARN,
    retry_failed: options.RetryFailed = False,
    budget: BudgetAgain = None,
    until_budget: options.UntilBudget = False,
) -> int:
    """Go on with a job as it began: nothing of its command line has to be said again.

    Template, route and rows come from the ledger; the input file isn't read, and may be gone. A
    job that was cancelled goes on, too. To take in an edited input, run its batch command again.

    Examples:
        promptkit jobs resume night-2026-11-21
        promptkit jobs resume night-2026-11-21 --retry-failed --budget 8
    """
    from promptkit.batch.job import Job
    from promptkit.batch.options import pinned_options, pinned_output

    from .conduct import Order, conduct

    session = face.session()
    with face.ledger(session.settings) as ledger:
        record = job_named(ledger, name, session.today())
    wanted = pinned_options(
        record,
        cap_pico=option_texts.read_cap(budget),
        until_budget=until_budget or None,
        concurrency=concurrency,
        limit=limit,
        retry_failed=retry_failed,
        canary=canary,
        max_fail_rate=max_fail_rate,
        deadline_s=option_texts.read_deadline(deadline, session.settings.timezone),
        on_miss=on_miss,
    )
    path = out or (None if record.output_path is None else Path(record.output_path))
    order = Order(_input(record), path, pinned_output(record)[0] if out is None else None)
    return asyncio.run(conduct(face, session, Job.resume(session, record, wanted), order))


def cancel(face: Face, name: Name) -> None:
    """Stop a job for good, whichever process runs it: what is in flight finishes, nothing new is sent.

    Its rows wait, and what was made stays. The same batch command no longer goes on with it;
    jobs resume does.

    Examples:
        promptkit jobs cancel night-2026-11-21
    """
    session = face.session()
    with face.ledger(session.settings) as ledger:
        job = job_named(ledger, name, session.today())
        if not asyncio.run(ledger.jobs.cancel(job.id)):
            was = ledger.jobs.state(job.id)
            told = "has finished" if was is JobState.DONE else "was cancelled before"
            face.say(f"job {job.name} {told}; there is nothing to cancel")
            return
        runner = ledger.jobs.runner(job)
    if runner is None:
        face.say(f"job {job.name} is cancelled; no process was running it")
    else:
        face.say(f"job {job.name} is cancelled: process {runner} ends when its calls in flight have")


def export(
    face: Face,
    name: Name,
    out: ExportOut = None,
    format_: options.OutFormat = None,
    failed: options.Failed = None,
) -> None:
    """Write a job's output again, from the ledger: whole, in the input's order, at any time.

    With --failed and no -o, only the failed rows are written.

    Examples:
        promptkit jobs export night-2026-11-21 -o hooks.csv --failed failed.csv
        promptkit jobs export night-2026-11-21 --format jsonl > hooks.jsonl
    """
    from promptkit.batch.columns import output_format
    from promptkit.batch.options import pinned_output
    from promptkit.batch.output import check_out, encoded, write_failed, write_output
    from promptkit.errors import counted

    session = face.session()
    with face.ledger(session.settings) as ledger:
        job = job_named(ledger, name, session.today())
        said, like = pinned_output(job)
        for path in (out, failed):
            if path is not None:
                check_out(path, _input(job))
        if out is not None:
            count = write_output(ledger, job, out, format_=format_, like=like)
            face.say(f"{out} has {count:,} of {counted(sum(ledger.jobs.row_counts(job.id).values()), 'row')}")
        if failed is not None:
            face.say(f"{failed} has {counted(write_failed(ledger, job, failed, like), 'failed row')}")
        if out is None and failed is None:
            chosen = output_format(None, like, format_ or said)
            for part in encoded(ledger, job, chosen, like=like):
                face.print_bytes(part)


def _input(job: JobRecord) -> str | None:
    """The file that a job's rows came from, where it is still there."""
    path = job.input_path
    return path if path is not None and Path(path).is_file() else None
