"""`promptkit jobs resume`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

from typer import Option

from promptkit.batch.job import Job, job_named
from promptkit.batch.options import pinned_options, pinned_output
from promptkit.batch.output import OutputFiles
from promptkit.cli import options, values
from promptkit.cli.command import Cli
from promptkit.cli.job_run import run_job
from promptkit.cli.views.job import input_file
from promptkit.client.options import job_fields
from promptkit.types import OnMiss

Out = Annotated[
    Path | None,
    Option("-o", "--out", metavar="FILE", help="The output file. Default: the job's output file."),
]


def resume(
    cli: Cli,
    name: options.Job,
    out: Out = None,
    concurrency: options.JobConcurrency = None,
    limit: options.Limit = None,
    canary: options.Canary = None,
    max_fail_rate: options.MaxFailRate = None,
    deadline: options.Deadline = None,
    on_miss: options.OnMissing = OnMiss.WARN,
    retry_failed: options.RetryFailed = False,
    budget: options.JobBudget = None,
    until_budget: options.UntilBudget = False,
) -> int:
    """Continue a job with the options it started with.

    Template, route and rows come from the ledger. The input file is not read, and may be gone. A
    cancelled job continues, too. To add edited rows, run the batch command of the job again.

    Examples:
        promptkit jobs resume night-2026-11-21
        promptkit jobs resume night-2026-11-21 --retry-failed --budget 8
    """
    session = cli.session()
    with cli.ledger(session.settings) as ledger:
        job = job_named(ledger, name, session.today())
    job_options = pinned_options(
        job,
        limit=limit,
        **job_fields(
            {
                "budget_usd": values.read_budget(budget),
                "until_budget": until_budget or None,
                "concurrency": concurrency,
                "retry_failed": retry_failed,
                "canary": canary,
                "max_fail_rate": max_fail_rate,
                "deadline": deadline,
                "on_miss": on_miss.value,
            },
            session,
        ),
    )
    output = out or (None if job.output_path is None else Path(job.output_path))
    files = OutputFiles(output, pinned_output(job)[0] if out is None else None)
    return asyncio.run(run_job(cli, session, Job.resume(session, job, job_options), input_file(job), files))
