"""What the latest attempts were like, for strategies and quotes: a bounded look, however large the ledger is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import ColumnElement, Connection, func, select

from promptkit.batch.past import Seen
from promptkit.types import AttemptState, Basis, Json, Target

from . import tables as t
from .encoding import read_object

LATEST: Final = 1_000
"""So many of the last attempts are looked at: some milliseconds."""

_JOBS: Final = 3
_CALLS: Final = 500
"""So many of the latest calls of each of a skeleton's latest jobs are looked at, and of single ones."""

_ANSWERED: Final = (AttemptState.OK.value, AttemptState.TRUNCATED.value)
_TIMED: Final = (*_ANSWERED, AttemptState.UNKNOWN.value)
"""A request that was never answered took its time as well; one that failed at once says nothing."""


def latencies(connection: Connection, since_us: int) -> dict[Target, float]:
    """The mean latency in seconds of each target's latest answers, if there are any since then."""
    latest = select(t.ATTEMPTS).order_by(t.ATTEMPTS.c.id.desc()).limit(LATEST).subquery().c
    query = (
        select(latest.provider, latest.model, func.avg(latest.latency_us))
        .where(
            latest.started_us >= since_us,
            latest.state.in_(_TIMED),
            latest.latency_us.is_not(None),
            # A stream that its caller gave up took as long as the caller liked.
            func.coalesce(latest.cost_basis, "") != Basis.ESTIMATED.value,
        )
        .group_by(latest.provider, latest.model)
    )
    return {Target(provider, model): float(mean) / 1e6 for provider, model, mean in connection.execute(query)}


def output_tokens(connection: Connection, template_digest: str) -> dict[Target | None, float]:
    """The mean output tokens of a skeleton's latest answers by target, and under None over all.

    A pack is as many answers as it has items.
    """
    latest = select(t.ATTEMPTS).order_by(t.ATTEMPTS.c.id.desc()).limit(LATEST).subquery().c
    items = func.coalesce(t.CALLS.c.pack_items, 1)
    query = (
        select(latest.provider, latest.model, func.sum(latest.output_tokens), func.sum(items))
        .join(t.CALLS, t.CALLS.c.id == latest.call_id)
        .where(
            t.CALLS.c.template_digest == template_digest,
            latest.state.in_(_ANSWERED),
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


def of_skeleton(connection: Connection, template_digest: str) -> list[Seen]:
    """The latest attempts with a version of a skeleton: those of its last jobs, and single calls."""
    return _seen(
        connection, t.CALLS.c.template_digest == template_digest, t.JOBS.c.template_digest == template_digest
    )


def of_other_versions(connection: Connection, name: str) -> list[Seen]:
    """The latest attempts with any version of a skeleton."""
    calls, jobs = t.CALLS.c.template_ref, t.JOBS.c.template_ref
    return _seen(
        connection,
        calls.startswith(f"{name}@", autoescape=True) | (calls == name),
        jobs.startswith(f"{name}@", autoescape=True) | (jobs == name),
    )


def _seen(connection: Connection, of_calls: ColumnElement[bool], of_jobs: ColumnElement[bool]) -> list[Seen]:
    jobs = select(t.JOBS.c.id).where(of_jobs).order_by(t.JOBS.c.id.desc()).limit(_JOBS)
    calls: set[int] = set()
    for job_id in connection.execute(jobs).scalars().all():
        calls.update(_latest(connection, t.CALLS.c.job_id == job_id))
    # Not by its template at once: no index leads there, and a large ledger would be read whole.
    window = select(t.CALLS).order_by(t.CALLS.c.id.desc()).limit(LATEST).subquery()
    latest = _latest(connection, t.CALLS.c.id.in_(select(window.c.id)) & of_calls)
    calls.update(latest)
    attempt = t.ATTEMPTS.c
    found: list[Seen] = []
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
            told = output if state in _ANSWERED else None
            target, waited_s = Target(provider, model), None if latency_us is None else latency_us / 1e6
            if items is None:
                found.append(
                    Seen(call, target, tokens, told, waited_s, charged, job, read or 0, written or 0)
                )
                continue
            # Of a row in a pack, only the length of its answer says something of a row alone.
            length = None if told is None else told // items
            found += [Seen(call, target, None, length, None, charged // items)] * items
    return found


def _latest(connection: Connection, which: ColumnElement[bool]) -> list[int]:
    query = select(t.CALLS.c.id).where(which).order_by(t.CALLS.c.id.desc()).limit(_CALLS)
    return list(connection.execute(query).scalars())


def _pages(ids: list[int]) -> list[list[int]]:
    return [ids[start : start + _CALLS] for start in range(0, len(ids), _CALLS)]


def variables(connection: Connection, calls: Sequence[int]) -> dict[int, Mapping[str, Json]]:
    """What calls were rendered from, where that is kept."""
    query = select(t.CALLS.c.id, t.CALLS.c.variables).where(
        t.CALLS.c.id.in_(calls), t.CALLS.c.variables.is_not(None)
    )
    return {call: read_object(text) for call, text in connection.execute(query)}
