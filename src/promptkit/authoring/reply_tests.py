"""The half of a template's tests that needs a model's reply.

A reply is read from the ledger if an earlier test sent the same prompt with the same parameters
and schema to the same targets. Otherwise it is requested, after its estimated cost was shown.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from promptkit.authoring.call_estimate import CallEstimate, add_estimates, estimate_call
from promptkit.authoring.prompt_tests import render
from promptkit.authoring.reply_expectations import ProjectFunctions, ReplyExpectation, check_reply
from promptkit.authoring.template_tests import PromptOrReply, TemplateTest, TemplateTestResult
from promptkit.engine.calls import cost_of, make_reply
from promptkit.engine.context import Session
from promptkit.engine.validate import reply_rules
from promptkit.errors import AllTargetsFailed, BudgetStop, TemplateError
from promptkit.providers.prices import Prices
from promptkit.templates.template import Template
from promptkit.types import Prompt, Route, Status, Target
from promptkit.validation.schema import read_reply

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger

KEY_TAG = "test-key"
TEST_TAG = "test"
_CONCURRENCY = 4
_MAX_STORED = 8
"""How many stored calls of a key are searched for a usable text."""


@dataclass(frozen=True, slots=True)
class ReplyToTest:
    """A reply to a test's prompt, the cost of this run, and whether it was read from the ledger."""

    text: str
    target: Target | None
    status: Status
    cost_pico: int | None = 0
    stored: bool = False


@dataclass(frozen=True, slots=True)
class PreparedTest:
    """A test with its rendered prompt. `key` identifies the reply; `stored` is that of an earlier run."""

    template: Template
    test: TemplateTest
    expectation: ReplyExpectation
    prompt: Prompt
    key: str
    stored: ReplyToTest | None = None


async def prepare_reply_tests(
    session: Session, route: Route, tests: Iterable[tuple[Template, TemplateTest]], *, fresh: bool = False
) -> list[PreparedTest]:
    """Render the prompts of tests that expect something of a reply, and look for stored replies.

    Args:
        session: its ledger is searched.
        route: the route that calls take.
        tests: a test is left out if its prompt can't be rendered, because the prompt test fails.
        fresh: use no stored reply.
    """
    ledger = await session.ledger()
    prepared: list[PreparedTest] = []
    for template, test in tests:
        if test.reply is None:
            continue
        try:
            prompt = render(template, test)
        except TemplateError:
            continue
        key = _key(session, template, prompt, route)
        stored = None if fresh else _stored_reply(ledger, key)
        prepared.append(PreparedTest(template, test, test.reply, prompt, key, stored))
    return prepared


def _key(session: Session, template: Template, prompt: Prompt, route: Route) -> str:
    """Return what identifies a reply: prompt, parameters, schema and targets."""
    params = asdict(session.params(template, route))
    targets = [str(target) for target in route.targets]
    text = json.dumps([prompt.digest, params, template.spec.output, targets], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _stored_reply(ledger: Ledger, key: str) -> ReplyToTest | None:
    """Return the newest stored reply to a test, if its text was kept."""
    from promptkit.ledger.records import LogFilter

    for logged in ledger.calls.search(_MAX_STORED, LogFilter(tags={KEY_TAG: key})):
        if logged.status in (Status.OK, Status.TRUNCATED):
            call = ledger.calls.get(logged.id)
            if call is not None and call.text is not None and logged.status is not None:
                return ReplyToTest(call.text, logged.target, logged.status, stored=True)
    return None


def estimate_reply_tests(
    session: Session, route: Route, tests: Sequence[PreparedTest]
) -> tuple[int, CallEstimate]:
    """Return the number of calls that tests without a stored reply need, and their estimated cost."""
    prices = Prices()
    to_send = {test.key: test for test in tests if test.stored is None}
    calls = (estimate_call(session, route, prices, test.template, test.prompt) for test in to_send.values())
    return len(to_send), add_estimates(calls)


async def run_reply_tests(
    session: Session,
    route: Route,
    tests: Sequence[PreparedTest],
    functions: ProjectFunctions,
    *,
    cap_pico: int | None = None,
) -> list[TemplateTestResult]:
    """Request the replies that are not stored, and compare each reply with what its test expects.

    Args:
        session: the open session.
        route: the route that calls take.
        tests: the prepared tests; those with the same key share one call.
        functions: the project's functions.
        cap_pico: hard cap of all calls together; they then run one after the other.

    Returns:
        The results in the order of `tests`. A call that fails, or that a cap stops, is a result too.

    Raises:
        PromptKitError: no call is possible: no usable key, or the ledger can't be written.
    """
    requester = _Requester(session, route, cap_pico)
    by_key: dict[str, asyncio.Task[ReplyToTest | _NoReply]] = {}
    try:
        async with asyncio.TaskGroup() as group:
            for test in tests:
                if test.key not in by_key:
                    by_key[test.key] = group.create_task(requester.reply(test))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    seen: set[str] = set()
    results: list[TemplateTestResult] = []
    for test in tests:
        results.append(_result(test, by_key[test.key].result(), functions, shared=test.key in seen))
        seen.add(test.key)
    return results


_NoReply = AllTargetsFailed | BudgetStop


class _Requester:
    """Sends the calls, and counts what is left of the cap."""

    def __init__(self, session: Session, route: Route, cap_pico: int | None) -> None:
        self._session = session
        self._route = route
        self._left_pico = cap_pico
        self._slots = asyncio.Semaphore(_CONCURRENCY if cap_pico is None else 1)

    async def reply(self, test: PreparedTest) -> ReplyToTest | _NoReply:
        if test.stored is not None:
            return test.stored
        async with self._slots:
            try:
                reply = await make_reply(
                    self._session,
                    test.template,
                    test.test.variables,
                    route=self._route,
                    tags={TEST_TAG: test.template.ref.name, KEY_TAG: test.key},
                    cap_pico=self._left_pico,
                    parent_id=None,
                )
            except (AllTargetsFailed, BudgetStop) as error:
                self._spend(sum(attempt.charged_pico for attempt in error.attempts))
                return error
            self._spend(reply.charged_pico)
            return ReplyToTest(reply.text, reply.target, reply.status, reply.cost_pico)

    def _spend(self, pico: int) -> None:
        if self._left_pico is not None:
            self._left_pico = max(0, self._left_pico - pico)


def _result(
    prepared: PreparedTest, reply: ReplyToTest | _NoReply, functions: ProjectFunctions, *, shared: bool
) -> TemplateTestResult:
    started = perf_counter()
    test = prepared.test
    note, skipped = "", False
    if isinstance(reply, _NoReply):
        problems: tuple[str, ...] = (str(reply),)
        cost_pico = cost_of(reply.attempts)
    else:
        problems, skipped_function = _check(prepared, reply, functions)
        notes = (str(reply.target or ""), "replayed" if reply.stored else "", skipped_function)
        note = ", ".join(part for part in notes if part)
        skipped = bool(skipped_function) and prepared.expectation.is_function_only
        cost_pico = reply.cost_pico
    return TemplateTestResult(
        template=str(prepared.template.ref),
        name=test.name,
        tested=PromptOrReply.REPLY,
        problems=problems,
        note=note,
        file=test.file,
        line=test.line,
        seconds=perf_counter() - started,
        cost_pico=0 if shared else cost_pico,
        skipped=skipped,
        stopped=isinstance(reply, BudgetStop),
    )


def _check(
    prepared: PreparedTest, reply: ReplyToTest, functions: ProjectFunctions
) -> tuple[tuple[str, ...], str]:
    """Return the problems of a reply, and a note about a function that may not run."""
    expectation, template, variables = prepared.expectation, prepared.template, prepared.test.variables
    judge = reply_rules(template, template.bind(variables))
    rules = judge.rules if judge else None
    structured = template.spec.output is not None
    problems = list(check_reply(expectation, reply.text, structured=structured, checks=rules))
    if reply.status is Status.TRUNCATED:
        problems.insert(0, "the reply was cut at its output limit")
    schema = template.spec.output if expectation.schema is True else expectation.schema
    if schema:
        problems += map(str, read_reply(reply.text, schema)[1])
    elif expectation.schema is True:
        problems.append("schema = true, but the template has no [output]")
    note = ""
    if expectation.function is not None and functions.allowed:
        problems += functions.check(expectation.function, reply.text, variables)
    elif expectation.function is not None:
        note = f"{expectation.function} not run: --allow-code runs it"
    return tuple(dict.fromkeys(problems)), note
