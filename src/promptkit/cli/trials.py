"""The command `templates test`: what prompts say, and what is answered to them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from promptkit.authoring.junit import junit
from promptkit.authoring.prompt_tests import run_prompt_tests
from promptkit.authoring.reply_expectations import ProjectFunctions
from promptkit.authoring.template_tests import (
    PromptOrReply,
    TemplateTest,
    TemplateTestOutcome,
    TemplateTestResult,
    failures,
    read_template_tests,
)
from promptkit.batch.columns import usd_text
from promptkit.cli import option_texts, options
from promptkit.engine.context import Session
from promptkit.errors import ExitCode, OutputError, TemplateError, counted
from promptkit.templates.template import Template
from promptkit.types import Route, dollars

from .face import Face
from .linting import All, Refs, own_refs

Update = Annotated[bool, typer.Option("--update", help="Keep what is rendered now as the snapshots.")]


JUnit = Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML, too.")]


Fresh = Annotated[bool, typer.Option("--fresh", help="Ask again where a reply is stored.")]


AllowCode = Annotated[
    bool,
    typer.Option("--allow-code", help="Run the Python functions of the project's folder that tests name."),
]


_Tests = Sequence[tuple[Template, tuple[TemplateTest, ...]]]


def try_templates(
    face: Face,
    refs: Refs = None,
    update: Update = False,
    all_: All = False,
    route: options.RouteName = None,
    target: options.Targets = None,
    fresh: Fresh = False,
    allow_code: AllowCode = False,
    budget: options.Budget = None,
    junit_: JUnit = None,
) -> int:
    """Run the tests that stand beside templates, in tests.toml.

    Prompts are tested offline. Replies are asked for only with --route or --target: their price is
    said first, and a reply that is stored is replayed, so that a second run costs nothing. Exit code
    3 where a test fails.

    Examples:
        promptkit templates test
        promptkit templates test ugc/script@draft --update
        promptkit templates test ugc/script --route default --budget 0.20 --junit results.xml
    """
    session = face.session()
    wanted = list(refs) if refs else list(own_refs(session, all_=all_))
    tests, broken = _gather(session, wanted)
    results = [*broken]
    for template, cases in tests:
        results += run_prompt_tests(template, cases, update=update)
    if route is not None or target:
        functions = ProjectFunctions(session.settings.root if allow_code else None)
        chosen = session.route(route, target)
        results += asyncio.run(
            _replies(
                face, session, chosen, tests, functions, fresh=fresh, cap_pico=option_texts.read_cap(budget)
            )
        )
    _write(face, results, untried=_untried(tests) if route is None and not target else 0)
    if junit_ is not None:
        _write_file(junit_, junit(results))
    return _code(results)


def _gather(session: Session, refs: Sequence[str]) -> tuple[_Tests, list[TemplateTestResult]]:
    """Templates with their tests; what can't be loaded is a failed test."""
    found: list[tuple[Template, tuple[TemplateTest, ...]]] = []
    broken: list[TemplateTestResult] = []
    for ref in refs:
        try:
            template = session.library.load(ref)
            cases = read_template_tests(template)
        except TemplateError as error:
            broken.append(TemplateTestResult(ref, "it loads", PromptOrReply.PROMPT, (str(error),)))
        else:
            if cases:
                found.append((template, cases))
    return found, broken


async def _replies(
    face: Face,
    session: Session,
    route: Route,
    tests: _Tests,
    functions: ProjectFunctions,
    *,
    fresh: bool,
    cap_pico: int | None,
) -> list[TemplateTestResult]:
    from promptkit.authoring.reply_tests import estimate_reply_tests, prepare_reply_tests, run_reply_tests

    try:
        wanted = [(template, case) for template, cases in tests for case in cases]
        asks = await prepare_reply_tests(session, route, wanted, fresh=fresh)
        calls, cost = estimate_reply_tests(session, route, asks)
        targets = ", ".join(map(str, route.targets))
        stored = counted(sum(test.stored is not None for test in asks), "reply is", "replies are")
        face.say(
            f"{stored} stored; {counted(calls, 'call')} to {targets}: about "
            f"{dollars(cost.about_pico)}, at most {dollars(cost.at_most_pico)} where none is made twice"
            if calls
            else f"{stored} stored; nothing to pay"
        )
        if calls:
            session.plan(route)
        return await run_reply_tests(session, route, asks, functions, cap_pico=cap_pico)
    finally:
        await session.aclose()


def _untried(tests: _Tests) -> int:
    return sum(case.reply is not None for _, cases in tests for case in cases)


def _write(face: Face, results: Sequence[TemplateTestResult], *, untried: int) -> None:
    if face.as_json:
        face.print_json([_json(one) for one in results])
    elif results:
        face.table(("template", "test", "of", "result", "note"), [_row(one) for one in results])
        for line in _failures(results):
            face.print(line)
    counts = {verdict: sum(one.outcome is verdict for one in results) for verdict in TemplateTestOutcome}
    told = f"{counts[TemplateTestOutcome.OK]} passed, {counts[TemplateTestOutcome.FAIL]} failed"
    told += f", {counts[TemplateTestOutcome.SKIPPED]} skipped" if counts[TemplateTestOutcome.SKIPPED] else ""
    if any(result.tested is PromptOrReply.REPLY for result in results):
        costs = [one.cost_pico for one in results]
        known = [one for one in costs if one is not None]
        told += f"; {dollars(sum(known))}{'' if len(known) == len(costs) else ' and more that is unknown'}"
    if untried:
        told += f"; {untried} with expectations on replies, which --route NAME asks for"
    face.say(told if results else "no tests: they stand in tests.toml beside a template's versions")


def _row(result: TemplateTestResult) -> tuple[str, ...]:
    return (result.template, result.name, result.tested, result.outcome, result.note)


def _failures(results: Sequence[TemplateTestResult]) -> Iterator[str]:
    for result in failures(results):
        where = f"{result.file}:{result.line or 1}: " if result.file else ""
        yield f"{where}{result.template}, {result.name} ({result.tested}):"
        for problem in result.problems:
            yield "\n".join(f"    {line}" for line in problem.splitlines())


def _json(result: TemplateTestResult) -> dict[str, object]:
    return {
        "template": result.template,
        "test": result.name,
        "stage": result.tested,
        "result": result.outcome,
        "problems": list(result.problems),
        "note": result.note,
        "file": result.file or None,
        "line": result.line,
        "cost_usd": usd_text(result.cost_pico),
    }


def _write_file(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as cause:
        raise OutputError(f"can't be written: {cause.strerror}", file=path) from None


def _code(results: Sequence[TemplateTestResult]) -> ExitCode:
    if any(one.stopped for one in results):
        return ExitCode.BUDGET
    return ExitCode.TEMPLATE if failures(results) else ExitCode.OK
