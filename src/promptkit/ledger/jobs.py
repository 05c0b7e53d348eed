"""`Ledger.jobs`: jobs, the rows of their input, and the results of those rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    update,
)

from promptkit._util.locks import LockFile, LockFolder
from promptkit.errors import InputError
from promptkit.ledger import search
from promptkit.ledger import statements as sql
from promptkit.ledger import tables as t
from promptkit.types import AttemptState, Json, Target

from .calls import REJECTED, attempts_of, cached_targets
from .database import Reader
from .group import State, store_tagsets
from .reading import attempt_record, job_record, output_row, row_record, tags_of
from .records import (
    AttemptRecord,
    Ingested,
    InputRead,
    JobRecord,
    JobStart,
    JobState,
    JobSummary,
    Money,
    OutputRow,
    RowEnd,
    RowProblem,
    RowRecord,
    RowStart,
    RowState,
    TargetShare,
)
from .statements import TagIds, maybe_json, read_object, storable, to_json
from .writer import Writer

CHUNK = 500
"""Rows per transaction of an ingest: enough to be quick, few enough to let the calls of a running job in."""

PROBLEM_STATES = (RowState.FAILED, RowState.REFUSED, RowState.INVALID, RowState.DEGRADED)
"""States of rows that a person should look at."""

_ROWS_PER_PAGE = 500
_IDS_PER_PAGE = 2_000
_REPLIED = (AttemptState.OK.value, AttemptState.TRUNCATED.value)
_HAS_REPLY = (RowState.OK.value, RowState.TRUNCATED.value, RowState.DEGRADED.value)
_PRIME = 1_000_000_007
"""Ids of calls are added modulo this, which keeps their sum within 64 bits."""


class Jobs:
    """Jobs and their rows.

    The coroutines return when their records are on disk. The other methods are synchronous and see
    what was committed. The iterators read page by page: no transaction stays open between two pages.
    """

    def __init__(self, reader: Reader, writer: Writer, state: State, folder: LockFolder) -> None:
        self._reader = reader
        self._writer = writer
        self._state = state
        self._folder = folder

    # ------------------------------------------------------------------ write

    async def create_or_get(self, start: JobStart) -> JobRecord:
        """Return the job of that name; create it if there is none (then its id is `start.id`)."""
        return await self._writer.run(partial(create_or_get, start=start))

    async def discard(self, job_id: int) -> None:
        """Remove a job that this process created and locked, and that has sent nothing."""
        await self._writer.run(partial(_discard, job_id=job_id))

    async def ingest(
        self,
        job_id: int,
        rows: Iterable[RowStart],
        read: Callable[[], InputRead] = InputRead,
    ) -> Ingested:
        """Store the rows of the job's input, in chunks; the rows needn't fit in memory.

        Rows that the input no longer has are neither pending nor written out. Until `rows` ends,
        the job's `ingested_us` is None, and the next start reads the input again.

        Args:
            job_id: the job.
            rows: the rows of its input.
            read: called when `rows` has ended: only then are columns and digest known.

        Raises:
            InputError: two rows have the same key and ordinal.
        """
        number = await self._writer.run(partial(begin_ingest, job_id=job_id))
        total, source = Ingested(), iter(rows)
        while chunk := list(islice(source, CHUNK)):
            total += await self._writer.run(partial(ingest, job_id=job_id, number=number, rows=chunk))
        now_us = self._state.now_us()
        await self._writer.run(partial(end_ingest, job_id=job_id, now_us=now_us, read=read()))
        return total

    async def set_state(self, job_id: int, state: JobState, note: str | None = None) -> None:
        """Set the state of a job; one that isn't open gets its end time."""
        await self._writer.execute(
            update(t.JOBS)
            .where(t.JOBS.c.id == job_id)
            .values(
                state=state.value,
                ended_us=None if state is JobState.OPEN else self._state.now_us(),
                note=None if note is None else storable(note),
            )
        )

    async def cancel(self, job_id: int) -> bool:
        """Ask the process that runs the job to stop, and keep it stopped; return False if it isn't open."""
        cancelled = await self._writer.execute(
            update(t.JOBS)
            .where(t.JOBS.c.id == job_id, t.JOBS.c.state == JobState.OPEN.value)
            .values(state=JobState.CANCELLED.value, ended_us=self._state.now_us())
        )
        return bool(cancelled)

    async def update_run(self, job_id: int, options: Mapping[str, Json], output_path: str | None) -> None:
        """Store the options of the present run, for the process that continues the job."""
        await self._writer.run(partial(_update_run, job_id=job_id, options=options, output_path=output_path))

    async def mark_canary(self, row_ids: Sequence[int]) -> None:
        """Mark these rows as the canary of their job."""
        await self._writer.execute(update(t.ROWS).where(t.ROWS.c.id.in_(row_ids)).values(canary=1))

    async def reset_rows(self, job_id: int, states: Sequence[RowState]) -> int:
        """Make rows in these states pending (`--retry-failed`); return how many."""
        return await self._writer.execute(
            update(t.ROWS)
            .where(t.ROWS.c.job_id == job_id, t.ROWS.c.state.in_([state.value for state in states]))
            .values(state=RowState.PENDING.value, call_id=None, error=None, ended_us=None, unknowns=0)
        )

    async def end_row(self, row: RowEnd) -> None:
        """End a row that has no call."""
        await self._writer.run(partial(_end_row, row=row))

    async def erase_texts(
        self, job_id: int, *, replies_of: Sequence[int] = (), inputs_of: Sequence[int] = ()
    ) -> None:
        """Erase texts that the storage settings exclude, once a job no longer needs them.

        Args:
            job_id: the job.
            replies_of: rows whose replies to erase; at most some hundreds.
            inputs_of: rows whose variables and other columns to erase; the next start reads the input again.
        """
        await self._writer.run(
            partial(_erase_texts, job_id=job_id, replies_of=replies_of, inputs_of=inputs_of)
        )
        search.drop(self._reader.path)

    # ------------------------------------------------------------------ locks

    def lock(self, job: JobRecord) -> LockFile:
        """Lock a job for this process; a SIGKILL releases it.

        Raises:
            LockHeld: another process runs it.
        """
        self._writer.check_process()
        return self._folder.job(job.id, job.name)

    def runner(self, job: JobRecord) -> int | None:
        """Return the pid of the process that runs a job (0 if unknown); None if no process does."""
        return self._folder.job_runner(job.id)

    # ------------------------------------------------------------------ read jobs

    def get(self, name: str) -> JobRecord | None:
        """Return a job by its name."""
        row = self._reader.first(select(t.JOBS).where(t.JOBS.c.name == name))
        return None if row is None else job_record(row)

    def newest(self, limit: int = 100) -> tuple[JobRecord, ...]:
        """Return the newest jobs, newest first."""
        query = select(t.JOBS).order_by(t.JOBS.c.created_us.desc(), t.JOBS.c.id.desc()).limit(limit)
        return tuple(job_record(row) for row in self._reader.all(query))

    def names(self) -> tuple[str, ...]:
        """Return the names of all jobs, newest first."""
        query = select(t.JOBS.c.name).order_by(t.JOBS.c.created_us.desc(), t.JOBS.c.id.desc())
        return self._reader.scalars(query)

    def name(self, job_id: int) -> str:
        """Return the name of a job."""
        (name,) = self._reader.scalars(select(t.JOBS.c.name).where(t.JOBS.c.id == job_id))
        return name

    def state(self, job_id: int) -> JobState:
        """Return the state of a job: another process may have cancelled it."""
        (state,) = self._reader.scalars(select(t.JOBS.c.state).where(t.JOBS.c.id == job_id))
        return JobState(state)

    def redos(self, job_id: int) -> tuple[str, ...]:
        """Return the names of the jobs that redo rows of this one."""
        return self._reader.scalars(
            select(t.JOBS.c.name).where(t.JOBS.c.redo_of_id == job_id).order_by(t.JOBS.c.id)
        )

    def summaries(self, jobs: Sequence[JobRecord]) -> tuple[JobSummary, ...]:
        """Return rows and money of some jobs, in their order."""
        ids = [job.id for job in jobs]
        row, job = t.ROWS.c, t.JOBS.c
        counts = (
            select(row.job_id, row.state, func.count())
            .join(t.JOBS, (job.id == row.job_id) & (row.seen >= job.ingested))
            .where(row.job_id.in_(ids))
            .group_by(row.job_id, row.state)
        )
        sums = _sums(t.CALLS.c.job_id).where(t.CALLS.c.job_id.in_(ids)).group_by(t.CALLS.c.job_id)
        rows: dict[int, dict[RowState, int]] = {}
        with self._reader.connect() as connection:
            for job_id, state, count in connection.execute(counts):
                rows.setdefault(job_id, {})[RowState(state)] = count
            money = {row["job_id"]: _money(row) for row in connection.execute(sums).mappings()}
        return tuple(JobSummary(job, rows.get(job.id, {}), money.get(job.id, Money())) for job in jobs)

    def target_shares(self, job_id: int) -> tuple[TargetShare, ...]:
        """Return a job's targets with their replies and money, the target with most replies first."""
        attempt = t.ATTEMPTS.c
        replied = func.sum(case((attempt.state.in_(_REPLIED), 1), else_=0)).label("replied")
        query = (
            _sums(attempt.provider, attempt.model, replied)
            .where(t.CALLS.c.job_id == job_id)
            .group_by(attempt.provider, attempt.model)
            .order_by(replied.desc(), attempt.provider, attempt.model)
        )
        return tuple(
            TargetShare(Target(row["provider"], row["model"]), int(row["replied"]), _money(row))
            for row in self._reader.all(query)
        )

    def row_counts(self, job_id: int) -> Mapping[RowState, int]:
        """Return how many rows of the job's input are in each state; states without rows are left out."""
        return self._counts(*_current(job_id))

    def canary_counts(self, job_id: int) -> Mapping[RowState, int]:
        """Return how many canary rows of a job's input are in each state; empty if it has none."""
        return self._counts(*_current(job_id), t.ROWS.c.canary == 1)

    def _counts(self, *where: ColumnElement[bool]) -> Mapping[RowState, int]:
        query = select(t.ROWS.c.state, func.count().label("count")).where(*where).group_by(t.ROWS.c.state)
        return {RowState(row["state"]): row["count"] for row in self._reader.all(query)}

    def problems(self, job_id: int, limit: int = 20) -> tuple[RowProblem, ...]:
        """Return rows that failed, were refused, are invalid or degraded, in the input's order, and why."""
        row = t.ROWS.c
        query = (
            select(row.position, row.line, row.row_key, row.state, row.call_id, _why())
            .outerjoin(t.CALLS, t.CALLS.c.id == row.call_id)
            .where(*_current(job_id), row.state.in_([state.value for state in PROBLEM_STATES]))
            .order_by(row.position)
            .limit(limit)
        )
        with self._reader.connect() as connection:
            return tuple(
                RowProblem(position + 1, line, key, RowState(state), call_id, why)
                for position, line, key, state, call_id, why in connection.execute(query)
            )

    def failure_reasons(self, job_id: int, limit: int = 10) -> tuple[tuple[RowState, str | None, int], ...]:
        """Return why rows have a problem, the commonest reason first: state, reason, rows."""
        row, why = t.ROWS.c, _why()
        query = (
            select(row.state, why, func.count())
            .select_from(t.ROWS)
            .outerjoin(t.CALLS, t.CALLS.c.id == row.call_id)
            .where(*_current(job_id), row.state.in_([state.value for state in PROBLEM_STATES]))
            .group_by(row.state, why)
            .order_by(func.count().desc(), row.state, why)
            .limit(limit)
        )
        with self._reader.connect() as connection:
            return tuple(
                (RowState(state), reason, count) for state, reason, count in connection.execute(query)
            )

    def reply_counts(self, job_id: int) -> tuple[int, int]:
        """Return how many rows have a reply whose text is kept, and how many one whose text isn't."""
        query = (
            select(func.count(t.REPLIES.c.call_id), func.count())
            .select_from(t.ROWS.outerjoin(t.REPLIES, t.REPLIES.c.call_id == t.ROWS.c.call_id))
            .where(*_current(job_id), t.ROWS.c.state.in_(_HAS_REPLY))
        )
        with self._reader.connect() as connection:
            kept, rows = connection.execute(query).one()
        return kept, rows - kept

    def replies_digest(self, job_id: int) -> str:
        """Return a text that changes when the replies of a job's rows change; erasing texts changes nothing."""
        query = select(func.count(), func.sum(t.ROWS.c.call_id % _PRIME)).where(
            *_current(job_id), t.ROWS.c.state.in_(_HAS_REPLY)
        )
        with self._reader.connect() as connection:
            count, total = connection.execute(query).one()
        return f"{count}:{total or 0}"

    def erased_row_count(self, job_id: int, states: Sequence[RowState]) -> int:
        """Return how many rows in these states no longer have their variables."""
        row = t.ROWS.c
        query = select(func.count()).where(
            *_current(job_id), row.state.in_([state.value for state in states]), row.variables.is_(None)
        )
        (count,) = self._reader.scalars(query)
        return count

    # ------------------------------------------------------------------ read rows

    def has_pending_rows(self, job_id: int) -> bool:
        """Return whether a job has rows to send."""
        return bool(self._reader.scalars(select(t.ROWS.c.id).where(*_pending(job_id)).limit(1)))

    def pending_rows(self, job_id: int) -> Iterator[RowRecord]:
        """Yield the rows to send, by position."""
        query = _rows_with_tags().where(*_pending(job_id))
        for page in self._pages(query, t.ROWS.c.position, _ROWS_PER_PAGE):
            yield from map(row_record, page)

    def pending_ids(self, job_id: int) -> Iterator[int]:
        """Yield the ids of the rows to send, by position."""
        query = select(t.ROWS.c.position, t.ROWS.c.id).where(*_pending(job_id))
        for page in self._pages(query, t.ROWS.c.position, _IDS_PER_PAGE):
            yield from (row["id"] for row in page)

    def output_rows(self, job_id: int) -> Iterator[OutputRow]:
        """Yield the rows of the input with their results, by position."""
        query = (
            _rows_with_tags(
                t.CALLS.c.status,
                t.CALLS.c.finish,
                t.CALLS.c.flags,
                t.CALLS.c.cached_from_id,
                t.CALLS.c.template_ref,
                t.REPLIES.c.text,
            )
            .outerjoin(t.CALLS, t.CALLS.c.id == t.ROWS.c.call_id)
            .outerjoin(t.REPLIES, t.REPLIES.c.call_id == t.ROWS.c.call_id)
            .where(*_current(job_id))
        )
        for page in self._pages(query, t.ROWS.c.position, _ROWS_PER_PAGE):
            by_row: dict[int, list[AttemptRecord]] = {}
            with self._reader.connect() as connection:
                ids = {"ids": [row["id"] for row in page]}
                for attempt in connection.execute(_ATTEMPTS_OF_ROWS, ids).mappings():
                    by_row.setdefault(attempt["row_id"], []).append(attempt_record(attempt))
                cached = cached_targets(connection, (row["cached_from_id"] for row in page))
            for row in page:
                yield output_row(row, by_row.get(row["id"], []), cached.get(row["cached_from_id"]))

    def finished_rows(
        self,
        job_id: int,
        template_ref: str | None,
        states: Sequence[RowState] = (),
        *,
        rejected: bool = False,
    ) -> Iterator[RowRecord]:
        """Yield the rows of a job's input that have a result, by position.

        Args:
            job_id: the job.
            template_ref: only results of this version, like `ugc/script@7`; a row without a call
                counts as the job's version.
            states: only rows in these states.
            rejected: only rows whose reply was rejected.
        """
        row, call = t.ROWS.c, t.CALLS.c
        ended = [state.value for state in states or RowState if state is not RowState.PENDING]
        where = [*_current(job_id), row.state.in_(ended)]
        if template_ref is not None:
            job_ref = select(t.JOBS.c.template_ref).where(t.JOBS.c.id == job_id).scalar_subquery()
            where.append(func.coalesce(call.template_ref, job_ref) == template_ref)
        if rejected:
            where.append(call.verdict == REJECTED)
        query = _rows_with_tags().outerjoin(t.CALLS, call.id == row.call_id).where(*where)
        for page in self._pages(query, row.position, _IDS_PER_PAGE):
            yield from map(row_record, page)

    def row_keys(self, job_id: int) -> Iterator[tuple[int, str, int]]:
        """Yield id, key and ordinal of every row of a job's input that can be sent, by position."""
        row = t.ROWS.c
        query = select(row.position, row.id, row.row_key, row.ordinal).where(
            *_current(job_id), row.state != RowState.INVALID.value
        )
        for page in self._pages(query, row.position, _IDS_PER_PAGE):
            yield from ((row["id"], row["row_key"], row["ordinal"]) for row in page)

    def row_tags(self, job_id: int) -> Iterator[tuple[int, Mapping[str, str]]]:
        """Yield the id and the tags of every row that a job ever had, by id."""
        query = (
            select(t.ROWS.c.id, t.TAGSETS.c.tags)
            .outerjoin(t.TAGSETS, t.TAGSETS.c.id == t.ROWS.c.tagset_id)
            .where(t.ROWS.c.job_id == job_id)
        )
        for page in self._pages(query, t.ROWS.c.id, _ROWS_PER_PAGE):
            yield from ((row["id"], tags_of(row["tags"])) for row in page)

    def _pages(
        self, query: Select[*tuple[Any, ...]], order: ColumnElement[int], limit: int
    ) -> Iterator[Sequence[RowMapping]]:
        """Yield the pages of a query in the order of a column that it selects, each in a transaction of its own."""
        query = query.where(order > bindparam("after")).order_by(order).limit(limit)
        after = -1
        while page := self._reader.all(query, {"after": after}):
            yield page
            after = page[-1][order]

    def ended_keys(
        self, job_id: int, keys: Sequence[str], redo: Sequence[RowState] = ()
    ) -> frozenset[tuple[str, str]]:
        """Return key and content of the rows that have a result, among those with these keys.

        Args:
            job_id: the job.
            keys: at most some hundreds.
            redo: states whose rows count as pending.
        """
        pending = [state.value for state in (RowState.PENDING, RowState.INVALID, *redo)]
        asked = {"job": job_id, "keys": [storable(key) for key in keys], "pending": pending}
        return frozenset((row["row_key"], row["content"]) for row in self._reader.all(_ENDED_KEYS, asked))


_ENDED_KEYS = select(t.ROWS.c.row_key, t.ROWS.c.content).where(
    t.ROWS.c.job_id == bindparam("job"),
    t.ROWS.c.row_key.in_(bindparam("keys", expanding=True)),
    t.ROWS.c.state.not_in(bindparam("pending", expanding=True)),
)


_ATTEMPTS_OF_ROWS = attempts_of(t.CALLS.c.row_id)


def _current(job_id: int) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of the rows of a job's input: those of the last reading that came to its end, or later."""
    ingested = select(t.JOBS.c.ingested).where(t.JOBS.c.id == job_id).scalar_subquery()
    return t.ROWS.c.job_id == job_id, t.ROWS.c.seen >= ingested


def _pending(job_id: int) -> tuple[ColumnElement[bool], ...]:
    return *_current(job_id), t.ROWS.c.state == RowState.PENDING.value


def _rows_with_tags(*more: Any) -> Select[Any]:
    """Return the query of what `row_record` reads, and of more columns."""
    return select(t.ROWS, t.TAGSETS.c.tags, *more).outerjoin(t.TAGSETS, t.TAGSETS.c.id == t.ROWS.c.tagset_id)


def _why() -> ColumnElement[str | None]:
    return func.coalesce(t.ROWS.c.error, t.CALLS.c.error)


def _sums(*columns: ColumnElement[Any]) -> Select[Any]:
    """Return the query of these columns and of what `_money` reads, over attempts that have ended."""
    attempt = t.ATTEMPTS.c
    return (
        select(
            *columns,
            func.sum(attempt.cost_pico).label("known"),
            func.sum(attempt.charged_pico).label("charged"),
            (func.count() - func.count(attempt.cost_pico)).label("unknown"),
            func.count().label("attempts"),
        )
        .select_from(t.ATTEMPTS.join(t.CALLS, t.CALLS.c.id == attempt.call_id))
        .where(attempt.state != AttemptState.OPEN.value)
    )


def _money(sums: Mapping[Any, Any]) -> Money:
    return Money(int(sums["known"] or 0), int(sums["charged"] or 0), sums["unknown"], sums["attempts"])


# ---------------------------------------------------------------------- transactions
def create_or_get(connection: Connection, start: JobStart) -> JobRecord:
    """Return the job of that name; create it, pinned to `start`, if there is none."""
    job = connection.execute(select(t.JOBS).where(t.JOBS.c.name == start.name)).mappings().first()
    if job is None:
        connection.execute(insert(t.JOBS), _job_columns(start))
        job = connection.execute(select(t.JOBS).where(t.JOBS.c.id == start.id)).mappings().one()
    return job_record(job)


def _discard(connection: Connection, job_id: int) -> None:
    connection.execute(delete(t.ROWS).where(t.ROWS.c.job_id == job_id))
    connection.execute(delete(t.JOBS).where(t.JOBS.c.id == job_id))


def _job_columns(start: JobStart) -> dict[str, object]:
    return {
        "id": start.id,
        "name": start.name,
        "state": JobState.OPEN.value,
        "template_digest": start.template_digest,
        "template_ref": start.template_ref,
        "route": start.route,
        "params": to_json(start.params),
        "output_schema": maybe_json(start.schema),
        "options": to_json(start.options),
        "key_column": start.key_column,
        "columns": to_json(start.columns),
        "input_path": start.input_path,
        "output_path": start.output_path,
        "ingest": 0,
        "redo_of_id": start.redo_of_id,
        "created_us": start.created_us,
    }


def _update_run(
    connection: Connection, job_id: int, options: Mapping[str, Json], output_path: str | None
) -> None:
    old = connection.execute(select(t.JOBS.c.options).where(t.JOBS.c.id == job_id)).scalar_one()
    new = to_json({**read_object(old), **options})
    connection.execute(
        update(t.JOBS).where(t.JOBS.c.id == job_id).values(options=new, output_path=output_path)
    )


def _end_row(connection: Connection, row: RowEnd) -> None:
    sql.update_rows(connection, [sql.row_end(row)])


def _erase_texts(
    connection: Connection, job_id: int, *, replies_of: Sequence[int], inputs_of: Sequence[int]
) -> None:
    calls = select(t.CALLS.c.id).where(t.CALLS.c.row_id.in_(replies_of))
    connection.execute(delete(t.REPLIES).where(t.REPLIES.c.call_id.in_(calls)))
    connection.execute(
        update(t.ROWS).where(t.ROWS.c.id.in_(inputs_of)).values(variables=None, passthrough=None)
    )
    if inputs_of:  # without its digest the next start reads the input again
        connection.execute(update(t.JOBS).where(t.JOBS.c.id == job_id).values(input_sha256=None))


def begin_ingest(connection: Connection, job_id: int) -> int:
    """Start a reading of the input; return its number."""
    number = t.JOBS.c.ingest
    connection.execute(
        update(t.JOBS)
        .where(t.JOBS.c.id == job_id)
        .values(ingest=number + 1, ingested_us=None, input_sha256=None)
    )
    return int(connection.execute(select(number).where(t.JOBS.c.id == job_id)).scalar_one())


def end_ingest(connection: Connection, job_id: int, now_us: int, read: InputRead) -> None:
    """Record that the input was read to its end."""
    values: dict[str, object] = {
        "ingested": t.JOBS.c.ingest,
        "ingested_us": now_us,
        "input_sha256": read.sha256,
    }
    if read.columns is not None:
        values["columns"] = to_json(read.columns)
    connection.execute(update(t.JOBS).where(t.JOBS.c.id == job_id).values(values))


def ingest(connection: Connection, job_id: int, number: int, rows: Sequence[RowStart]) -> Ingested:
    """Store a chunk of rows: a known row only gets its position, new content is a new generation.

    Content that the key had in an earlier generation is that generation: it may be paid already.

    Raises:
        InputError: two rows of this reading have the same key and ordinal.
    """
    rows = _with_parents(connection, rows)
    known = _known(connection, job_id, {row.key for row in rows})
    tag_ids, tagsets = TagIds(), dict[int, str]()
    added: list[sql.Row] = []
    placed: list[sql.Row] = []
    new = changed = invalid = 0
    for row in rows:
        before = known.setdefault((storable(row.key), row.ordinal), _Key())
        if before.seen == number:
            raise InputError(f"row {row.line or row.position + 1}: the key {row.key!r} appears twice")
        before.seen = number
        invalid += row.error is not None
        columns: dict[str, sql.Column] = {
            "position": row.position,
            "line": row.line,
            "seen": number,
            "variables": maybe_json(row.variables),
            "passthrough": maybe_json(row.passthrough),
            "tagset_id": _tagset(tag_ids, tagsets, row),
            "deliverable": row.deliverable,
            "parent_call_id": row.parent_call_id,
        }
        row_id = before.rows.get(row.content)
        if row_id is not None:
            placed.append({**columns, "key": row_id})
        else:
            new, changed = new + (not before.rows), changed + bool(before.rows)
            added.append(columns | _new_row(job_id, row, before.generations))
    store_tagsets(connection, tagsets)
    sql.insert_rows(connection, added)
    sql.update_positions(connection, placed)
    return Ingested(new, len(placed), changed, invalid)


def _with_parents(connection: Connection, rows: Sequence[RowStart]) -> Sequence[RowStart]:
    """Return the rows with the parents that exist, and with their deliverables if a row has none."""
    parent_ids = {row.parent_call_id for row in rows if row.parent_call_id is not None}
    if not parent_ids:
        return rows
    stored = connection.execute(_PARENTS, {"ids": sorted(parent_ids)})
    parents: dict[int | None, str | None] = {parent.id: parent.deliverable for parent in stored}
    return [
        replace(row, deliverable=row.deliverable or parents[row.parent_call_id])
        if row.parent_call_id in parents
        else replace(row, parent_call_id=None)
        for row in rows
    ]


_PARENTS = select(t.CALLS.c.id, t.CALLS.c.deliverable).where(
    t.CALLS.c.id.in_(bindparam("ids", expanding=True))
)


@dataclass(slots=True)
class _Key:
    """The known rows of a key and ordinal, by content, and the last reading that had the key."""

    rows: dict[str, int] = field(default_factory=dict[str, int])
    generations: int = 0
    seen: int = 0


_KNOWN = select(
    t.ROWS.c.row_key, t.ROWS.c.ordinal, t.ROWS.c.id, t.ROWS.c.generation, t.ROWS.c.content, t.ROWS.c.seen
).where(t.ROWS.c.job_id == bindparam("job"), t.ROWS.c.row_key.in_(bindparam("keys", expanding=True)))
"""Built once: a statement is a cycle of objects; one per chunk would keep its keys until the next collection."""


def _known(connection: Connection, job_id: int, keys: Collection[str]) -> dict[tuple[str, int], _Key]:
    rows = connection.execute(_KNOWN, {"job": job_id, "keys": sorted(storable(key) for key in keys)})
    known: dict[tuple[str, int], _Key] = {}
    for key, ordinal, row_id, generation, content, seen in rows:
        entry = known.setdefault((key, ordinal), _Key())
        entry.rows[content] = row_id
        entry.generations = max(entry.generations, generation + 1)
        entry.seen = max(entry.seen, seen)
    return known


def _tagset(tag_ids: TagIds, tagsets: dict[int, str], row: RowStart) -> int | None:
    if not row.tags:
        return None
    number, text = tag_ids(row.tags)
    if text is not None:
        tagsets[number] = text
        tag_ids.remember({number: text})
    return number


def _new_row(job_id: int, row: RowStart, generation: int) -> dict[str, sql.Column]:
    """Return the columns that a row keeps from its first reading."""
    return {
        "id": row.id,
        "job_id": job_id,
        "row_key": storable(row.key),
        "ordinal": row.ordinal,
        "generation": generation,
        "content": row.content,
        "state": (RowState.PENDING if row.error is None else RowState.INVALID).value,
        "redo_of_id": row.redo_of_id,
        "canary": int(row.canary),
        "unknowns": 0,
        "error": None if row.error is None else storable(row.error),
    }
