"""The questions of a report: the database adds up, only sums come out.

A call belongs to the target of its last attempt, an attempt to its own; each to the day on which it
itself began. So every call and every attempt is in one group, and groups add up to the whole. A request
that carried a pack is counted by the calls of its rows, to the part that each has in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Label,
    Select,
    and_,
    case,
    exists,
    func,
    literal,
    select,
)

from promptkit.batch.shares import PARTS
from promptkit.types import AttemptState, Status

from . import tables as t
from .answers import LogFilter
from .filters import carrier, conditions
from .tallies import FIELDS, Key, SumOf, Tally

_ANSWERED: Final = (Status.OK.value, Status.TRUNCATED.value, Status.DEGRADED.value)
_YIELDED: Final = (AttemptState.OK.value, AttemptState.TRUNCATED.value)
_CALL: Final = t.CALLS.c
_ATTEMPT: Final = t.ATTEMPTS.c


class Sums:
    """A report's questions over one connection: all see the same state of the books."""

    def __init__(self, connection: Connection, what: SumOf) -> None:
        self._connection = connection
        self._what = what

    def by_slots(self, slot_us: int) -> Sums:
        """The same questions, with days told as slots of that length."""
        return Sums(self._connection, replace(self._what, slot_us=slot_us))

    def span(self) -> tuple[int, int] | None:
        """When the first and the last of the calls and attempts began; None where there are none."""
        found: list[int] = []
        for column in (_CALL.started_us, _ATTEMPT.started_us):
            query = select(func.min(column), func.max(column)).where(*self._within(column))
            found += [us for us in self._connection.execute(query).one() if us is not None]
        return (min(found), max(found)) if found else None

    def tallies(self) -> Iterator[tuple[Key, Tally]]:
        """The sums, in parts: a key may come several times."""
        yield from self._sum(self._of_attempts(_spending()), _spending())
        yield from self._sum(self._of_calls(_counting()), _counting())

    def fallbacks(self) -> Iterator[tuple[Key, str, int]]:
        """Which faults sent calls on to another target, and how often, by the target that failed."""
        later = t.ATTEMPTS.alias()
        went_on = exists(
            select(later.c.id).where(
                later.c.call_id == _ATTEMPT.call_id,
                later.c.number == _ATTEMPT.number + 1,
                later.c.hop > _ATTEMPT.hop,
            )
        )
        count = [func.sum(_part(literal(1))).label("count")]
        query = (
            self._of_attempts(count)
            .add_columns(_ATTEMPT.fault)
            .where(_ATTEMPT.fault.is_not(None), went_on)
            .group_by(_ATTEMPT.fault)
        )
        width = len(self._what.by)
        for row in self._connection.execute(query):
            if row[-2]:
                yield tuple(row[:width]), row[-1], int(row[-2])

    def deliverables(self) -> Iterator[tuple[str, Key]]:
        """Each deliverable that was answered, with a key of the calls for it; those of one come together."""
        query = (
            self._of_calls([_CALL.deliverable.label("name")], grouped=False)
            .where(_CALL.deliverable.is_not(None), _CALL.status.in_(_ANSWERED))
            .distinct()
            .order_by(_CALL.deliverable)
        )
        for row in self._connection.execute(query):
            yield row[-1], tuple(row[:-1])

    # ---------------------------------------------------------------------- pieces

    def _sum(self, query: Select[Any], columns: list[Label[Any]]) -> Iterator[tuple[Key, Tally]]:
        names = [column.name for column in columns]
        width = len(self._what.by)
        for row in self._connection.execute(query):
            sums = dict(zip(names, (int(value or 0) for value in row[width:]), strict=True))
            yield tuple(row[:width]), Tally(**sums)

    def _of_attempts(self, columns: list[Label[Any]]) -> Select[Any]:
        target = _ATTEMPT.provider + "/" + _ATTEMPT.model
        joined = t.CALLS.join(t.ATTEMPTS, _ATTEMPT.call_id == carrier())
        keys, joined = self._keys(target, _ATTEMPT.started_us, joined)
        return self._grouped(keys, columns, joined, self._within(_ATTEMPT.started_us))

    def _of_calls(self, columns: list[Label[Any]], *, grouped: bool = True) -> Select[Any]:
        last = (
            select(_ATTEMPT.provider + "/" + _ATTEMPT.model)
            .where(_ATTEMPT.call_id == carrier())
            .order_by(_ATTEMPT.id.desc())
            .limit(1)
            .scalar_subquery()
        )
        start: FromClause = t.CALLS
        if grouped:
            start = start.outerjoin(t.ROWS, and_(t.ROWS.c.id == _CALL.row_id, t.ROWS.c.call_id == _CALL.id))
        keys, joined = self._keys(last, _CALL.started_us, start)
        return self._grouped(keys, columns, joined, self._within(_CALL.started_us), grouped=grouped)

    def _grouped(
        self,
        keys: list[Label[Any]],
        columns: list[Label[Any]],
        joined: FromClause,
        within: list[ColumnElement[bool]],
        *,
        grouped: bool = True,
    ) -> Select[Any]:
        what = self._what
        asked = LogFilter(tags=what.tags, template=what.template, job=what.job)
        query = (
            select(*keys, *columns)
            .select_from(joined)
            .where(_CALL.pack_items.is_(None), *within, *conditions(asked))
        )
        return query.group_by(*keys) if grouped and keys else query

    def _keys(
        self, target: ColumnElement[Any], began: ColumnElement[int], start: FromClause
    ) -> tuple[list[Label[Any]], FromClause]:
        """The columns to group by, and what must be joined for them."""
        keys: list[Label[Any]] = []
        for place, name in enumerate(self._what.by):
            match name:
                case "template":
                    column: ColumnElement[Any] = _CALL.template_ref
                case "target":
                    column = target
                case "deliverable":
                    column = _CALL.deliverable
                case "day":
                    column = began // self._what.slot_us
                case "job":
                    start = start.outerjoin(t.JOBS, t.JOBS.c.id == _CALL.job_id)
                    column = t.JOBS.c.name
                case tag:
                    tags = t.TAGS.alias(f"tag_{place}")
                    start = start.outerjoin(
                        tags, and_(tags.c.tagset_id == _CALL.tagset_id, tags.c.name == tag)
                    )
                    column = tags.c.value
            keys.append(column.label(f"key_{place}"))
        return keys, start

    def _within(self, began: ColumnElement[int]) -> list[ColumnElement[bool]]:
        since, until = self._what.since_us, self._what.until_us
        return [
            *([] if since is None else [began >= since]),
            *([] if until is None else [began < until]),
        ]


def _spending() -> list[Label[Any]]:
    """What is summed over attempts, under the names of `Tally`."""
    later = t.ATTEMPTS.alias()
    superseded = exists(
        select(later.c.id).where(later.c.call_id == _ATTEMPT.call_id, later.c.id > _ATTEMPT.id)
    )
    failed = _CALL.status.is_not(None) & _CALL.status.not_in(_ANSWERED)
    lost = (
        (_ATTEMPT.state.not_in(_YIELDED) & (_ATTEMPT.state != AttemptState.OPEN.value)) | failed | superseded
    )
    named = _CALL.deliverable.is_not(None)
    unknown = _ATTEMPT.cost_pico.is_(None)
    columns = {
        "attempts": func.sum(_part(literal(1))),
        "unknown": _sum_if(unknown, literal(1)),
        "known_pico": func.sum(_part(_ATTEMPT.cost_pico)),
        "charged_pico": func.sum(_part(_ATTEMPT.charged_pico)),
        "lost_attempts": _sum_if(lost, literal(1)),
        "lost_unknown": _sum_if(lost & unknown, literal(1)),
        "lost_known_pico": _sum_if(lost, _ATTEMPT.cost_pico),
        "lost_charged_pico": _sum_if(lost, _ATTEMPT.charged_pico),
        "named_known_pico": _sum_if(named, _ATTEMPT.cost_pico),
        "named_charged_pico": _sum_if(named, _ATTEMPT.charged_pico),
        "cache_saved_pico": func.sum(_part(_ATTEMPT.cache_saved_pico)),
        **{name: func.sum(_part(_ATTEMPT[name])) for name in FIELDS if name.endswith("_tokens")},
    }
    return [column.label(name) for name, column in columns.items()]


def _counting() -> list[Label[Any]]:
    """What is counted over calls, under the names of `Tally`."""
    columns = {
        "calls": func.count(),
        "ended": func.count(_CALL.status),
        "answered": _count(_CALL.status.in_(_ANSWERED)),
        "reply_saved_pico": func.sum(_CALL.saved_pico),
        "rows": func.count(t.ROWS.c.id),
        "accepted": _count(_CALL.verdict == "accept"),
        "rejected": _count(_CALL.verdict == "reject"),
    }
    return [column.label(name) for name, column in columns.items()]


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count(case((condition, 1)))


def _sum_if(condition: ColumnElement[bool], amount: ColumnElement[int]) -> ColumnElement[int]:
    return func.sum(case((condition, _part(amount))))


def _part(amount: ColumnElement[int]) -> ColumnElement[int]:
    """Of an attempt's amount, what the call has in it: all, but for a row in a pack (see `batch.shares`)."""
    end, begin = _CALL.share_end, _CALL.share_begin
    return case((end.is_(None), amount), else_=amount * end // PARTS - amount * begin // PARTS)
