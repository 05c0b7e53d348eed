"""The half of a template's tests that asks a model: replies are replayed from the ledger, or bought.

A reply is replayed where the same prompt went with the same parameters and schema to the same
targets for a test before. Its price is told before anything is sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Final, TypeAlias

from promptkit.engine.calls import cost_of, make_reply
from promptkit.engine.context import Session
from promptkit.engine.validate import reply_rules
from promptkit.errors import AllTargetsFailed, BudgetStop, TemplateError
from promptkit.providers.params import output_limit
from promptkit.providers.prices import Prices
from promptkit.providers.tokens import estimate_input_tokens, max_input_tokens
from promptkit.templates.template import Template
from promptkit.types import Prompt, Route, Status, Target, Usage
from promptkit.validation.schema import read_reply

from .test_cases import Case, Functions, ReplyTest
from .test_prompts import Result, Stage, judge_reply, render

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger


KEY_TAG: Final = "test-key"


TEST_TAG: Final = "test"


Unanswered: TypeAlias = AllTargetsFailed | BudgetStop


_AT_ONCE: Final = 4


_LOOKED_AT: Final = 8


_TEXTS: Final = frozenset({Status.OK, Status.TRUNCATED})


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply to a test: its text, where it comes from, and what it cost now."""

    text: str
    target: Target | None
    status: Status
    cost_pico: int | None = 0
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """A test whose prompt is ready. `key` names the reply; `stored` is the one of an earlier run."""

    template: Template
    case: Case
    test: ReplyTest
    prompt: Prompt
    key: str
    stored: Answer | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """What asking will cost, in pico-USD; None where a price is unknown.

    `at_most_pico` holds where no attempt is made twice.
    """

    replayed: int
    calls: int
    about_pico: int | None
    at_most_pico: int | None


async def prepare(
    session: Session, route: Route, wanted: Iterable[tuple[Template, Case]], *, fresh: bool = False
) -> list[Ask]:
    """Make the prompts of tests with expectations on replies, and look for replies that are paid.

    Args:
        session: whose ledger is looked at.
        route: where they would go.
        wanted: tests; one whose prompt can't be made is left out (its prompt fails by itself).
        fresh: take no stored reply.
    """
    ledger = await session.ledger()
    asks: list[Ask] = []
    for template, case in wanted:
        if case.reply is None:
            continue
        try:
            prompt = render(template, case)
        except TemplateError:
            continue
        key = key_of(session, template, prompt, route)
        stored = None if fresh else _stored(ledger, key)
        asks.append(Ask(template, case, case.reply, prompt, key, stored))
    return asks


def key_of(session: Session, template: Template, prompt: Prompt, route: Route) -> str:
    """What names a reply: prompt, parameters, schema and targets."""
    params = asdict(session.params(template, route))
    targets = [str(target) for target in route.targets]
    told = json.dumps([prompt.digest, params, template.spec.output, targets], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _stored(ledger: Ledger, key: str) -> Answer | None:
    """The newest whole reply to a test, if its text was kept."""
    from promptkit.ledger.records import LogFilter

    for logged in ledger.calls.search(_LOOKED_AT, LogFilter(tags={KEY_TAG: key})):
        if logged.status in _TEXTS:
            call = ledger.calls.get(logged.id)
            if call is not None and call.text is not None and logged.status is not None:
                return Answer(call.text, logged.target, logged.status, replayed=True)
    return None


def price_of(session: Session, route: Route, asks: Sequence[Ask]) -> Price:
    """What the asks that aren't replayed will cost."""
    prices = Prices()
    new = {ask.key: ask for ask in asks if ask.stored is None}
    each = [price_call(session, route, prices, ask.template, ask.prompt) for ask in new.values()]
    about = [one for one, _ in each if one is not None]
    most = [one for _, one in each if one is not None]
    return Price(
        replayed=len(asks) - sum(ask.stored is None for ask in asks),
        calls=len(new),
        about_pico=sum(about) if len(about) == len(each) else None,
        at_most_pico=sum(most) if len(most) == len(each) else None,
    )


def price_call(
    session: Session, route: Route, prices: Prices, template: Template, prompt: Prompt
) -> tuple[int | None, int | None]:
    """What a call costs about, at its first target, and at most, at the dearest; None where unknown.

    About: half of the output that it may have. At most: where no attempt is made twice.
    """
    params, schema, now = session.params(template, route), template.spec.output, datetime.now(UTC)
    pairs = [session.settings.catalog.pair(target) for target in route.targets]
    tokens = max_input_tokens(prompt, schema)
    ceilings = [
        prices.max_cost_pico(provider, model, tokens, output_limit(params, model), now)
        for provider, model in pairs
    ]
    provider, model = pairs[0]
    usage = Usage(estimate_input_tokens(prompt, schema), output_limit(params, model) // 2)
    about = prices.cost(provider, model, usage, None, None, now)
    known = [one for one in ceilings if one is not None]
    return (
        None if about is None else about.pico,
        max(known) if len(known) == len(ceilings) else None,
    )


async def try_replies(
    session: Session, route: Route, asks: Sequence[Ask], functions: Functions, *, cap_pico: int | None = None
) -> list[Result]:
    """Ask, and hold every reply against what its test expects.

    Args:
        session: one process at work.
        route: where calls go.
        asks: what `prepare` made; equal keys are asked once.
        functions: the project's.
        cap_pico: hard cap of all calls together; they are then made one after the other.

    Returns:
        The results in the order of `asks`; a call that fails, or that a cap stops, is one, too.

    Raises:
        PromptKitError: nothing can be asked at all: no usable key, a ledger that can't be written.
    """
    asked = _Asking(session, route, cap_pico)
    gate = asyncio.Semaphore(1 if cap_pico is not None else _AT_ONCE)
    answers: dict[str, asyncio.Task[Answer | Unanswered]] = {}

    async def limited(ask: Ask) -> Answer | Unanswered:
        async with gate:
            return await asked.answer(ask)

    try:
        async with asyncio.TaskGroup() as group:
            for ask in asks:
                if ask.key not in answers:
                    answers[ask.key] = group.create_task(limited(ask))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    seen: set[str] = set()
    results: list[Result] = []
    for ask in asks:
        answer = answers[ask.key].result()
        results.append(_result(ask, answer, functions, paid=ask.key not in seen))
        seen.add(ask.key)
    return results


class _Asking:
    """Makes the calls, and keeps what is left of the cap."""

    def __init__(self, session: Session, route: Route, cap_pico: int | None) -> None:
        self._session = session
        self._route = route
        self._left = cap_pico

    async def answer(self, ask: Ask) -> Answer | Unanswered:
        if ask.stored is not None:
            return ask.stored
        try:
            reply = await make_reply(
                self._session,
                ask.template,
                ask.case.variables,
                route=self._route,
                tags={TEST_TAG: ask.template.ref.name, KEY_TAG: ask.key},
                cap_pico=self._left,
                parent_id=None,
            )
        except (AllTargetsFailed, BudgetStop) as error:
            self._spend(sum(attempt.charged_pico for attempt in error.attempts))
            return error
        self._spend(reply.charged_pico)
        return Answer(reply.text, reply.target, reply.status, reply.cost_pico)

    def _spend(self, pico: int) -> None:
        if self._left is not None:
            self._left = max(0, self._left - pico)


def _result(ask: Ask, answer: Answer | Unanswered, functions: Functions, *, paid: bool) -> Result:
    started = perf_counter()
    if isinstance(answer, Unanswered):
        problems, note, skipped, cost = (str(answer),), "", False, cost_of(answer.attempts)
    else:
        problems, left_out = _judge(ask, answer, functions)
        notes = [str(answer.target or ""), "replayed" if answer.replayed else "", left_out]
        note = ", ".join(one for one in notes if one)
        skipped = bool(left_out) and _is_function_alone(ask.test)
        cost = answer.cost_pico if paid else 0
    return Result(
        template=str(ask.template.ref),
        name=ask.case.name,
        stage=Stage.REPLY,
        problems=problems,
        note=note,
        file=ask.case.file,
        line=ask.case.line,
        seconds=perf_counter() - started,
        cost_pico=cost,
        skipped=skipped,
        stopped=isinstance(answer, BudgetStop),
    )


def _judge(ask: Ask, answer: Answer, functions: Functions) -> tuple[tuple[str, ...], str]:
    """What is wrong with a reply, and which expectation was left out."""
    test, template = ask.test, ask.template
    own = reply_rules(template, template.bind(ask.case.variables))
    structured = template.spec.output is not None
    problems = list(judge_reply(test, answer.text, structured=structured, checks=own.rules if own else None))
    if answer.status is Status.TRUNCATED:
        problems.insert(0, "the reply was cut at its output limit")
    schema = template.spec.output if test.schema is True else test.schema
    if schema:
        problems += map(str, read_reply(answer.text, schema)[1])
    elif test.schema is True:
        problems.append("schema = true, and the template has no [output]")
    left_out = ""
    if test.function is not None and functions.allowed:
        problems += functions.judge(test.function, answer.text, ask.case.variables)
    elif test.function is not None:
        left_out = f"{test.function} not run: --allow-code runs it"
    return tuple(dict.fromkeys(problems)), left_out


def _is_function_alone(test: ReplyTest) -> bool:
    """Whether the function is all that is expected."""
    return (
        not test.schema
        and not test.json
        and test == ReplyTest(rules=type(test.rules)(), function=test.function)
    )
