"""A report from the ledger: what is asked, the days of the calendar, the sums."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from math import gcd
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from promptkit.config.budgets import Rate, RateUnit
from promptkit.config.settings import Settings
from promptkit.errors import UsageError
from promptkit.ledger.records import Key, SumOf, Tally
from promptkit.routing.budgets import day_begins, day_of

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger


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
        template: only calls of this template, with or without its version.
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
    with ledger.reports.sums(what) as plain:
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


CLIENT: Final = "client"
"""The tag that a client's rate goes by."""


_WHOLE: Final = frozenset({CLIENT, "deliverable"})
"""What a deliverable can be grouped by and stay whole."""


@dataclass(frozen=True, slots=True)
class Yield:
    """What clients with a rate pay, and what their calls cost, in pico-USD."""

    earned_pico: int = 0
    known_pico: int = 0
    charged_pico: int = 0

    @property
    def margin_pico(self) -> int:
        """What is left of it, by the costs that are known."""
        return self.earned_pico - self.known_pico

    @property
    def least_pico(self) -> int:
        """What is left at least: where a cost is unknown, its ceiling counts."""
        return self.earned_pico - self.charged_pico


@dataclass(frozen=True, slots=True)
class Total:
    """A group of calls, or all of them.

    `key` are its values in the order of the report's `by`; `fallbacks` the faults that sent calls
    on to another target, and how often. `deliverables` were answered at least once. `margin` is
    None where no client of the group has a rate, or where a rate a deliverable can't be told apart
    (a deliverable has calls in many templates).
    """

    key: tuple[str | None, ...]
    tally: Tally
    fallbacks: Mapping[str, int]
    deliverables: int
    margin: Yield | None

    @property
    def per_deliverable_pico(self) -> int | None:
        """The known cost of a deliverable, its failed attempts and retakes included; rounded to a pico-dollar."""
        return round(self.tally.named_known_pico / self.deliverables) if self.deliverables else None


@dataclass(frozen=True, slots=True)
class Report:
    """All groups, the dearest first (days in their order), and what they add up to."""

    by: tuple[str, ...]
    groups: tuple[Total, ...]
    total: Total


@dataclass(slots=True)
class _Group:
    tally: Tally = field(default_factory=Tally)
    fallbacks: dict[str, int] = field(default_factory=dict[str, int])
    deliverables: int = 0
    clients: dict[str, _Client] = field(default_factory=dict[str, "_Client"])


@dataclass(slots=True)
class _Client:
    """A client that has a rate, within a group."""

    tally: Tally = field(default_factory=Tally)
    deliverables: int = 0


def fold(
    by: tuple[str, ...],
    tallies: Iterable[tuple[Key, Tally]],
    fallbacks: Iterable[tuple[Key, str, int]],
    deliverables: Iterable[tuple[str, Key]],
    rates: Mapping[str, Rate],
) -> Report:
    """Put parts together.

    Args:
        by: what the groups stand for.
        tallies: sums; each key may come several times.
        fallbacks: key, fault, how often.
        deliverables: each with the keys of its calls; those of one deliverable come together.
        rates: what clients pay. Where there are any, every key ends with the client, beyond `by`.
    """
    groups: dict[Key, _Group] = {}
    whole = _Group()

    def places(key: Key) -> tuple[_Group, _Group]:
        return groups.setdefault(key[: len(by)], _Group()), whole

    for key, tally in tallies:
        for group in places(key):
            group.tally = group.tally + tally
            client = _client(group, key, rates)
            if client is not None:
                client.tally = client.tally + tally
    for key, fault, count in fallbacks:
        for group in places(key):
            group.fallbacks[fault] = group.fallbacks.get(fault, 0) + count
    for _, mentions in groupby(deliverables, itemgetter(0)):
        _count_deliverable([key for _, key in mentions], len(by), groups, whole, rates)
    splits = not _WHOLE.issuperset(by)
    totals = [_total(key, group, rates, splits=splits) for key, group in groups.items()]
    return Report(by, tuple(_sorted(by, totals)), _total((), whole, rates, splits=False))


def _client(group: _Group, key: Key, rates: Mapping[str, Rate]) -> _Client | None:
    name = key[-1] if key else None
    if not isinstance(name, str) or name not in rates:
        return None
    return group.clients.setdefault(name, _Client())


def _count_deliverable(
    keys: Sequence[Key], width: int, groups: dict[Key, _Group], whole: _Group, rates: Mapping[str, Rate]
) -> None:
    """Count one deliverable: once in all, once in each group and once for each client that it stands in."""
    whole.deliverables += 1
    for name in {key[:width] for key in keys}:
        groups.setdefault(name, _Group()).deliverables += 1
    if rates:
        for key in {(*key[:width], key[-1]) for key in keys}:
            client = _client(groups[key[:-1]], key, rates)
            if client is not None:
                client.deliverables += 1
        for last in {key[-1] for key in keys}:
            client = _client(whole, (last,), rates)
            if client is not None:
                client.deliverables += 1


def _total(key: Key, group: _Group, rates: Mapping[str, Rate], *, splits: bool) -> Total:
    return Total(
        key=tuple(None if value is None else str(value) for value in key),
        tally=group.tally,
        fallbacks=dict(sorted(group.fallbacks.items(), key=lambda one: (-one[1], one[0]))),
        deliverables=group.deliverables,
        margin=_margin(group, rates, splits=splits),
    )


def _margin(group: _Group, rates: Mapping[str, Rate], *, splits: bool) -> Yield | None:
    if not group.clients:
        return None
    earned = known = charged = 0
    for name, client in group.clients.items():
        rate = rates[name]
        if rate.per is RateUnit.DELIVERABLE and splits:
            return None
        units = {
            RateUnit.DELIVERABLE: client.deliverables,
            RateUnit.ROW: client.tally.rows,
            RateUnit.CALL: client.tally.answered,
        }
        earned += rate.pico * units[rate.per]
        known += client.tally.known_pico
        charged += client.tally.charged_pico
    return Yield(earned, known, charged)


def _sorted(by: tuple[str, ...], totals: list[Total]) -> list[Total]:
    """Days in their order; within them, and else, the dearest first."""
    totals.sort(key=lambda one: tuple(value or "" for value in one.key))
    totals.sort(key=lambda one: -one.tally.charged_pico)
    if "day" in by:
        place = by.index("day")
        totals.sort(key=lambda one: one.key[place] or "")
    return totals
