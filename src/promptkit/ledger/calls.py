"""Columns back into records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Connection, func, or_, select

from promptkit._util.shares import WHOLE, Share
from promptkit.ledger import tables as t
from promptkit.routing.reply_cache import CachedReply
from promptkit.types import AttemptState, Basis, Cost, Estimate, Fault, Finish, Status, Target, Usage

from .group import UNCAPPED, Account
from .records import (
    AttemptRecord,
    BudgetRecord,
    CallRecord,
    LogFilter,
    LoggedCall,
    Money,
    RowRecord,
    RowState,
)
from .statements import ACCOUNTS, read_json, read_object

_Word = TypeVar("_Word", bound=StrEnum)


def tags_of(text: str | None) -> Mapping[str, str]:
    """Tags from their JSON; none for none."""
    return {name: str(value) for name, value in read_object(text).items()}


def flags_of(text: str | None) -> tuple[str, ...]:
    """A call's flags from their JSON."""
    found = None if text is None else read_json(text)
    return tuple(map(str, found)) if isinstance(found, list) else ()


def row_record(row: Mapping[Any, Any]) -> RowRecord:
    """A row from its columns and its `tags`."""
    return RowRecord(
        id=row["id"],
        job_id=row["job_id"],
        key=row["row_key"],
        ordinal=row["ordinal"],
        generation=row["generation"],
        position=row["position"],
        line=row["line"],
        state=RowState(row["state"]),
        variables=None if row["variables"] is None else read_object(row["variables"]),
        passthrough=None if row["passthrough"] is None else read_object(row["passthrough"]),
        tags=tags_of(row["tags"]),
        deliverable=row["deliverable"],
        parent_call_id=row["parent_call_id"],
        redo_of_id=row["redo_of_id"],
        canary=bool(row["canary"]),
        unknowns=row["unknowns"],
        call_id=row["call_id"],
        error=row["error"],
    )


def attempt_record(row: Mapping[Any, Any]) -> AttemptRecord:
    """An attempt from its columns and its price `source`; of a pack, the part that the call has in it."""
    part = share_of(row) or WHOLE
    usage = _usage(row, part)
    estimated = row["cost_basis"] == Basis.ESTIMATED
    return AttemptRecord(
        id=row["id"],
        call_id=row["of_call"],
        target_number=row["target_number"],
        number=row["number"],
        target=Target(row["provider"], row["model"]),
        state=AttemptState(row["state"]),
        fault=None if row["fault"] is None else Fault(row["fault"]),
        detail=row["detail"] or "",
        http_status=row["http_status"],
        retry_after_us=row["retry_after_us"],
        usage=None if estimated else usage,
        cost=_cost(row, part),
        max_cost_pico=_part(part, row["max_cost_pico"]),
        charged_pico=part.of(row["charged_pico"]),
        billed=bool(row["billed"]),
        served_model=row["served_model"],
        tier=row["tier"],
        request_id=row["request_id"],
        started_us=row["started_us"],
        ended_us=row["ended_us"],
        latency_us=row["latency_us"],
        first_byte_us=row["first_byte_us"],
        estimate=Estimate(usage, _part(part, row["estimate_pico"]))
        if estimated and usage is not None
        else None,
    )


def share_of(row: Mapping[Any, Any]) -> Share | None:
    """The part that a call has in its pack; None for one of its own."""
    return None if row["share_begin"] is None else Share(row["share_begin"], row["share_end"])


def _part(part: Share, amount: int | None) -> int | None:
    return None if amount is None else part.of(amount)


def _usage(row: Mapping[Any, Any], part: Share) -> Usage | None:
    if row["input_tokens"] is None:
        return None
    return Usage(
        input_tokens=part.of(row["input_tokens"]),
        output_tokens=part.of(row["output_tokens"]),
        cache_read_tokens=part.of(row["cache_read_tokens"]),
        cache_write_tokens=part.of(row["cache_write_tokens"]),
        cache_write_1h_tokens=part.of(row["cache_write_1h_tokens"]),
        reasoning_tokens=part.of(row["reasoning_tokens"]),
    )


def _cost(row: Mapping[Any, Any], part: Share) -> Cost | None:
    if row["cost_pico"] is None:
        return None
    saved = part.of(row["cache_saved_pico"] or 0)
    return Cost(part.of(row["cost_pico"]), row["source"], Basis(row["cost_basis"]), saved)


def money(attempts: Iterable[AttemptRecord]) -> Money:
    """The sum over attempts."""
    total = Money()
    for attempt in attempts:
        cost = attempt.cost
        known = 0 if cost is None else cost.pico
        total = total + Money(known, attempt.charged_pico, int(cost is None), 1)
    return total


def target_of(attempts: Sequence[AttemptRecord]) -> Target | None:
    """Which target a call ended on; None where none was asked."""
    return attempts[-1].target if attempts else None


def maybe(kind: type[_Word], value: str | None) -> _Word | None:
    """A word from its column; None for NULL."""
    return None if value is None else kind(value)


def logged_call(
    row: Mapping[Any, Any], attempts: Sequence[AttemptRecord], origin: Target | None
) -> LoggedCall:
    """A call in short, from its columns, its attempts, and the target that it was served from."""
    last = attempts[-1] if attempts else None
    usage = None if last is None else last.usage
    return LoggedCall(
        id=row["id"],
        started_us=row["started_us"],
        ended_us=row["ended_us"],
        template_ref=row["template_ref"],
        status=maybe(Status, row["status"]),
        error=row["error"],
        target=target_of(attempts) or origin,
        faults=tuple(attempt.fault for attempt in attempts if attempt.fault is not None),
        flags=flags_of(row["flags"]),
        input_tokens=None if usage is None else usage.input_tokens,
        output_tokens=None if usage is None else usage.output_tokens,
        money=money(attempts),
        tags=tags_of(row["tags"]),
        job=row["job"],
        key=row["row_key"],
        verdict=row["verdict"],
        pack_id=row["pack_id"],
        pack_items=row["pack_items"],
        cached_from_id=row["cached_from_id"],
        saved_pico=row["saved_pico"],
    )


def call_record(row: Mapping[Any, Any], attempts: tuple[AttemptRecord, ...]) -> CallRecord:
    """A call in full, from its columns and its attempts."""
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
        status=maybe(Status, row["status"]),
        error=row["error"],
        finish=maybe(Finish, row["finish"]),
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
        pack_id=row["pack_id"],
        pack_items=row["pack_items"],
        share=share_of(row),
    )


def budget_record(row: Mapping[Any, Any]) -> BudgetRecord:
    """A scope from its columns."""
    account = Account(**{name: row[name] for name in ACCOUNTS[:5]})
    return BudgetRecord(
        scope=row["scope"],
        cap_pico=None if account.cap_pico == UNCAPPED else account.cap_pico,
        spent_pico=row["spent_pico"],
        reserved_pico=row["reserved_pico"],
        over_pico=row["over_pico"],
        stopped=account.stopped,
        updated_us=row["updated_us"],
        stopped_cap_pico=account.stopped_cap_pico,
    )


def carrier() -> ColumnElement[int]:
    """The call whose attempts a call's are: its own, or that of the pack that it went in."""
    return func.coalesce(t.CALLS.c.pack_id, t.CALLS.c.id)


def conditions(where: LogFilter) -> list[ColumnElement[bool]]:
    """What a call must fulfil; all of it."""
    call, found = t.CALLS.c, list[ColumnElement[bool]]()
    if where.text is not None:
        like = {"autoescape": True}
        replies = select(t.REPLIES.c.call_id).where(t.REPLIES.c.text.icontains(where.text, **like))
        found.append(
            or_(
                call.variables.icontains(where.text, **like),
                call.error.icontains(where.text, **like),
                call.id.in_(replies),
            )
        )
    if where.key is not None:
        found.append(call.row_id.in_(select(t.ROWS.c.id).where(t.ROWS.c.row_key == where.key)))
    if where.template is not None:
        named = call.template_ref.startswith(f"{where.template}@", autoescape=True)
        found.append(or_(call.template_ref == where.template, named))
    if where.job is not None:
        found.append(call.job_id.in_(select(t.JOBS.c.id).where(t.JOBS.c.name == where.job)))
    if where.since_us is not None:
        found.append(call.started_us >= where.since_us)
    if where.verdict is not None:
        found.append(call.pack_items.is_(None))  # it has no text of its own
        found.append(call.verdict.is_(None) if where.verdict == "none" else call.verdict == where.verdict)
    for name, value in where.tags.items():
        tagged = select(t.TAGS.c.tagset_id).where(t.TAGS.c.name == name, t.TAGS.c.value == value)
        found.append(call.tagset_id.in_(tagged))
    attempted = _attempted(where)
    if attempted:
        calls = select(t.ATTEMPTS.c.call_id).where(*attempted)
        by = or_(call.id.in_(calls), call.pack_id.in_(calls))
        # What served from the cache came from the target, but met no fault of it.
        found.append(by if where.fault is not None else or_(by, call.cached_from_id.in_(calls)))
    return found


def _attempted(where: LogFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if where.target is not None:
        provider, slash, model = where.target.partition("/")
        found.append(t.ATTEMPTS.c.provider == provider)
        if slash:
            found.append(t.ATTEMPTS.c.model == model)
    if where.fault is not None:
        found.append(t.ATTEMPTS.c.fault == where.fault.value)
    return found


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
