"""What a job decides without a clock, a disk or a network: canary, deadline, sample."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.batch.control import Course, Move, Verdict, decide, failures, judge, read_deadline
from promptkit.batch.input import sample
from promptkit.errors import UsageError
from promptkit.ledger.records import RowState
from promptkit.types import OnMiss

PARIS = ZoneInfo("Europe/Paris")
OK, FAILED, PENDING = RowState.OK, RowState.FAILED, RowState.PENDING


# ----------------------------------------------------------------------------- canary


@pytest.mark.parametrize(
    ("rows", "rate", "verdict"),
    [
        ({}, 0.2, Verdict.PASSED),
        ({PENDING: 20}, 0.2, Verdict.WAITING),
        ({OK: 16, FAILED: 4}, 0.2, Verdict.PASSED),
        ({OK: 15, FAILED: 5}, 0.2, Verdict.FAILED),
        ({PENDING: 15, FAILED: 5}, 0.2, Verdict.FAILED),
        ({OK: 15, FAILED: 4, PENDING: 1}, 0.2, Verdict.WAITING),
        ({OK: 17, PENDING: 3}, 0.2, Verdict.PASSED),
        ({OK: 9, RowState.REFUSED: 1}, 0.0, Verdict.FAILED),
        ({OK: 5, RowState.DEGRADED: 3, RowState.TRUNCATED: 2}, 0.0, Verdict.PASSED),
        ({FAILED: 5}, 1.0, Verdict.PASSED),
        ({OK: 71, FAILED: 29}, 0.29, Verdict.PASSED),
    ],
)
def test_a_canary_is_judged_as_soon_as_it_is_sure(
    rows: dict[RowState, int], rate: float, verdict: Verdict
) -> None:
    """More failures than allowed fail it, whatever is still out; rows that wait for an outage say nothing."""
    assert judge(rows, rate) is verdict


@given(st.dictionaries(st.sampled_from(RowState), st.integers(0, 50)), st.floats(0, 1))
def test_what_a_canary_says_no_later_row_unsays(rows: dict[RowState, int], rate: float) -> None:
    """Whichever way the pending rows end, a verdict that was given stands."""
    verdict, pending = judge(rows, rate), rows.get(PENDING, 0)
    ended = {state: count for state, count in rows.items() if state is not PENDING}
    best = judge({**ended, OK: ended.get(OK, 0) + pending}, rate)
    worst = judge({**ended, FAILED: ended.get(FAILED, 0) + pending}, rate)
    assert {best, worst} <= {Verdict.PASSED, Verdict.FAILED}
    assert (verdict is Verdict.WAITING) == (best is not worst)
    assert verdict is Verdict.WAITING or verdict is best
    assert failures(rows) <= sum(rows.values())


# ----------------------------------------------------------------------------- sample


@given(st.sets(st.text(max_size=8), min_size=1, max_size=30), st.integers(0, 30), st.integers())
def test_a_sample_is_the_same_however_the_input_is_ordered(keys: set[str], count: int, seed: int) -> None:
    """Key and seed draw it; a row more changes it by one row at most."""
    rows = [(number, key, 0) for number, key in enumerate(sorted(keys))]
    drawn = sample(rows, count, seed)
    assert drawn == sample(reversed(rows), count, seed)
    assert len(drawn) == min(count, len(rows))
    assert len(drawn - sample([*rows, (99, "another row", 1)], count, seed)) <= 1


def test_another_seed_is_another_sample() -> None:
    """Equal rows are told apart, and the seed matters."""
    rows = [(number, "equal", number) for number in range(100)]
    assert sample(rows, 10, 1) != sample(rows, 10, 2)
    assert sample(rows, 10, 0) == sample(rows, 10, 0)


# --------------------------------------------------------------------------- deadline


def course(made: int, left: int, gone_s: float, **more: float) -> Course:
    """A course an hour before its deadline."""
    return Course(1000 + gone_s, 4600, 1000, made, left, **more)  # pyright: ignore[reportArgumentType] - ints and bools by name


@pytest.mark.parametrize(
    ("at", "on_miss", "move"),
    [
        (course(0, 100, 10), OnMiss.STOP, Move.KEEP),  # too early to say
        (course(19, 100_000, 59), OnMiss.STOP, Move.KEEP),
        (course(20, 100, 10), OnMiss.STOP, Move.KEEP),  # done in 50 s
        (course(20, 100_000, 10), OnMiss.WARN, Move.WARN),
        (course(20, 100_000, 10, warned=True), OnMiss.WARN, Move.KEEP),
        (course(20, 100_000, 10), OnMiss.STOP, Move.STOP),
        (course(0, 5, 60), OnMiss.STOP, Move.STOP),  # nothing at all comes
        (course(0, 0, 60), OnMiss.STOP, Move.KEEP),
        (course(20, 100_000, 10, concurrency=16, began_with=16), OnMiss.FASTER, Move.RAISE),
        (course(20, 100_000, 10, concurrency=128, began_with=16), OnMiss.FASTER, Move.WARN),
        (course(20, 100_000, 10, concurrency=128, began_with=16, warned=True), OnMiss.FASTER, Move.KEEP),
        (course(20, 100_000, 10), OnMiss.FASTEST, Move.FASTEST),
        (course(20, 100_000, 10, fastest=True), OnMiss.FASTEST, Move.WARN),
        (course(50, 1, 3600), OnMiss.WARN, Move.OVER),
        (course(50, 0, 3601), OnMiss.FASTER, Move.OVER),
    ],
)
def test_a_course_is_kept_or_changed(at: Course, on_miss: OnMiss, move: Move) -> None:
    """By the pace so far: kept where it meets the deadline, else what the user set; at the deadline it is over."""
    assert decide(at, on_miss) is move


def test_a_pace_tells_the_end_and_what_will_wait() -> None:
    """Two rows a second, 8,000 left: 4,000 s, and 820 of them after the deadline."""
    at = course(20, 8000, 10)
    assert at.ends_s == 1010 + 4000
    assert at.will_miss == 8000 - 2 * 3590
    assert course(0, 7, 60).ends_s == math.inf
    assert course(0, 7, 60).will_miss == 7
    assert course(0, 7, 0).will_miss == 7
    assert Course(1000, 4600, 1000, 25, 10).ends_s == math.inf


@pytest.mark.parametrize(
    ("text", "now", "moment"),
    [
        ("06:30", "2026-11-21T22:00Z", "2026-11-22T05:30Z"),
        ("6:30", "2026-11-22T05:29Z", "2026-11-22T05:30Z"),
        ("06:30", "2026-11-22T05:30Z", "2026-11-23T05:30Z"),
        ("00:15", "2026-11-21T22:30Z", "2026-11-21T23:15Z"),
        ("23:30", "2026-11-21T22:00Z", "2026-11-21T22:30Z"),
        ("06:30", "2026-03-28T22:00Z", "2026-03-29T04:30Z"),  # the night that is an hour shorter
        ("06:30", "2026-10-24T22:00Z", "2026-10-25T05:30Z"),  # and the one that is longer
        ("02:30", "2026-03-28T22:00Z", "2026-03-29T01:30Z"),  # skipped: 03:30 on the new clock
        ("02:30", "2026-10-24T22:00Z", "2026-10-25T00:30Z"),  # shown twice: the first
        ("02:30", "2026-10-25T00:45Z", "2026-10-25T01:30Z"),  # the first is over: the second
        ("2026-11-23T06:30", "2026-11-21T22:00Z", "2026-11-23T05:30Z"),
        ("2026-11-23T06:30+00:00", "2026-11-21T22:00Z", "2026-11-23T06:30Z"),
    ],
)
def test_a_deadline_is_the_next_such_moment_on_the_wall_clock(text: str, now: str, moment: str) -> None:
    """On the configured clock, whatever summer time does to it."""
    assert read_deadline(text, datetime.fromisoformat(now), PARIS) == datetime.fromisoformat(moment)


@pytest.mark.parametrize(
    ("text", "told"),
    [("soon", "is no time"), ("25:00", "is no time"), ("2026-11-20T06:30", "is over"), ("06", "is no time")],
)
def test_what_is_no_deadline_is_refused(text: str, told: str) -> None:
    """A word, an hour that there isn't, a date that is over."""
    with pytest.raises(UsageError, match=told):
        read_deadline(text, datetime(2026, 11, 21, tzinfo=UTC), PARIS)
