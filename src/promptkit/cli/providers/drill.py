"""`promptkit drill`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from promptkit.cli import options, values
from promptkit.cli.command import Cli
from promptkit.cli.output import duration, to_json, usd_text
from promptkit.errors import ExitCode, InputError, UsageError, closest, counted
from promptkit.types import dollars

if TYPE_CHECKING:
    from promptkit.engine.context import Session
    from promptkit.reports.drill_outages import Outage
    from promptkit.reports.drill_results import OutageResult
    from promptkit.reports.drill_setup import DrillFacts
    from promptkit.templates.template import Template
    from promptkit.types import Json

_KIT_TEMPLATE = "ugc/hooks"

_COLUMNS = (
    "scenario", ">lost", ">paid twice", ">overspent", ">first reply", ">all", ">requests", ">per reply",
    ">hints ignored", "verdict",
)  # fmt: skip

Ref = Annotated[
    str | None,
    Argument(metavar="REF", help="The template. Default: the project's first one, else a shipped one."),
]
Rows = Annotated[
    str | None, Argument(metavar="ROWS", help="A table for its variables. Default: placeholder values.")
]
Calls = Annotated[int, Option("--calls", metavar="N", min=1, max=1000, help="Rows per outage.")]
Concurrency = Annotated[
    int, Option("--concurrency", metavar="N", min=1, max=1000, help="Rows in flight at the same time.")
]
Seed = Annotated[int, Option("--seed", metavar="N", help="The seed of the simulator's replies.")]
Scenarios = Annotated[
    list[str] | None, Option("--scenario", metavar="NAME", help="Only this outage, or this kind. Repeatable.")
]
List = Annotated[bool, Option("--list", help="List the outages of the route; simulate none.")]


def drill(
    cli: Cli,
    ref: Ref = None,
    rows: Rows = None,
    route: options.RouteName = None,
    target: options.Targets = None,
    tag: options.Tags = None,
    calls: Calls = 12,
    concurrency: Concurrency = 4,
    seed: Seed = 0,
    scenario: Scenarios = None,
    list_: List = False,
) -> int:
    """Rehearse provider outages with your own configuration.

    The simulator takes the place of every provider. A job runs under your route, rules, budgets,
    limits and waiting times, once per outage, on a clock that runs fast: each provider down, slow,
    silent, throttled, out of credit, cutting its replies or its streams; two of them down; all of
    them for five minutes. It needs no key, sends nothing to a provider, and does not use your
    ledger. All reported times are as they would be. The exit code is 1 if a row is lost, paid twice
    or overspent, a retry-after hint ignored, or a provider asked too often; the drill then prints
    what to change.

    Examples:
        promptkit drill
        promptkit drill ugc/hooks rows.csv --tag client=barly
        promptkit drill --scenario all --scenario down:openai --json
        promptkit drill --list
    """
    from promptkit.reports.drill import Drill
    from promptkit.reports.drill_outages import outages, select
    from promptkit.reports.drill_results import advice, failed_checks, notes
    from promptkit.reports.drill_setup import facts_of, scenario_for

    session = cli.session()
    tags = values.read_tags(tag)
    template = _template(session, ref)
    chosen_route = session.route(route, target, ref=template.ref, tags=tags)
    simulation = scenario_for(session.settings, chosen_route)
    facts = facts_of(session.settings, chosen_route, tags, template.ref.name, calls)
    all_outages = outages(facts.providers)
    selected = list(select(all_outages, scenario or ()))
    _check_names(scenario or (), all_outages)
    if list_:
        _print_list(cli, all_outages)
        return ExitCode.OK
    table = _rows(template, rows, calls)
    rehearsal = Drill(
        session.settings,
        simulation,
        str(template.ref),
        table,
        chosen_route,
        concurrency,
        seed,
        tags,
        by_rules=route is None and not target,
    )
    cli.notice(
        f"{counted(len(selected), 'scenario')} with {counted(len(table), 'call')} each: {template.ref} "
        f"through {', '.join(map(str, facts.route.targets))}, all simulated"
    )
    with tempfile.TemporaryDirectory(prefix="promptkit-drill-") as folder:
        runs = rehearsal.run(selected, Path(folder))
        played = list(_with_notices(cli, runs, len(selected)))
    facts = replace(facts, rows=len(table))
    passed = not any(failed_checks(run.counts) for run in played)
    if cli.as_json:
        cli.print_json(_drill_json(facts, template, played, passed=passed))
    else:
        cli.print_table(_COLUMNS, [_table_row(run) for run in played])
        for text in advice(facts, played):
            cli.print(f"change: {text}.")
        for text in notes(facts, played):
            cli.print(f"note: {text}.")
        cli.print("verdict: " + ("passed" if passed else "failed"))
    return ExitCode.OK if passed else ExitCode.SOME_FAILED


def _template(session: Session, ref: str | None) -> Template:
    """Return the named template; else the first one of the project that can be sent; else a shipped one."""
    if ref is not None:
        return session.template(ref)
    own = set(session.settings.templates)
    for entry in session.library.entries():
        if entry.folder in own and not entry.is_partial and not entry.problem:
            return session.template(entry.name)
    return session.template(_KIT_TEMPLATE)


def _check_names(names: Sequence[str], outages: Sequence[Outage]) -> None:
    known = {outage.name for outage in outages} | {outage.kind for outage in outages}
    for name in names:
        if name not in known:
            raise UsageError(f"unknown scenario {name!r}", remedy=closest(name, known))


def _print_list(cli: Cli, outages: Sequence[Outage]) -> None:
    if cli.as_json:
        cli.print_json([{"scenario": outage.name, "what": outage.description} for outage in outages])
    else:
        cli.print_table(
            ("scenario", "simulated failure"), [(outage.name, outage.description) for outage in outages]
        )


def _rows(template: Template, rows: str | None, calls: int) -> list[dict[str, object]]:
    from promptkit.authoring.template_tests import read_template_tests
    from promptkit.batch.input import FileSource
    from promptkit.reports.drill_setup import sample_rows

    if rows is not None:
        records = islice(FileSource(rows, None).read(), calls)
        table: list[dict[str, object]] = [dict(record.cells) for record in records]
        if not table:
            raise InputError("has no rows", file=rows)
        return table
    examples = [case.variables for case in read_template_tests(template) if case.error is None]
    return sample_rows(template, examples, calls)


# -------------------------------------------------------------------------------------- text


def _with_notices(cli: Cli, runs: Iterable[OutageResult], count: int) -> Iterator[OutageResult]:
    """Yield each run as it ends, with a notice."""
    began_s = monotonic()
    for number, run in enumerate(runs, start=1):
        cli.notice(
            f"{number} of {count}, {monotonic() - began_s:.0f} s: {run.outage.description}: {_verdict_text(run)}"
        )
        yield run


def _verdict_text(run: OutageResult) -> str:
    from promptkit.reports.drill_results import failed_checks

    return ", ".join(failed_checks(run.counts)) or "passed"


def _table_row(run: OutageResult) -> tuple[str, ...]:
    tally = run.counts
    return (
        run.outage.name,
        f"{tally.lost} of {tally.rows}" if tally.lost else "0",
        f"{tally.paid_twice}",
        dollars(tally.over_pico),
        "never" if tally.first_reply_s is None else duration(tally.first_reply_s),
        duration(tally.seconds),
        f"{tally.requests}",
        "-" if tally.requests_per_reply is None else f"{tally.requests_per_reply:.2f}",
        f"{tally.hints_ignored}",
        _verdict_text(run),
    )


# -------------------------------------------------------------------------------------- JSON


def _drill_json(
    facts: DrillFacts, template: Template, played: Sequence[OutageResult], *, passed: bool
) -> dict[str, Json]:
    from promptkit.reports.drill_results import advice, notes

    return {
        "clean": passed,
        "template": str(template.ref),
        "route": facts.route.name,
        "targets": [str(target) for target in facts.route.targets],
        "scenarios": [_run_json(run) for run in played],
        "change": list(advice(facts, played)),
        "notes": list(notes(facts, played)),
    }


def _run_json(run: OutageResult) -> dict[str, Json]:
    from promptkit.reports.drill_results import failed_checks

    tally, faults = run.counts, failed_checks(run.counts)
    return {
        "scenario": run.outage.name,
        "what": run.outage.description,
        "clean": not faults,
        "wrong": list(faults),
        **to_json(tally, ("replied", "pending", "over_pico", "first_reply_s", "stop")),
        "answered": tally.replied,
        "waiting": tally.pending,
        "lost": tally.lost,
        "overspent_usd": usd_text(tally.over_pico),
        "first_answer_s": None if tally.first_reply_s is None else round(tally.first_reply_s, 2),
        "seconds": round(tally.seconds, 2),
        "requests_an_answer": None
        if tally.requests_per_reply is None
        else round(tally.requests_per_reply, 2),
        "stopped_by": tally.stop or None,
    }
