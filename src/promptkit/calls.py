"""One call from end to end: a skeleton and its variables become `Work`, and what was made a `Reply`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from .engine import Made, Work, judge_of
from .errors import (
    AllTargetsFailed,
    BudgetStop,
    NoUsableKey,
    PromptKitError,
    StreamCut,
    Unpriced,
    counted,
)
from .ids import show_id
from .routing.budgets import scope_remedy
from .session import Session
from .templates import Skeleton
from .types import Attempt, Call, Fault, Json, Reply, Route

_UNFIT: Final = (Fault.INVALID_OUTPUT, Fault.CHECK)


async def make_reply(  # noqa: PLR0913 - what a user can say of a call
    session: Session,
    skeleton: Skeleton,
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
    bound = skeleton.bind(variables)
    prompt = skeleton.render(bound, prefix=True)
    judge = judge_of(skeleton, bound, read)
    for flag in skeleton.flags(bound):
        session.say(flag)
    plan = session.plan(route, template=skeleton.ref.name, tags=tags)
    engine = await session.engine()
    call_id = session.ids()
    scopes = session.scopes(f"call:{call_id}", cap_pico, tags)
    if scopes:
        session.check_priced(engine, plan)
    await session.remember(skeleton)
    work = Work(
        id=call_id,
        call=Call(prompt, session.params(skeleton, route), skeleton.spec.output, stream=listen is not None),
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
    return (await session.ledger()).deliverable_of(parent_id)


def reply_of(made: Made, work: Work) -> Reply[Any]:
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


def failure_of(made: Made) -> PromptKitError:
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
