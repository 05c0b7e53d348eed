"""The flow as a table: a script of outcomes in, a trace of steps out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.routing.faults import ACTIONS
from promptkit.routing.flow import (
    PACE_S,
    PACED,
    GaveUp,
    Plan,
    PlannedTarget,
    Replied,
    RouteResult,
    Send,
    Sleep,
    Snapshot,
    backoff_s,
    flow,
)
from promptkit.routing.health import AUTH_S, COOLDOWN_S, QUOTA_S, STREAK, Health, Unavailable
from promptkit.types import Completion, Failure, Fault, Finish, OnContent, Outcome, Target, Usage

A, B, C, LAST = (Target(name, "m") for name in ("a", "b", "c", "last"))
OK = Completion("text", Finish.STOP, Usage(1, 1))
CUT = Completion("text", Finish.LENGTH, Usage(1, 1))
NOW_S = 1_000_000.0

Trace = list[str]


def fails(fault: Fault, retry_after_s: float | None = None) -> Failure:
    return Failure(fault, f"it was {fault}", retry_after_s=retry_after_s)


def plan(
    *targets: Target,
    attempts: int = 6,
    max_wait_s: float = 120.0,
    last_resort: Target | None = None,
    on_content: OnContent = OnContent.STOP,
    resend_unknown: bool = True,
    windows: Mapping[Target, int] | None = None,
) -> Plan:
    planned = tuple(PlannedTarget(target, (windows or {}).get(target)) for target in targets)
    return Plan(planned, attempts, max_wait_s, last_resort, on_content, resend_unknown)


def drive(
    the_plan: Plan,
    script: Mapping[Target, Iterable[Outcome]],
    *,
    draw: float = 1.0,
    health: Health | None = None,
) -> tuple[Trace, RouteResult]:
    """Play a script; each target answers with its next outcome (the last one for ever)."""
    answers = {target: list(outcomes) for target, outcomes in script.items()}
    health = health or Health()
    now_s = NOW_S
    trace: Trace = []
    steps = flow(the_plan, Snapshot(now_s, draw, health))
    moment = None
    while True:
        try:
            step = next(steps) if moment is None else steps.send(moment)
        except StopIteration as end:
            return trace, end.value
        if isinstance(step, Sleep):
            trace.append(f"sleep {step.seconds:g}")
            now_s += step.seconds
            moment = Snapshot(now_s, draw, health)
        else:
            assert step.number == 1 + sum(not entry.startswith("sleep") for entry in trace)
            trace.append(step.target.provider)
            queue = answers[step.target]
            outcome = queue.pop(0) if len(queue) > 1 else queue[0]
            health = health.after(step.target, outcome, now_s)
            moment = Snapshot(now_s, draw, health, outcome)


DOWN = [fails(Fault.TRANSIENT)]

TABLE: list[tuple[str, Plan, Mapping[Target, Iterable[Outcome]], str]] = [
    ("The first target answers.", plan(A, B), {A: [OK]}, "a"),
    ("A truncated reply is an answer, not retried.", plan(A, B), {A: [CUT]}, "a"),
    (
        "A stumble is tried again on the same target, twice at most, then the next has its turn.",
        plan(A, B, C),
        {A: DOWN, B: DOWN, C: [OK]},
        "a, sleep 0.5, a, sleep 1, a, b, sleep 0.5, b, c",
    ),
    (
        "One attempt stays reserved for every target that has not been tried.",
        plan(A, B, C, attempts=3),
        {A: DOWN, B: DOWN, C: [OK]},
        "a, b, c",
    ),
    ("A broken reply is a stumble.", plan(A, B), {A: [fails(Fault.BROKEN_REPLY), OK]}, "a, sleep 0.5, a"),
    (
        "A reply that isn't what was asked for is repaired once, at once, then the next has its turn.",
        plan(A, B),
        {A: [fails(Fault.INVALID_OUTPUT)], B: [fails(Fault.CHECK), OK]},
        "a, a, b, b",
    ),
    (
        "One repair in all: a target that fails again is out, whichever way, and however many attempts are left.",
        plan(A, B, attempts=9),
        {A: [fails(Fault.INVALID_OUTPUT), fails(Fault.CHECK), OK], B: [fails(Fault.CHECK)]},
        "a, a, b, b",
    ),
    (
        "A stumble in between neither takes the repair nor adds one.",
        plan(A, B),
        {A: [fails(Fault.TRANSIENT), fails(Fault.INVALID_OUTPUT), fails(Fault.INVALID_OUTPUT)], B: [OK]},
        "a, sleep 0.5, a, a, b",
    ),
    (
        "Where failed checks go to the next target, JSON is repaired all the same.",
        replace(plan(A, B, C), repair_checks=False),
        {A: [fails(Fault.CHECK)], B: [fails(Fault.INVALID_OUTPUT), OK], C: [OK]},
        "a, b, b",
    ),
    (
        "The attempts bound repairs, too: the last ones are for targets that have not been tried.",
        plan(A, B, C, attempts=3),
        {A: [fails(Fault.CHECK)], B: [fails(Fault.CHECK)], C: [fails(Fault.CHECK)]},
        "a, b, c",
    ),
    (
        "An unknown outcome is a stumble.",
        plan(A, B),
        {A: [fails(Fault.UNKNOWN_OUTCOME), OK]},
        "a, sleep 0.5, a",
    ),
    (
        "An unknown outcome ends the call where it must not be sent again.",
        plan(A, B, resend_unknown=False),
        {A: [fails(Fault.UNKNOWN_OUTCOME)]},
        "a",
    ),
    *(
        (
            f"A reply whose first words were read is not asked for again ({fault}).",
            plan(A, B, last_resort=LAST, on_content=OnContent.NEXT),
            {A: [replace(fails(fault), text="Once upon", shown=True)]},
            "a",
        )
        for fault in Fault
    ),
    (
        "The hint of this very attempt is the floor of the wait.",
        plan(A),
        {A: [fails(Fault.TRANSIENT, 7), OK]},
        "a, sleep 7.7, a",
    ),
    (
        "A hint holds for every call, so the next target has its turn.",
        plan(A, B),
        {A: [fails(Fault.TRANSIENT, 7)], B: [OK]},
        "a, b",
    ),
    (
        "A hint beyond patience: the next target has its turn at once.",
        plan(A, B),
        {A: [fails(Fault.TRANSIENT, 500)], B: [OK]},
        "a, b",
    ),
    (
        "A lone target keeps the whole budget of attempts, with back-off.",
        plan(A, attempts=5),
        {A: [*DOWN * 4, OK]},
        "a, sleep 0.5, a, sleep 1, a, sleep 2, a, sleep 4, a",
    ),
    (
        "A throttled target is parked and the next one answers.",
        plan(A, B),
        {A: [fails(Fault.RATE_LIMIT, 20)], B: [OK]},
        "a, b",
    ),
    (
        "All throttled: wait for the earliest, as told.",
        plan(A, B),
        {A: [fails(Fault.RATE_LIMIT, 20), OK], B: [fails(Fault.RATE_LIMIT, 9), OK]},
        "a, b, sleep 9.9, b",
    ),
    (
        "Throttled without a hint: a short rest.",
        plan(A),
        {A: [fails(Fault.RATE_LIMIT), OK]},
        "a, sleep 5.5, a",
    ),
    (
        "All closed for longer than patience: giving up at once wastes nobody's time.",
        plan(A, B, max_wait_s=5),
        {A: [fails(Fault.RATE_LIMIT, 20)], B: [fails(Fault.RATE_LIMIT, 9)]},
        "a, b",
    ),
    ("No capacity: the next target.", plan(A, B), {A: [fails(Fault.NO_CAPACITY)], B: [OK]}, "a, b"),
    (
        "A spent quota is never asked again.",
        plan(A, B),
        {A: [fails(Fault.QUOTA)], B: [*DOWN, OK]},
        "a, b, sleep 0.5, b",
    ),
    ("A refused key is never asked again.", plan(A, B), {A: [fails(Fault.AUTH)], B: [OK]}, "a, b"),
    ("A lost model is never asked again.", plan(A, B), {A: [fails(Fault.MODEL_GONE)], B: [OK]}, "a, b"),
    ("A target without a price is passed over.", plan(A, B), {A: [fails(Fault.UNPRICED)], B: [OK]}, "a, b"),
    (
        "A malformed request is not sent to every provider.",
        plan(A, B),
        {A: [fails(Fault.INVALID_REQUEST)]},
        "a",
    ),
    ("promptkit's own cap ends the call.", plan(A, B), {A: [fails(Fault.BUDGET)]}, "a"),
    ("A refusal of the content ends the call.", plan(A, B), {A: [fails(Fault.CONTENT)]}, "a"),
    (
        "A route may say that a refusal goes on.",
        plan(A, B, on_content=OnContent.NEXT),
        {A: [fails(Fault.CONTENT)], B: [OK]},
        "a, b",
    ),
    (
        "Too long a context goes only to a model with a larger window.",
        plan(A, B, C, windows={A: 100, B: 100, C: 200}),
        {A: [fails(Fault.CONTEXT_LENGTH)], C: [OK]},
        "a, c",
    ),
    (
        "No larger window: nothing more can help.",
        plan(A, B, windows={A: 100}),
        {A: [fails(Fault.CONTEXT_LENGTH)]},
        "a",
    ),
    (
        "The last resort answers when nothing else does, within the same budget of attempts.",
        plan(A, attempts=3, last_resort=LAST),
        {A: DOWN, LAST: [OK]},
        "a, sleep 0.5, a, last",
    ),
    (
        "The last resort has one attempt.",
        plan(A, attempts=2, last_resort=LAST),
        {A: [fails(Fault.AUTH)], LAST: DOWN},
        "a, last",
    ),
    ("A plan without targets goes to its last resort.", plan(last_resort=LAST), {LAST: [OK]}, "last"),
    ("A plan without anything gives up.", plan(), {}, ""),
    (
        "Five stumbles in a row unavailable the target; it waits and goes on when nothing else is open.",
        plan(A, attempts=7),
        {A: [*DOWN * STREAK, OK]},
        f"a, sleep 0.5, a, sleep 1, a, sleep 2, a, sleep 4, a, sleep {COOLDOWN_S * 1.1:g}, a",
    ),
]


@pytest.mark.parametrize(
    ("the_plan", "script", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_a_script_of_outcomes_makes_the_trace(
    the_plan: Plan, script: Mapping[Target, Iterable[Outcome]], expected: str
) -> None:
    """Each row's name is its sentence."""
    trace, result = drive(the_plan, script)
    assert ", ".join(trace) == expected
    answers = (
        [outcome for outcome in script.get(Target(trace[-1], "m"), []) if isinstance(outcome, Completion)]
        if trace
        else []
    )
    assert isinstance(result, Replied) == bool(answers)


def test_an_answer_of_the_last_resort_is_degraded() -> None:
    """It counts apart."""
    _, result = drive(plan(A, last_resort=LAST), {A: [fails(Fault.AUTH)], LAST: [OK]})
    assert result == Replied(OK, LAST, degraded=True)
    _, result = drive(plan(A, last_resort=LAST), {A: [OK]})
    assert result == Replied(OK, A, degraded=False)


def test_a_parked_last_resort_is_not_asked() -> None:
    """Its kind binds it, too."""
    parked = Health().after(LAST, fails(Fault.AUTH), NOW_S)
    trace, result = drive(plan(A, last_resort=LAST), {A: [fails(Fault.AUTH)]}, health=parked)
    assert trace == ["a"]
    assert isinstance(result, GaveUp)


def test_giving_up_says_when_to_try_again() -> None:
    """The earliest time at which a target opens; nothing where none ever does."""
    _, result = drive(
        plan(A, B, max_wait_s=0), {A: [fails(Fault.RATE_LIMIT, 30)], B: [fails(Fault.RATE_LIMIT, 40)]}
    )
    assert isinstance(result, GaveUp)
    assert result.retry_at_s == NOW_S + 30
    _, result = drive(plan(A), {A: [fails(Fault.AUTH)]})
    assert result == GaveUp(fails(Fault.AUTH), "it was auth", NOW_S + AUTH_S)
    _, result = drive(plan(), {})
    assert result == GaveUp(None, "no target could be tried", None)


def test_a_queued_retry_looks_at_the_lane_again() -> None:
    """A target that another call found parked in the meantime is not asked again."""
    steps = flow(plan(A, B), Snapshot(NOW_S, 1.0, Health()))
    assert next(steps) == Send(A, 0, 1)
    assert isinstance(steps.send(Snapshot(NOW_S, 1.0, Health(), fails(Fault.TRANSIENT))), Sleep)
    parked = Health().after(A, fails(Fault.QUOTA), NOW_S)
    assert steps.send(Snapshot(NOW_S + 0.5, 1.0, parked)) == Send(B, 1, 2)


def test_a_target_that_closed_before_anything_left_costs_no_attempt() -> None:
    """The engine answers such a Send with no outcome: another process closed the target meanwhile."""
    steps = flow(plan(A, B, attempts=2), Snapshot(NOW_S, 1.0, Health()))
    assert next(steps) == Send(A, 0, 1)
    parked = Health().after(A, fails(Fault.QUOTA), NOW_S)
    assert steps.send(Snapshot(NOW_S, 1.0, parked)) == Send(B, 1, 1)
    assert isinstance(steps.send(Snapshot(NOW_S, 1.0, parked, fails(Fault.TRANSIENT))), Sleep)
    assert steps.send(Snapshot(NOW_S + 0.5, 1.0, parked)) == Send(B, 1, 2)
    both = parked.after(B, fails(Fault.RATE_LIMIT, 20), NOW_S)
    assert steps.send(Snapshot(NOW_S + 0.5, 0.0, both)) == Sleep(19.5, "every target is skipped")
    assert steps.send(Snapshot(NOW_S + 20, 0.0, parked)) == Send(B, 1, 2)
    last = flow(plan(last_resort=LAST), Snapshot(NOW_S, 1.0, Health()))
    assert next(last) == Send(LAST, 0, 1)
    with pytest.raises(StopIteration) as end:
        last.send(Snapshot(NOW_S, 1.0, Health()))
    assert end.value.value == GaveUp(None, "no target could be tried", None)


def test_all_closed_says_why_and_until_when() -> None:
    """Not one target could be asked: each is named, with the time at which it opens and the reason."""
    closed = Health().after(A, Failure(Fault.QUOTA, "the credit is spent"), NOW_S)
    _, result = drive(plan(A, max_wait_s=5), {}, health=closed)
    why = "a/m is skipped until 1970-01-12 14:46:40 UTC (the credit is spent)"
    assert result == GaveUp(None, why, NOW_S + QUOTA_S)


def test_keys_that_are_known_to_be_refused_are_the_reason() -> None:
    """The second call with a wrong key ends as the first did, without asking; one good key is another matter."""
    closed = Health().after(A, fails(Fault.AUTH), NOW_S)
    _, result = drive(plan(A), {}, health=closed)
    assert isinstance(result, GaveUp)
    assert result.failure is not None
    assert (result.failure.fault, result.failure.detail) == (Fault.AUTH, result.why)
    _, result = drive(plan(A, B), {}, health=closed.after(B, fails(Fault.QUOTA), NOW_S))
    assert isinstance(result, GaveUp)
    assert result.failure is None


def test_those_who_wait_together_do_not_come_back_together() -> None:
    """The draw spreads them over a tenth of the wait, two seconds at most, within patience."""
    closed = Health().after(A, fails(Fault.RATE_LIMIT, 10), NOW_S)
    waits: list[float] = []
    for draw in (0.0, 0.5, 0.999):
        trace, _ = drive(plan(A), {A: [OK]}, health=closed, draw=draw)
        waits.append(float(trace[0].removeprefix("sleep ")))
    assert waits == [10.0, 10.5, pytest.approx(10.999)]
    long = Health().after(A, fails(Fault.RATE_LIMIT, 100), NOW_S)
    assert drive(plan(A), {A: [OK]}, health=long)[0] == ["sleep 102", "a"]
    assert drive(plan(A, max_wait_s=101), {A: [OK]}, health=long)[0] == ["sleep 101", "a"]


def test_a_wait_that_was_cut_short_counts_as_long_as_it_was() -> None:
    """A kind that is opened by hand wakes its waiters; what they didn't wait is theirs to wait again."""
    closed = Health().after(A, fails(Fault.RATE_LIMIT, 100), NOW_S)
    steps = flow(plan(A, max_wait_s=120), Snapshot(NOW_S, 0.0, closed))
    assert next(steps) == Sleep(100.0, "every target is skipped")
    assert steps.send(Snapshot(NOW_S + 10, 0.0, Health())) == Send(A, 0, 1)
    throttled = Snapshot(NOW_S + 10, 0.0, closed, fails(Fault.RATE_LIMIT, 90))
    assert steps.send(throttled) == Sleep(90.0, "every target is skipped")


class Paced:
    """A standing where these targets' own limits are used up for so long."""

    def __init__(self, **until_s: float) -> None:
        self.until_s = until_s

    def unavailable(self, target: Target, now_s: float) -> Unavailable | None:
        until_s = self.until_s.get(target.provider, 0.0)
        return Unavailable(until_s, Fault.RATE_LIMIT, "1 a minute", pace=True) if until_s > now_s else None


def test_a_turn_under_ones_own_limit_is_nobodys_patience() -> None:
    """A used-up limit sends the call to the next open target; with none, it waits its turn however long."""
    both = Snapshot(NOW_S, 0.5, Paced(a=NOW_S + 300))
    assert next(flow(plan(A, B), both)) == Send(B, 1, 1)
    steps = flow(plan(A, max_wait_s=1), both)
    assert next(steps) == Sleep(300 + PACE_S / 4, PACED)
    assert steps.send(Snapshot(NOW_S + 302, 0.5, Paced())) == Send(A, 0, 1)
    assert isinstance(steps.send(Snapshot(NOW_S + 302, 0.5, Paced(), fails(Fault.TRANSIENT))), Sleep)


def test_a_target_parked_before_the_call_is_passed_over() -> None:
    """And asked when it opens, if nothing else answered."""
    health = Health().after(A, fails(Fault.RATE_LIMIT, 10), NOW_S)
    trace, _ = drive(plan(A, B, attempts=2), {A: [OK], B: DOWN}, health=health)
    assert trace == ["b", "sleep 11", "a"]


def test_a_parked_target_that_opens_too_late_reserves_nothing() -> None:
    """Else a lone open target would lose its retries to one that can't be reached."""
    health = Health().after(B, fails(Fault.QUOTA), NOW_S)
    trace, _ = drive(plan(A, B, attempts=2), {A: [*DOWN, OK]}, health=health)
    assert trace == ["a", "sleep 0.5", "a"]


def test_the_draw_spreads_the_waits() -> None:
    """Full jitter: anywhere from nothing to the bound, which doubles to 20 seconds."""
    trace, _ = drive(plan(A, attempts=2), {A: [*DOWN, OK]}, draw=0.25)
    assert trace == ["a", "sleep 0.125", "a"]
    trace, _ = drive(plan(A, attempts=2), {A: [*DOWN, OK]}, draw=0.0)
    assert trace == ["a", "a"]
    assert [backoff_s(n) for n in (1, 2, 3, 7)] == [0.5, 1.0, 2.0, 20.0]


OUTCOMES = st.one_of(
    st.just(OK),
    st.builds(
        fails,
        st.sampled_from(list(Fault)),
        st.none() | st.floats(min_value=0, max_value=300, allow_nan=False),
    ),
)


@given(
    script=st.lists(st.lists(OUTCOMES, min_size=1, max_size=8), min_size=3, max_size=3),
    attempts=st.integers(1, 8),
    max_wait_s=st.floats(0, 200),
    last=st.booleans(),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_no_script_breaks_the_bounds(
    script: list[list[Outcome]], attempts: int, max_wait_s: float, *, last: bool, draw: float
) -> None:
    """Never more attempts than the budget, never more waiting than patience, always a result."""
    the_plan = plan(A, B, C, attempts=attempts, max_wait_s=max_wait_s, last_resort=LAST if last else None)
    answers = dict(zip((A, B, C), script, strict=True)) | {LAST: [fails(Fault.TRANSIENT)]}
    trace, result = drive(the_plan, answers, draw=draw)
    slept = [float(entry.split()[1]) for entry in trace if entry.startswith("sleep")]
    assert len(trace) - len(slept) <= max(attempts, 1 + last)
    assert sum(slept) <= max_wait_s * (1 + 1e-5) + 1e-3
    if isinstance(result, GaveUp) and result.failure is not None and not last:
        assert trace[-1] in {"a", "b", "c"}


@given(st.sampled_from(list(Fault)))
def test_a_last_target_is_always_reached(fault: Fault) -> None:
    """Whatever the first two do, the third answers, unless the fault ends the call."""
    _, result = drive(
        plan(A, B, C, windows={A: 1, B: 1, C: 2}), {A: [fails(fault)], B: [fails(fault)], C: [OK]}
    )
    assert isinstance(result, Replied) == (ACTIONS[fault].then == "next")
