"""The flow of one call over its targets, as a generator: it decides, the engine acts.

The engine runs each step and resumes the flow with a `Snapshot`: what came of it, the time,
the health of the targets as it is now, and a random draw. No step reads a clock, sleeps or
sends, so a whole outage is tested as a script of outcomes in and a trace of steps out.

The rules, in the order in which they bind:

1. One budget of attempts over all targets, of which one stays reserved for every target that
   has not been tried, so that the last one always has its turn.
2. A target is closed while its lane is parked, and until the hint of its own last reply has passed.
3. A stumble (`ACTIONS[fault].same_tries`) is tried again on the same target, after full-jitter
   back-off; then the next open target has its turn, one that stumbled before comes last.
4. A reply that is not what was asked for is repaired once by the same target, at once; one that
   fails again leaves that target out of the call.
5. When all are closed, wait for the earliest, within the call's patience; waiting for one's turn
   under one's own limits is nobody's patience. Those who wait together don't come back together.
6. The last resort has its one attempt when nothing else is left; its answer is degraded.
7. A reply whose first words the caller has read is never asked for again, whatever broke it.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol, TypeAlias

from tenacity import RetryCallState, wait_exponential

from promptkit.types import Completion, Failure, Fault, OnContent, Outcome, Target

from .faults import ACTIONS, Action
from .health import Park

_BACK_OFF: Final = wait_exponential(multiplier=0.5, max=20.0)
"""The bound of the nth wait, in seconds: 0.5, 1, 2, ... 20; the draw picks a point below it."""


SPREAD_S: Final = 2.0
"""Calls that wait for the same target come back within a tenth of the wait, and this at most."""


PACE_S: Final = 5.0
"""A turn under one's own limits that comes so soon is waited for: sooner than with another model."""


PACED: Final = "its own limit is used up"


@dataclass(frozen=True, slots=True)
class PlannedTarget:
    """A target of a plan; `window` is its model's context window in tokens, None if unknown.

    `weight` is its share of the calls where they are drawn (see `strategies.weighted`).
    """

    target: Target
    window: int | None = None
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """Where one call may go. See `routing.plan` for how it comes from a route."""

    targets: tuple[PlannedTarget, ...]
    attempts: int
    max_wait_s: float
    last_resort: Target | None = None
    on_content: OnContent = OnContent.STOP
    resend_unknown: bool = True
    """Whether a request that was sent and never answered may be sent again."""
    strategy: str = "ordered"
    """What puts the hops of each call in order, before its flow begins (see `strategies`)."""
    outage_s: float = 0.0
    """How long a batch waits, with no answer from anywhere; 0: it doesn't, and its rows fail."""
    repair_checks: bool = True
    """Whether a target whose reply failed the checks is asked once more, before the next one."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send the call to `target`: attempt `number` (from 1) of the call, on its hop `hop` (from 0)."""

    target: Target
    target_number: int
    number: int


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait before the next step."""

    seconds: float
    why: str


class Standing(Protocol):
    """How the targets stand: `routing.health.Health`, or that and one's own limits."""

    def park(self, target: Target, now_s: float) -> Park | None:
        """What keeps a target closed now."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the engine resumes the flow with.

    `outcome` is what came of a Send, None after a Sleep. None after a Send: the target had closed
    before anything left, and nothing was sent. `draw` is uniform in [0, 1).
    """

    now_s: float
    draw: float
    health: Standing
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """The end of a flow: a reply came."""

    completion: Completion
    target: Target
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The end of a flow: nothing answered.

    `failure` is the last one, None where not one attempt could be made (but `auth` where that is
    for keys that are known to be refused); `retry_at_s` is when
    the earliest parked target opens again (seconds since the epoch), None if none is known.
    """

    failure: Failure | None
    why: str
    retry_at_s: float | None = None


Step: TypeAlias = Send | Sleep


Verdict: TypeAlias = Answered | GaveUp


Flow: TypeAlias = Generator[Step, Snapshot, Verdict]


@dataclass(slots=True)
class _State:
    """What the flow remembers of the call so far."""

    plan: Plan
    left: int
    sent: int = 0
    waited_s: float = 0.0
    failure: Failure | None = None
    again: Target | None = None
    """Stumbled, and is to be asked again before any other."""
    tries: dict[Target, int] = field(default_factory=dict[Target, int])
    not_before: dict[Target, float] = field(default_factory=dict[Target, float])
    repairs: dict[Target, int] = field(default_factory=dict[Target, int])
    """How often its replies were not what was asked for."""
    stumbled: set[Target] = field(default_factory=set[Target])
    """Had as many tries in a row as its faults allow."""
    out: set[Target] = field(default_factory=set[Target])
    """Can't answer this call at all."""

    def opens_s(self, target: Target, now: Snapshot) -> float:
        """When the target may be sent to: now or in the past where it is open."""
        park = now.health.park(target, now.now_s)
        return max(park.until_s if park else 0.0, self.not_before.get(target, 0.0))

    def can_wait(self, seconds: float) -> bool:
        return self.waited_s + seconds <= self.plan.max_wait_s

    def will_open(self, target: Target, now: Snapshot) -> bool:
        """Whether it is open, or opens while this call can still wait for it."""
        return self.can_wait(self.opens_s(target, now) - now.now_s) or _is_pace(target, now)

    def take_back(self, target: Target) -> None:
        """Count a Send as never decided: the target had closed before anything left."""
        self.left += 1
        self.sent -= 1
        self.tries[target] -= 1
        if not self.tries[target]:
            del self.tries[target]

    def candidates(self, now: Snapshot) -> list[Target]:
        """The targets that may still be tried, within what the budget reserves."""
        able = [planned.target for planned in self.plan.targets if planned.target not in self.out]
        waiting = [target for target in able if target not in self.tries and self.will_open(target, now)]
        if self.left > len(waiting):
            return able
        return [target for target in able if target not in self.tries]


def flow(plan: Plan, start: Snapshot) -> Flow:
    """Decide, step by step, where the call goes.

    Args:
        plan: the targets and the bounds.
        start: the time, health and draw at the beginning.

    Returns:
        A generator that yields steps, is sent a `Snapshot` for each, and returns the verdict.
    """
    reserve = 0 if plan.last_resort is None else 1
    state = _State(plan, left=max(plan.attempts - reserve, 1))
    now = start
    while step := _next_step(state, now):
        before, now = now, (yield step)
        if isinstance(step, Sleep):
            if step.why != PACED:  # it may have been woken early, and the clock may have been set
                state.waited_s += min(max(now.now_s - before.now_s, 0.0), step.seconds)
            continue
        outcome = now.outcome
        if outcome is None:
            state.take_back(step.target)
            continue
        if isinstance(outcome, Completion):
            return Answered(outcome, step.target)
        state.failure = outcome
        if _ends_the_call(plan, outcome):
            return GaveUp(outcome, outcome.detail)
        _take_in(state, step.target, outcome, now)
    return (yield from _last_resort(state, now))


def _last_resort(state: _State, now: Snapshot) -> Flow:
    """The one attempt on the last resort, or giving up."""
    target = state.plan.last_resort
    if target is not None and now.health.park(target, now.now_s) is None:
        now = yield Send(target, len(state.plan.targets), state.sent + 1)
        outcome = now.outcome
        if isinstance(outcome, Completion):
            return Answered(outcome, target, degraded=True)
        state.failure = outcome or state.failure
    failure = state.failure or _refused_key(state, now)
    why = _why_none(state, now) if state.failure is None else state.failure.detail
    opens = [
        state.opens_s(planned.target, now)
        for planned in state.plan.targets
        if planned.target not in state.out
    ]
    retry_at_s = min(opens, default=math.inf)
    return GaveUp(failure, why, retry_at_s if now.now_s < retry_at_s < math.inf else None)


def _next_step(state: _State, now: Snapshot) -> Step | None:
    """The next send, the wait before it, or None when there is nothing left to do."""
    target = _choose(state, now) if state.left else None
    if target is None:
        return None
    wait_s = state.opens_s(target, now) - now.now_s
    if wait_s > 0:
        return _wait(state, target, wait_s, now)
    state.left -= 1
    state.sent += 1
    state.again = None
    state.tries[target] = state.tries.get(target, 0) + 1
    index = next(index for index, planned in enumerate(state.plan.targets) if planned.target == target)
    return Send(target, index, state.sent)


def _wait(state: _State, target: Target, wait_s: float, now: Snapshot) -> Sleep | None:
    """The wait for a target; None where it is longer than this call's patience."""
    park = now.health.park(target, now.now_s)
    if park is not None and park.pace:
        return Sleep(wait_s + now.draw * PACE_S / 2, PACED)
    if not state.can_wait(wait_s):
        return None
    if park is None:
        return Sleep(wait_s, "asking again")  # the back-off was drawn already
    left_s = state.plan.max_wait_s - state.waited_s
    return Sleep(min(wait_s + now.draw * min(wait_s / 10, SPREAD_S), left_s), "every target is closed")


def _is_pace(target: Target, now: Snapshot) -> bool:
    park = now.health.park(target, now.now_s)
    return park is not None and park.pace


def _why_none(state: _State, now: Snapshot) -> str:
    """Why not one target could be tried."""
    parks = ((planned.target, now.health.park(planned.target, now.now_s)) for planned in state.plan.targets)
    closed = [
        f"{target} is closed until {_clock(park.until_s)} ({park.why})" for target, park in parks if park
    ]
    return "; ".join(closed) or "no target could be tried"


def _refused_key(state: _State, now: Snapshot) -> Failure | None:
    """The failure of a call that wasn't made because every key is known to be refused."""
    parks = [now.health.park(planned.target, now.now_s) for planned in state.plan.targets]
    refused = [park for park in parks if park is not None and park.fault is Fault.AUTH]
    return Failure(Fault.AUTH, _why_none(state, now)) if refused and len(refused) == len(parks) else None


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _choose(state: _State, now: Snapshot) -> Target | None:
    """The target to go to next: again, else the first that is open, else the first to open."""
    candidates = state.candidates(now)
    # A queued retry looks at the lane again: it may have been parked while this call waited.
    again = state.again
    if again is not None and again in candidates and now.health.park(again, now.now_s) is None:
        return again
    opens = [target for target in candidates if state.opens_s(target, now) <= now.now_s]
    if opens:
        return min(opens, key=lambda target: target in state.stumbled)
    return min(candidates, key=lambda target: state.opens_s(target, now), default=None)


def _take_in(state: _State, target: Target, failure: Failure, now: Snapshot) -> None:
    """Learn from a failure that does not end the call."""
    action = ACTIONS[failure.fault]
    if failure.retry_after_s is not None:
        state.not_before[target] = now.now_s + failure.retry_after_s
    if action.larger_window:
        _rule_out_smaller_windows(state, target)
    elif action.repair:
        _repair(state, target, failure, action)
    elif action.same_tries:
        _stumble(state, target, failure, action, now)
    elif action.park is None:
        state.out.add(target)


def _stumble(state: _State, target: Target, failure: Failure, action: Action, now: Snapshot) -> None:
    """Ask the same target again after a pause, or let the next one have its turn."""
    tries = state.tries[target]
    pause_s = max(failure.retry_after_s or 0.0, now.draw * back_off_s(tries))
    state.not_before[target] = now.now_s + pause_s
    if tries % (action.same_tries + 1) == 0:
        state.stumbled.add(target)
    elif state.can_wait(pause_s):
        state.again = target


def _repair(state: _State, target: Target, failure: Failure, action: Action) -> None:
    """Ask the same target for a better reply; what it was told is no use to the others."""
    given = state.repairs[target] = state.repairs.get(target, 0) + 1
    wanted = failure.fault is not Fault.CHECK or state.plan.repair_checks
    if wanted and given <= action.same_tries:
        state.again = target
    else:
        state.out.add(target)


def back_off_s(tries: int) -> float:
    """The longest wait after so many tries on a target, in seconds."""
    retry = RetryCallState(None, None, (), {})  # pyright: ignore[reportArgumentType] - only attempt_number is read
    retry.attempt_number = tries
    return _BACK_OFF(retry)


def _rule_out_smaller_windows(state: _State, target: Target) -> None:
    """After a context-length error only a model with a larger window can help."""
    window = next((planned.window for planned in state.plan.targets if planned.target == target), None) or 0
    state.out.update(planned.target for planned in state.plan.targets if (planned.window or 0) <= window)


def _ends_the_call(plan: Plan, failure: Failure) -> bool:
    if failure.shown:
        return True
    if failure.fault is Fault.CONTENT:
        return plan.on_content is OnContent.STOP
    if failure.fault is Fault.UNKNOWN_OUTCOME:
        return not plan.resend_unknown
    return ACTIONS[failure.fault].then == "stop"
