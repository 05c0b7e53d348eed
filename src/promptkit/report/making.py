"""A report from the ledger: what is asked, the days of the calendar, the sums."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from math import gcd
from typing import TYPE_CHECKING, Final

from promptkit.config import Settings
from promptkit.errors import UsageError
from promptkit.ledger.tallies import Key, SumOf
from promptkit.routing.budgets import day_begins, day_of

from .folding import CLIENT, Report, fold

if TYPE_CHECKING:
    from promptkit.ledger import Ledger

DIMENSIONS: Final = ("template", "client", "target", "job", "day", "deliverable")
"""What one groups by; any other name is a tag."""

_US: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a report is to be of.

    Args:
        by: what to group by, see `DIMENSIONS`; none for the total alone.
        since: an aware time; calls and attempts that started then or later.
        until: those that started before.
        tags: only calls with these tags.
        template: only calls of this skeleton, with or without its version.
        job: only calls of this job.
    """

    by: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    template: str | None = None
    job: str | None = None


def make_report(ledger: Ledger, settings: Settings, asked: Asked) -> Report:
    """Add the books up.

    The database does it: memory grows with the number of groups, not with that of calls.

    Raises:
        UsageError: the same thing is asked for twice, or a time has no zone.
    """
    by = asked.by
    for at in (asked.since, asked.until):
        if at is not None and at.tzinfo is None:
            raise UsageError(
                f"{at} has no time zone", remedy="For example datetime.now(UTC) - timedelta(days=7)"
            )
    if len(set(by)) < len(by):
        raise UsageError(f"--by {','.join(by)} names a thing twice")
    rates = settings.clients
    hidden = (CLIENT,) if rates else ()
    days = _Days(settings, by.index("day")) if "day" in by else None
    what = SumOf(
        (*by, *hidden),
        None if asked.since is None else _us(asked.since),
        None if asked.until is None else _us(asked.until),
        slot_us=1,
        tags=asked.tags,
        template=asked.template,
        job=asked.job,
    )
    with ledger.sums(what) as plain:
        if days is None:
            return fold(by, plain.tallies(), plain.fallbacks(), plain.deliverables(), rates)
        sums = plain.by_slots(days.slot_us(plain.span()))
        return fold(
            by,
            ((days.named(key), tally) for key, tally in sums.tallies()),
            ((days.named(key), fault, count) for key, fault, count in sums.fallbacks()),
            ((name, days.named(key)) for name, key in sums.deliverables()),
            rates,
        )


class _Days:
    """The budget days of the configuration, as slots of time that the database can count.

    A slot is the longest time that divides the span between any two beginnings of days: half a day,
    an hour where the clocks change, a minute at worst.
    """

    def __init__(self, settings: Settings, place: int) -> None:
        self._zone = settings.timezone
        self._starts_at = settings.day_starts_at
        self._place = place
        self._slot_us = 1
        self._names: dict[int, str] = {}

    def slot_us(self, span: tuple[int, int] | None) -> int:
        """The length of a slot, for calls that began within that span."""
        if span is not None:
            self._slot_us = gcd(*(_us(begin) for begin in self._begins(*span)))
        return self._slot_us

    def named(self, key: Key) -> Key:
        """The key with its slot's day in place of the slot."""
        slot = key[self._place]
        assert isinstance(slot, int)  # noqa: S101 - a day is asked of the database as a slot
        name = self._names.get(slot)
        if name is None:
            name = self._names[slot] = self._day(slot * self._slot_us).isoformat()
        return (*key[: self._place], name, *key[self._place + 1 :])

    def _day(self, us: int) -> date:
        return day_of(_EPOCH + us * _US, self._zone, self._starts_at)

    def _begins(self, first_us: int, last_us: int) -> Iterator[datetime]:
        day, last = self._day(first_us), self._day(last_us)
        while day <= last + timedelta(days=1):
            yield day_begins(day, self._zone, self._starts_at)
            day += timedelta(days=1)


def _us(at: datetime) -> int:
    return (at - _EPOCH) // _US


def read_by(texts: Iterable[str]) -> tuple[str, ...]:
    """What `--by` names: `template,client`, several times if need be."""
    return tuple(name.strip() for text in texts for name in text.split(",") if name.strip())
