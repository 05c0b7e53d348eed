"""The circuits of health: pure transitions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.routing.health import (
    AUTH_S,
    COOLDOWN_S,
    GONE_S,
    MAX_COOLDOWN_S,
    PROBE_S,
    QUOTA_S,
    SAMPLE,
    STREAK,
    TEMPORARY,
    THROTTLE_S,
    WINDOW_S,
    CircuitKey,
    CircuitKind,
    Circuits,
    CircuitState,
    Health,
    Unavailable,
    changes,
    cooldown_s,
    merged,
)
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
        (Fault.MODEL_GONE, GONE_S, False),
        (Fault.QUOTA, QUOTA_S, True),
        (Fault.AUTH, AUTH_S, True),
    ],
)
def test_a_fault_parks_its_lane(fault: Fault, rests_s: float, *, whole_provider: bool) -> None:
    """Key and quota close a provider, the rest one target; the time is the fault's own."""
    health = after((A, fails(fault)))
    assert health.unavailable(A, NOW_S) == Unavailable(NOW_S + rests_s, fault, "why")
    assert (health.unavailable(A2, NOW_S) is not None) == whole_provider
    assert health.unavailable(B, NOW_S) is None


@pytest.mark.parametrize("fault", [Fault.RATE_LIMIT, Fault.QUOTA, Fault.NO_CAPACITY])
def test_a_hint_says_how_long(fault: Fault) -> None:
    """The server's own word wins over the default, and ends when it said."""
    health = after((A, fails(fault, 42.0)))
    assert health.unavailable(A, NOW_S + 41.9) is not None
    assert health.unavailable(A, NOW_S + 42.0) is None


def test_a_new_deadline_never_shortens_an_old_one() -> None:
    """LiteLLM's cool-down did the opposite."""
    health = after((A, fails(Fault.RATE_LIMIT, 300)), (A, fails(Fault.RATE_LIMIT, 1)))
    unavailable = health.unavailable(A, NOW_S)
    assert unavailable is not None
    assert unavailable.until_s == NOW_S + 300
    longer = after((A, fails(Fault.RATE_LIMIT, 900)), health=health).unavailable(A, NOW_S)
    assert longer is not None
    assert longer.until_s == NOW_S + 900


def test_a_stumble_never_shortens_a_terminal_lane() -> None:
    """A refused key stays refused."""
    health = after((A, fails(Fault.AUTH)), *[(A, fails(Fault.TRANSIENT))] * STREAK)
    unavailable = health.unavailable(A, NOW_S)
    assert unavailable is not None
    assert unavailable.fault is Fault.AUTH


@pytest.mark.parametrize("fault", [Fault.TRANSIENT, Fault.UNKNOWN_OUTCOME, Fault.BROKEN_REPLY])
def test_five_stumbles_in_a_row_park_the_target(fault: Fault) -> None:
    """Four do not; a success in between starts the count again."""
    stumble = (A, fails(fault))
    assert after(*[stumble] * (STREAK - 1)).unavailable(A, NOW_S) is None
    unavailable = after(*[stumble] * STREAK).unavailable(A, NOW_S)
    assert unavailable is not None
    assert unavailable.until_s == NOW_S + COOLDOWN_S
    assert "5 failures in a row" in unavailable.why
    assert after(*[stumble] * (STREAK - 1), (A, OK), *[stumble] * (STREAK - 1)).unavailable(A, NOW_S) is None


@pytest.mark.parametrize(
    "fault",
    [
        Fault.INVALID_REQUEST,
        Fault.CONTENT,
        Fault.CONTEXT_LENGTH,
        Fault.BUDGET,
        Fault.UNPRICED,
        Fault.INVALID_OUTPUT,
        Fault.CHECK,
    ],
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
    """Whatever happens, no failure opens a kind."""
    health = Health()
    for target, fault, hint in events:
        before = {each: health.unavailable(each, NOW_S) for each in (A, A2, B)}
        health = health.after(target, fails(fault, hint), NOW_S)
        for each, unavailable in before.items():
            now = health.unavailable(each, NOW_S)
            assert unavailable is None or (now is not None and now.until_s >= unavailable.until_s)


STUMBLE = fails(Fault.TRANSIENT)
CIRCUIT_A = CircuitKey(CircuitKind.HEALTH, "a", "", "m")


def at(now_s: float, *outcomes: Outcome, health: Health | None = None) -> Health:
    """The health after these outcomes of A, all at one time."""
    health = health or Health()
    for outcome in outcomes:
        health = health.after(A, outcome, now_s)
    return health


def test_a_hint_of_a_stumble_holds_for_every_call() -> None:
    """Retry-After on a 503: LiteLLM ignored it 60 times of 60, for nobody in the queue learned of it."""
    health = at(NOW_S, fails(Fault.TRANSIENT, 300))
    unavailable = health.unavailable(A, NOW_S + 299)
    assert unavailable is not None
    assert unavailable.until_s == NOW_S + 300
    assert health.unavailable(A2, NOW_S) is None


def test_most_of_a_minutes_calls_failing_parks_the_target() -> None:
    """By ratio, with a minimum sample: a target that fails two of three times never has five in a row."""
    health, calls = Health(), 0
    while health.unavailable(A, NOW_S) is None:
        calls += 1
        health = health.after(A, OK if calls % 3 == 0 else STUMBLE, NOW_S)
    assert calls == SAMPLE
    unavailable = health.unavailable(A, NOW_S)
    assert unavailable is not None
    assert unavailable.why == "14 of 20 calls failed, the last: why"


def test_half_of_the_calls_failing_parks_nothing() -> None:
    """And a window that is over is forgotten."""
    assert at(NOW_S, *[STUMBLE, OK, OK] * SAMPLE).unavailable(A, NOW_S) is None
    old = at(NOW_S, *[STUMBLE, STUMBLE, OK] * 6)
    later_s = NOW_S + WINDOW_S
    assert at(later_s, *[STUMBLE, STUMBLE, OK], health=old).unavailable(A, later_s) is None
    assert at(later_s, OK, health=old).windows == {}


def test_half_open_with_one_probe() -> None:
    """When its time is over one call tries a target, and the others wait for what it finds."""
    closed = at(NOW_S, *[STUMBLE] * STREAK)
    assert closed.half_open(A, NOW_S) == ()
    over_s = NOW_S + COOLDOWN_S
    assert closed.unavailable(A, over_s) is None
    assert closed.half_open(A, over_s) == (CIRCUIT_A,)
    probing = closed.probing((CIRCUIT_A,), over_s + PROBE_S)
    unavailable = probing.unavailable(A, over_s)
    assert unavailable is not None
    assert (unavailable.until_s, "probing it" in unavailable.why) == (over_s + PROBE_S, True)
    assert probing.half_open(A, over_s) == ()
    assert probing.half_open(A, over_s + PROBE_S) == (CIRCUIT_A,)
    assert at(over_s, OK, health=probing).circuits == {}
    worse = at(over_s, STUMBLE, health=probing).unavailable(A, over_s)
    assert worse is not None
    assert worse.until_s == over_s + 2 * COOLDOWN_S
    assert Health().half_open(A, NOW_S) == ()


@pytest.mark.parametrize("fault", [Fault.INVALID_REQUEST, Fault.CONTENT, Fault.RATE_LIMIT, Fault.AUTH])
def test_whatever_answers_is_alive(fault: Fault) -> None:
    """A probe that is refused found a server that answers: the health kind is well."""
    closed = at(NOW_S, *[STUMBLE] * STREAK)
    assert CIRCUIT_A not in at(NOW_S + COOLDOWN_S, fails(fault), health=closed).circuits


def test_those_who_asked_before_it_closed_say_nothing() -> None:
    """Fifty calls in flight fail or answer after the fifth has closed the kind: it stays as it is."""
    closed = at(NOW_S, *[STUMBLE] * STREAK)
    assert at(NOW_S + 1, STUMBLE, OK, STUMBLE, health=closed).circuits == closed.circuits


def test_each_failed_probe_doubles_the_time() -> None:
    """Up to four minutes: an outage of an hour costs some twenty requests."""
    assert [cooldown_s(n) for n in (STREAK, STREAK + 1, STREAK + 2)] == [
        COOLDOWN_S,
        2 * COOLDOWN_S,
        4 * COOLDOWN_S,
    ]
    assert cooldown_s(10_000) == MAX_COOLDOWN_S


def test_another_key_stands_in_other_lanes() -> None:
    """A key that was replaced is not parked for the sins of the old one; an outage is everybody's."""
    old = (
        Health(accounts={"a": "111"})
        .after(A, fails(Fault.AUTH), NOW_S)
        .after(A, fails(Fault.RATE_LIMIT), NOW_S)
    )
    new = Health(old.circuits, {"a": "222"})
    assert old.unavailable(A, NOW_S) is not None
    assert new.unavailable(A, NOW_S) is None
    down = at(NOW_S, *[STUMBLE] * STREAK, health=Health(accounts={"a": "111"}))
    assert Health(down.circuits, {"a": "222"}).unavailable(A, NOW_S) is not None


def test_another_address_stands_in_other_lanes() -> None:
    """A typo in an address unavailables nothing of the right one; a key at the same address shares its outages."""
    wrong, right = Health(accounts={"a": "typo:key"}), "host:key"
    down = at(NOW_S, *[STUMBLE] * STREAK, health=wrong).after(A, fails(Fault.AUTH), NOW_S)
    assert down.unavailable(A, NOW_S) is not None
    assert Health(down.circuits, {"a": right}).unavailable(A, NOW_S) is None
    here = at(NOW_S, *[STUMBLE] * STREAK, health=Health(accounts={"a": right}))
    assert Health(here.circuits, {"a": "host:other"}).unavailable(A, NOW_S) is not None


def test_who_asks_by_hand_is_kept_out_by_terminal_lanes_alone() -> None:
    """An outage or a pause that was met before is passed over; a refused key is not. Half open or closed."""
    down = at(NOW_S, *[STUMBLE] * STREAK).after(A, fails(Fault.RATE_LIMIT), NOW_S)
    for now_s in (NOW_S, NOW_S + COOLDOWN_S):
        by_hand = replace(down, ignored=TEMPORARY)
        assert (by_hand.unavailable(A, now_s), by_hand.half_open(A, now_s)) == (None, ())
    refused = replace(down, ignored=TEMPORARY).after(A, fails(Fault.AUTH), NOW_S)
    assert refused.unavailable(A, NOW_S) is not None


def test_what_two_processes_learned_is_merged() -> None:
    """The longer deadline holds, no count goes back, and nobody opens what another closed."""
    mine = at(NOW_S, fails(Fault.RATE_LIMIT, 10), STUMBLE, STUMBLE)
    theirs = at(NOW_S, fails(Fault.RATE_LIMIT, 60), STUMBLE)
    both = merged(theirs.circuits, changes({}, mine.circuits), NOW_S)
    assert both == merged(mine.circuits, changes({}, theirs.circuits), NOW_S)  # in whichever order
    unavailable = Health(both).unavailable(A, NOW_S)
    assert unavailable is not None
    assert unavailable.until_s == NOW_S + 60
    assert both[CIRCUIT_A].failures == 2
    shut = at(NOW_S, *[STUMBLE] * STREAK)
    assert merged(shut.circuits, {CIRCUIT_A: None}, NOW_S) == shut.circuits
    assert merged(shut.circuits, {CIRCUIT_A: None}, NOW_S + COOLDOWN_S) == {}
    assert merged({}, {CIRCUIT_A: None}, NOW_S) == {}


def test_a_pause_that_is_over_is_forgotten() -> None:
    """The table of circuits doesn't grow."""
    paused = at(NOW_S, fails(Fault.RATE_LIMIT, 10))
    assert merged(paused.circuits, {}, NOW_S + 9) == paused.circuits
    assert merged(paused.circuits, {}, NOW_S + 10) == {}


def test_changes_are_what_differs() -> None:
    """Nothing for the same value; None for a kind that is well again."""
    one = at(NOW_S, STUMBLE)
    assert changes(one.circuits, one.circuits) == {}
    assert changes(one.circuits, at(NOW_S, OK, health=one).circuits) == {CIRCUIT_A: None}
    two = at(NOW_S, STUMBLE, health=one)
    assert changes(one.circuits, two.circuits) == {CIRCUIT_A: two.circuits[CIRCUIT_A]}


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(list(Fault)), st.floats(0, 1e5)), max_size=20))
def test_merging_never_brings_a_deadline_nearer(events: list[tuple[bool, Fault, float]]) -> None:
    """Two processes that learn in any order, each writing what changed: the ledger's deadlines only grow."""
    ledger: Circuits = {}
    for first, fault, hint in events:
        mine = Health(ledger) if first else Health()
        learned = mine.after(A, fails(fault, hint), NOW_S)
        new = merged(ledger, changes(mine.circuits, learned.circuits), NOW_S)
        for key, state in ledger.items():
            if state.until_s > NOW_S:
                assert new[key].until_s >= state.until_s
        ledger = new
    assert all(isinstance(state, CircuitState) for state in ledger.values())
