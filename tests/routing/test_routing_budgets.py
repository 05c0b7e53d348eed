"""Exact money, the edges of a budget day and month, and what a call counts in."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptkit.routing.budgets import (
    LARGEST_CAP_USD,
    Budgets,
    Cap,
    Caps,
    Per,
    counted,
    day_begins,
    day_of,
    period_of,
    pico_of_usd,
    scope_remedy,
    scope_words,
    scopes_of,
)
from promptkit.types import Scope

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


@pytest.mark.parametrize(
    ("local", "starts_at", "month", "month_ends"),
    [
        # with days that begin at noon, a month begins at noon of the first
        ("2026-12-01T11:59", NOON, "2026-11", "2026-12-01T12:00"),
        ("2026-12-01T12:00", NOON, "2026-12", "2027-01-01T12:00"),
        ("2026-11-30T23:59", time(0), "2026-11", "2026-12-01T00:00"),
        ("2026-12-01T00:00", time(0), "2026-12", "2027-01-01T00:00"),
        # months over which the clocks change end at their own wall time
        ("2026-03-02T00:00", NOON, "2026-03", "2026-04-01T12:00"),
        ("2026-10-31T23:00", NOON, "2026-10", "2026-11-01T12:00"),
        ("2028-02-29T12:00", time(0), "2028-02", "2028-03-01T00:00"),
        ("2026-01-31T13:00", NOON, "2026-01", "2026-02-01T12:00"),
    ],
)
def test_a_month_is_its_days(local: str, starts_at: time, month: str, month_ends: str) -> None:
    """A budget month holds the budget days that are named after it, whole nights included."""
    period = period_of(datetime.fromisoformat(local).replace(tzinfo=PARIS), PARIS, starts_at)
    assert period.month == month
    assert period.month_ends == datetime.fromisoformat(month_ends).replace(tzinfo=PARIS).astimezone(UTC)


@pytest.mark.parametrize(
    ("local", "hours"),
    [("2026-03-28T13:00", 23), ("2026-10-24T13:00", 25), ("2026-11-21T13:00", 24)],
)
def test_a_day_lasts_as_long_as_the_clocks_make_it(local: str, hours: int) -> None:
    """The night on which the clocks change is one budget day of 23 or 25 hours."""
    period = period_of(datetime.fromisoformat(local).replace(tzinfo=PARIS), PARIS, NOON)
    assert period.ends - period.begins == timedelta(hours=hours)


@settings(max_examples=200)
@given(
    st.datetimes(datetime(2025, 1, 2), datetime(2027, 12, 30)).map(lambda at: at.replace(tzinfo=UTC)),  # noqa: DTZ001 - made aware here
    ZONES.map(ZoneInfo),
    st.times().map(lambda at: at.replace(second=0, microsecond=0)),
)
def test_months_are_made_of_whole_days(now: datetime, zone: ZoneInfo, starts_at: time) -> None:
    """A day lies in one month; the next day begins where it ends, and the next month where the last day ends."""
    period = period_of(now, zone, starts_at)
    assert period.begins <= now < period.ends <= period.month_ends
    after, last = (period_of(at, zone, starts_at) for at in (period.ends, period.month_ends))
    assert after.begins == period.ends
    assert (after.month == period.month) is (period.ends < period.month_ends)
    assert last.begins == period.month_ends
    assert last.day == f"{last.month}-01" != f"{period.month}-01"


PERIOD = period_of(datetime(2026, 11, 22, 2, tzinfo=PARIS), PARIS, NOON)
BARLY = {"client": "barly", "deliverable": "d7"}
TAGGED = Budgets(
    job=Cap(5),
    day=Cap(20, 15),
    tags={
        ("client", "barly"): Caps(Cap(2), month=Cap(soft_pico=40)),
        ("deliverable", "d7"): Caps(day=Cap(1)),
        ("client", "other"): Caps(day=Cap(9)),
    },
)


def test_a_call_counts_in_every_scope_that_applies() -> None:
    """Job, day, month, and those of each of its tags; a cap that isn't set makes no scope."""
    assert scopes_of(TAGGED, BARLY, PERIOD, "job:7") == (
        Scope("job:7", 5),
        Scope("day:2026-11-21", 20, 15),
        Scope("job:7 client=barly", 2),
        Scope("month:2026-11 client=barly", None, 40),
        Scope("day:2026-11-21 deliverable=d7", 1),
    )
    assert scopes_of(TAGGED, {"client": "nobody"}, PERIOD, "job:7") == (
        Scope("job:7", 5),
        Scope("day:2026-11-21", 20, 15),
    )
    assert scopes_of(Budgets(month=Cap(3)), {}, PERIOD, "call:1") == (Scope("month:2026-11", 3),)
    assert scopes_of(Budgets(), BARLY, PERIOD, "call:1") == ()


@pytest.mark.parametrize(
    ("configured", "said", "scope"),
    [
        (Cap(), 3, Scope("call:1", 3)),
        (Cap(5, 4), 3, Scope("call:1", 3, 4)),
        (Cap(2), 3, Scope("call:1", 2)),
        (Cap(0), 3, Scope("call:1", 0)),
        (Cap(5), 0, Scope("call:1", 0)),
    ],
)
def test_the_smaller_of_two_caps_holds(configured: Cap, said: int, scope: Scope) -> None:
    """--budget caps a call or job besides what is configured: whichever is smaller; 0 is a cap."""
    assert scopes_of(Budgets(configured), {}, PERIOD, "call:1", said) == (scope,)


def test_what_is_a_budget() -> None:
    """A cap of 0 is one; a soft cap is one that stops nothing."""
    assert not Budgets()
    assert Budgets(day=Cap(0))
    assert Budgets(day=Cap(0)).hard
    assert TAGGED.hard
    soft = Budgets(tags={("client", "barly"): Caps(day=Cap(soft_pico=1))})
    assert soft
    assert not soft.hard
    assert not Caps()


def test_each_scope_knows_what_it_counts() -> None:
    """For those who show them: per job, day or month, of all calls or of a tag's."""
    told = {one.scope.key: (one.per, one.tag) for one in counted(TAGGED, BARLY, PERIOD, "job:7")}
    assert told["day:2026-11-21"] == (Per.DAY, None)
    assert told["job:7 client=barly"] == (Per.JOB, ("client", "barly"))
    assert told["month:2026-11 client=barly"] == (Per.MONTH, ("client", "barly"))


@pytest.mark.parametrize(
    ("key", "words", "remedy"),
    [
        ("call:123", "this call", "Raise --budget, or per_job_usd in [budgets]."),
        (
            "job:123",
            "this job",
            "Raise --budget, or per_job_usd in [budgets]; the same command continues the job.",
        ),
        (
            "day:2026-11-22",
            "the budget day 2026-11-22",
            (
                "Raise per_day_usd in [budgets], or wait: `promptkit budgets` shows when the next period begins; "
                "the same command continues the job."
            ),
        ),
        (
            "month:2026-11 client=barly bar",
            "the month 2026-11 of client=barly bar",
            (
                "Raise per_month_usd in [budgets], or wait: `promptkit budgets` shows when the next period begins; "
                "the same command continues the job."
            ),
        ),
    ],
)
def test_a_full_scope_is_told_in_words(key: str, words: str, remedy: str) -> None:
    """No id and no key of the books: what is full, and what to do about it."""
    assert scope_words(key) == words
    assert scope_remedy(key) == remedy
