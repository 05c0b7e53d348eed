"""The batch command: parse, run the job, print."""

from __future__ import annotations

import asyncio

from promptkit.cli import option_texts, options
from promptkit.types import OnMiss

from .face import Face


def batch(
    face: Face,
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
    """Make a text for every row of a table, as a job that can stop and go on.

    Columns fill the variables of their names; other columns pass through to the output. All rows
    are read and checked before the first one is sent. Run the same command again after a stop, a
    crash or an outage: rows that are paid are not sent again. Ctrl-C lets the calls in flight
    finish; a second one stops at once.

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
    from .nightly import watched

    def work() -> int:
        from promptkit.batch.job import Job
        from promptkit.batch.options import JobOptions
        from promptkit.templates.reference import parse_ref

        from .conduct import Order, conduct

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
            sample=sample,
            seed=seed,
            canary=canary,
            pack=option_texts.read_pack(pack),
            max_fail_rate=max_fail_rate,
            deadline_s=option_texts.read_deadline(deadline, session.settings.timezone),
            on_miss=on_miss,
            retry_failed=retry_failed,
            resend_unknown=on_unknown is options.Resend.SEND,
            until_budget=until_budget,
            text_as=text_as,
            by_rules=route is None and not target,
            cache_s=option_texts.read_cache_s(cache, none=no_cache),
        )
        chosen = session.route(route, target, ref=ref, tags=made.all_rows_tags)
        if dry_run:
            from .planning import quoted

            return quoted(face, session, Job(session, ref, rows, chosen, made))
        session.plan(
            chosen, template=parse_ref(ref).name, tags=made.all_rows_tags
        )  # without a key nothing is pinned
        return asyncio.run(
            conduct(
                face,
                session,
                Job(session, ref, rows, chosen, made),
                Order(rows, out, format_, failed, summary),
            )
        )

    return watched(face, None if dry_run else ping, work)
