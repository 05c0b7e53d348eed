"""What a job asks of its rows while it runs and when it writes them out: pages by position.

Its statements are made once. SQLAlchemy's are cycles of objects, and one a page would stay, with
what it was given, until the collector comes by: over a million rows that is 60 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Engine, Select, bindparam, func, select
from sqlalchemy.exc import DBAPIError

from promptkit.types import Finish, Status, Target

from . import served
from . import tables as t
from .answers import AttemptRecord, OutputRow, RowRecord
from .connect import explain
from .encoding import storable
from .filters import carrier
from .jobs import job_record
from .reading import attempt_record, flags_of, maybe, money, row_record, tags_of, target_of
from .records import JobRecord, RowState

_ANSWERED: Final = [state.value for state in (RowState.OK, RowState.TRUNCATED, RowState.DEGRADED)]

_PRIME: Final = 1_000_000_007
"""Ids of calls are added modulo it, so that no sum of them leaves 64 bits."""


def current(job_id: int | ColumnElement[int]) -> tuple[ColumnElement[bool], ...]:
    """Rows that the last whole reading of the input held, and what one that broke off has met since."""
    latest = select(t.JOBS.c.ingested).where(t.JOBS.c.id == job_id).scalar_subquery()
    return t.ROWS.c.job_id == job_id, t.ROWS.c.seen >= latest


def attempts_of(column: ColumnElement[int]) -> Select[Any]:
    """The attempts of those whose id in that column is one of `ids`, in the order they were made.

    A row in a pack has those of the call that carried it, to the part that is its own.
    """
    call = t.CALLS.c
    return (
        select(
            t.ATTEMPTS,
            call.row_id,
            call.id.label("of_call"),
            call.share_begin,
            call.share_end,
            t.PRICE_SOURCES.c.source,
        )
        .select_from(t.CALLS)
        .join(t.ATTEMPTS, t.ATTEMPTS.c.call_id == carrier())
        .outerjoin(t.PRICE_SOURCES, t.PRICE_SOURCES.c.id == t.ATTEMPTS.c.price_source_id)
        .where(column.in_(bindparam("ids", expanding=True)))
        .order_by(t.ATTEMPTS.c.id)
    )


def _page(rows: Select[Any], *conditions: ColumnElement[bool]) -> Select[Any]:
    """Rows of the input of `job` behind the position `after`, `limit` of them."""
    where = (*current(bindparam("job")), t.ROWS.c.position > bindparam("after"), *conditions)
    return rows.where(*where).order_by(t.ROWS.c.position).limit(bindparam("limit"))


def rows_and_tags(*more: Any) -> Select[Any]:
    """What `row_record` reads, and more columns."""
    return select(t.ROWS, t.TAGSETS.c.tags, *more).outerjoin(t.TAGSETS, t.TAGSETS.c.id == t.ROWS.c.tagset_id)


_PENDING: Final = _page(rows_and_tags(), t.ROWS.c.state == RowState.PENDING.value)
_OUTPUT: Final = _page(
    rows_and_tags(
        t.CALLS.c.status,
        t.CALLS.c.finish,
        t.CALLS.c.flags,
        t.CALLS.c.cached_from_id,
        t.CALLS.c.template_ref,
        t.REPLIES.c.text,
    )
    .outerjoin(t.CALLS, t.CALLS.c.id == t.ROWS.c.call_id)
    .outerjoin(t.REPLIES, t.REPLIES.c.call_id == t.ROWS.c.call_id)
)
_OF_ROWS: Final = attempts_of(t.CALLS.c.row_id)
_TAGS: Final = (
    select(t.ROWS.c.id, t.TAGSETS.c.tags)
    .outerjoin(t.TAGSETS, t.TAGSETS.c.id == t.ROWS.c.tagset_id)
    .where(t.ROWS.c.job_id == bindparam("job"), t.ROWS.c.id > bindparam("after"))
    .order_by(t.ROWS.c.id)
    .limit(bindparam("limit"))
)
_ENDED: Final = select(t.ROWS.c.row_key, t.ROWS.c.content).where(
    t.ROWS.c.job_id == bindparam("job"),
    t.ROWS.c.row_key.in_(bindparam("keys", expanding=True)),
    t.ROWS.c.state.not_in(bindparam("open", expanding=True)),
)


class RowPages:
    """The questions about jobs and their rows. Synchronous: some milliseconds a page."""

    def __init__(self, engine: Engine, path: Path, check_process: Callable[[], None]) -> None:
        self._engine = engine
        self._path = path
        self._check = check_process

    @contextmanager
    def _read(self) -> Generator[Connection, None, None]:
        self._check()
        try:
            with self._engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise explain(error, self._path) from error

    def job(self, name: str) -> JobRecord | None:
        """A job by its name."""
        with self._read() as connection:
            row = connection.execute(select(t.JOBS).where(t.JOBS.c.name == name)).mappings().first()
        return None if row is None else job_record(row)

    def jobs(self, limit: int = 100) -> tuple[JobRecord, ...]:
        """The newest jobs, newest first."""
        query = select(t.JOBS).order_by(t.JOBS.c.created_us.desc(), t.JOBS.c.id.desc()).limit(limit)
        with self._read() as connection:
            return tuple(job_record(row) for row in connection.execute(query).mappings())

    def row_counts(self, job_id: int) -> Mapping[RowState, int]:
        """How many rows of the job's input are in each state; states without rows are left out."""
        query = select(t.ROWS.c.state, func.count()).where(*current(job_id)).group_by(t.ROWS.c.state)
        with self._read() as connection:
            return {RowState(state): count for state, count in connection.execute(query)}

    def pending_rows(self, job_id: int, after: int = -1, limit: int = 500) -> tuple[RowRecord, ...]:
        """The next rows to send, by position; `after` is the position of the last one seen."""
        with self._read() as connection:
            found = connection.execute(_PENDING, {"job": job_id, "after": after, "limit": limit})
            return tuple(row_record(row) for row in found.mappings())

    def ended_rows(
        self, job_id: int, keys: Sequence[str], again: Sequence[RowState] = ()
    ) -> frozenset[tuple[str, str]]:
        """Which rows of a job are done, as key and content, among those with these keys.

        Args:
            job_id: the job.
            keys: at most some hundreds.
            again: states that are to be done again.
        """
        open_ = [state.value for state in (RowState.PENDING, RowState.INVALID, *again)]
        asked = {"job": job_id, "keys": [storable(key) for key in keys], "open": open_}
        with self._read() as connection:
            return frozenset((key, content) for key, content in connection.execute(_ENDED, asked))

    def rows_in_order(self, job_id: int, after: int = -1, limit: int = 500) -> tuple[OutputRow, ...]:
        """The next rows of the input, in its order, with what became of them."""
        with self._read() as connection:
            found = connection.execute(_OUTPUT, {"job": job_id, "after": after, "limit": limit})
            rows = found.mappings().all()
            attempts = connection.execute(_OF_ROWS, {"ids": [row["id"] for row in rows]}).mappings().all()
            origins = served.targets(connection, (row["cached_from_id"] for row in rows))
        by_row: dict[int, list[AttemptRecord]] = {}
        for attempt in attempts:
            by_row.setdefault(attempt["row_id"], []).append(attempt_record(attempt))
        return tuple(
            _output_row(row, by_row.get(row["id"], []), origins.get(row["cached_from_id"])) for row in rows
        )

    def row_tags(
        self, job_id: int, after: int = 0, limit: int = 500
    ) -> tuple[tuple[int, Mapping[str, str]], ...]:
        """All rows that a job ever had, by id, each with its tags; `after` is the last id seen."""
        with self._read() as connection:
            found = connection.execute(_TAGS, {"job": job_id, "after": after, "limit": limit})
            return tuple((row_id, tags_of(tags)) for row_id, tags in found)

    def texts(self, job_id: int) -> tuple[int, int]:
        """Of the rows of a job's input that were answered: how many replies are kept, how many aren't."""
        query = (
            select(func.count(t.REPLIES.c.call_id), func.count())
            .select_from(t.ROWS.outerjoin(t.REPLIES, t.REPLIES.c.call_id == t.ROWS.c.call_id))
            .where(*current(job_id), t.ROWS.c.state.in_(_ANSWERED))
        )
        with self._read() as connection:
            kept, rows = connection.execute(query).one()
        return kept, rows - kept

    def answers(self, job_id: int) -> str:
        """What tells the answers that a job's rows have now from those that they had; erased texts don't matter."""
        called = t.ROWS.c.call_id
        query = select(func.count(), func.sum(called % _PRIME)).where(
            *current(job_id), t.ROWS.c.state.in_(_ANSWERED)
        )
        with self._read() as connection:
            count, total = connection.execute(query).one()
        return f"{count}:{total or 0}"


def _output_row(
    row: Mapping[Any, Any], attempts: Sequence[AttemptRecord], origin: Target | None
) -> OutputRow:
    mine = [attempt for attempt in attempts if attempt.call_id == row["call_id"]]
    usage = mine[-1].usage if mine else None
    return OutputRow(
        row=row_record(row),
        status=maybe(Status, row["status"]),
        text=row["text"],
        error=row["error"],
        finish=maybe(Finish, row["finish"]),
        flags=flags_of(row["flags"]),
        template_ref=row["template_ref"],
        target=target_of(mine) or origin,
        input_tokens=None if usage is None else usage.input_tokens,
        output_tokens=None if usage is None else usage.output_tokens,
        money=money(attempts),
    )
