"""Budgets: exact amounts, budget days and months, and the scopes that a call counts under."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TypeAlias
from zoneinfo import ZoneInfo

from promptkit.types import Scope

LARGEST_CAP_USD = 9_000_000
"""Pico-USD are 64-bit integers, which end at about nine million dollars."""

_PICO_DIGITS = 12

_CONTINUE = "; the same command continues the job"

_SMALLEST = Decimal("1e-12")


Tag: TypeAlias = tuple[str, str]
"""A tag's name and value: `("client", "barly")`."""


class Per(StrEnum):
    """What a cap limits: the cost of one job (or single call), one budget day, or one month."""

    JOB = "job"
    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Cap:
    """Two limits in pico-USD, None for none: `hard` stops calls that would exceed it, `soft` only warns."""

    hard_pico: int | None = None
    soft_pico: int | None = None

    def __bool__(self) -> bool:
        return self.hard_pico is not None or self.soft_pico is not None

    def within(self, pico: int) -> Cap:
        """Return the cap with a hard limit of at most so much."""
        return Cap(pico if self.hard_pico is None else min(pico, self.hard_pico), self.soft_pico)


@dataclass(frozen=True, slots=True)
class Caps:
    """The caps of all calls, or of those with one tag."""

    job: Cap = Cap()
    day: Cap = Cap()
    month: Cap = Cap()

    def __bool__(self) -> bool:
        return bool(self.job or self.day or self.month)

    @property
    def hard(self) -> bool:
        """Return whether one of them is a hard cap."""
        return any(cap.hard_pico is not None for cap in (self.job, self.day, self.month))


@dataclass(frozen=True, slots=True)
class Budgets(Caps):
    """All caps: of every call, and by tag."""

    tags: Mapping[Tag, Caps] = field(default_factory=dict[Tag, Caps])

    def __bool__(self) -> bool:
        return any((self.job, self.day, self.month, *self.tags.values()))

    @property
    def hard(self) -> bool:
        """Return whether one of them is a hard cap."""
        return any(caps.hard for caps in (Caps(self.job, self.day, self.month), *self.tags.values()))


@dataclass(frozen=True, slots=True)
class Period:
    """The budget day and month of an instant, as scopes name them, and when they end (UTC).

    `begins` and `ends` are the day's; a month ends with its last day.
    """

    day: str
    month: str
    begins: datetime
    ends: datetime
    month_ends: datetime


@dataclass(frozen=True, slots=True)
class Counted:
    """A scope with its period, of all calls (`tag` None) or of those with a tag."""

    scope: Scope
    per: Per
    tag: Tag | None = None


def period_of(now: datetime, timezone: ZoneInfo, starts_at: time) -> Period:
    """Return the budget day and month of an instant.

    A month contains the days whose names begin with it: with days that start at noon, it begins at
    noon of the first.
    """
    day = day_of(now, timezone, starts_at)
    after = (day.replace(day=1) + timedelta(days=31)).replace(day=1)
    begins, ends, month_ends = (
        day_begins(each, timezone, starts_at) for each in (day, day + timedelta(days=1), after)
    )
    return Period(day.isoformat(), f"{day:%Y-%m}", begins, ends, month_ends)


def scopes_of(
    budgets: Budgets, tags: Mapping[str, str], period: Period, own: str, own_cap_pico: int | None = None
) -> tuple[Scope, ...]:
    """Return the scopes that a call counts under: each with a cap, of all calls and of each of its tags.

    Args:
        budgets: the caps.
        tags: the call's.
        period: now.
        own: the key of its job, or of a single call: `job:<id>`, `call:<id>`.
        own_cap_pico: a cap on that, in pico-USD, besides the configured one.
    """
    if own_cap_pico is not None:
        budgets = replace(budgets, job=budgets.job.within(own_cap_pico))
    return tuple(entry.scope for entry in counted(budgets, tags, period, own))


def counted(budgets: Budgets, tags: Mapping[str, str], period: Period, own: str) -> Iterator[Counted]:
    """Yield the scopes that a call counts under, each with its period and tag; see `scopes_of`."""
    yield from _counted(budgets, period, own, None)
    if budgets.tags:
        for tag in tags.items():
            caps = budgets.tags.get(tag)
            if caps is not None:
                yield from _counted(caps, period, own, tag)


def _counted(caps: Caps, period: Period, own: str, tag: Tag | None) -> Iterator[Counted]:
    end = "" if tag is None else f" {tag[0]}={tag[1]}"
    if caps.job:
        yield Counted(Scope(own + end, caps.job.hard_pico, caps.job.soft_pico), Per.JOB, tag)
    if caps.day:
        yield Counted(Scope(f"day:{period.day}{end}", caps.day.hard_pico, caps.day.soft_pico), Per.DAY, tag)
    if caps.month:
        key = f"month:{period.month}{end}"
        yield Counted(Scope(key, caps.month.hard_pico, caps.month.soft_pico), Per.MONTH, tag)


def pico_of_usd(amount: Decimal) -> int:
    """Convert USD to pico-USD, exactly.

    Raises:
        ValueError: negative, above `LARGEST_CAP_USD`, or finer than a pico-dollar.
    """
    if amount == 0:
        return 0
    if not (amount.is_finite() and 0 < amount <= LARGEST_CAP_USD):
        raise ValueError(f"must lie between 0 and {LARGEST_CAP_USD:,}")
    _, digits, exponent = amount.as_tuple()
    # Both limits bound the exponent, so no power below is huge.
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
    """Return the instant (UTC) at which a budget day begins.

    Where the clocks skip the hour, it is the instant at which that wall time would have been;
    where they repeat it, the first of the two.
    """
    return datetime.combine(day, starts_at, tzinfo=timezone).astimezone(UTC)


def day_of(now: datetime, timezone: ZoneInfo, starts_at: time) -> date:
    """Return the budget day of an instant, named by the date on which it began.

    With `starts_at` at 12:00 a whole night, evening and morning, is one day. Days follow each
    other without gap or overlap through both changes of the clocks: instants are compared, not
    wall times.

    Args:
        now: an aware datetime.
        timezone: the time zone of the calendar.
        starts_at: the wall time at which a day begins.
    """
    today = now.astimezone(timezone).date()
    return today if now >= day_begins(today, timezone, starts_at) else today - timedelta(days=1)


def scope_words(key: str) -> str:
    """Describe a scope by its key: `this job`, `the budget day 2026-11-22`, `... of client=barly`."""
    name, _, tag = key.partition(" ")
    kind, _, which = name.partition(":")
    words = {"day": f"the budget day {which}", "month": f"the month {which}"}.get(kind, f"this {kind}")
    return f"{words} of {tag}" if tag else words


def scope_remedy(key: str) -> str:
    """Return what a user can do about a scope without room."""
    kind = key.partition(":")[0]
    if kind in {"call", "job"}:
        return f"Raise --budget, or per_job_usd in [budgets]{_CONTINUE if kind == 'job' else ''}."
    return f"Raise per_{kind}_usd in [budgets], or wait: `promptkit budgets` shows when the next period begins{_CONTINUE}."
