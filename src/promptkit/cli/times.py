"""Times as people write and read them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from promptkit.errors import UsageError
from promptkit.routing.budgets import day_begins, day_of

_AGO: Final = re.compile(r"(\d{1,6})([smhdw])")


_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


_MINUTE_S: Final = 60


_HOUR_S: Final = 3600


def read_since(text: str, now: datetime, zone: ZoneInfo) -> datetime:
    """The time that `--since` means: `2h`, `3d`, `today`, `2026-11-21`, `2026-11-21T22:00`.

    A date without a time is its midnight; see `read_time`.
    """
    return read_time(text, now, zone, option="--since")


def read_time(
    text: str,
    now: datetime,
    zone: ZoneInfo,
    *,
    option: str,
    starts_at: time = time(),
    ends: bool = False,
) -> datetime:
    """The time that an option means.

    Args:
        text: as the user writes it.
        now: an aware time.
        zone: whose days and hours are meant.
        option: its name, for messages.
        starts_at: when a day begins.
        ends: whether a day means its end, not its beginning.

    Raises:
        UsageError: it is no time.
    """
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        day = _day(text, now, zone, starts_at)
        if day is not None:
            return day_begins(day + timedelta(days=int(ends)), zone, starts_at)
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option} {text!r} is no time",
            remedy="For example 2h, 3d, today, yesterday, 2026-11-21 or 2026-11-21T22:00",
        ) from None
    return at if at.tzinfo is not None else at.replace(tzinfo=zone)


def _day(text: str, now: datetime, zone: ZoneInfo, starts_at: time) -> date | None:
    if text in {"today", "yesterday"}:
        return day_of(now, zone, starts_at) - timedelta(days=int(text == "yesterday"))
    return date.fromisoformat(text) if len(text) == len("2026-11-21") else None


def when(us: int, zone: ZoneInfo) -> str:
    """Microseconds since the epoch as a local time: `2026-11-21 22:04:05`."""
    return f"{datetime.fromtimestamp(us / 1e6, zone):%Y-%m-%d %H:%M:%S}"


def shortly(us: int, zone: ZoneInfo) -> str:
    """The same without the year, for lists: `11-21 22:04:05`."""
    return when(us, zone)[len("2026-") :]


def iso(us: int | None) -> str | None:
    """Microseconds since the epoch for programs: ISO 8601 in UTC."""
    if us is None:
        return None
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def lasting(seconds: float) -> str:
    """How long something takes: `0.8 s`, `42 s`, `3 min`, `2 h 05 min`."""
    if seconds < 10:  # noqa: PLR2004 - below it a tenth matters
        return f"{seconds:.1f} s"
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    hours, rest = divmod(round(seconds / _MINUTE_S), 60)
    return f"{hours} h {rest:02} min"
