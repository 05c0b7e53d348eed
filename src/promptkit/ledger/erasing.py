"""Erase texts for good: variables and replies of calls are erased, their costs stay.

Tags, deliverables, keys of rows, digests and verdicts stay, because costs are summed by them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, Select, delete, func, or_, select, update

from promptkit.ledger import tables as t

from .calls import conditions
from .records import JobState, LogFilter, RowState

CHUNK = 500
"""Calls per transaction: few enough to let the calls of a running job in."""


_TEXTS = {"variables": None, "error": None, "flags": None, "verdict_note": None}


_UNSENT = "its texts were erased before it was sent"


@dataclass(frozen=True, slots=True)
class Erase:
    """The texts to erase.

    By `tags` (all of them) or `call_ids`: those calls (of a pack, the calls of its rows), their
    children, the cache hits with their replies, and the rows of jobs with these tags. By `before_us`:
    calls that ended before, except those of open jobs.
    """

    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    call_ids: tuple[int, ...] = ()
    before_us: int | None = None


@dataclass(frozen=True, slots=True)
class Erasable:
    """How much there is to erase: calls with texts, rows of jobs, and calls that are still open."""

    calls: int = 0
    rows: int = 0
    open_calls: int = 0

    @property
    def nothing(self) -> bool:
        """Return whether there is nothing to erase."""
        return self.calls == self.rows == 0


def erasable(connection: Connection, selection: Erase) -> Erasable:
    """Return how much would be erased."""
    calls = opened = 0
    for ids in call_ids(connection, selection):
        calls += len(ids)
        ended = select(func.count()).where(t.CALLS.c.id.in_(ids), t.CALLS.c.status.is_(None))
        opened += int(connection.execute(ended).scalar_one())
    clauses = _rows(selection)
    rows = 0 if clauses is None else connection.execute(select(func.count()).where(clauses)).scalar_one()
    return Erasable(calls, int(rows), opened)


def call_ids(connection: Connection, selection: Erase) -> Iterator[list[int]]:
    """Yield the calls whose texts to erase, in pages."""
    call, seen, after = t.CALLS.c, set[int](), 0
    descends = selection.before_us is None
    while True:
        query = select(call.id).where(call.id > after, *_calls(selection)).order_by(call.id).limit(CHUNK)
        page = list(connection.execute(query).scalars())
        if not page:
            return
        after = page[-1]
        while page:
            fresh = [call_id for call_id in page if call_id not in seen]
            if descends:  # only then can a call come twice
                seen.update(fresh)
            if fresh:
                yield fresh
            page = _children(connection, fresh) if descends and fresh else []


def _children(connection: Connection, ids: Sequence[int]) -> list[int]:
    """Return the children and the cache hits of these calls, and the carriers of their packs."""
    call = t.CALLS.c
    carriers = select(call.pack_id).where(call.id.in_(ids), call.pack_id.is_not(None))
    related: dict[int, None] = {}
    # One query each: each uses its own index.
    for relation in (call.parent_id.in_(ids), call.cached_from_id.in_(ids), call.id.in_(carriers)):
        query = select(call.id).where(relation, call.forgotten_us.is_(None))
        related.update(dict.fromkeys(connection.execute(query).scalars()))
    return list(related)


def _calls(selection: Erase) -> list[ColumnElement[bool]]:
    call = t.CALLS.c
    clauses = [call.forgotten_us.is_(None), *conditions(LogFilter(tags=selection.tags))]
    if selection.call_ids:
        clauses.append(or_(call.id.in_(selection.call_ids), call.pack_id.in_(selection.call_ids)))
    if selection.before_us is not None:
        clauses += [
            call.ended_us < selection.before_us,
            or_(call.job_id.is_(None), call.job_id.not_in(_open_jobs())),
        ]
    return clauses


def _rows(selection: Erase) -> ColumnElement[bool] | None:
    """Return the condition of the rows with texts to erase, with or without a call; None if there is none."""
    row = t.ROWS.c
    kept = or_(row.variables.is_not(None), row.passthrough.is_not(None))
    if selection.before_us is not None:
        return kept & (row.ended_us < selection.before_us) & row.job_id.not_in(_open_jobs())
    if not selection.tags:
        return None
    for name, value in selection.tags.items():
        tagged = select(t.TAGS.c.tagset_id).where(t.TAGS.c.name == name, t.TAGS.c.value == value)
        kept = kept & row.tagset_id.in_(tagged)
    return kept


def _open_jobs() -> Select[tuple[int]]:
    return select(t.JOBS.c.id).where(t.JOBS.c.state == JobState.OPEN.value)


def erase_calls(connection: Connection, ids: Sequence[int], now_us: int) -> int:
    """Erase the texts of some calls and of their rows; return how many."""
    call, row = t.CALLS.c, t.ROWS.c
    connection.execute(delete(t.REPLIES).where(t.REPLIES.c.call_id.in_(ids)))
    connection.execute(update(t.ATTEMPTS).where(t.ATTEMPTS.c.call_id.in_(ids)).values(detail=None))
    connection.execute(update(t.CALLS).where(call.id.in_(ids)).values(_TEXTS))
    ended = update(t.CALLS).where(call.id.in_(ids), call.status.is_not(None))
    connection.execute(ended.values(forgotten_us=now_us))
    rows = select(call.row_id).where(call.id.in_(ids), call.row_id.is_not(None))
    _erase_rows(connection, row.id.in_(rows))
    return len(ids)


def erase_rows(connection: Connection, selection: Erase) -> int:
    """Erase the texts of a chunk of rows; return how many, 0 if there are none left."""
    clauses = _rows(selection)
    if clauses is None:
        return 0
    ids = list(connection.execute(select(t.ROWS.c.id).where(clauses).limit(CHUNK)).scalars())
    if ids:
        _erase_rows(connection, t.ROWS.c.id.in_(ids))
    return len(ids)


def _erase_rows(connection: Connection, which: ColumnElement[bool]) -> None:
    """Erase the texts of rows. Their jobs read the input again; a pending row fails."""
    row = t.ROWS.c
    jobs = select(row.job_id).where(which)
    connection.execute(update(t.JOBS).where(t.JOBS.c.id.in_(jobs)).values(input_sha256=None))
    connection.execute(update(t.ROWS).where(which).values(variables=None, passthrough=None, error=None))
    pending = update(t.ROWS).where(which, row.state == RowState.PENDING.value)
    connection.execute(pending.values(state=RowState.FAILED.value, error=_UNSENT))


def rewrite(path: Path, timeout_s: float) -> bool:
    """Rewrite the database file without the erased texts, and empty its log, which has the old pages.

    Overwriting deleted texts isn't enough: SQLite leaves copies behind when it moves rows from page
    to page. The caller must keep writers away.

    Returns:
        Whether all old pages are gone: a reader may have kept them, or the disk is too full for a copy.
    """
    with closing(sqlite3.connect(path, timeout=timeout_s, isolation_level=None)) as connection:
        try:
            connection.execute("VACUUM")
        except sqlite3.OperationalError:
            return False
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return busy == 0
