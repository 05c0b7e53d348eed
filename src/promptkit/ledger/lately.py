"""What the latest attempts were like, for the strategies of routes: a bounded look, however large the ledger is."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, func, select

from promptkit.types import AttemptState, Basis, Target

from . import tables as t

LATEST: Final = 1_000
"""So many of the last attempts are looked at: some milliseconds."""

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
    """The mean output tokens of a skeleton's latest answers by target, and under None over all."""
    latest = select(t.ATTEMPTS).order_by(t.ATTEMPTS.c.id.desc()).limit(LATEST).subquery().c
    query = (
        select(latest.provider, latest.model, func.sum(latest.output_tokens), func.count())
        .join(t.CALLS, t.CALLS.c.id == latest.call_id)
        .where(
            t.CALLS.c.template_digest == template_digest,
            latest.state.in_(_ANSWERED),
            latest.output_tokens.is_not(None),
        )
        .group_by(latest.provider, latest.model)
    )
    sums = {
        Target(provider, model): (int(total), count)
        for provider, model, total, count in connection.execute(query)
    }
    means: dict[Target | None, float] = {target: total / count for target, (total, count) in sums.items()}
    if sums:
        means[None] = sum(total for total, _ in sums.values()) / sum(count for _, count in sums.values())
    return means
