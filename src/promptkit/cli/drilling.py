"""The drill command: parse, play, print."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from promptkit.batch.columns import usd_text
from promptkit.cli import option_texts, options
from promptkit.errors import ExitCode, InputError, UsageError, closest, counted
from promptkit.types import dollars

from .face import Face
from .times import lasting

if TYPE_CHECKING:
    from promptkit.engine.context import Session
    from promptkit.reports.drill_outages import Outage
    from promptkit.reports.drill_results import OutageResult
    from promptkit.reports.drill_setup import DrillFacts
    from promptkit.templates.template import Template


KIT_TEMPLATE = "ugc/hooks"


MaybeRef = Annotated[
    str | None,
    typer.Argument(metavar="REF", help="The template. Else the project's first one, else one of the kit."),
]


MaybeRows = Annotated[
    str | None,
    typer.Argument(metavar="ROWS", help="A table for its variables. Else they are made up."),
]


Calls = Annotated[int, typer.Option("--calls", metavar="N", min=1, max=1000, help="Rows an outage.")]


AtOnce = Annotated[
    int, typer.Option("--concurrency", metavar="N", min=1, max=1000, help="Rows under way at once.")
]


Seed = Annotated[
    int, typer.Option("--seed", metavar="N", help="What the simulator's replies are drawn from.")
]


Names = Annotated[
    list[str] | None,
    typer.Option("--scenario", metavar="NAME", help="Only that outage, or that kind. Repeatable."),
]


Listed = Annotated[bool, typer.Option("--list", help="List the outages of the route, and play none.")]


def drill(
    face: Face,
    ref: MaybeRef = None,
    rows: MaybeRows = None,
    route: options.RouteName = None,
    target: options.Targets = None,
    tag: options.Tags = None,
    calls: Calls = 12,
    concurrency: AtOnce = 4,
    seed: Seed = 0,
    scenario: Names = None,
    list_: Listed = False,
) -> int:
    """Rehearse outages: what would each do to this very setup.

    The simulator takes the place of every provider, and a job runs over your route with your rules,
    budgets, limits and patience while it plays one outage after the other, on a clock that runs
    fast: each provider down, slow, silent, throttled, out of credit, cutting its replies or its
    streams; two of them down; all of them for five minutes. No key is needed, nothing is sent to a
    provider, nothing is written into your ledger. Times are as they would be. Exit code 1 where a
    row is lost, paid twice or overspent, a hint ignored or a provider hammered, with what to change.

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

    session = face.session()
    tags = option_texts.read_tags(tag)
    template = _template(session, ref)
    plain = session.route(route, target, ref=template.ref, tags=tags)
    world = scenario_for(session.settings, plain)
    facts = facts_of(session.settings, plain, tags, template.ref.name, calls)
    all_ = outages(facts.providers)
    wanted = list(select(all_, scenario or ()))
    _check_names(scenario or (), all_)
    if list_:
        return _list(face, all_)
    table = _rows(template, rows, calls)
    rehearsal = Drill(
        session.settings,
        world,
        str(template.ref),
        table,
        plain,
        concurrency,
        seed,
        tags,
        by_rules=route is None and not target,
    )
    _announce(face, facts, template, wanted, len(table))
    with tempfile.TemporaryDirectory(prefix="promptkit-drill-") as folder:
        played = list(_told(face, rehearsal.run(wanted, Path(folder)), len(wanted)))
    facts = replace(facts, rows=len(table))
    clean = not any(failed_checks(one.counts) for one in played)
    if face.as_json:
        face.print_json(_json(facts, template, played, clean=clean))
    else:
        _print(face, played)
        for text in advice(facts, played):
            face.print(f"change: {text}.")
        for text in notes(facts, played):
            face.print(f"note: {text}.")
        face.print("verdict: " + ("clean" if clean else "not clean"))
    return ExitCode.OK if clean else ExitCode.SOME_FAILED


# --------------------------------------------------------------------------- what to ask
def _template(session: Session, ref: str | None) -> Template:
    """The template that is named; else the first of the project's own that can be sent; else the kit's."""
    if ref is not None:
        return session.template(ref)
    own = set(session.settings.templates)
    for entry in session.library.entries():
        if entry.folder in own and not entry.is_partial and not entry.problem:
            return session.template(entry.name)
    return session.template(KIT_TEMPLATE)


def _rows(template: Template, rows: str | None, calls: int) -> list[dict[str, object]]:
    from promptkit.authoring.template_tests import read_template_tests
    from promptkit.batch.input import FileSource
    from promptkit.reports.drill_setup import sample_rows

    if rows is not None:
        table: list[dict[str, object]] = [
            dict(record.cells) for record in islice(FileSource(rows, None).read(), calls)
        ]
        if not table:
            raise InputError("holds no rows", file=rows)
        return table
    examples = [case.variables for case in read_template_tests(template) if case.error is None]
    return sample_rows(template, examples, calls)


def _check_names(names: Sequence[str], all_: Sequence[Outage]) -> None:
    known = {one.name for one in all_} | {one.kind for one in all_}
    for name in names:
        if name not in known:
            raise UsageError(f"unknown scenario {name!r}", remedy=closest(name, known))


# -------------------------------------------------------------------------- what to print
def _list(face: Face, all_: Sequence[Outage]) -> int:
    if face.as_json:
        face.print_json([{"scenario": one.name, "what": one.description} for one in all_])
    else:
        face.table(("scenario", "what is played"), [(one.name, one.description) for one in all_])
    return ExitCode.OK


def _announce(
    face: Face, facts: DrillFacts, template: Template, wanted: Sequence[Outage], count: int
) -> None:
    targets = ", ".join(map(str, facts.route.targets))
    face.say(
        f"{counted(len(wanted), 'scenario')} of {counted(count, 'call')}: {template.ref} over {targets}, "
        "all played by the simulator"
    )


def _told(face: Face, played: Iterable[OutageResult], count: int) -> Iterator[OutageResult]:
    """Each as it ends, said on the way."""
    began = monotonic()
    for number, one in enumerate(played, start=1):
        face.say(
            f"{number} of {count}, {monotonic() - began:.0f} s: {one.outage.description}: {_verdict(one)}"
        )
        yield one


def _verdict(one: OutageResult) -> str:
    from promptkit.reports.drill_results import failed_checks

    return ", ".join(failed_checks(one.counts)) or "clean"


def _print(face: Face, played: Sequence[OutageResult]) -> None:
    columns = (
        "scenario",
        ">lost",
        ">paid twice",
        ">overspent",
        ">first answer",
        ">all",
        ">requests",
        ">an answer",
        ">hints ignored",
        "verdict",
    )
    face.table(columns, [_row(one) for one in played])


def _row(one: OutageResult) -> tuple[str, ...]:
    tally = one.counts
    first = "never" if tally.first_reply_s is None else _seconds(tally.first_reply_s)
    each = "-" if tally.requests_per_reply is None else f"{tally.requests_per_reply:.2f}"
    return (
        one.outage.name,
        f"{tally.lost} of {tally.rows}" if tally.lost else "0",
        f"{tally.paid_twice}",
        dollars(tally.over_pico),
        first,
        _seconds(tally.seconds),
        f"{tally.requests}",
        each,
        f"{tally.hints_ignored}",
        _verdict(one),
    )


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else lasting(seconds)  # noqa: PLR2004 - tenths matter below


def _json(
    facts: DrillFacts, template: Template, played: Sequence[OutageResult], *, clean: bool
) -> dict[str, object]:
    from promptkit.reports.drill_results import advice, notes

    return {
        "clean": clean,
        "template": str(template.ref),
        "route": facts.route.name,
        "targets": [str(one) for one in facts.route.targets],
        "scenarios": [_json_of(one) for one in played],
        "change": list(advice(facts, played)),
        "notes": list(notes(facts, played)),
    }


def _json_of(one: OutageResult) -> dict[str, object]:
    from promptkit.reports.drill_results import failed_checks

    tally, faults = one.counts, failed_checks(one.counts)
    return {
        "scenario": one.outage.name,
        "what": one.outage.description,
        "clean": not faults,
        "wrong": list(faults),
        "rows": tally.rows,
        "answered": tally.replied,
        "degraded": tally.degraded,
        "lost": tally.lost,
        "waiting": tally.pending,
        "paid_twice": tally.paid_twice,
        "overspent_usd": usd_text(tally.over_pico),
        "charged_usd": usd_text(tally.charged_pico),
        "first_answer_s": None if tally.first_reply_s is None else round(tally.first_reply_s, 2),
        "seconds": round(tally.seconds, 2),
        "requests": tally.requests,
        "requests_an_answer": None
        if tally.requests_per_reply is None
        else round(tally.requests_per_reply, 2),
        "hints_ignored": tally.hints_ignored,
        "stopped_by": tally.stop or None,
    }
