"""What is asked of jobs as a whole: how each stands, what it cost, where its rows went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, case, func, select

from promptkit.types import AttemptState, Target

from . import tables as t
from .answers import JobSummary, Money, RowRecord, RowTrouble, TargetShare
from .queries import Queries
from .reading import row_record
from .records import JobRecord, JobState, RowState
from .row_pages import current, rows_and_tags

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

    def troubles(self, job_id: int, limit: int = 20) -> tuple[RowTrouble, ...]:
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
                RowTrouble(position + 1, line, key, RowState(state), call_id, why)
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
