"""Budget arithmetic: exact money, and where one budget day ends and the next begins."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

LARGEST_CAP_USD: Final = 9_000_000
"""Pico-USD live in 64-bit integers, which end at about nine million dollars."""

_PICO_DIGITS: Final = 12
_SMALLEST = Decimal("1e-12")


def pico_of_usd(amount: Decimal) -> int:
    """Turn USD into pico-USD, exactly.

    Raises:
        ValueError: negative, above `LARGEST_CAP_USD`, or finer than a pico-dollar.
    """
    if amount == 0:
        return 0
    if not (amount.is_finite() and 0 < amount <= LARGEST_CAP_USD):
        raise ValueError(f"must lie between 0 and {LARGEST_CAP_USD:,}")
    _, digits, exponent = amount.as_tuple()
    # Both bounds hold the exponent within reach of the digits: no power here is out of proportion.
    if amount < _SMALLEST:
        raise ValueError("is finer than a pico-dollar (1e-12)")
    whole = int("".join(map(str, digits)))
    shift = int(exponent) + _PICO_DIGITS
    if shift >= 0:
        return whole * 10**shift
    pico, rest = divmod(whole, 10**-shift)
    if rest:
        raise ValueError("is finer than a pico-dollar (1e-12)")
    return pico


def day_begins(day: date, timezone: ZoneInfo, starts_at: time) -> datetime:
    """The instant (UTC) at which a budget day begins.

    Where the clocks skip the hour, it is the instant at which that wall time would have come;
    where they repeat it, the first of the two.
    """
    return datetime.combine(day, starts_at, tzinfo=timezone).astimezone(UTC)


def day_of(now: datetime, timezone: ZoneInfo, starts_at: time) -> date:
    """The budget day that an instant belongs to, named by the date on which it began.

    With `starts_at` at 12:00 a whole night, evening and morning, is one day. Days follow each
    other without gap or overlap through both changes of the clocks: instants are compared, not
    wall times.

    Args:
        now: an aware datetime.
        timezone: whose calendar.
        starts_at: the wall time at which a day begins.
    """
    today = now.astimezone(timezone).date()
    return today if now >= day_begins(today, timezone, starts_at) else today - timedelta(days=1)
