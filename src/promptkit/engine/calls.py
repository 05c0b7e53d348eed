"""One call from end to end: a template and its variables become a `CallRequest`, its result a `Reply`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

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
from promptkit.routing.flow import GaveUp, Plan, Replied, RouteResult
from promptkit.templates.template import Template
from promptkit.types import Attempt, Call, Failure, Fault, Finish, Json, Reply, Route, Scope, Status, Value
from promptkit.types.ids import show_id

from .validate import ReplyRules, reply_rules

if TYPE_CHECKING:
    from .context import Session


async def make_reply(  # noqa: PLR0913 - the options of a call
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
    """Make one call.

    Args:
        session: settings, templates, ledger and engine.
        template: the template.
        variables: its variables, as supplied.
        route: the targets, in order, and how to try them.
        tags: what the call belongs to.
        cap_pico: a hard cap on its cost, in pico-USD.
        parent_id: the call that this one is a retake of.
        cache_s: the greatest age of a cached reply, in seconds; see `CallRequest`.
        listen: gets each piece of the text as it arrives; the reply is streamed then.
        read: turns the JSON of a structured reply into its `parsed`.

    Raises:
        PromptKitError: as `AsyncPromptKit.run`.
    """
    bound = template.bind(variables)
    prompt = template.render(bound, prefix=True)
    rules = reply_rules(template, bound, read)
    for flag in template.flags(bound):
        session.notice(flag)
    plan = session.plan(route, template=template.ref.name, tags=tags)
    engine = await session.engine()
    call_id = session.ids()
    scopes = session.scopes(f"call:{call_id}", cap_pico, tags)
    if scopes:
        session.check_priced(engine, plan)
    await session.remember(template)
    deliverable = tags.get("deliverable")
    if deliverable is None and parent_id is not None:
        # The cost of a retake counts for the deliverable of the call that it goes back to.
        deliverable = (await session.ledger()).calls.deliverable(parent_id)
    request = CallRequest(
        id=call_id,
        call=Call(prompt, session.params(template, route), template.spec.output, stream=listen is not None),
        plan=plan,
        route=route.name,
        scopes=scopes,
        tags=tags,
        variables=bound,
        parent_id=parent_id,
        deliverable=deliverable,
        rules=rules,
        cache_s=cache_s,
        listen=listen,
    )
    result = await engine.make(request)
    if result.replied is None:
        raise failure_of(result)
    return _reply(result, result.replied, request)


def _reply(result: CallResult, replied: Replied, request: CallRequest) -> Reply[Any]:
    prompt, completion = request.call.prompt, replied.completion
    return Reply(
        id=show_id(result.id),
        text=result.text,
        status=result.status,
        target=replied.target,
        served_model=completion.served_model,
        ref=prompt.ref,
        template_digest=prompt.template_digest,
        prompt_digest=prompt.digest,
        usage=completion.usage,
        cost_pico=cost_of(result.attempts),
        charged_pico=sum(attempt.charged_pico for attempt in result.attempts),
        latency_s=result.latency_s,
        attempts=result.attempts,
        tags=request.tags,
        parsed=result.parsed,
        flags=result.flags,
        cached_from=None if result.cached_from is None else show_id(result.cached_from),
        saved_pico=result.saved_pico,
    )


def cost_of(attempts: Sequence[Attempt]) -> int | None:
    """Return the cost of attempts in pico-USD; None where one is unknown."""
    costs = [attempt.cost for attempt in attempts]
    known = [cost.pico for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def failure_of(result: CallResult) -> PromptKitError:
    """Return the error to raise for a call without a reply, with every attempt on it."""
    attempts, why = result.attempts, result.why
    if result.failure is not None and result.failure.shown:
        return StreamCut(
            f"{attempts[-1].target} failed after its first words were read, so nothing was sent again: {why}",
            attempts=attempts,
            text=result.text,
            remedy=f"The text so far is kept where replies are: promptkit show {show_id(result.id)}",
        )
    fault = result.failure.fault if result.failure else None
    if fault is Fault.BUDGET:
        remedy = None if result.refused_by is None else scope_remedy(result.refused_by)
        return BudgetStop(why, attempts=attempts, remedy=remedy)
    if fault is Fault.UNPRICED:
        return Unpriced(why, attempts=attempts)
    if fault is Fault.AUTH and all(attempt.fault is Fault.AUTH for attempt in attempts):
        return NoUsableKey(f"every key was refused: {why}", remedy="promptkit providers check")
    message = f"{counted(len(attempts), 'attempt')} failed, the last: {why}" if attempts else why
    if fault in {Fault.INVALID_OUTPUT, Fault.CHECK}:
        kept = f"The last reply was paid, and is kept where replies are: promptkit show {show_id(result.id)}"
        return AllTargetsFailed(message, attempts=attempts, remedy=kept)
    return AllTargetsFailed(message, attempts=attempts, remedy=_available_text(result.retry_at_s))


def _available_text(retry_at_s: float | None) -> str | None:
    if retry_at_s is None:
        return None
    at = datetime.fromtimestamp(retry_at_s, UTC)
    return f"The first target is available again at {at:%Y-%m-%d %H:%M:%S} UTC."


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A call to make: what to ask, where it may go, and what the ledger records of it.

    `scopes` are the hard caps that it counts under; `variables` are as supplied and coerced.
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
    rules: ReplyRules | None = None
    """What its reply must be; None: any reply will do."""
    cache_s: float | None = None
    """The greatest age of a cached reply, in seconds; 0: no lookup, but its own reply is cached; None: neither."""
    listen: Callable[[str], None] | None = None
    """Gets each piece of a streamed text as it arrives; it must not raise."""
    members: tuple[CallRequest, ...] = ()
    """The calls of the rows that this call carries in one request (see `promptkit.engine.pack`)."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """The result of a call. `replied` is set if a reply came, `failure` if none did.

    `text` is the reply; of a stream that broke off, it is the text so far.
    """

    id: int
    status: Status
    text: str
    replied: Replied | None
    failure: Failure | None
    why: str
    retry_at_s: float | None
    attempts: tuple[Attempt, ...]
    latency_s: float
    row_stays: bool = False
    """The row of this call stays pending: the failure was not about the row."""
    outage: bool = False
    """No target answered, because of a provider outage."""
    refused_by: str | None = None
    """The scope whose cap refused it."""
    parsed: object = None
    flags: tuple[str, ...] = ()
    cached_from: int | None = None
    """The call whose reply came from the reply cache."""
    saved_pico: int | None = None
    members: tuple[CallResult, ...] = ()
    """Of a call that carried a pack: the results of its rows, each with its share of usage and cost."""
    resend: bool = False
    """Its pack brought no reply: its row is sent again with fewer others, or alone."""


_NOTHING_SENT = frozenset({Fault.BUDGET, Fault.UNPRICED})
"""Faults of a call that promptkit's own rules refused: the row stays pending until they allow it."""

FOR_ANY_ROW = frozenset({Fault.AUTH, Fault.QUOTA, Fault.MODEL_GONE})
"""Faults that any other row would have met as well."""

_THROTTLED = frozenset({Fault.RATE_LIMIT, Fault.NO_CAPACITY})
"""Faults that any other row would have met, too, while every target is skipped."""

_OUTAGE = FOR_ANY_ROW | _THROTTLED | frozenset({Fault.TRANSIENT, Fault.UNKNOWN_OUTCOME, Fault.BROKEN_REPLY})
"""Faults of a provider outage, and those that may come with it."""


def status_of(result: RouteResult) -> Status:
    """Return the status of a call that ended so."""
    if isinstance(result, GaveUp):
        refused = result.failure is not None and result.failure.fault is Fault.CONTENT
        return Status.REFUSED if refused else Status.FAILED
    if result.degraded:
        return Status.DEGRADED
    return Status.OK if result.completion.finish is Finish.STOP else Status.TRUNCATED


def text_of(result: RouteResult) -> str:
    """Return the reply, or what was shown of one that broke off; empty where none came."""
    if isinstance(result, Replied):
        return result.completion.text
    failure = result.failure
    return failure.text if failure is not None and failure.shown else ""


def row_stays(result: RouteResult, attempts: Sequence[Attempt], plan: Plan) -> bool:
    """Return whether the row of a call stays pending: no failure was about the row itself.

    One attempt that failed because of the row (it is too long, it was refused) is enough to end
    it; else a single such row could stop its job at each start.
    """
    if isinstance(result, Replied):
        return False
    failure = result.failure
    if failure is None or failure.fault in _NOTHING_SENT or is_outage(result, attempts, plan):
        return True
    others = FOR_ANY_ROW if result.retry_at_s is None else FOR_ANY_ROW | _THROTTLED
    return others >= _faults(result, attempts)


def is_outage(result: RouteResult, attempts: Iterable[Attempt], plan: Plan) -> bool:
    """Return whether a row has no reply because of a provider outage, which says nothing about the row.

    Only where the plan lets a batch wait for its end; else such a row fails.
    """
    if isinstance(result, Replied) or not plan.outage_s:
        return False
    faults = _faults(result, attempts)
    if not faults:
        return result.retry_at_s is not None
    if Fault.UNKNOWN_OUTCOME in faults and not plan.resend_unknown:
        return False
    return faults <= _OUTAGE and not faults <= FOR_ANY_ROW


def _faults(result: GaveUp, attempts: Iterable[Attempt]) -> set[Fault | None]:
    faults: set[Fault | None] = {attempt.fault for attempt in attempts}
    return faults if result.failure is None else faults | {result.failure.fault}
