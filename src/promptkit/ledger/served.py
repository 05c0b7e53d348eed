"""Replies that may serve again, and the targets of those that did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import Connection, or_, select

from promptkit.routing.reply_cache import CachedReply
from promptkit.types import AttemptState, Status, Target

from . import tables as t

REJECTED: Final = "reject"
"""The verdict of somebody who threw a reply away."""

_AT_MOST: Final = 32
"""So many of the newest are looked at: one call's replies by the targets of its route."""


def replies(connection: Connection, key: int, prompt_digest: str, since_us: int) -> tuple[CachedReply, ...]:
    """Whole replies to the same call since then, the newest first.

    Only those that a target gave for it (not ones that were served), that nobody rejected or had
    forgotten, and whose text is kept.
    """
    call, attempt = t.CALLS.c, t.ATTEMPTS.c
    query = (
        select(
            call.id,
            t.REPLIES.c.text,
            attempt.provider,
            attempt.model,
            attempt.served_model,
            attempt.cost_pico,
        )
        .select_from(t.CALLS)
        .join(t.REPLIES, t.REPLIES.c.call_id == call.id)
        .join(t.ATTEMPTS, attempt.id == t.REPLIES.c.attempt_id)
        .where(
            call.cache_key == key,
            call.prompt_digest == prompt_digest,
            call.ended_us >= since_us,
            call.status == Status.OK.value,
            attempt.state == AttemptState.OK.value,
            call.flags.is_(None),
            call.forgotten_us.is_(None),
            or_(call.verdict.is_(None), call.verdict != REJECTED),
        )
        .order_by(call.id.desc())
        .limit(_AT_MOST)
    )
    return tuple(
        CachedReply(call_id, Target(provider, model), text, served, cost)
        for call_id, text, provider, model, served, cost in connection.execute(query)
    )


def targets(connection: Connection, cached_from: Iterable[int | None]) -> Mapping[int, Target]:
    """Who gave the replies of these calls; those that are None are left out."""
    ids = {call_id for call_id in cached_from if call_id is not None}
    if not ids:
        return {}
    attempt = t.ATTEMPTS.c
    query = select(attempt.call_id, attempt.provider, attempt.model).where(
        attempt.call_id.in_(ids), attempt.state == AttemptState.OK.value
    )
    return {call_id: Target(provider, model) for call_id, provider, model in connection.execute(query)}
