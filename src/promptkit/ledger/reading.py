"""Records made from the columns of a query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from promptkit._util.shares import WHOLE, Share
from promptkit.types import AttemptState, Basis, Cost, Estimate, Fault, Finish, Status, Target, Usage

from .accounts import UNCAPPED, Account
from .records import (
    AttemptRecord,
    BudgetRecord,
    CallRecord,
    JobRecord,
    JobState,
    LoggedCall,
    Money,
    OutputRow,
    RowRecord,
    RowState,
)
from .statements import ACCOUNT_COLUMNS, read_json, read_object

EnumT = TypeVar("EnumT", bound=StrEnum)


def job_record(row: Mapping[Any, Any]) -> JobRecord:
    """Return a job from its columns."""
    names = read_json(row["columns"])
    schema = row["output_schema"]
    return JobRecord(
        id=row["id"],
        name=row["name"],
        state=JobState(row["state"]),
        template_digest=row["template_digest"],
        template_ref=row["template_ref"],
        route=row["route"],
        params=read_object(row["params"]),
        schema=None if schema is None else read_object(schema),
        options=read_object(row["options"]),
        columns=tuple(str(name) for name in names) if isinstance(names, list) else (),
        key_column=row["key_column"],
        input_path=row["input_path"],
        input_sha256=row["input_sha256"],
        output_path=row["output_path"],
        ingest=row["ingest"],
        ingested_us=row["ingested_us"],
        redo_of_id=row["redo_of_id"],
        note=row["note"],
        created_us=row["created_us"],
        ended_us=row["ended_us"],
    )


def row_record(row: Mapping[Any, Any]) -> RowRecord:
    """Return a row from its columns and its `tags`."""
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


def output_row(
    row: Mapping[Any, Any], attempts: Sequence[AttemptRecord], cached_from: Target | None
) -> OutputRow:
    """Return a row with its result, from its columns, the attempts for it and its reply's first target."""
    last_call = [attempt for attempt in attempts if attempt.call_id == row["call_id"]]
    usage = last_call[-1].usage if last_call else None
    return OutputRow(
        row=row_record(row),
        status=maybe(Status, row["status"]),
        text=row["text"],
        error=row["error"],
        finish=maybe(Finish, row["finish"]),
        flags=flags_of(row["flags"]),
        template_ref=row["template_ref"],
        target=target_of(last_call) or cached_from,
        input_tokens=None if usage is None else usage.input_tokens,
        output_tokens=None if usage is None else usage.output_tokens,
        money=money(attempts),
    )


def attempt_record(row: Mapping[Any, Any]) -> AttemptRecord:
    """Return an attempt from its columns and its price `source`; of a pack's attempt, the call's part."""
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
        fault=maybe(Fault, row["fault"]),
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


def _part(part: Share, amount: int | None) -> int | None:
    return None if amount is None else part.of(amount)


def logged_call(
    row: Mapping[Any, Any], attempts: Sequence[AttemptRecord], cached_from: Target | None
) -> LoggedCall:
    """Return a call in short, from its columns, its attempts and the target of a cached reply."""
    usage = attempts[-1].usage if attempts else None
    return LoggedCall(
        id=row["id"],
        started_us=row["started_us"],
        ended_us=row["ended_us"],
        template_ref=row["template_ref"],
        status=maybe(Status, row["status"]),
        error=row["error"],
        target=target_of(attempts) or cached_from,
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
    """Return a call in full, from its columns and its attempts."""
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
    """Return a scope's money from its columns."""
    account = Account(**{name: row[name] for name in ACCOUNT_COLUMNS})
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


def tags_of(text: str | None) -> Mapping[str, str]:
    """Return tags from their JSON; none for NULL."""
    return {name: str(value) for name, value in read_object(text).items()}


def flags_of(text: str | None) -> tuple[str, ...]:
    """Return a call's flags from their JSON."""
    names = None if text is None else read_json(text)
    return tuple(map(str, names)) if isinstance(names, list) else ()


def share_of(row: Mapping[Any, Any]) -> Share | None:
    """Return the part that a call has in its pack; None for a call with a request of its own."""
    return None if row["share_begin"] is None else Share(row["share_begin"], row["share_end"])


def target_of(attempts: Sequence[AttemptRecord]) -> Target | None:
    """Return the target of a call's last attempt; None if it has no attempts."""
    return attempts[-1].target if attempts else None


def money(attempts: Iterable[AttemptRecord]) -> Money:
    """Return the sum over attempts."""
    total = Money()
    for attempt in attempts:
        cost = attempt.cost
        known = 0 if cost is None else cost.pico
        total = total + Money(known, attempt.charged_pico, int(cost is None), 1)
    return total


def maybe(kind: type[EnumT], value: str | None) -> EnumT | None:
    """Return the member of an enum from its column; None for NULL."""
    return None if value is None else kind(value)
