"""`Ledger.reports`: sums of money, reports, and what the latest attempts were like."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

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

from promptkit._util.shares import PARTS
from promptkit.ledger import tables as t
from promptkit.types import AttemptState, Basis, Status, Target

from .calls import carrier, conditions
from .database import Reader
from .reading import budget_record
from .records import FIELDS, BudgetRecord, Key, LogFilter, Money, Seen, SumOf, Tally

LATEST = 1_000
"""How many of the last attempts are read: some milliseconds."""

_LATEST_JOBS = 3
_LATEST_CALLS = 500
"""How many of the latest calls are read of each of a template's latest jobs, and of single ones."""

_WITH_REPLY = (Status.OK.value, Status.TRUNCATED.value, Status.DEGRADED.value)


_YIELDED = (AttemptState.OK.value, AttemptState.TRUNCATED.value)


_CALL = t.CALLS.c


_ATTEMPT = t.ATTEMPTS.c


class Reports:
    """Sums over calls and attempts. Synchronous; each query sees what was committed."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @contextmanager
    def sums(self, spec: SumOf) -> Generator[Sums, None, None]:
        """Open the queries of a report, over one state of the database."""
        with self._reader.connect() as connection:
            yield Sums(connection, spec)

    def spent_total(self, since_us: int | None = None) -> Money:
        """Return what all attempts cost, or those that started since then."""
        return self._money(*([] if since_us is None else [t.ATTEMPTS.c.started_us >= since_us]))

    def spent_by_job(self, job_id: int) -> Money:
        """Return what a job cost, over all its calls and attempts."""
        return self._money(t.CALLS.c.job_id == job_id)

    def _money(self, *where: ColumnElement[bool]) -> Money:
        attempt = t.ATTEMPTS.c
        query = select(
            func.sum(attempt.cost_pico),
            func.sum(attempt.charged_pico),
            func.count() - func.count(attempt.cost_pico),
            func.count(),
        ).select_from(t.ATTEMPTS.join(t.CALLS, t.CALLS.c.id == attempt.call_id))
        with self._reader.connect() as connection:
            known, charged, unknown, count = connection.execute(query.where(*where)).one()
        return Money(int(known or 0), int(charged or 0), unknown, count)

    def budgets(self) -> tuple[BudgetRecord, ...]:
        """Return the money of all scopes, the scope that was written last first."""
        query = select(t.BUDGETS).order_by(t.BUDGETS.c.updated_us.desc(), t.BUDGETS.c.scope)
        return tuple(budget_record(row) for row in self._reader.all(query))

    def budget(self, scope: str) -> BudgetRecord | None:
        """Return the money of one scope."""
        row = self._reader.first(select(t.BUDGETS).where(t.BUDGETS.c.scope == scope))
        return None if row is None else budget_record(row)

    def latencies(self, since_us: int) -> Mapping[Target, float]:
        """Return the mean seconds of each target's latest replies; a target without any is left out."""
        with self._reader.connect() as connection:
            return _latencies(connection, since_us)

    def output_tokens(self, template_digest: str) -> Mapping[Target | None, float]:
        """Return the mean length of a template's latest replies by target, and under None over all."""
        with self._reader.connect() as connection:
            return _output_tokens(connection, template_digest)

    def attempts_of_template(self, template_digest: str) -> tuple[Seen, ...]:
        """Return the latest attempts with a version of a template: of its last jobs, and single calls."""
        calls, jobs = t.CALLS.c.template_digest, t.JOBS.c.template_digest
        with self._reader.connect() as connection:
            return tuple(_seen(connection, calls == template_digest, jobs == template_digest))

    def attempts_of_other_versions(self, name: str) -> tuple[Seen, ...]:
        """Return the latest attempts with any version of a template."""
        calls, jobs = t.CALLS.c.template_ref, t.JOBS.c.template_ref
        with self._reader.connect() as connection:
            return tuple(
                _seen(
                    connection,
                    calls.startswith(f"{name}@", autoescape=True) | (calls == name),
                    jobs.startswith(f"{name}@", autoescape=True) | (jobs == name),
                )
            )


class Sums:
    """The queries of a report over one connection: all see the same state of the database.

    A call belongs to the target of its last attempt, an attempt to its own; each to the day on which it
    began. So every call and every attempt is in one group, and groups add up to the whole. The request
    of a pack is counted by the calls of its rows, each with its share.
    """

    def __init__(self, connection: Connection, spec: SumOf) -> None:
        self._connection = connection
        self._spec = spec

    def by_slots(self, slot_us: int) -> Sums:
        """Return the same queries, with days counted as slots of that length (microseconds)."""
        return Sums(self._connection, replace(self._spec, slot_us=slot_us))

    def span(self) -> tuple[int, int] | None:
        """Return when the first and the last call or attempt began; None if there are none."""
        results: list[int] = []
        for column in (_CALL.started_us, _ATTEMPT.started_us):
            query = select(func.min(column), func.max(column)).where(*self._within(column))
            results += [us for us in self._connection.execute(query).one() if us is not None]
        return (min(results), max(results)) if results else None

    def tallies(self) -> Iterator[tuple[Key, Tally]]:
        """Yield the sums, in parts: a key may come several times."""
        yield from self._sum(self._of_attempts(_spending()), _spending())
        yield from self._sum(self._of_calls(_counting()), _counting())

    def fallbacks(self) -> Iterator[tuple[Key, str, int]]:
        """Yield the faults that caused failovers, and how often, by the target that failed."""
        later = t.ATTEMPTS.alias()
        failed_over = exists(
            select(later.c.id).where(
                later.c.call_id == _ATTEMPT.call_id,
                later.c.number == _ATTEMPT.number + 1,
                later.c.target_number > _ATTEMPT.target_number,
            )
        )
        count = [func.sum(_part(literal(1))).label("count")]
        query = (
            self._of_attempts(count)
            .add_columns(_ATTEMPT.fault)
            .where(_ATTEMPT.fault.is_not(None), failed_over)
            .group_by(_ATTEMPT.fault)
        )
        width = len(self._spec.by)
        for row in self._connection.execute(query):
            if row[-2]:
                yield tuple(row[:width]), row[-1], int(row[-2])

    def deliverables(self) -> Iterator[tuple[str, Key]]:
        """Yield each deliverable that has a reply, with a key of its calls, ordered by deliverable."""
        query = (
            self._of_calls([_CALL.deliverable.label("name")], grouped=False)
            .where(_CALL.deliverable.is_not(None), _CALL.status.in_(_WITH_REPLY))
            .distinct()
            .order_by(_CALL.deliverable)
        )
        for row in self._connection.execute(query):
            yield row[-1], tuple(row[:-1])

    # ---------------------------------------------------------------------- pieces

    def _sum(self, query: Select[Any], columns: list[Label[Any]]) -> Iterator[tuple[Key, Tally]]:
        names = [column.name for column in columns]
        width = len(self._spec.by)
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
        spec = self._spec
        asked = LogFilter(tags=spec.tags, template=spec.template, job=spec.job)
        query = (
            select(*keys, *columns)
            .select_from(joined)
            .where(_CALL.pack_items.is_(None), *within, *conditions(asked))
        )
        return query.group_by(*keys) if grouped and keys else query

    def _keys(
        self, target: ColumnElement[Any], began: ColumnElement[int], start: FromClause
    ) -> tuple[list[Label[Any]], FromClause]:
        """Return the columns to group by, and the tables joined for them."""
        keys: list[Label[Any]] = []
        for index, name in enumerate(self._spec.by):
            match name:
                case "template":
                    column: ColumnElement[Any] = _CALL.template_ref
                case "target":
                    column = target
                case "deliverable":
                    column = _CALL.deliverable
                case "day":
                    column = began // self._spec.slot_us
                case "job":
                    start = start.outerjoin(t.JOBS, t.JOBS.c.id == _CALL.job_id)
                    column = t.JOBS.c.name
                case tag:
                    tags = t.TAGS.alias(f"tag_{index}")
                    start = start.outerjoin(
                        tags, and_(tags.c.tagset_id == _CALL.tagset_id, tags.c.name == tag)
                    )
                    column = tags.c.value
            keys.append(column.label(f"key_{index}"))
        return keys, start

    def _within(self, began: ColumnElement[int]) -> list[ColumnElement[bool]]:
        since, until = self._spec.since_us, self._spec.until_us
        return [
            *([] if since is None else [began >= since]),
            *([] if until is None else [began < until]),
        ]


def _spending() -> list[Label[Any]]:
    """Return the sums over attempts, under the names of `Tally`."""
    later = t.ATTEMPTS.alias()
    superseded = exists(
        select(later.c.id).where(later.c.call_id == _ATTEMPT.call_id, later.c.id > _ATTEMPT.id)
    )
    failed = _CALL.status.is_not(None) & _CALL.status.not_in(_WITH_REPLY)
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
    """Return the counts over calls, under the names of `Tally`."""
    columns = {
        "calls": func.count(),
        "ended": func.count(_CALL.status),
        "replied": _count(_CALL.status.in_(_WITH_REPLY)),
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
    """Return the call's part of an attempt's amount: all of it, or a row's share of its pack (see `_util.shares`)."""
    end, begin = _CALL.share_end, _CALL.share_begin
    return case((end.is_(None), amount), else_=amount * end // PARTS - amount * begin // PARTS)


_TIMED = (*_YIELDED, AttemptState.UNKNOWN.value)
"""A request without a reply took time, too; one that failed at once predicts nothing."""


def _latencies(connection: Connection, since_us: int) -> dict[Target, float]:
    """Return the mean latency in seconds of each target's latest replies since then."""
    latest = select(t.ATTEMPTS).order_by(t.ATTEMPTS.c.id.desc()).limit(LATEST).subquery().c
    query = (
        select(latest.provider, latest.model, func.avg(latest.latency_us))
        .where(
            latest.started_us >= since_us,
            latest.state.in_(_TIMED),
            latest.latency_us.is_not(None),
            # A stream that its caller closed took as long as the caller wanted.
            func.coalesce(latest.cost_basis, "") != Basis.ESTIMATED.value,
        )
        .group_by(latest.provider, latest.model)
    )
    return {Target(provider, model): float(mean) / 1e6 for provider, model, mean in connection.execute(query)}


def _output_tokens(connection: Connection, template_digest: str) -> dict[Target | None, float]:
    """Return the mean output tokens of a template's latest replies by target, and under None over all.

    A pack counts as many replies as it has items.
    """
    latest = select(t.ATTEMPTS).order_by(t.ATTEMPTS.c.id.desc()).limit(LATEST).subquery().c
    items = func.coalesce(t.CALLS.c.pack_items, 1)
    query = (
        select(latest.provider, latest.model, func.sum(latest.output_tokens), func.sum(items))
        .join(t.CALLS, t.CALLS.c.id == latest.call_id)
        .where(
            t.CALLS.c.template_digest == template_digest,
            latest.state.in_(_YIELDED),
            latest.output_tokens.is_not(None),
        )
        .group_by(latest.provider, latest.model)
    )
    sums = {
        Target(provider, model): (int(total), int(count))
        for provider, model, total, count in connection.execute(query)
    }
    means: dict[Target | None, float] = {target: total / count for target, (total, count) in sums.items()}
    if sums:
        means[None] = sum(total for total, _ in sums.values()) / sum(count for _, count in sums.values())
    return means


def _seen(connection: Connection, of_calls: ColumnElement[bool], of_jobs: ColumnElement[bool]) -> list[Seen]:
    jobs = select(t.JOBS.c.id).where(of_jobs).order_by(t.JOBS.c.id.desc()).limit(_LATEST_JOBS)
    calls: set[int] = set()
    for job_id in connection.execute(jobs).scalars().all():
        calls.update(_latest(connection, t.CALLS.c.job_id == job_id))
    # Not by template directly: there is no index for that, and it would read the whole ledger.
    window = select(t.CALLS).order_by(t.CALLS.c.id.desc()).limit(LATEST).subquery()
    latest = _latest(connection, t.CALLS.c.id.in_(select(window.c.id)) & of_calls)
    calls.update(latest)
    attempt = t.ATTEMPTS.c
    results: list[Seen] = []
    for page in _pages(sorted(calls)):
        rows = connection.execute(
            select(
                attempt.call_id,
                attempt.provider,
                attempt.model,
                attempt.state,
                attempt.input_tokens,
                attempt.output_tokens,
                attempt.latency_us,
                attempt.charged_pico,
                attempt.cache_read_tokens,
                attempt.cache_write_tokens,
                t.CALLS.c.job_id,
                t.CALLS.c.pack_items,
            )
            .join(t.CALLS, t.CALLS.c.id == attempt.call_id)
            .where(
                attempt.call_id.in_(page),
                attempt.state != AttemptState.OPEN.value,
                func.coalesce(attempt.cost_basis, "") != Basis.ESTIMATED.value,
            )
        )
        for (
            call,
            provider,
            model,
            state,
            tokens,
            output,
            latency_us,
            charged,
            read,
            written,
            job,
            items,
        ) in rows:
            length = output if state in _YIELDED else None
            target, waited_s = Target(provider, model), None if latency_us is None else latency_us / 1e6
            if items is None:
                results.append(
                    Seen(call, target, tokens, length, waited_s, charged, job, read or 0, written or 0)
                )
                continue
            # Of a row in a pack, only the length of its reply predicts that of a single row.
            part = None if length is None else length // items
            results += [Seen(call, target, None, part, None, charged // items)] * items
    return results


def _latest(connection: Connection, which: ColumnElement[bool]) -> list[int]:
    query = select(t.CALLS.c.id).where(which).order_by(t.CALLS.c.id.desc()).limit(_LATEST_CALLS)
    return list(connection.execute(query).scalars())


def _pages(ids: list[int]) -> list[list[int]]:
    return [ids[start : start + _LATEST_CALLS] for start in range(0, len(ids), _LATEST_CALLS)]
