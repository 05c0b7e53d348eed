"""A deadline: whether the pace so far meets it, and what to do where it doesn't. Pure: the clock comes in."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

from promptkit.errors import UsageError
from promptkit.types import OnMiss

_CLOCK: Final = re.compile(r"\d{1,2}:\d{2}")
MOST_AT_ONCE: Final = 8
"""`faster` raises concurrency up to so many times what the user said."""
_ROWS: Final = 20
_SHARE: Final = 0.1
_AT_MOST_S: Final = 60.0
"""A pace counts once so many rows were made, or a tenth of the time has gone, or a minute."""


class Move(StrEnum):
    """What to do now."""

    KEEP = "keep"
    WARN = "warn"
    RAISE = "raise"
    """Twice as many rows at once."""
    FASTEST = "fastest"
    """The target that answers fastest goes first."""
    STOP = "stop"
    """Send nothing more: it won't be met."""
    OVER = "over"
    """Send nothing more: it has come."""


@dataclass(frozen=True, slots=True)
class Course:
    """How a job gets on. Times are seconds since the epoch.

    `made` rows since `since_s`, when it began or last changed its pace; `left` are still to be
    made. `concurrency` now and `began_with` at first; `warned` and `fastest` were done before.
    """

    now_s: float
    deadline_s: float
    since_s: float
    made: int
    left: int
    concurrency: int = 1
    began_with: int = 1
    warned: bool = False
    fastest: bool = False

    @property
    def ends_s(self) -> float | None:
        """When the last row will be made at this pace; infinity where none is; None: too early to say."""
        gone_s = self.now_s - self.since_s
        settled_s = min(_AT_MOST_S, (self.deadline_s - self.since_s) * _SHARE)
        if self.made < _ROWS and gone_s < settled_s:
            return None
        if not self.made or gone_s <= 0:
            return math.inf if self.left else self.now_s
        return self.now_s + self.left * gone_s / self.made

    @property
    def will_miss(self) -> int:
        """How many rows will not be made in time at this pace."""
        gone_s = self.now_s - self.since_s
        rate = self.made / gone_s if gone_s > 0 else 0.0
        return max(0, self.left - math.floor(rate * max(0.0, self.deadline_s - self.now_s)))


def decide(course: Course, on_miss: OnMiss) -> Move:
    """What to do now."""
    if course.now_s >= course.deadline_s:
        return Move.OVER
    ends_s = course.ends_s
    if not course.left or ends_s is None or ends_s <= course.deadline_s:
        return Move.KEEP
    if on_miss is OnMiss.STOP:
        return Move.STOP
    if on_miss is OnMiss.FASTER and course.concurrency < course.began_with * MOST_AT_ONCE:
        return Move.RAISE
    if on_miss is OnMiss.FASTEST and not course.fastest:
        return Move.FASTEST
    return Move.KEEP if course.warned else Move.WARN


def read_deadline(text: str, now: datetime, zone: ZoneInfo) -> datetime:
    """The moment that `--deadline` means: the next `06:30` on the wall clock, or a date and time.

    A time that the clock skips in spring is the moment that it would have been; one that it shows
    twice in autumn is the next of the two.

    Args:
        text: `06:30`, `2026-11-23T06:30`, with an offset where another zone's clock is meant.
        now: an aware time.
        zone: whose clock is meant.

    Raises:
        UsageError: it is neither, or over.
    """
    remedy = "For example 06:30 or 2026-11-23T06:30"
    try:
        if _CLOCK.fullmatch(text):
            at = time.fromisoformat(text.zfill(len("06:30")))
            today = now.astimezone(zone).date()
            days = (today + timedelta(days=ahead) for ahead in range(-1, 3))
            moments = (
                _moment(datetime.combine(day, at, zone).replace(fold=fold)) for day in days for fold in (0, 1)
            )
            return min(moment for moment in moments if moment > now)
        said = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageError(f"--deadline {text!r} is no time", remedy=remedy) from None
    moment = _moment(said if said.tzinfo is not None else said.replace(tzinfo=zone))
    if moment <= now:
        raise UsageError(f"--deadline {text} is over", remedy=remedy)
    return moment


def _moment(local: datetime) -> datetime:
    """A local time as a moment; one that the clock skips is read as if it hadn't been put forward."""
    moment = local.astimezone(UTC)
    if moment.astimezone(local.tzinfo).replace(tzinfo=None) != local.replace(tzinfo=None):
        return local.replace(fold=0).astimezone(UTC)
    return moment
