"""The plan command: what a batch would cost and take."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from promptkit.cli import option_texts, options

from .face import Face

if TYPE_CHECKING:
    from promptkit.batch.job import Job
    from promptkit.engine.context import Session


def plan(
    face: Face,
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
    """Tell what a batch would cost and take, before anything is sent.

    Every row is read, checked and rendered: the worst case is a true bound for one attempt a row, at
    the dearest target of its route. What is expected comes from the ledger: how long this template's
    answers were at each target, and what failed attempts cost. With the options of the batch that is
    meant, a job that began already counts only what is left. Exit 6 where the batch would refuse to
    start, 1 where rows are invalid.

    Examples:
        promptkit plan ugc/hooks rows.csv
        promptkit plan ugc/script products.jsonl --each language=en,fr --budget 5 --json
        promptkit plan ugc/hooks rows.csv -o hooks.csv --job "night-{date}" --route longform
        promptkit plan ugc/script rows.csv --pack 5
    """
    from promptkit.batch.job import Job
    from promptkit.batch.options import JobOptions

    session = face.session()
    made = JobOptions(
        name=job,
        key_column=key,
        mapping=option_texts.read_mapping(map_),
        constants=option_texts.read_variables(var, vars_),
        tags=option_texts.read_tags(tag),
        each=option_texts.read_each(each),
        strict=strict,
        out=out,
        cap_pico=option_texts.read_cap(budget),
        concurrency=concurrency,
        limit=limit,
        pack=option_texts.read_pack(pack),
        retry_failed=retry_failed,
        by_rules=route is None and not target,
    )
    chosen = session.route(route, target, ref=ref, tags=made.all_rows_tags)
    return quoted(face, session, Job(session, ref, rows, chosen, made))


def quoted(face: Face, session: Session, job: Job) -> int:
    """Print the quote of a job; returns the exit code."""
    from .quote_page import show_quote

    async def ask() -> int:
        try:
            return show_quote(face, await job.quote())
        finally:
            await session.aclose()

    return asyncio.run(ask())
