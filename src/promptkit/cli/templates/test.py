"""`promptkit templates test`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

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
from promptkit.cli import options, values
from promptkit.cli.command import Cli
from promptkit.cli.output import listed, to_json
from promptkit.errors import ExitCode, OutputError, TemplateError, counted
from promptkit.types import Route, dollars

from .lint import own_refs

if TYPE_CHECKING:
    from promptkit.engine.context import Session
    from promptkit.templates.template import Template
    from promptkit.types import Json

Update = Annotated[bool, Option("--update", help="Write the rendered prompts as the new snapshots.")]
JUnit = Annotated[Path | None, Option("--junit", metavar="FILE", help="Also write JUnit XML.")]
Fresh = Annotated[bool, Option("--fresh", help="Request new replies even if replies are stored.")]
AllowCode = Annotated[
    bool, Option("--allow-code", help="Run Python functions of the project folder that tests name.")
]

_Tests = Sequence[tuple["Template", tuple[TemplateTest, ...]]]


def run_tests(
    cli: Cli,
    refs: options.Refs = None,
    update: Update = False,
    all_: options.AllTemplates = False,
    route: options.RouteName = None,
    target: options.Targets = None,
    fresh: Fresh = False,
    allow_code: AllowCode = False,
    budget: options.Budget = None,
    junit_: JUnit = None,
) -> int:
    """Run the tests in tests.toml.

    Prompts are tested offline. Replies are tested only with --route or --target: the estimated cost
    is printed first, and stored replies are used again, so a second run costs nothing. The exit code
    is 3 if a test fails.

    Examples:
        promptkit templates test
        promptkit templates test ugc/script@draft --update
        promptkit templates test ugc/script --route default --budget 0.20 --junit results.xml
    """
    session = cli.session()
    tests, results = _load(session, list(refs) if refs else list(own_refs(session, all_=all_)))
    for template, cases in tests:
        results += run_prompt_tests(template, cases, update=update)
    untested = 0
    if route is not None or target:
        functions = ProjectFunctions(session.settings.root if allow_code else None)
        replies = _test_replies(
            cli,
            session,
            session.route(route, target),
            tests,
            functions,
            fresh=fresh,
            cap_pico=values.read_cap(budget),
        )
        results += asyncio.run(replies)
    else:
        untested = sum(case.reply is not None for _, cases in tests for case in cases)
    _print(cli, results, untested)
    if junit_ is not None:
        _write_file(junit_, junit(results))
    if any(result.stopped for result in results):
        return ExitCode.BUDGET
    return ExitCode.TEMPLATE if failures(results) else ExitCode.OK


def _load(session: Session, refs: Sequence[str]) -> tuple[_Tests, list[TemplateTestResult]]:
    """Load templates with their tests; a template that does not load is a failed test."""
    tests: list[tuple[Template, tuple[TemplateTest, ...]]] = []
    broken: list[TemplateTestResult] = []
    for ref in refs:
        try:
            template = session.library.load(ref)
            cases = read_template_tests(template)
        except TemplateError as error:
            broken.append(TemplateTestResult(ref, "it loads", PromptOrReply.PROMPT, (str(error),)))
        else:
            if cases:
                tests.append((template, cases))
    return tests, broken


async def _test_replies(
    cli: Cli,
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
        cases = [(template, case) for template, cases in tests for case in cases]
        requests = await prepare_reply_tests(session, route, cases, fresh=fresh)
        calls, cost = estimate_reply_tests(session, route, requests)
        stored = counted(sum(test.stored is not None for test in requests), "stored reply", "stored replies")
        if calls:
            cli.notice(
                f"{stored}; {counted(calls, 'call')} to {', '.join(map(str, route.targets))}: about "
                f"{dollars(cost.about_pico)}, at most {dollars(cost.at_most_pico)} without retries"
            )
            session.plan(route)
        else:
            cli.notice(f"{stored}; nothing to pay")
        return await run_reply_tests(session, route, requests, functions, cap_pico=cap_pico)
    finally:
        await session.aclose()


def _print(cli: Cli, results: Sequence[TemplateTestResult], untested: int) -> None:
    if cli.as_json:
        cli.print_json([_result_json(result) for result in results])
    elif results:
        cli.print_table(
            ("template", "test", "of", "result", "note"),
            [
                (result.template, result.name, result.tested, result.outcome, result.note)
                for result in results
            ],
        )
        for line in _failures(results):
            cli.print(line)
    cli.notice(
        _summary(results, untested)
        if results
        else "no tests: write them into tests.toml, beside the versions of a template"
    )


def _failures(results: Sequence[TemplateTestResult]) -> Iterator[str]:
    for result in failures(results):
        where = f"{result.file}:{result.line or 1}: " if result.file else ""
        yield f"{where}{result.template}, {result.name} ({result.tested}):"
        for problem in result.problems:
            yield "\n".join(f"    {line}" for line in problem.splitlines())


def _summary(results: Sequence[TemplateTestResult], untested: int) -> str:
    counts = {
        verdict: sum(result.outcome is verdict for result in results) for verdict in TemplateTestOutcome
    }
    parts = [
        listed(
            (
                f"{counts[TemplateTestOutcome.OK]} passed",
                f"{counts[TemplateTestOutcome.FAIL]} failed",
                f"{counts[TemplateTestOutcome.SKIPPED]} skipped"
                if counts[TemplateTestOutcome.SKIPPED]
                else "",
            )
        )
    ]
    if any(result.tested is PromptOrReply.REPLY for result in results):
        costs = [result.cost_pico for result in results]
        known = [pico for pico in costs if pico is not None]
        parts.append(f"{dollars(sum(known))}{'' if len(known) == len(costs) else ' + unknown costs'}")
    if untested:
        parts.append(f"{untested} with expectations on replies, which --route NAME tests")
    return "; ".join(parts)


def _result_json(result: TemplateTestResult) -> dict[str, Json]:
    return to_json(
        result,
        ("name", "tested", "seconds", "skipped", "stopped"),
        test=result.name,
        stage=result.tested.value,
        result=result.outcome.value,
        file=result.file or None,
    )


def _write_file(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as cause:
        raise OutputError(f"not writable: {cause.strerror}", file=path) from None
