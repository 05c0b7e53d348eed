"""The lanes of health: pure transitions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.routing.health import COOL_S, QUOTA_S, STREAK, THROTTLE_S, Health, Park
from promptkit.types import Completion, Failure, Fault, Finish, Outcome, Target

A, A2, B = Target("a", "m"), Target("a", "n"), Target("b", "m")
OK = Completion("t", Finish.STOP, None)
NOW_S = 5_000.0


def fails(fault: Fault, retry_after_s: float | None = None) -> Failure:
    return Failure(fault, "why", retry_after_s=retry_after_s)


def after(*outcomes: tuple[Target, Outcome], health: Health | None = None) -> Health:
    health = health or Health()
    for target, outcome in outcomes:
        health = health.after(target, outcome, NOW_S)
    return health


@pytest.mark.parametrize(
    ("fault", "rests_s", "whole_provider"),
    [
        (Fault.RATE_LIMIT, THROTTLE_S, False),
        (Fault.NO_CAPACITY, THROTTLE_S, False),
        (Fault.MODEL_GONE, math.inf, False),
        (Fault.QUOTA, QUOTA_S, True),
        (Fault.AUTH, math.inf, True),
    ],
)
def test_a_fault_parks_its_lane(fault: Fault, rests_s: float, *, whole_provider: bool) -> None:
    """Key and quota close a provider, the rest one target; the time is the fault's own."""
    health = after((A, fails(fault)))
    assert health.park(A, NOW_S) == Park(NOW_S + rests_s, fault, "why")
    assert (health.park(A2, NOW_S) is not None) == whole_provider
    assert health.park(B, NOW_S) is None


@pytest.mark.parametrize("fault", [Fault.RATE_LIMIT, Fault.QUOTA, Fault.NO_CAPACITY])
def test_a_hint_says_how_long(fault: Fault) -> None:
    """The server's own word wins over the default, and ends when it said."""
    health = after((A, fails(fault, 42.0)))
    assert health.park(A, NOW_S + 41.9) is not None
    assert health.park(A, NOW_S + 42.0) is None


def test_a_new_deadline_never_shortens_an_old_one() -> None:
    """LiteLLM's cool-down did the opposite."""
    health = after((A, fails(Fault.RATE_LIMIT, 300)), (A, fails(Fault.RATE_LIMIT, 1)))
    park = health.park(A, NOW_S)
    assert park is not None
    assert park.until_s == NOW_S + 300
    longer = after((A, fails(Fault.RATE_LIMIT, 900)), health=health).park(A, NOW_S)
    assert longer is not None
    assert longer.until_s == NOW_S + 900


def test_a_stumble_never_shortens_a_terminal_lane() -> None:
    """A refused key stays refused."""
    health = after((A, fails(Fault.AUTH)), *[(A, fails(Fault.TRANSIENT))] * STREAK)
    park = health.park(A, NOW_S)
    assert park is not None
    assert park.fault is Fault.AUTH


@pytest.mark.parametrize("fault", [Fault.TRANSIENT, Fault.UNKNOWN_OUTCOME, Fault.BROKEN_REPLY])
def test_five_stumbles_in_a_row_park_the_target(fault: Fault) -> None:
    """Four do not; a success in between starts the count again."""
    stumble = (A, fails(fault))
    assert after(*[stumble] * (STREAK - 1)).park(A, NOW_S) is None
    park = after(*[stumble] * STREAK).park(A, NOW_S)
    assert park is not None
    assert park.until_s == NOW_S + COOL_S
    assert "5 failures in a row" in park.why
    assert after(*[stumble] * (STREAK - 1), (A, OK), *[stumble] * (STREAK - 1)).park(A, NOW_S) is None


@pytest.mark.parametrize(
    "fault", [Fault.INVALID_REQUEST, Fault.CONTENT, Fault.CONTEXT_LENGTH, Fault.BUDGET, Fault.UNPRICED]
)
def test_a_fault_of_the_call_parks_nothing(fault: Fault) -> None:
    """The target is well; the request was not."""
    assert after(*[(A, fails(fault))] * 9) == Health()


def test_a_success_costs_nothing_where_all_is_well() -> None:
    """The same value comes back: no copy on the common path."""
    health = after((B, fails(Fault.TRANSIENT)))
    assert health.after(A, OK, NOW_S) is health


@given(
    st.lists(
        st.tuples(st.sampled_from([A, A2, B]), st.sampled_from(list(Fault)), st.none() | st.floats(0, 1e6)),
        max_size=30,
    )
)
def test_deadlines_only_grow(events: list[tuple[Target, Fault, float | None]]) -> None:
    """Whatever happens, no failure opens a lane."""
    health = Health()
    for target, fault, hint in events:
        before = {each: health.park(each, NOW_S) for each in (A, A2, B)}
        health = health.after(target, fails(fault, hint), NOW_S)
        for each, park in before.items():
            now = health.park(each, NOW_S)
            assert park is None or (now is not None and now.until_s >= park.until_s)
