"""`promptkit batch`: a text for every row of a table, as a job."""

from __future__ import annotations

import asyncio

from promptkit.cli import options, values
from promptkit.cli.command import Cli
from promptkit.types import OnMiss


def batch(
    cli: Cli,
    ref: options.Ref,
    rows: options.MaybeRows = None,
    out: options.Out = None,
    format_: options.OutFormat = None,
    text_as: options.TextAs = None,
    job: options.JobName = None,
    key: options.Key = None,
    concurrency: options.Concurrency = 16,
    limit: options.Limit = None,
    sample: options.Sample = None,
    seed: options.Seed = 0,
    canary: options.Canary = None,
    max_fail_rate: options.MaxFailRate = None,
    pack: options.Pack = "1",
    deadline: options.Deadline = None,
    on_miss: options.OnMissing = OnMiss.WARN,
    retry_failed: options.RetryFailed = False,
    on_unknown: options.OnUnknown = options.Resend.SEND,
    strict: options.Strict = False,
    dry_run: options.DryRun = False,
    map_: options.Map = None,
    each: options.Each = None,
    var: options.Vars = None,
    vars_: options.VarsFile = None,
    tag: options.RowTags = None,
    route: options.RouteName = None,
    target: options.Targets = None,
    budget: options.Budget = None,
    until_budget: options.UntilBudget = False,
    failed: options.Failed = None,
    summary: options.Summary = None,
    ping: options.PingUrl = None,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
) -> int:
    """Make a text for every row of a table, as a job that can stop and continue.

    Columns fill the variables of their names; other columns pass through to the output. All rows
    are read and checked before the first one is sent. After a stop, a crash or an outage, run the
    same command again: paid rows are not sent again. Ctrl-C lets the calls in flight finish; a
    second one stops at once.

    Examples:
        promptkit batch ugc/hooks rows.csv -o hooks.csv
        promptkit batch ugc/script products.jsonl -o scripts.jsonl --key sku --tag client=@client --budget 5
        promptkit batch ugc/hooks rows.csv --map product=Article -v audience=runners --dry-run
        promptkit batch ugc/hooks rows.csv -o hooks.csv --each angle=problem,proof --each language=en,fr
        promptkit batch ugc/hooks rows.csv -o hooks.csv --canary 20 --deadline 06:30 --on-miss faster
        promptkit batch ugc/hooks rows.csv -o 'hooks/{sku}.txt' --failed failed.csv
        promptkit batch ugc/script rows.csv -o scripts.csv --pack 5 --tag client=@client
        promptkit batch ugc/hooks - --job "night-{date}" --config /srv/studio/promptkit.toml < rows.csv
    """
    from promptkit.cli.job_run import run_job, run_monitored

    def run() -> int:
        from promptkit.batch.job import Job
        from promptkit.batch.output import OutputFiles
        from promptkit.templates.reference import parse_ref

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
            limit=limit,
            job=job,
            key=key,
            strict=strict,
            out=out,
            concurrency=concurrency,
            sample=sample,
            seed=seed,
            canary=canary,
            max_fail_rate=max_fail_rate,
            deadline=deadline,
            on_miss=on_miss.value,
            retry_failed=retry_failed,
            on_unknown=on_unknown.value,
            until_budget=until_budget,
            text_as=text_as,
            cache=values.read_cache(cache, none=no_cache),
        )
        tags = job_options.all_rows_tags
        chosen = session.route(route, target, ref=ref, tags=tags)
        if dry_run:
            from .plan import print_estimate

            return print_estimate(cli, session, Job(session, ref, rows, chosen, job_options))
        session.plan(chosen, template=parse_ref(ref).name, tags=tags)  # without a key, no job is created
        new_job = Job(session, ref, rows, chosen, job_options)
        return asyncio.run(run_job(cli, session, new_job, rows, OutputFiles(out, format_, failed), summary))

    return run_monitored(cli, None if dry_run else ping, run)
