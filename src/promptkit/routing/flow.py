"""The flow of one call over its targets, as a generator: it decides the steps, the engine carries them out.

The engine runs each step and resumes the flow with a `Snapshot`: what came of it, the time,
the health of the targets as it is now, and a random draw. No step reads a clock, sleeps or
sends, so a whole provider outage is tested as a script of outcomes in and a trace of steps out.

The rules, in order of precedence:

1. All targets share one limit of attempts. One attempt stays reserved for every target that has
   not been tried, so the last target always gets one.
2. A target is skipped while one of its circuits is open, and until the retry-after hint of its
   own last reply has passed.
3. After a transient failure (`ACTIONS[fault].retries`), the same target is retried after a
   full-jitter backoff. Then the call fails over to the next target; a target that has used up its
   retries comes last.
4. A reply that is not what was asked for is repaired once by the same target, at once. A target
   whose second reply fails, too, is excluded from the call.
5. While all targets are skipped, the call waits for the earliest, within `max_wait_s`. A wait
   under the own rate limits does not count. Calls that wait together resume spread over some time.
6. The last resort gets its one attempt when nothing else is left; its reply is degraded.
7. A reply whose first words the caller has read is never requested a second time, whatever broke it.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Protocol, TypeAlias

from promptkit.types import Completion, Failure, Fault, OnContent, Outcome, Target

from .faults import ACTIONS, Action
from .health import Unavailable

if TYPE_CHECKING:
    from tenacity import Retrying

SPREAD_S = 2.0
"""Calls that wait for the same target resume spread over a tenth of the wait, and over this at most."""

PACE_S = 5.0
"""A wait under the own rate limits up to this long is shorter than a switch to another model is worth."""

PACED = "its own rate limit is used up"


@dataclass(frozen=True, slots=True)
class PlannedTarget:
    """A target of a plan; `window` is its model's context window in tokens, None if unknown.

    `weight` is its share of the calls under the strategy `weighted`.
    """

    target: Target
    window: int | None = None
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """The targets and limits of one call; `routing.plan` makes it from a route."""

    targets: tuple[PlannedTarget, ...]
    attempts: int
    max_wait_s: float
    last_resort: Target | None = None
    on_content: OnContent = OnContent.STOP
    resend_unknown: bool = True
    """Whether a request with an unknown outcome may be sent a second time."""
    strategy: str = "ordered"
    """The strategy that orders the targets of each call before its flow begins."""
    outage_s: float = 0.0
    """How long a batch waits while no target answers; 0: it doesn't wait, and its rows fail."""
    repair_checks: bool = True
    """Whether a reply that failed its checks is repaired by the same target before the next one is asked."""


@dataclass(frozen=True, slots=True)
class Send:
    """A step: send the call to `target`, the plan's `target_number` (from 0), as attempt `number` (from 1)."""

    target: Target
    target_number: int
    number: int


@dataclass(frozen=True, slots=True)
class Sleep:
    """A step: wait before the next one."""

    seconds: float
    why: str


Step: TypeAlias = Send | Sleep


class TargetHealth(Protocol):
    """Which targets are available: `routing.health.Health`, or that and the own rate limits."""

    def unavailable(self, target: Target, now_s: float) -> Unavailable | None:
        """Return why a target gets no calls now; None if it is available."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state that the engine resumes the flow with.

    `outcome` is what came of a Send, and None after a Sleep. None after a Send: the target became
    unavailable before anything was sent. `draw` is uniform in [0, 1).
    """

    now_s: float
    draw: float
    health: TargetHealth
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Replied:
    """A flow that ended with a reply."""

    completion: Completion
    target: Target
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A flow that ended without a reply.

    `failure` is the last one, None where no attempt was made (but `auth` where every key is known
    to be refused). `retry_at_s` is when the first target is available again (seconds since the
    epoch), None if unknown.
    """

    failure: Failure | None
    why: str
    retry_at_s: float | None = None


RouteResult: TypeAlias = Replied | GaveUp

Flow: TypeAlias = Generator[Step, Snapshot, RouteResult]


def flow(plan: Plan, start: Snapshot) -> Flow:
    """Decide, step by step, where the call goes.

    Args:
        plan: the targets and the limits.
        start: the time, health and draw at the beginning.

    Returns:
        A generator that yields steps, is sent a `Snapshot` after each, and returns the result.
    """
    reserve = 0 if plan.last_resort is None else 1
    state = _State(plan, left=max(plan.attempts - reserve, 1))
    now = start
    while step := _next_step(state, now):
        before, now = now, (yield step)
        if isinstance(step, Sleep):
            if step.why != PACED:  # the sleep may have ended early, and the clock may have been set
                state.waited_s += min(max(now.now_s - before.now_s, 0.0), step.seconds)
            continue
        outcome = now.outcome
        if outcome is None:
            state.undo(step.target)
            continue
        if isinstance(outcome, Completion):
            return Replied(outcome, step.target)
        state.failure = outcome
        if _ends_the_call(plan, outcome):
            return GaveUp(outcome, outcome.detail)
        _learn(state, step.target, outcome, now)
    return (yield from _last_resort(state, now))


@dataclass(slots=True)
class _State:
    """What the flow remembers of the call so far."""

    plan: Plan
    left: int
    sent: int = 0
    waited_s: float = 0.0
    failure: Failure | None = None
    retry: Target | None = None
    """Failed, and is retried before any other target."""
    attempts: dict[Target, int] = field(default_factory=dict[Target, int])
    not_before: dict[Target, float] = field(default_factory=dict[Target, float])
    repairs: dict[Target, int] = field(default_factory=dict[Target, int])
    """How many of its replies were not what was asked for."""
    exhausted: set[Target] = field(default_factory=set[Target])
    """Had as many attempts in a row as its faults allow."""
    excluded: set[Target] = field(default_factory=set[Target])
    """Cannot answer this call at all."""

    def available_s(self, target: Target, now: Snapshot) -> float:
        """Return when the target may be sent to: now or in the past if it is available."""
        unavailable = now.health.unavailable(target, now.now_s)
        return max(unavailable.until_s if unavailable else 0.0, self.not_before.get(target, 0.0))

    def can_wait(self, seconds: float) -> bool:
        """Return whether the call may wait this much longer."""
        return self.waited_s + seconds <= self.plan.max_wait_s

    def will_be_available(self, target: Target, now: Snapshot) -> bool:
        """Return whether it is available, or will be while this call can still wait for it."""
        return self.can_wait(self.available_s(target, now) - now.now_s) or _is_pace(target, now)

    def undo(self, target: Target) -> None:
        """Undo a Send after which nothing was sent."""
        self.left += 1
        self.sent -= 1
        self.attempts[target] -= 1
        if not self.attempts[target]:
            del self.attempts[target]

    def candidates(self, now: Snapshot) -> list[Target]:
        """Return the targets that may be tried without using up an attempt reserved for another."""
        able = [planned.target for planned in self.plan.targets if planned.target not in self.excluded]
        untried = [
            target for target in able if target not in self.attempts and self.will_be_available(target, now)
        ]
        if self.left > len(untried):
            return able
        return [target for target in able if target not in self.attempts]


def _next_step(state: _State, now: Snapshot) -> Step | None:
    """Return the next send, or the wait before it; None when there is nothing left to do."""
    target = _choose(state, now) if state.left else None
    if target is None:
        return None
    wait_s = state.available_s(target, now) - now.now_s
    if wait_s > 0:
        return _wait(state, target, wait_s, now)
    state.left -= 1
    state.sent += 1
    state.retry = None
    state.attempts[target] = state.attempts.get(target, 0) + 1
    index = next(index for index, planned in enumerate(state.plan.targets) if planned.target == target)
    return Send(target, index, state.sent)


def _choose(state: _State, now: Snapshot) -> Target | None:
    """Choose the next target: the one to retry, else the first available, else the first to become so."""
    candidates = state.candidates(now)
    # The circuit may have opened while this call waited for its retry.
    retry = state.retry
    if retry is not None and retry in candidates and now.health.unavailable(retry, now.now_s) is None:
        return retry
    available = [target for target in candidates if state.available_s(target, now) <= now.now_s]
    if available:
        return min(available, key=lambda target: target in state.exhausted)
    return min(candidates, key=lambda target: state.available_s(target, now), default=None)


def _wait(state: _State, target: Target, wait_s: float, now: Snapshot) -> Sleep | None:
    """Return the wait for a target; None where it is longer than this call may wait."""
    unavailable = now.health.unavailable(target, now.now_s)
    if unavailable is not None and unavailable.pace:
        return Sleep(wait_s + now.draw * PACE_S / 2, PACED)
    if not state.can_wait(wait_s):
        return None
    if unavailable is None:
        return Sleep(wait_s, "backoff")  # already drawn, in `_retry`
    left_s = state.plan.max_wait_s - state.waited_s
    return Sleep(min(wait_s + now.draw * min(wait_s / 10, SPREAD_S), left_s), "every target is skipped")


def _is_pace(target: Target, now: Snapshot) -> bool:
    unavailable = now.health.unavailable(target, now.now_s)
    return unavailable is not None and unavailable.pace


def _ends_the_call(plan: Plan, failure: Failure) -> bool:
    if failure.shown:
        return True
    if failure.fault is Fault.CONTENT:
        return plan.on_content is OnContent.STOP
    if failure.fault is Fault.UNKNOWN_OUTCOME:
        return not plan.resend_unknown
    return ACTIONS[failure.fault].then == "stop"


def _learn(state: _State, target: Target, failure: Failure, now: Snapshot) -> None:
    """Decide what a failure that does not end the call means for its target."""
    action = ACTIONS[failure.fault]
    if failure.retry_after_s is not None:
        state.not_before[target] = now.now_s + failure.retry_after_s
    if action.larger_window:
        _exclude_smaller_windows(state, target)
    elif action.repair:
        _repair(state, target, failure, action)
    elif action.retries:
        _retry(state, target, failure, action, now)
    elif action.opens is None:
        state.excluded.add(target)


def _exclude_smaller_windows(state: _State, target: Target) -> None:
    """Keep only models with a larger window: no other can help after a context-length error."""
    window = next((planned.window for planned in state.plan.targets if planned.target == target), None) or 0
    state.excluded.update(planned.target for planned in state.plan.targets if (planned.window or 0) <= window)


def _repair(state: _State, target: Target, failure: Failure, action: Action) -> None:
    """Ask the same target for a better reply; the list of problems is no use to the other targets."""
    repairs = state.repairs[target] = state.repairs.get(target, 0) + 1
    wanted = failure.fault is not Fault.CHECK or state.plan.repair_checks
    if wanted and repairs <= action.retries:
        state.retry = target
    else:
        state.excluded.add(target)


def _retry(state: _State, target: Target, failure: Failure, action: Action, now: Snapshot) -> None:
    """Retry the same target after a backoff, or fail over to the next."""
    attempts = state.attempts[target]
    wait_s = max(failure.retry_after_s or 0.0, now.draw * backoff_s(attempts))
    state.not_before[target] = now.now_s + wait_s
    if attempts % (action.retries + 1) == 0:
        state.exhausted.add(target)
    elif state.can_wait(wait_s):
        state.retry = target


def backoff_s(attempts: int) -> float:
    """Return the longest backoff after so many attempts at a target, in seconds."""
    from tenacity import RetryCallState  # not at the top: `render` imports this module and never waits

    retrying = _retrying()
    state = RetryCallState(retrying, None, (), {})
    state.attempt_number = attempts
    return retrying.wait(state)


@cache
def _retrying() -> Retrying:
    """Return the bounds of the nth backoff, in seconds: 0.5, 1, 2, ... 20. The draw picks a point below."""
    from tenacity import Retrying, wait_exponential

    return Retrying(wait=wait_exponential(multiplier=0.5, max=20.0))


def _last_resort(state: _State, now: Snapshot) -> Flow:
    """Make the one attempt on the last resort, or give up."""
    target = state.plan.last_resort
    if target is not None and now.health.unavailable(target, now.now_s) is None:
        now = yield Send(target, len(state.plan.targets), state.sent + 1)
        outcome = now.outcome
        if isinstance(outcome, Completion):
            return Replied(outcome, target, degraded=True)
        state.failure = outcome or state.failure
    failure = state.failure or _refused_keys(state, now)
    why = _why_none(state, now) if state.failure is None else state.failure.detail
    times = [
        state.available_s(planned.target, now)
        for planned in state.plan.targets
        if planned.target not in state.excluded
    ]
    retry_at_s = min(times, default=math.inf)
    return GaveUp(failure, why, retry_at_s if now.now_s < retry_at_s < math.inf else None)


def _refused_keys(state: _State, now: Snapshot) -> Failure | None:
    """Return the failure of a call that wasn't sent because every key is known to be refused."""
    reasons = [now.health.unavailable(planned.target, now.now_s) for planned in state.plan.targets]
    refused = [reason for reason in reasons if reason is not None and reason.fault is Fault.AUTH]
    return Failure(Fault.AUTH, _why_none(state, now)) if refused and len(refused) == len(reasons) else None


def _why_none(state: _State, now: Snapshot) -> str:
    """Say why no target could be tried."""
    reasons = (
        (planned.target, now.health.unavailable(planned.target, now.now_s)) for planned in state.plan.targets
    )
    skipped = [
        f"{target} is skipped until {_clock(reason.until_s)} ({reason.why})"
        for target, reason in reasons
        if reason
    ]
    return "; ".join(skipped) or "no target could be tried"


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
