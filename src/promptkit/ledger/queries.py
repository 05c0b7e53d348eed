"""What the faces ask: pages of calls and rows, sums of money, single things in full.

Each question is a short read transaction of its own; long lists are paged by key, so that no
transaction stays open over an export (it would keep the WAL file from being reset).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Engine, Select, func, select
from sqlalchemy.exc import DBAPIError

from promptkit.batch.past import Seen
from promptkit.templates import StoredSource
from promptkit.types import Finish, Json, Status, Target

from . import lately
from . import tables as t
from .admission import UNCAPPED, Account
from .answers import (
    AttemptRecord,
    BudgetRecord,
    CallRecord,
    ChildCall,
    LogFilter,
    LoggedCall,
    Money,
    OutputRow,
    RowRecord,
)
from .connect import explain
from .encoding import read_object, storable
from .filters import conditions
from .jobs import job_record, parents
from .reading import attempt_record, flags_of, money, row_record, tags_of
from .records import JobRecord, RowState
from .statements import ACCOUNTS
from .sums import Sums
from .tallies import SumOf

_PENDING: Final = RowState.PENDING.value


class Queries:
    """The questions. Synchronous: each takes from well under a millisecond to some for a page."""

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

    # ------------------------------------------------------------------- jobs

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
        query = (
            _rows()
            .where(*current(job_id), t.ROWS.c.state == _PENDING, t.ROWS.c.position > after)
            .order_by(t.ROWS.c.position)
            .limit(limit)
        )
        with self._read() as connection:
            return tuple(row_record(row) for row in connection.execute(query).mappings())

    def ended_rows(
        self, job_id: int, keys: Sequence[str], again: Sequence[RowState] = ()
    ) -> frozenset[tuple[str, str]]:
        """Which rows of a job are done, as key and content, among those with these keys.

        Args:
            job_id: the job.
            keys: at most some hundreds.
            again: states that are to be done again.
        """
        row = t.ROWS.c
        open_ = [state.value for state in (RowState.PENDING, RowState.INVALID, *again)]
        query = select(row.row_key, row.content).where(
            row.job_id == job_id,
            row.row_key.in_([storable(key) for key in keys]),
            row.state.not_in(open_),
        )
        with self._read() as connection:
            return frozenset((key, content) for key, content in connection.execute(query))

    def rows_in_order(self, job_id: int, after: int = -1, limit: int = 500) -> tuple[OutputRow, ...]:
        """The next rows of the input, in its order, with what became of them."""
        query = (
            _rows(
                t.CALLS.c.status, t.CALLS.c.finish, t.CALLS.c.flags, t.CALLS.c.template_ref, t.REPLIES.c.text
            )
            .outerjoin(t.CALLS, t.CALLS.c.id == t.ROWS.c.call_id)
            .outerjoin(t.REPLIES, t.REPLIES.c.call_id == t.ROWS.c.call_id)
            .where(*current(job_id), t.ROWS.c.position > after)
            .order_by(t.ROWS.c.position)
            .limit(limit)
        )
        with self._read() as connection:
            rows = connection.execute(query).mappings().all()
            attempts = _attempts(connection, t.CALLS.c.row_id.in_([row["id"] for row in rows]))
        by_row: dict[int, list[tuple[int, AttemptRecord]]] = {}
        for row_id, attempt in attempts:
            by_row.setdefault(row_id or 0, []).append((attempt.call_id, attempt))
        return tuple(_output_row(row, [one for _, one in by_row.get(row["id"], [])]) for row in rows)

    def row_tags(
        self, job_id: int, after: int = 0, limit: int = 500
    ) -> tuple[tuple[int, Mapping[str, str]], ...]:
        """All rows that a job ever had, by id, each with its tags; `after` is the last id seen."""
        query = (
            select(t.ROWS.c.id, t.TAGSETS.c.tags)
            .outerjoin(t.TAGSETS, t.TAGSETS.c.id == t.ROWS.c.tagset_id)
            .where(t.ROWS.c.job_id == job_id, t.ROWS.c.id > after)
            .order_by(t.ROWS.c.id)
            .limit(limit)
        )
        with self._read() as connection:
            return tuple((row_id, tags_of(tags)) for row_id, tags in connection.execute(query))

    def texts(self, job_id: int) -> tuple[int, int]:
        """Of the rows of a job's input that were answered: how many replies are kept, how many aren't."""
        answered = [state.value for state in (RowState.OK, RowState.TRUNCATED, RowState.DEGRADED)]
        query = (
            select(func.count(t.REPLIES.c.call_id), func.count())
            .select_from(t.ROWS.outerjoin(t.REPLIES, t.REPLIES.c.call_id == t.ROWS.c.call_id))
            .where(*current(job_id), t.ROWS.c.state.in_(answered))
        )
        with self._read() as connection:
            kept, rows = connection.execute(query).one()
        return kept, rows - kept

    def job_money(self, job_id: int) -> Money:
        """What a job cost, over all its calls and attempts."""
        return self._money(t.CALLS.c.job_id == job_id)

    # ------------------------------------------------------------------ money

    def spent_total(self, since_us: int | None = None) -> Money:
        """What all attempts cost, or those that started since then."""
        return self._money(*([] if since_us is None else [t.ATTEMPTS.c.started_us >= since_us]))

    def _money(self, *conditions: ColumnElement[bool]) -> Money:
        attempt = t.ATTEMPTS.c
        query = select(
            func.sum(attempt.cost_pico),
            func.sum(attempt.charged_pico),
            func.count() - func.count(attempt.cost_pico),
            func.count(),
        ).select_from(t.ATTEMPTS.join(t.CALLS, t.CALLS.c.id == attempt.call_id))
        with self._read() as connection:
            known, charged, unknown, count = connection.execute(query.where(*conditions)).one()
        return Money(int(known or 0), int(charged or 0), unknown, count)

    @contextmanager
    def sums(self, what: SumOf) -> Generator[Sums, None, None]:
        """The questions of a report, over one state of the books."""
        with self._read() as connection:
            yield Sums(connection, what)

    def budgets(self) -> tuple[BudgetRecord, ...]:
        """All scopes, the one last written first."""
        with self._read() as connection:
            rows = connection.execute(
                select(t.BUDGETS).order_by(t.BUDGETS.c.updated_us.desc(), t.BUDGETS.c.scope)
            ).mappings()
            return tuple(_budget(row) for row in rows)

    def spent(self, scope: str) -> BudgetRecord | None:
        """One scope."""
        with self._read() as connection:
            row = connection.execute(select(t.BUDGETS).where(t.BUDGETS.c.scope == scope)).mappings().first()
        return None if row is None else _budget(row)

    def foreign_owners(self, owner_id: int) -> tuple[int, ...]:
        """Other processes that have attempts open, or died with them."""
        query = select(t.HOLDS.c.owner_id).where(t.HOLDS.c.owner_id != owner_id).distinct()
        with self._read() as connection:
            return tuple(connection.execute(query).scalars())

    # ----------------------------------------------------------------- lately

    def recent_latencies(self, since_us: int) -> Mapping[Target, float]:
        """Seconds that each target's latest answers took, as a mean; unknown ones are left out."""
        with self._read() as connection:
            return lately.latencies(connection, since_us)

    def recent_output_tokens(self, template_digest: str) -> Mapping[Target | None, float]:
        """How long a skeleton's latest answers were, as a mean by target; under None over all."""
        with self._read() as connection:
            return lately.output_tokens(connection, template_digest)

    def seen_of(self, template_digest: str) -> tuple[Seen, ...]:
        """The latest attempts with a version of a skeleton."""
        with self._read() as connection:
            return tuple(lately.of_skeleton(connection, template_digest))

    def seen_of_other_versions(self, name: str) -> tuple[Seen, ...]:
        """The latest attempts with any version of a skeleton."""
        with self._read() as connection:
            return tuple(lately.of_other_versions(connection, name))

    def variables_of(self, calls: Sequence[int]) -> Mapping[int, Mapping[str, Json]]:
        """What calls were rendered from, by their ids; at most some hundreds. What isn't kept is left out."""
        with self._read() as connection:
            return lately.variables(connection, calls)

    # ------------------------------------------------------------ log and show

    def calls(self, limit: int = 20, where: LogFilter | None = None) -> tuple[LoggedCall, ...]:
        """The newest calls that fit the filter, newest first."""
        call = t.CALLS.c
        query = (
            select(
                call.id,
                call.started_us,
                call.ended_us,
                call.template_ref,
                call.status,
                call.error,
                call.flags,
                call.verdict,
                t.TAGSETS.c.tags,
                t.JOBS.c.name.label("job"),
                t.ROWS.c.row_key,
            )
            .select_from(t.CALLS)
            .outerjoin(t.TAGSETS, t.TAGSETS.c.id == call.tagset_id)
            .outerjoin(t.JOBS, t.JOBS.c.id == call.job_id)
            .outerjoin(t.ROWS, t.ROWS.c.id == call.row_id)
            .where(*conditions(where or LogFilter()))
            .order_by(call.id.desc())
            .limit(limit)
        )
        with self._read() as connection:
            rows = connection.execute(query).mappings().all()
            attempts = _attempts(connection, call.id.in_([row["id"] for row in rows]))
        by_call: dict[int, list[AttemptRecord]] = {}
        for _, attempt in attempts:
            by_call.setdefault(attempt.call_id, []).append(attempt)
        return tuple(_logged(row, by_call.get(row["id"], [])) for row in rows)

    def call(self, call_id: int) -> CallRecord | None:
        """One call in full."""
        query = (
            select(
                t.CALLS,
                t.TAGSETS.c.tags,
                t.JOBS.c.name.label("job"),
                t.ROWS.c.row_key,
                t.REPLIES.c.text,
            )
            .outerjoin(t.TAGSETS, t.TAGSETS.c.id == t.CALLS.c.tagset_id)
            .outerjoin(t.JOBS, t.JOBS.c.id == t.CALLS.c.job_id)
            .outerjoin(t.ROWS, t.ROWS.c.id == t.CALLS.c.row_id)
            .outerjoin(t.REPLIES, t.REPLIES.c.call_id == t.CALLS.c.id)
            .where(t.CALLS.c.id == call_id)
        )
        with self._read() as connection:
            row = connection.execute(query).mappings().first()
            if row is None:
                return None
            attempts = tuple(attempt for _, attempt in _attempts(connection, t.CALLS.c.id == call_id))
        return _call(row, attempts)

    def children(self, call_id: int) -> tuple[ChildCall, ...]:
        """The calls that go back to this one, the first made first."""
        call = t.CALLS.c
        query = select(call.id, call.template_ref, call.status).where(call.parent_id == call_id)
        with self._read() as connection:
            return tuple(
                ChildCall(child, ref, _maybe(Status, status))
                for child, ref, status in connection.execute(query.order_by(call.id))
            )

    def deliverable_of(self, call_id: int) -> str | None:
        """The deliverable of a call; None where it has none, or there is no such call."""
        with self._read() as connection:
            return parents(connection, [call_id]).get(call_id)

    def call_ids(self, low: int, high: int, limit: int = 2) -> tuple[int, ...]:
        """Ids of calls from `low` to `high`, both included: those that begin alike, as people shorten them."""
        call = t.CALLS.c
        query = select(call.id).where(call.id.between(low, high)).order_by(call.id).limit(limit)
        with self._read() as connection:
            return tuple(connection.execute(query).scalars())

    def stored_source(self, digest: str) -> StoredSource | None:
        """A template source that was used, by its digest."""
        with self._read() as connection:
            row = (
                connection.execute(select(t.TEMPLATES).where(t.TEMPLATES.c.digest == digest))
                .mappings()
                .first()
            )
        if row is None:
            return None
        includes = {name: str(value) for name, value in read_object(row["includes"]).items()}
        return StoredSource(digest=digest, ref=row["ref"], text=row["source"], includes=includes)


# ------------------------------------------------------------------------------ pieces


def _rows(*more: Any) -> Select[Any]:
    return select(t.ROWS, t.TAGSETS.c.tags, *more).outerjoin(t.TAGSETS, t.TAGSETS.c.id == t.ROWS.c.tagset_id)


def current(job_id: int) -> tuple[ColumnElement[bool], ...]:
    """Rows that the latest reading of the input held."""
    latest = select(t.JOBS.c.ingest).where(t.JOBS.c.id == job_id).scalar_subquery()
    return t.ROWS.c.job_id == job_id, t.ROWS.c.seen == latest


def _attempts(connection: Connection, which: ColumnElement[bool]) -> list[tuple[int | None, AttemptRecord]]:
    """Attempts in the order they were made, each with the row it was for."""
    query = (
        select(t.ATTEMPTS, t.CALLS.c.row_id, t.PRICE_SOURCES.c.source)
        .join(t.CALLS, t.CALLS.c.id == t.ATTEMPTS.c.call_id)
        .outerjoin(t.PRICE_SOURCES, t.PRICE_SOURCES.c.id == t.ATTEMPTS.c.price_source_id)
        .where(which)
        .order_by(t.ATTEMPTS.c.id)
    )
    return [(row["row_id"], attempt_record(row)) for row in connection.execute(query).mappings()]


def _logged(row: Mapping[Any, Any], attempts: Sequence[AttemptRecord]) -> LoggedCall:
    last = attempts[-1] if attempts else None
    usage = None if last is None else last.usage
    return LoggedCall(
        id=row["id"],
        started_us=row["started_us"],
        ended_us=row["ended_us"],
        template_ref=row["template_ref"],
        status=_maybe(Status, row["status"]),
        error=row["error"],
        target=_target(attempts),
        faults=tuple(attempt.fault for attempt in attempts if attempt.fault is not None),
        flags=flags_of(row["flags"]),
        input_tokens=None if usage is None else usage.input_tokens,
        output_tokens=None if usage is None else usage.output_tokens,
        money=money(attempts),
        tags=tags_of(row["tags"]),
        job=row["job"],
        key=row["row_key"],
        verdict=row["verdict"],
    )


def _output_row(row: Mapping[Any, Any], attempts: Sequence[AttemptRecord]) -> OutputRow:
    mine = [attempt for attempt in attempts if attempt.call_id == row["call_id"]]
    usage = mine[-1].usage if mine else None
    return OutputRow(
        row=row_record(row),
        status=_maybe(Status, row["status"]),
        text=row["text"],
        error=row["error"],
        finish=_maybe(Finish, row["finish"]),
        flags=flags_of(row["flags"]),
        template_ref=row["template_ref"],
        target=_target(mine),
        input_tokens=None if usage is None else usage.input_tokens,
        output_tokens=None if usage is None else usage.output_tokens,
        money=money(attempts),
    )


def _call(row: Mapping[Any, Any], attempts: tuple[AttemptRecord, ...]) -> CallRecord:
    return CallRecord(
        id=row["id"],
        template_digest=row["template_digest"],
        template_ref=row["template_ref"],
        prompt_digest=row["prompt_digest"],
        variables=None if row["variables"] is None else read_object(row["variables"]),
        tags=tags_of(row["tags"]),
        parent_id=row["parent_id"],
        deliverable=row["deliverable"],
        job=row["job"],
        row_id=row["row_id"],
        key=row["row_key"],
        route=row["route"],
        status=_maybe(Status, row["status"]),
        error=row["error"],
        finish=_maybe(Finish, row["finish"]),
        flags=flags_of(row["flags"]),
        text=row["text"],
        text_sha256=row["text_sha256"],
        verdict=row["verdict"],
        verdict_us=row["verdict_us"],
        verdict_note=row["verdict_note"],
        forgotten_us=row["forgotten_us"],
        started_us=row["started_us"],
        ended_us=row["ended_us"],
        attempts=attempts,
        money=money(attempts),
        cached_from_id=row["cached_from_id"],
        saved_pico=row["saved_pico"],
    )


def _budget(row: Mapping[Any, Any]) -> BudgetRecord:
    account = Account(**{name: row[name] for name in ACCOUNTS[:5]})
    return BudgetRecord(
        scope=row["scope"],
        cap_pico=None if account.cap_pico == UNCAPPED else account.cap_pico,
        spent_pico=row["spent_pico"],
        held_pico=row["held_pico"],
        over_pico=row["over_pico"],
        stopped=account.stopped,
        updated_us=row["updated_us"],
        stopped_cap_pico=account.stopped_cap_pico,
    )


def _target(attempts: Sequence[AttemptRecord]) -> Target | None:
    return attempts[-1].target if attempts else None


def _maybe(kind: Any, value: str | None) -> Any:
    return None if value is None else kind(value)
