"""Exact money, and the edges of a budget day."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptkit.routing.budgets import LARGEST_CAP_USD, day_begins, day_of, pico_of_usd

PARIS = ZoneInfo("Europe/Paris")
NOON = time(12)


@given(st.decimals(0, LARGEST_CAP_USD, places=12))
def test_a_cap_is_exact(amount: Decimal) -> None:
    """USD become pico-USD without rounding."""
    assert Fraction(pico_of_usd(amount), 10**12) == Fraction(amount)


@pytest.mark.parametrize(
    ("text", "pico"),
    [
        ("5.00", 5 * 10**12),
        ("0", 0),
        ("0e999999", 0),
        ("-0.0", 0),
        ("1e-12", 1),
        ("5." + "0" * 20, 5 * 10**12),
        ("9e6", 9 * 10**18),
    ],
)
def test_caps_as_written(text: str, pico: int) -> None:
    """However a number is written, it is the same cap."""
    assert pico_of_usd(Decimal(text)) == pico


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("-1", "between 0"),
        ("9000000.000001", "between 0"),
        ("1e999999", "between 0"),
        ("NaN", "between 0"),
        ("Infinity", "between 0"),
        ("1e-13", "finer"),
        ("1e-999999", "finer"),
        ("0.0000000000015", "finer"),
        ("5." + "0" * 60 + "1", "finer"),
    ],
)
def test_a_cap_that_cannot_be_exact_is_refused(text: str, why: str) -> None:
    """A cap is neither rounded nor beyond what the ledger can hold; absurd exponents cost no time."""
    with pytest.raises(ValueError, match=why):
        pico_of_usd(Decimal(text))


@pytest.mark.parametrize(
    ("local", "starts_at", "day"),
    [
        # a night is one day
        ("2026-11-21T22:00", NOON, date(2026, 11, 21)),
        ("2026-11-22T00:00", NOON, date(2026, 11, 21)),
        ("2026-11-22T06:00", NOON, date(2026, 11, 21)),
        ("2026-11-22T11:59", NOON, date(2026, 11, 21)),
        ("2026-11-22T12:00", NOON, date(2026, 11, 22)),
        # the calendar's day
        ("2026-11-21T23:59", time(0), date(2026, 11, 21)),
        ("2026-11-22T00:00", time(0), date(2026, 11, 22)),
        # spring: 02:00 becomes 03:00 on 2026-03-29
        ("2026-03-29T01:59", time(2, 30), date(2026, 3, 28)),
        ("2026-03-29T03:30", time(2, 30), date(2026, 3, 29)),
        ("2026-03-29T11:59", NOON, date(2026, 3, 28)),
        ("2026-03-29T12:00", NOON, date(2026, 3, 29)),
        # autumn: 03:00 becomes 02:00 on 2026-10-25
        ("2026-10-25T02:29", time(2, 30), date(2026, 10, 24)),
        ("2026-10-25T02:30", time(2, 30), date(2026, 10, 25)),
        ("2026-10-25T03:00", time(2, 30), date(2026, 10, 25)),
        ("2026-10-25T11:59", NOON, date(2026, 10, 24)),
    ],
)
def test_a_night_is_one_day(local: str, starts_at: time, day: date) -> None:
    """Evening and morning belong to one budget day, across midnight and both changes of the clocks."""
    now = datetime.fromisoformat(local).replace(tzinfo=PARIS)
    assert day_of(now, PARIS, starts_at) == day
    assert day_of(now.astimezone(UTC), PARIS, starts_at) == day


def test_a_repeated_hour_does_not_bring_yesterday_back() -> None:
    """In autumn the wall clock passes 02:30 twice; the day begins at the first."""
    again = datetime(2026, 10, 25, 2, 15, tzinfo=PARIS, fold=1)
    assert day_of(again, PARIS, time(2, 30)) == date(2026, 10, 25)


ZONES = st.sampled_from(["Europe/Paris", "UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])


@settings(max_examples=200)
@given(
    st.datetimes(datetime(2025, 1, 2), datetime(2027, 12, 30)).map(lambda at: at.replace(tzinfo=UTC)),  # noqa: DTZ001 - made aware here
    ZONES.map(ZoneInfo),
    st.times().map(lambda at: at.replace(second=0, microsecond=0)),
)
def test_days_follow_without_gap_or_overlap(now: datetime, zone: ZoneInfo, starts_at: time) -> None:
    """Every instant lies in exactly one day, and days only move on."""
    day = day_of(now, zone, starts_at)
    assert day_begins(day, zone, starts_at) <= now < day_begins(day + timedelta(days=1), zone, starts_at)
    assert day_of(now + timedelta(minutes=30), zone, starts_at) >= day
