"""What the faces ask: pages of calls and rows, sums of money, single things in full.

Each question is a short read transaction of its own; long lists are paged by key, so that no
transaction stays open over an export (it would keep the WAL file from being reset).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Engine, Select, bindparam, case, func, select
from sqlalchemy.exc import DBAPIError

from promptkit._util.shares import Share
from promptkit.ledger import calls as served
from promptkit.ledger import reports as lately
from promptkit.ledger import search
from promptkit.ledger import tables as t
from promptkit.routing.reply_cache import CachedReply
from promptkit.templates.template import StoredSource
from promptkit.types import AttemptState, Finish, Json, Status, Target

from .calls import (
    attempt_record,
    budget_record,
    call_record,
    carrier,
    conditions,
    flags_of,
    logged_call,
    maybe,
    money,
    row_record,
    tags_of,
    target_of,
)
from .database import explain
from .erasing import Erasable, Erase, erasable
from .jobs import job_record, parents
from .records import (
    AttemptRecord,
    BudgetRecord,
    CallRecord,
    ChildCall,
    JobRecord,
    JobState,
    JobSummary,
    LogFilter,
    LoggedCall,
    Money,
    OutputRow,
    PackItem,
    RowProblem,
    RowRecord,
    RowState,
    Seen,
    SumOf,
    TargetShare,
)
from .reports import Sums
from .statements import read_object, storable


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


_OF_CALLS: Final = attempts_of(t.CALLS.c.id)


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


class Queries(RowPages):
    """The questions. Synchronous: each takes from well under a millisecond to some for a page."""

    # ------------------------------------------------------------------ money

    def job_money(self, job_id: int) -> Money:
        """What a job cost, over all its calls and attempts."""
        return self._money(t.CALLS.c.job_id == job_id)

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
            return tuple(budget_record(row) for row in rows)

    def spent(self, scope: str) -> BudgetRecord | None:
        """One scope."""
        with self._read() as connection:
            row = connection.execute(select(t.BUDGETS).where(t.BUDGETS.c.scope == scope)).mappings().first()
        return None if row is None else budget_record(row)

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

    def cached_replies(self, key: int, prompt_digest: str, since_us: int) -> tuple[CachedReply, ...]:
        """Replies that may serve a call again: whole, not rejected, kept; the newest first."""
        with self._read() as connection:
            return served.replies(connection, key, prompt_digest, since_us)

    def recent_output_tokens(self, template_digest: str) -> Mapping[Target | None, float]:
        """How long a template's latest answers were, as a mean by target; under None over all."""
        with self._read() as connection:
            return lately.output_tokens(connection, template_digest)

    def seen_of(self, template_digest: str) -> tuple[Seen, ...]:
        """The latest attempts with a version of a template."""
        with self._read() as connection:
            return tuple(lately.of_template(connection, template_digest))

    def seen_of_other_versions(self, name: str) -> tuple[Seen, ...]:
        """The latest attempts with any version of a template."""
        with self._read() as connection:
            return tuple(lately.of_other_versions(connection, name))

    def variables_of(self, calls: Sequence[int]) -> Mapping[int, Mapping[str, Json]]:
        """What calls were rendered from, by their ids; at most some hundreds. What isn't kept is left out."""
        with self._read() as connection:
            return lately.variables(connection, calls)

    # ------------------------------------------------------------ log and show

    def calls(self, limit: int = 20, where: LogFilter | None = None) -> tuple[LoggedCall, ...]:
        """The newest calls that fit the filter, newest first."""
        where = where or LogFilter()
        match = None if where.text is None else search.match_of(where.text)
        if match is not None:
            try:
                return self._searched(limit, replace(where, text=None), match)
            except (sqlite3.OperationalError, OSError):
                pass  # no index to be had: every text is read
            except sqlite3.DatabaseError:
                search.drop(self._path)  # damaged: the next search makes it anew
        return self._listed(limit, where)

    def _searched(self, limit: int, where: LogFilter, match: str) -> tuple[LoggedCall, ...]:
        found: list[LoggedCall] = []
        with search.opened(self._path) as index:
            with self._read() as connection:
                index.bring_up(connection)
            for page in index.found(match):
                found += self._listed(limit - len(found), where, page)
                if len(found) == limit:
                    break
        return tuple(found)

    def _listed(
        self, limit: int, where: LogFilter, among: Sequence[int] | None = None
    ) -> tuple[LoggedCall, ...]:
        call = t.CALLS.c
        narrowed = [] if among is None else [call.id.in_(among), call.forgotten_us.is_(None)]
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
                call.cached_from_id,
                call.saved_pico,
                call.pack_id,
                call.pack_items,
                t.TAGSETS.c.tags,
                t.JOBS.c.name.label("job"),
                t.ROWS.c.row_key,
            )
            .select_from(t.CALLS)
            .outerjoin(t.TAGSETS, t.TAGSETS.c.id == call.tagset_id)
            .outerjoin(t.JOBS, t.JOBS.c.id == call.job_id)
            .outerjoin(t.ROWS, t.ROWS.c.id == call.row_id)
            .where(*conditions(where), *narrowed)
            .order_by(call.id.desc())
            .limit(limit)
        )
        with self._read() as connection:
            rows = connection.execute(query).mappings().all()
            found = connection.execute(_OF_CALLS, {"ids": [row["id"] for row in rows]}).mappings()
            attempts = [attempt_record(attempt) for attempt in found]
            origins = served.targets(connection, (row["cached_from_id"] for row in rows))
        by_call: dict[int, list[AttemptRecord]] = {}
        for attempt in attempts:
            by_call.setdefault(attempt.call_id, []).append(attempt)
        return tuple(
            logged_call(row, by_call.get(row["id"], []), origins.get(row["cached_from_id"])) for row in rows
        )

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
            found = connection.execute(_OF_CALLS, {"ids": [call_id]}).mappings()
            attempts = tuple(attempt_record(attempt) for attempt in found)
        return call_record(row, attempts)

    def erasable(self, what: Erase) -> Erasable:
        """How much `Ledger.erase` would erase."""
        with self._read() as connection:
            return erasable(connection, what)

    def pack_items(self, call_id: int) -> tuple[PackItem, ...]:
        """The calls of the rows that a call carried, in their order in its prompt."""
        call = t.CALLS.c
        query = (
            select(
                call.id,
                call.row_id,
                t.ROWS.c.row_key,
                call.variables,
                call.status,
                call.error,
                call.share_begin,
                call.share_end,
            )
            .join(t.ROWS, t.ROWS.c.id == call.row_id)
            .where(call.pack_id == call_id)
            .order_by(call.id)
        )
        with self._read() as connection:
            return tuple(
                PackItem(
                    item,
                    row_id,
                    key,
                    None if variables is None else read_object(variables),
                    maybe(Status, status),
                    error,
                    Share(begin, end),
                )
                for item, row_id, key, variables, status, error, begin, end in connection.execute(query)
            )

    def children(self, call_id: int) -> tuple[ChildCall, ...]:
        """The calls that go back to this one, the first made first."""
        call = t.CALLS.c
        query = select(call.id, call.template_ref, call.status).where(call.parent_id == call_id)
        with self._read() as connection:
            return tuple(
                ChildCall(child, ref, maybe(Status, status))
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


_PAGE: Final = 2_000


_ANSWERS: Final = (AttemptState.OK.value, AttemptState.TRUNCATED.value)


TROUBLES: Final = (RowState.FAILED, RowState.REFUSED, RowState.INVALID, RowState.DEGRADED)
"""States of rows that somebody should look at."""


class JobBooks(Queries):
    """The questions about jobs that their faces ask, and the marks that a run goes by."""

    def job_names(self) -> tuple[str, ...]:
        """The names of all jobs, newest first."""
        query = select(t.JOBS.c.name).order_by(t.JOBS.c.created_us.desc(), t.JOBS.c.id.desc())
        with self._read() as connection:
            return tuple(connection.execute(query).scalars())

    def job_name(self, job_id: int) -> str:
        """The name of a job."""
        with self._read() as connection:
            return str(connection.execute(select(t.JOBS.c.name).where(t.JOBS.c.id == job_id)).scalar_one())

    def job_state(self, job_id: int) -> JobState:
        """Where a job stands: another process may have cancelled it."""
        with self._read() as connection:
            found = connection.execute(select(t.JOBS.c.state).where(t.JOBS.c.id == job_id)).scalar_one()
        return JobState(found)

    def summaries(self, jobs: Sequence[JobRecord]) -> tuple[JobSummary, ...]:
        """Rows and money of some jobs, in their order."""
        ids = [job.id for job in jobs]
        row, job = t.ROWS.c, t.JOBS.c
        counts = (
            select(row.job_id, row.state, func.count())
            .join(t.JOBS, (job.id == row.job_id) & (row.seen >= job.ingested))
            .where(row.job_id.in_(ids))
            .group_by(row.job_id, row.state)
        )
        rows: dict[int, dict[RowState, int]] = {}
        with self._read() as connection:
            for job_id, state, count in connection.execute(counts):
                rows.setdefault(job_id, {})[RowState(state)] = count
            sums = _sums(t.CALLS.c.job_id).where(t.CALLS.c.job_id.in_(ids)).group_by(t.CALLS.c.job_id)
            money = {found["job_id"]: _money(found) for found in connection.execute(sums).mappings()}
        return tuple(JobSummary(job, rows.get(job.id, {}), money.get(job.id, Money())) for job in jobs)

    def target_shares(self, job_id: int) -> tuple[TargetShare, ...]:
        """Where a job's requests went, the target that answered most first."""
        attempt = t.ATTEMPTS.c
        answered = func.sum(case((attempt.state.in_(_ANSWERS), 1), else_=0)).label("answered")
        query = (
            _sums(attempt.provider, attempt.model, answered)
            .where(t.CALLS.c.job_id == job_id)
            .group_by(attempt.provider, attempt.model)
            .order_by(answered.desc(), attempt.provider, attempt.model)
        )
        with self._read() as connection:
            return tuple(
                TargetShare(Target(row["provider"], row["model"]), int(row["answered"]), _money(row))
                for row in connection.execute(query).mappings()
            )

    def troubles(self, job_id: int, limit: int = 20) -> tuple[RowProblem, ...]:
        """Rows that failed, were refused, are invalid or degraded, in the input's order, and why."""
        row = t.ROWS.c
        query = (
            select(
                row.position,
                row.line,
                row.row_key,
                row.state,
                row.call_id,
                func.coalesce(row.error, t.CALLS.c.error),
            )
            .outerjoin(t.CALLS, t.CALLS.c.id == row.call_id)
            .where(*current(job_id), row.state.in_([state.value for state in TROUBLES]))
            .order_by(row.position)
            .limit(limit)
        )
        with self._read() as connection:
            return tuple(
                RowProblem(position + 1, line, key, RowState(state), call_id, why)
                for position, line, key, state, call_id, why in connection.execute(query)
            )

    def reasons(self, job_id: int, limit: int = 10) -> tuple[tuple[RowState, str | None, int], ...]:
        """Why rows are in trouble, the commonest reason first: state, reason, rows."""
        row = t.ROWS.c
        why = func.coalesce(row.error, t.CALLS.c.error)
        query = (
            select(row.state, why, func.count())
            .select_from(t.ROWS)
            .outerjoin(t.CALLS, t.CALLS.c.id == row.call_id)
            .where(*current(job_id), row.state.in_([state.value for state in TROUBLES]))
            .group_by(row.state, why)
            .order_by(func.count().desc(), row.state, why)
            .limit(limit)
        )
        with self._read() as connection:
            return tuple(
                (RowState(state), reason, count) for state, reason, count in connection.execute(query)
            )

    def canary_counts(self, job_id: int) -> Mapping[RowState, int]:
        """The canary rows of a job's input by state; empty where it has none."""
        row = t.ROWS.c
        query = select(row.state, func.count()).where(*current(job_id), row.canary == 1).group_by(row.state)
        with self._read() as connection:
            return {RowState(state): count for state, count in connection.execute(query)}

    def row_names(self, job_id: int) -> Iterator[tuple[int, str, int]]:
        """Id, key and ordinal of every row of a job's input that can be sent, page by page."""
        row = t.ROWS.c
        for found in self._paged(job_id, row.state != RowState.INVALID.value, row.row_key, row.ordinal):
            yield found[1], found[2], found[3]

    def pending_ids(self, job_id: int) -> Iterator[int]:
        """The ids of the rows still to be sent, page by page."""
        for found in self._paged(job_id, t.ROWS.c.state == RowState.PENDING.value):
            yield found[1]

    def _paged(
        self, job_id: int, which: ColumnElement[bool], *columns: ColumnElement[Any]
    ) -> Iterator[Sequence[Any]]:
        """Position and id, then the columns, of rows of a job's input, in its order."""
        row, after = t.ROWS.c, -1
        while True:
            query = (
                select(row.position, row.id, *columns)
                .where(*current(job_id), which, row.position > after)
                .order_by(row.position)
                .limit(_PAGE)
            )
            with self._read() as connection:
                page = connection.execute(query).all()
            if not page:
                return
            after = page[-1][0]
            yield from page

    def rows_made(
        self, job_id: int, made_by: str | None, states: Sequence[RowState] = (), *, rejected: bool = False
    ) -> Iterator[RowRecord]:
        """Rows of a job's input that have ended, in its order, page by page.

        Args:
            job_id: the job.
            made_by: only those of this version, like `ugc/script@7`; what was never sent counts as the job's.
            states: only those that ended so.
            rejected: only those whose call was rated `reject`.
        """
        row, call, after = t.ROWS.c, t.CALLS.c, -1
        ended = [state.value for state in states or RowState if state is not RowState.PENDING]
        which = [*current(job_id), row.state.in_(ended)]
        if made_by is not None:
            job_ref = select(t.JOBS.c.template_ref).where(t.JOBS.c.id == job_id).scalar_subquery()
            which.append(func.coalesce(call.template_ref, job_ref) == made_by)
        if rejected:
            which.append(call.verdict == "reject")
        while True:
            query = (
                rows_and_tags()
                .outerjoin(t.CALLS, call.id == row.call_id)
                .where(*which, row.position > after)
                .order_by(row.position)
                .limit(_PAGE)
            )
            with self._read() as connection:
                page = [row_record(found) for found in connection.execute(query).mappings()]
            if not page:
                return
            after = page[-1].position
            yield from page

    def redos(self, job_id: int) -> tuple[str, ...]:
        """The names of the jobs that made rows of this one again."""
        query = select(t.JOBS.c.name).where(t.JOBS.c.redo_of_id == job_id).order_by(t.JOBS.c.id)
        with self._read() as connection:
            return tuple(connection.execute(query).scalars())

    def erased_rows(self, job_id: int, states: Sequence[RowState]) -> int:
        """How many rows in these states no longer have what they were made of."""
        row = t.ROWS.c
        query = select(func.count()).where(
            *current(job_id), row.state.in_([state.value for state in states]), row.variables.is_(None)
        )
        with self._read() as connection:
            return int(connection.execute(query).scalar_one())


def mark_canary(connection: Connection, row_ids: Sequence[int]) -> None:
    """Make these rows the canary."""
    connection.execute(t.ROWS.update().where(t.ROWS.c.id.in_(row_ids)).values(canary=1))


def _sums(*columns: ColumnElement[Any]) -> Select[Any]:
    """The columns, then what `_money` reads, over attempts that have ended and their calls."""
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


_ANSWERED: Final = [state.value for state in (RowState.OK, RowState.TRUNCATED, RowState.DEGRADED)]


_PRIME: Final = 1_000_000_007
"""Ids of calls are added modulo it, so that no sum of them leaves 64 bits."""


def current(job_id: int | ColumnElement[int]) -> tuple[ColumnElement[bool], ...]:
    """Rows that the last whole reading of the input held, and what one that broke off has met since."""
    latest = select(t.JOBS.c.ingested).where(t.JOBS.c.id == job_id).scalar_subquery()
    return t.ROWS.c.job_id == job_id, t.ROWS.c.seen >= latest


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
