"""`promptkit jobs list`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from typer import Option

from promptkit.cli.command import Cli
from promptkit.cli.views.job import JOB_COLUMNS, State, job_row, state_of, summary_json

if TYPE_CHECKING:
    from promptkit.ledger.records import JobSummary

Count = Annotated[int, Option("-n", "--count", metavar="N", min=1, max=10_000, help="List at most N jobs.")]
States = Annotated[
    list[State] | None,
    Option(
        "--state",
        metavar="STATE",
        help="Only jobs in this state: running, open, done, cancelled. Repeatable.",
    ),
]


def list_jobs(cli: Cli, count: Count = 20, state: States = None) -> None:
    """List the jobs, newest first.

    It shows rows done, failed and pending, and the cost. `running`: a process works on the job.
    `open`: rows are pending, and no process works on them.

    Examples:
        promptkit jobs list
        promptkit jobs list --state open --json
    """
    settings = cli.settings()
    with cli.ledger(settings) as ledger:
        jobs: list[tuple[JobSummary, State]] = []
        for job in ledger.jobs.newest(sys.maxsize if state else count):
            job_state = state_of(ledger, job)
            if not state or job_state in state:
                jobs.append((ledger.jobs.summaries([job])[0], job_state))
            if len(jobs) == count:
                break
    if cli.as_json:
        cli.print_json([summary_json(summary, job_state) for summary, job_state in jobs])
    elif jobs:
        rows = [job_row(summary, job_state, settings.timezone) for summary, job_state in jobs]
        cli.print_table(JOB_COLUMNS, rows)
    else:
        cli.notice("no such job" if state else "there are no jobs yet")
