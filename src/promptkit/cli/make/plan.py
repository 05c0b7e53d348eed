"""`promptkit plan`: the cost and duration of a batch, before it starts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from promptkit.cli import options, values
from promptkit.cli.command import Cli

if TYPE_CHECKING:
    from promptkit.batch.job import Job
    from promptkit.engine.context import Session


def plan(
    cli: Cli,
    ref: options.Ref,
    rows: options.MaybeRows = None,
    out: options.Out = None,
    job: options.JobName = None,
    key: options.Key = None,
    concurrency: options.Concurrency = 16,
    limit: options.Limit = None,
    pack: options.Pack = "auto",
    retry_failed: options.RetryFailed = False,
    strict: options.Strict = False,
    map_: options.Map = None,
    each: options.Each = None,
    var: options.Vars = None,
    vars_: options.VarsFile = None,
    tag: options.RowTags = None,
    route: options.RouteName = None,
    target: options.Targets = None,
    budget: options.Budget = None,
) -> int:
    """Estimate the cost and duration of a batch; nothing is sent.

    Every row is read, checked and rendered. The worst case is a true bound for one attempt per row,
    at the most expensive target of its route. The expected cost is based on the ledger: the length
    of this template's replies at each target, and the cost of failed attempts. Give it the options
    of your batch: for a job that has already started, only the remaining rows count. The exit code
    is 6 if the batch would refuse to start, and 1 if rows are invalid.

    Examples:
        promptkit plan ugc/hooks rows.csv
        promptkit plan ugc/script products.jsonl --each language=en,fr --budget 5 --json
        promptkit plan ugc/hooks rows.csv -o hooks.csv --job "night-{date}" --route longform
        promptkit plan ugc/script rows.csv --pack 5
    """
    from promptkit.batch.job import Job

    session = cli.session()
    job_options = values.read_job_options(
        session,
        map_=map_,
        each=each,
        var=var,
        vars_=vars_,
        tag=tag,
        pack=pack,
        budget=budget,
        route=route,
        target=target,
        job=job,
        key=key,
        strict=strict,
        out=out,
        concurrency=concurrency,
        limit=limit,
        retry_failed=retry_failed,
    )
    chosen = session.route(route, target, ref=ref, tags=job_options.all_rows_tags)
    return print_estimate(cli, session, Job(session, ref, rows, chosen, job_options))


def print_estimate(cli: Cli, session: Session, job: Job) -> int:
    """Print the estimate of a job; return the exit code."""
    from promptkit.cli.views.quote import print_quote

    async def estimate() -> int:
        try:
            return print_quote(cli, await job.quote())
        finally:
            await session.aclose()

    return asyncio.run(estimate())
