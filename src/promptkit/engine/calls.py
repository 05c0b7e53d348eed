"""One call from end to end: a template and its variables become `CallRequest`, and what was made a `Reply`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from promptkit.errors import (
    AllTargetsFailed,
    BudgetStop,
    NoUsableKey,
    PromptKitError,
    StreamCut,
    Unpriced,
    counted,
)
from promptkit.routing.budgets import scope_remedy
from promptkit.routing.flow import Answered, GaveUp, Plan, Verdict
from promptkit.templates.template import Template
from promptkit.types import Attempt, Call, Failure, Fault, Finish, Json, Reply, Route, Scope, Status, Value
from promptkit.types.ids import show_id

from .context import Session
from .judge import Judge, judge_of

_UNFIT: Final = (Fault.INVALID_OUTPUT, Fault.CHECK)


async def make_reply(  # noqa: PLR0913 - what a user can say of a call
    session: Session,
    template: Template,
    variables: Mapping[str, object],
    *,
    route: Route,
    tags: Mapping[str, str],
    cap_pico: int | None,
    parent_id: int | None,
    cache_s: float | None = None,
    listen: Callable[[str], None] | None = None,
    read: Callable[[Json], object] | None = None,
) -> Reply[Any]:
    """Make one call; with a listener its text is streamed to that, with a reader its JSON becomes what that makes of it.

    Raises:
        PromptKitError: as `AsyncPromptKit.run` tells.
    """
    bound = template.bind(variables)
    prompt = template.render(bound, prefix=True)
    judge = judge_of(template, bound, read)
    for flag in template.flags(bound):
        session.say(flag)
    plan = session.plan(route, template=template.ref.name, tags=tags)
    engine = await session.engine()
    call_id = session.ids()
    scopes = session.scopes(f"call:{call_id}", cap_pico, tags)
    if scopes:
        session.check_priced(engine, plan)
    await session.remember(template)
    work = CallRequest(
        id=call_id,
        call=Call(prompt, session.params(template, route), template.spec.output, stream=listen is not None),
        plan=plan,
        route=route.name,
        scopes=scopes,
        tags=tags,
        variables=bound,
        parent_id=parent_id,
        deliverable=tags.get("deliverable") or await _carried(session, parent_id),
        judge=judge,
        cache_s=cache_s,
        listen=listen,
    )
    made = await engine.make(work)
    if made.answered is None:
        raise failure_of(made)
    return reply_of(made, work)


async def _carried(session: Session, parent_id: int | None) -> str | None:
    """The deliverable of the call that this one goes back to: its cost is that one's, too."""
    if parent_id is None:
        return None
    return (await session.ledger()).calls.deliverable(parent_id)


def reply_of(made: CallResult, work: CallRequest) -> Reply[Any]:
    """The reply of a call that was answered."""
    answered = made.answered
    if answered is None:
        msg = "only an answered call has a reply"
        raise AssertionError(msg)
    prompt = work.call.prompt
    return Reply(
        id=made.id,
        text=made.text,
        status=made.status,
        target=answered.target,
        served_model=answered.completion.served_model,
        ref=prompt.ref,
        template_digest=prompt.template_digest,
        prompt_digest=prompt.digest,
        usage=answered.completion.usage,
        cost_pico=cost_of(made.attempts),
        charged_pico=sum(attempt.charged_pico for attempt in made.attempts),
        latency_s=made.latency_s,
        attempts=made.attempts,
        tags=work.tags,
        parsed=made.parsed,
        flags=made.flags,
        cached_from=made.cached_from,
        saved_pico=made.saved_pico,
    )


def failure_of(made: CallResult) -> PromptKitError:
    """The error to raise for a call that nothing answered; every attempt is on it."""
    if made.failure is not None and made.failure.shown:
        return StreamCut(
            f"{made.attempts[-1].target} failed after its first words were read, so nothing was sent again: {made.why}",
            attempts=made.attempts,
            text=made.text,
            remedy=f"What had come is kept where texts are: promptkit show {show_id(made.id)}",
        )
    fault = made.failure.fault if made.failure else None
    if fault is Fault.BUDGET:
        remedy = None if made.refused_by is None else scope_remedy(made.refused_by)
        return BudgetStop(made.why, attempts=made.attempts, remedy=remedy)
    if fault is Fault.UNPRICED:
        return Unpriced(made.why, attempts=made.attempts)
    if fault is Fault.AUTH and all(attempt.fault is Fault.AUTH for attempt in made.attempts):
        return NoUsableKey(f"every key was refused: {made.why}", remedy="promptkit providers check")
    tried = (
        f"{counted(len(made.attempts), 'attempt')} failed, the last: {made.why}"
        if made.attempts
        else made.why
    )
    remedy = (
        f"The last reply was paid, and is kept where texts are: promptkit show {show_id(made.id)}"
        if fault in _UNFIT
        else None
    )
    return AllTargetsFailed(tried, attempts=made.attempts, remedy=remedy or _try_again(made.retry_at_s))


def cost_of(attempts: Sequence[Attempt]) -> int | None:
    """The cost of attempts in pico-USD; None where one is unknown."""
    costs = [attempt.cost for attempt in attempts]
    known = [cost.pico for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def _try_again(retry_at_s: float | None) -> str | None:
    if retry_at_s is None:
        return None
    at = datetime.fromtimestamp(retry_at_s, UTC)
    return f"The first target opens again at {at:%Y-%m-%d %H:%M:%S} UTC."


@dataclass(frozen=True, slots=True)
class Edge:
    """What comes in from the world: seconds since the epoch, a draw in [0, 1), and a voice.

    `by_hand` is whether somebody asks to see how a target is, however it was found before.
    """

    clock: Callable[[], float]
    draw: Callable[[], float]
    say: Callable[[str], None]
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class CallRequest:
    """One call to make: what to ask, where it may go, and what the books say of it.

    `scopes` are the hard caps it counts against; `variables` are as supplied and coerced. `judge`
    says what its reply must be, None where any will do.
    `listen`, of a call that streams, is told each piece of the text as it comes; it must not raise.
    """

    id: int
    call: Call
    plan: Plan
    route: str
    scopes: tuple[Scope, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    variables: Mapping[str, Value] = field(default_factory=dict[str, Value])
    parent_id: int | None = None
    deliverable: str | None = None
    job_id: int | None = None
    row_id: int | None = None
    judge: Judge | None = None
    cache_s: float | None = None
    """How old a reply may be that serves it, in seconds; 0: none does, but its own is kept; None: neither."""
    listen: Callable[[str], None] | None = None
    members: tuple[CallRequest, ...] = ()
    """The calls of the rows that this one carries in one request (see `promptkit.engine.pack`)."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """What came of a call. `text` and `answered` are set where a reply came, `failure` where none did.

    Of a stream that broke off, `text` is what had come.

    `row_stays` is whether a row of this call is still to be done: it was not the row that failed.
    """

    id: int
    status: Status
    text: str
    answered: Answered | None
    failure: Failure | None
    why: str
    retry_at_s: float | None
    attempts: tuple[Attempt, ...]
    latency_s: float
    row_stays: bool = False
    outage: bool = False
    """No target answered, and that will pass."""
    refused_by: str | None = None
    """The scope whose cap refused it, where one did."""
    parsed: object = None
    flags: tuple[str, ...] = ()
    cached_from: int | None = None
    """The call whose reply served this one."""
    saved_pico: int | None = None
    members: tuple[CallResult, ...] = ()
    """Of a call that carried a pack: what came of the calls of its rows, to the part that each has in it."""
    ask_again: bool = False
    """The pack that it went in brought it no reply: its row is to be asked for with fewer others, or alone."""


_NOTHING_SENT: Final = frozenset({Fault.BUDGET, Fault.UNPRICED})
"""What promptkit's own rules refused: the row waits until they allow it."""


EVERYBODYS: Final = frozenset({Fault.AUTH, Fault.QUOTA, Fault.MODEL_GONE})
"""Faults that would have hit any other row as well."""


_PAUSES: Final = frozenset({Fault.RATE_LIMIT, Fault.NO_CAPACITY})
"""Faults that would, while every target is closed."""


_PASSING: Final = (
    EVERYBODYS | _PAUSES | frozenset({Fault.TRANSIENT, Fault.UNKNOWN_OUTCOME, Fault.BROKEN_REPLY})
)
"""Faults of an outage, and those that may come with it."""


def status_of(verdict: Verdict) -> Status:
    """How the call ended."""
    if isinstance(verdict, GaveUp):
        refused = verdict.failure is not None and verdict.failure.fault is Fault.CONTENT
        return Status.REFUSED if refused else Status.FAILED
    if verdict.degraded:
        return Status.DEGRADED
    return Status.OK if verdict.completion.finish is Finish.STOP else Status.TRUNCATED


def text_of(verdict: Verdict) -> str:
    """The reply, or what was shown of one that broke off; empty where none came."""
    if isinstance(verdict, Answered):
        return verdict.completion.text
    failure = verdict.failure
    return failure.text if failure is not None and failure.shown else ""


def is_outage(verdict: Verdict, attempts: Iterable[Attempt], plan: Plan) -> bool:
    """Whether a row was left without an answer by what passes, and that says nothing of the row.

    Only where the plan lets a batch wait for better times; else such a row fails.
    """
    if isinstance(verdict, Answered) or not plan.outage_s:
        return False
    faults = _faults(verdict, attempts)
    if not faults:
        return verdict.retry_at_s is not None
    if Fault.UNKNOWN_OUTCOME in faults and not plan.resend_unknown:
        return False
    return faults <= _PASSING and not faults <= EVERYBODYS


def row_stays(verdict: Verdict, attempts: Sequence[Attempt], plan: Plan) -> bool:
    """Whether a row of the call is still to be done: nothing that failed was about the row itself.

    One attempt that says something about the row (it is too long, it was refused) is enough to
    end it; else a single such row could stop its job again and again.
    """
    if isinstance(verdict, Answered):
        return False
    failure = verdict.failure
    if failure is None or failure.fault in _NOTHING_SENT or is_outage(verdict, attempts, plan):
        return True
    others = EVERYBODYS if verdict.retry_at_s is None else EVERYBODYS | _PAUSES
    return others >= _faults(verdict, attempts)


def _faults(verdict: GaveUp, attempts: Iterable[Attempt]) -> set[Fault | None]:
    faults: set[Fault | None] = {attempt.fault for attempt in attempts}
    return faults if verdict.failure is None else faults | {verdict.failure.fault}
