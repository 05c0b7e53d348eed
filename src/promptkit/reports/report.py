"""The report: sums of the ledger's calls by template, client, target, day and so on, with margins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from math import gcd
from operator import itemgetter
from typing import TYPE_CHECKING

from promptkit.config.budgets import Rate, RateUnit
from promptkit.config.settings import Settings
from promptkit.errors import UsageError
from promptkit.ledger.records import Key, SumOf, Tally
from promptkit.routing.budgets import day_begins, day_of

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger

DIMENSIONS = ("template", "client", "target", "job", "day", "deliverable")
"""What a report can group by; any other name is a tag."""
CLIENT = "client"
"""The tag that a client's rate belongs to."""
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_by(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the names in `--by` options: `template,client`, repeatable."""
    return tuple(name.strip() for text in texts for name in text.split(",") if name.strip())


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """The calls that a report includes, and how it groups them.

    Args:
        by: the names to group by, see `DIMENSIONS`; none for the total alone.
        since: an aware time; calls and attempts that started then or later.
        until: those that started before.
        tags: only calls with these tags.
        template: only calls of this template, with or without its version.
        job: only calls of this job.
    """

    by: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    template: str | None = None
    job: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All groups, the most expensive first (days in their order), and their total."""

    by: tuple[str, ...]
    groups: tuple[ReportGroup, ...]
    total: ReportGroup


@dataclass(frozen=True, slots=True)
class ReportGroup:
    """A group of calls, or all of them.

    `key` are its values in the order of the report's `by`; `fallbacks` are the faults that led to
    a failover, with their number. `deliverables` have at least one reply. `margin` is None if no
    client of the group has a rate. It is also None for a rate per deliverable if the group splits
    deliverables, because a deliverable has calls of many templates.
    """

    key: tuple[str | None, ...]
    tally: Tally
    fallbacks: Mapping[str, int]
    deliverables: int
    margin: Margin | None

    @property
    def per_deliverable_pico(self) -> int | None:
        """The known cost per deliverable, with failed attempts and retakes; rounded to a pico-dollar."""
        return round(self.tally.named_known_pico / self.deliverables) if self.deliverables else None


@dataclass(frozen=True, slots=True)
class Margin:
    """What clients with a rate pay, and what their calls cost, in pico-USD."""

    earned_pico: int = 0
    known_pico: int = 0
    charged_pico: int = 0

    @property
    def margin_pico(self) -> int:
        """The margin by known costs."""
        return self.earned_pico - self.known_pico

    @property
    def least_pico(self) -> int:
        """The lowest possible margin: an unknown cost counts at its max cost."""
        return self.earned_pico - self.charged_pico


def make_report(ledger: Ledger, settings: Settings, query: ReportQuery) -> Report:
    """Add up the ledger's calls.

    The database adds up. Memory grows with the number of groups, not with that of calls.

    Raises:
        UsageError: a name is repeated, or a time has no zone.
    """
    by = query.by
    for at in (query.since, query.until):
        if at is not None and at.tzinfo is None:
            raise UsageError(
                f"{at} has no time zone", remedy="For example datetime.now(UTC) - timedelta(days=7)"
            )
    if len(set(by)) < len(by):
        raise UsageError(f"--by {','.join(by)} repeats a name")
    sums_of = SumOf(
        (*by, CLIENT) if settings.clients else by,
        None if query.since is None else _us(query.since),
        None if query.until is None else _us(query.until),
        slot_us=1,
        tags=query.tags,
        template=query.template,
        job=query.job,
    )
    adder = _Adder(by, settings.clients)
    with ledger.reports.sums(sums_of) as sums:
        if "day" not in by:
            return adder.report(sums.tallies(), sums.fallbacks(), sums.deliverables())
        days = _Days(settings, by.index("day"))
        by_slots = sums.by_slots(days.slot_us(sums.span()))
        return adder.report(
            ((days.with_day(key), tally) for key, tally in by_slots.tallies()),
            ((days.with_day(key), fault, count) for key, fault, count in by_slots.fallbacks()),
            ((name, days.with_day(key)) for name, key in by_slots.deliverables()),
        )


class _Days:
    """The budget days of the configuration, as slots of time that the database can group by.

    A slot is the longest time that divides the span between any two day starts: half a day, an
    hour if the clocks change, a minute at worst.
    """

    def __init__(self, settings: Settings, index: int) -> None:
        self._zone = settings.timezone
        self._starts_at = settings.day_starts_at
        self._index = index
        self._slot_us = 1
        self._names: dict[int, str] = {}

    def slot_us(self, span: tuple[int, int] | None) -> int:
        """Return the length of a slot, for calls that started within that span."""
        if span is not None:
            self._slot_us = gcd(*(_us(begin) for begin in self._starts(*span)))
        return self._slot_us

    def _starts(self, first_us: int, last_us: int) -> Iterator[datetime]:
        day, last = self._day(first_us), self._day(last_us)
        while day <= last + timedelta(days=1):
            yield day_begins(day, self._zone, self._starts_at)
            day += timedelta(days=1)

    def with_day(self, key: Key) -> Key:
        """Return a key with the day of its slot in place of the slot."""
        slot = key[self._index]
        assert isinstance(slot, int)  # noqa: S101 - the database returns a day as a slot
        name = self._names.get(slot)
        if name is None:
            name = self._names[slot] = self._day(slot * self._slot_us).isoformat()
        return (*key[: self._index], name, *key[self._index + 1 :])

    def _day(self, us: int) -> date:
        return day_of(_EPOCH + us * _MICROSECOND, self._zone, self._starts_at)


def _us(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


@dataclass(slots=True)
class _ClientSum:
    """The sums of a client with a rate, within a group."""

    tally: Tally = field(default_factory=Tally)
    deliverables: int = 0


@dataclass(slots=True)
class _GroupSum:
    tally: Tally = field(default_factory=Tally)
    fallbacks: dict[str, int] = field(default_factory=dict[str, int])
    deliverables: int = 0
    clients: dict[str, _ClientSum] = field(default_factory=dict[str, _ClientSum])


class _Adder:
    """Adds the database's sums up to groups and a total.

    Args:
        by: the names that the report groups by.
        rates: what clients pay. If there are any, every key ends with the client, after `by`.
    """

    def __init__(self, by: tuple[str, ...], rates: Mapping[str, Rate]) -> None:
        self._by = by
        self._rates = rates
        self._groups: dict[Key, _GroupSum] = {}
        self._total = _GroupSum()

    def report(
        self,
        tallies: Iterable[tuple[Key, Tally]],
        fallbacks: Iterable[tuple[Key, str, int]],
        deliverables: Iterable[tuple[str, Key]],
    ) -> Report:
        """Return the report.

        Args:
            tallies: sums; a key may come several times.
            fallbacks: key, fault, number.
            deliverables: each with the keys of its calls, sorted by deliverable.
        """
        for key, tally in tallies:
            for group in (self._group(key), self._total):
                group.tally = group.tally + tally
                client = self._client(group, key[-1] if key else None)
                if client is not None:
                    client.tally = client.tally + tally
        for key, fault, count in fallbacks:
            for group in (self._group(key), self._total):
                group.fallbacks[fault] = group.fallbacks.get(fault, 0) + count
        for _, mentions in groupby(deliverables, itemgetter(0)):
            self._add_deliverable([key for _, key in mentions])
        splits = not {CLIENT, "deliverable"}.issuperset(self._by)
        groups = [self._finished(key, group, splits=splits) for key, group in self._groups.items()]
        return Report(
            self._by, tuple(_sorted(self._by, groups)), self._finished((), self._total, splits=False)
        )

    def _group(self, key: Key) -> _GroupSum:
        return self._groups.setdefault(key[: len(self._by)], _GroupSum())

    def _client(self, group: _GroupSum, name: object) -> _ClientSum | None:
        if not isinstance(name, str) or name not in self._rates:
            return None
        return group.clients.setdefault(name, _ClientSum())

    def _add_deliverable(self, keys: list[Key]) -> None:
        """Count a deliverable once in the total, in each of its groups, and for each client in those."""
        width = len(self._by)
        self._total.deliverables += 1
        for key in {key[:width] for key in keys}:
            self._group(key).deliverables += 1
        if self._rates:
            for key in {(*key[:width], key[-1]) for key in keys}:
                self._count_for_client(self._group(key), key[-1])
            for name in {key[-1] for key in keys}:
                self._count_for_client(self._total, name)

    def _count_for_client(self, group: _GroupSum, name: object) -> None:
        client = self._client(group, name)
        if client is not None:
            client.deliverables += 1

    def _finished(self, key: Key, group: _GroupSum, *, splits: bool) -> ReportGroup:
        return ReportGroup(
            key=tuple(None if value is None else str(value) for value in key),
            tally=group.tally,
            fallbacks=dict(sorted(group.fallbacks.items(), key=lambda item: (-item[1], item[0]))),
            deliverables=group.deliverables,
            margin=self._margin(group, splits=splits),
        )

    def _margin(self, group: _GroupSum, *, splits: bool) -> Margin | None:
        if not group.clients:
            return None
        earned = known = charged = 0
        for name, client in group.clients.items():
            rate = self._rates[name]
            if rate.per is RateUnit.DELIVERABLE and splits:
                return None
            units = {
                RateUnit.DELIVERABLE: client.deliverables,
                RateUnit.ROW: client.tally.rows,
                RateUnit.CALL: client.tally.replied,
            }
            earned += rate.pico * units[rate.per]
            known += client.tally.known_pico
            charged += client.tally.charged_pico
        return Margin(earned, known, charged)


def _sorted(by: tuple[str, ...], groups: list[ReportGroup]) -> list[ReportGroup]:
    """Sort days in their order; within a day, and without days, the most expensive group first."""
    groups.sort(key=lambda group: tuple(value or "" for value in group.key))
    groups.sort(key=lambda group: -group.tally.charged_pico)
    if "day" in by:
        index = by.index("day")
        groups.sort(key=lambda group: group.key[index] or "")
    return groups
