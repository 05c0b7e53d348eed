"""`promptkit jobs cancel`."""

from __future__ import annotations

import asyncio

from promptkit.batch.job import job_named
from promptkit.cli import options
from promptkit.cli.command import Cli
from promptkit.ledger.records import JobState


def cancel(cli: Cli, name: options.Job) -> None:
    """Stop a job for good, whichever process runs it.

    Calls in flight finish, and nothing new is sent. Pending rows stay pending, and finished rows stay
    as they are. The batch command of the job no longer continues it; `jobs resume` does.

    Examples:
        promptkit jobs cancel night-2026-11-21
    """
    session = cli.session()
    with cli.ledger(session.settings) as ledger:
        job = job_named(ledger, name, session.today())
        if not asyncio.run(ledger.jobs.cancel(job.id)):
            is_done = ledger.jobs.state(job.id) is JobState.DONE
            cli.notice(f"job {job.name} is already {'done' if is_done else 'cancelled'}")
            return
        runner = ledger.jobs.runner(job)
    if runner is None:
        cli.notice(f"job {job.name} is cancelled; no process was running it")
    else:
        cli.notice(f"job {job.name} is cancelled; process {runner} ends after its calls in flight")
