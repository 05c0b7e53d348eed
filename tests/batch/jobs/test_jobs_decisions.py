"""What a job decides without a clock, a disk or a network: canary, deadline, sample."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.batch.control import Action, Canary, Progress, canary_result, decide, failures, read_deadline
from promptkit.batch.runner import sample
from promptkit.errors import UsageError
from promptkit.ledger.records import RowState
from promptkit.types import OnMiss

PARIS = ZoneInfo("Europe/Paris")
OK, FAILED, PENDING = RowState.OK, RowState.FAILED, RowState.PENDING


# ----------------------------------------------------------------------------- canary


@pytest.mark.parametrize(
    ("rows", "rate", "verdict"),
    [
        ({}, 0.2, Canary.PASSED),
        ({PENDING: 20}, 0.2, Canary.PENDING),
        ({OK: 16, FAILED: 4}, 0.2, Canary.PASSED),
        ({OK: 15, FAILED: 5}, 0.2, Canary.FAILED),
        ({PENDING: 15, FAILED: 5}, 0.2, Canary.FAILED),
        ({OK: 15, FAILED: 4, PENDING: 1}, 0.2, Canary.PENDING),
        ({OK: 17, PENDING: 3}, 0.2, Canary.PASSED),
        ({OK: 9, RowState.REFUSED: 1}, 0.0, Canary.FAILED),
        ({OK: 5, RowState.DEGRADED: 3, RowState.TRUNCATED: 2}, 0.0, Canary.PASSED),
        ({FAILED: 5}, 1.0, Canary.PASSED),
        ({OK: 71, FAILED: 29}, 0.29, Canary.PASSED),
    ],
)
def test_a_canary_is_judged_as_soon_as_it_is_sure(
    rows: dict[RowState, int], rate: float, verdict: Canary
) -> None:
    """More failures than allowed fail it, whatever is still out; rows that wait for an outage say nothing."""
    assert canary_result(rows, rate) is verdict


@given(st.dictionaries(st.sampled_from(RowState), st.integers(0, 50)), st.floats(0, 1))
def test_what_a_canary_says_no_later_row_unsays(rows: dict[RowState, int], rate: float) -> None:
    """Whichever way the pending rows end, a verdict that was given stands."""
    verdict, pending = canary_result(rows, rate), rows.get(PENDING, 0)
    ended = {state: count for state, count in rows.items() if state is not PENDING}
    best = canary_result({**ended, OK: ended.get(OK, 0) + pending}, rate)
    worst = canary_result({**ended, FAILED: ended.get(FAILED, 0) + pending}, rate)
    assert {best, worst} <= {Canary.PASSED, Canary.FAILED}
    assert (verdict is Canary.PENDING) == (best is not worst)
    assert verdict is Canary.PENDING or verdict is best
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


def progress(ended: int, pending: int, elapsed_s: float, **more: float) -> Progress:
    """Progress an hour before its deadline."""
    return Progress(1000 + elapsed_s, 4600, 1000, ended, pending, **more)  # pyright: ignore[reportArgumentType] - ints and bools by name


@pytest.mark.parametrize(
    ("at", "on_miss", "move"),
    [
        (progress(0, 100, 10), OnMiss.STOP, Action.KEEP),  # too early to say
        (progress(19, 100_000, 59), OnMiss.STOP, Action.KEEP),
        (progress(20, 100, 10), OnMiss.STOP, Action.KEEP),  # done in 50 s
        (progress(20, 100_000, 10), OnMiss.WARN, Action.WARN),
        (progress(20, 100_000, 10, warned=True), OnMiss.WARN, Action.KEEP),
        (progress(20, 100_000, 10), OnMiss.STOP, Action.STOP),
        (progress(0, 5, 60), OnMiss.STOP, Action.STOP),  # nothing at all comes
        (progress(0, 0, 60), OnMiss.STOP, Action.KEEP),
        (progress(20, 100_000, 10, concurrency=16, first_concurrency=16), OnMiss.FASTER, Action.RAISE),
        (progress(20, 100_000, 10, concurrency=128, first_concurrency=16), OnMiss.FASTER, Action.WARN),
        (
            progress(20, 100_000, 10, concurrency=128, first_concurrency=16, warned=True),
            OnMiss.FASTER,
            Action.KEEP,
        ),
        (progress(20, 100_000, 10), OnMiss.FASTEST, Action.FASTEST),
        (progress(20, 100_000, 10, fastest=True), OnMiss.FASTEST, Action.WARN),
        (progress(50, 1, 3600), OnMiss.WARN, Action.DEADLINE),
        (progress(50, 0, 3601), OnMiss.FASTER, Action.DEADLINE),
    ],
)
def test_a_course_is_kept_or_changed(at: Progress, on_miss: OnMiss, move: Action) -> None:
    """By the pace so far: kept where it meets the deadline, else what the user set; at the deadline it is over."""
    assert decide(at, on_miss) is move


def test_a_pace_tells_the_end_and_what_will_wait() -> None:
    """Two rows a second, 8,000 left: 4,000 s, and 820 of them after the deadline."""
    at = progress(20, 8000, 10)
    assert at.end_s == 1010 + 4000
    assert at.pending_at_deadline == 8000 - 2 * 3590
    assert progress(0, 7, 60).end_s == math.inf
    assert progress(0, 7, 60).pending_at_deadline == 7
    assert progress(0, 7, 0).pending_at_deadline == 7
    assert Progress(1000, 4600, 1000, 25, 10).end_s == math.inf


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
    [
        ("soon", "is not a time"),
        ("25:00", "is not a time"),
        ("2026-11-20T06:30", "is in the past"),
        ("06", "is not a time"),
    ],
)
def test_what_is_no_deadline_is_refused(text: str, told: str) -> None:
    """A word, an hour that there isn't, a date that is over."""
    with pytest.raises(UsageError, match=told):
        read_deadline(text, datetime(2026, 11, 21, tzinfo=UTC), PARIS)
