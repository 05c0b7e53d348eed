"""The statements of every call, compiled once and run in bulk, and how values become columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from sqlalchemy import (
    Connection,
    Delete,
    Insert,
    Select,
    Table,
    Update,
    bindparam,
    delete,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect

from promptkit._util.text import sha256_text
from promptkit.ledger import tables as t
from promptkit.types import AttemptState, Basis, Json

from .records import AttemptEnd, AttemptStart, CallEnd, CallStart, RowEnd

Column: TypeAlias = "str | int | None"
Row: TypeAlias = "dict[str, Column]"


class Bulk:
    """A statement that is run with many rows, each a mapping of its parameters; all rows have the same keys.

    On SQLite the compiled text goes straight to the driver: SQLAlchemy's own handling would cost
    more than SQLite itself (an insert and an update of a row: 19 us against 5).
    """

    __slots__ = ("_names", "_sql", "_statement")

    def __init__(self, statement: Insert | Update | Delete) -> None:
        self._statement = statement
        self._names: list[str] = []
        self._sql = ""

    def __call__(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Run it once per row; not at all without rows."""
        if not rows:
            return
        if connection.dialect.name != "sqlite":
            connection.execute(self._statement, rows)
            return
        names = list(rows[0])
        if not self._sql:
            compiled = self._statement.compile(dialect=_SQLITE, column_keys=names)
            self._names, self._sql = list(compiled.positiontup or ()), str(compiled)
        if names == self._names:  # the quick way: the rows of every call are in the table's order
            values = [tuple(row.values()) for row in rows]
        else:
            values = [tuple([row[name] for name in self._names]) for row in rows]
        connection.connection.cursor().executemany(self._sql, values)


class Lookup:
    """A query for the one row behind a `key`, run the same way."""

    __slots__ = ("_sql", "_statement")

    def __init__(self, statement: Select[Any]) -> None:
        self._statement = statement
        self._sql = str(statement.compile(dialect=_SQLITE))

    def __call__(self, connection: Connection, key: Column) -> Sequence[Any] | None:
        """Return the row, or None."""
        if connection.dialect.name == "sqlite":
            cursor = connection.connection.cursor()
            cursor.execute(self._sql, (key,))
            return cursor.fetchone()
        return connection.execute(self._statement, {"key": key}).first()


_SQLITE = sqlite_dialect()


def _update(table: Table, key: str = "id") -> Bulk:
    """Return the update of one row per mapping: its `key` names the row, its other keys are columns."""
    return Bulk(update(table).where(table.c[key] == bindparam("key")))


def or_ignore(connection: Connection, table: Table) -> Insert:
    """Return an insert that skips rows whose key exists."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as postgresql_insert

        return postgresql_insert(table).on_conflict_do_nothing()
    return insert(table).prefix_with("OR IGNORE")


ACCOUNT_COLUMNS = ("cap_pico", "spent_pico", "reserved_pico", "over_pico", "stopped_cap_pico")


insert_calls = Bulk(insert(t.CALLS))
insert_attempts = Bulk(insert(t.ATTEMPTS))
insert_reservations = Bulk(insert(t.RESERVATIONS))
insert_replies = Bulk(insert(t.REPLIES))
insert_budgets = Bulk(insert(t.BUDGETS))
insert_rows = Bulk(insert(t.ROWS))

update_attempts = _update(t.ATTEMPTS)
update_calls = _update(t.CALLS)
update_shares = _update(t.CALLS)
update_rows = _update(t.ROWS)
update_budgets = _update(t.BUDGETS, "scope")
place_rows = _update(t.ROWS)

count_unknowns = Bulk(
    update(t.ROWS)
    .where(
        t.ROWS.c.id.in_(
            select(t.CALLS.c.row_id)
            .join(
                t.ATTEMPTS,
                or_(t.CALLS.c.id == t.ATTEMPTS.c.call_id, t.CALLS.c.pack_id == t.ATTEMPTS.c.call_id),
            )
            .where(t.ATTEMPTS.c.id == bindparam("key"), t.CALLS.c.row_id.is_not(None))
        )
    )
    .values(unknowns=t.ROWS.c.unknowns + literal_column("1"))
)
"""Adds one to the unknown outcomes of the row of an attempt, or of all rows in its pack."""

delete_reservations = Bulk(delete(t.RESERVATIONS).where(t.RESERVATIONS.c.attempt_id == bindparam("key")))

find_account = Lookup(
    select(*(t.BUDGETS.c[name] for name in ACCOUNT_COLUMNS))
    .where(t.BUDGETS.c.scope == bindparam("key"))
    .with_for_update()  # SQLite has the whole database locked already
)


def call_start(call: CallStart, tagset_id: int | None) -> Row:
    """Return the row of `insert_calls`."""
    return {
        "id": call.id,
        "template_digest": call.template_digest,
        "template_ref": call.template_ref,
        "prompt_digest": call.prompt_digest,
        "variables": maybe_json(call.variables),
        "tagset_id": tagset_id,
        "parent_id": call.parent_id,
        "deliverable": call.deliverable,
        "job_id": call.job_id,
        "row_id": call.row_id,
        "route": call.route,
        "pack_id": call.pack_id,
        "pack_items": call.pack_items,
        "share_begin": None if call.share is None else call.share.begin,
        "share_end": None if call.share is None else call.share.end,
        "cache_key": call.cache_key,
        "cached_from_id": call.cached_from_id,
        "saved_pico": call.saved_pico,
        "started_us": call.started_us,
    }


def attempt_start(attempt: AttemptStart) -> Row:
    """Return the row of `insert_attempts`."""
    return {
        "id": attempt.id,
        "call_id": attempt.call_id,
        "target_number": attempt.target_number,
        "number": attempt.number,
        "provider": attempt.target.provider,
        "model": attempt.target.model,
        "state": AttemptState.OPEN.value,
        "max_cost_pico": attempt.max_cost_pico,
        "charged_pico": 0,
        "billed": 0,
        "started_us": attempt.started_us,
    }


def attempt_end(end: AttemptEnd, price_source_id: int | None) -> Row:
    """Return the row of `update_attempts`."""
    cost, estimate = end.cost, end.estimate
    usage = end.usage if estimate is None else estimate.usage
    basis = Basis.ESTIMATED if estimate is not None else None if cost is None else cost.basis
    return {
        "state": end.state.value,
        "fault": None if end.fault is None else end.fault.value,
        "detail": storable(end.detail) or None,
        "http_status": end.http_status,
        "retry_after_us": end.retry_after_us,
        "served_model": end.served_model,
        "tier": end.tier,
        "request_id": end.request_id,
        "input_tokens": None if usage is None else usage.input_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
        "cache_read_tokens": None if usage is None else usage.cache_read_tokens,
        "cache_write_tokens": None if usage is None else usage.cache_write_tokens,
        "cache_write_1h_tokens": None if usage is None else usage.cache_write_1h_tokens,
        "reasoning_tokens": None if usage is None else usage.reasoning_tokens,
        "cost_pico": None if cost is None else cost.pico,
        "cost_basis": None if basis is None else basis.value,
        "cache_saved_pico": None if cost is None else cost.cache_saved_pico,
        "estimate_pico": None if estimate is None else estimate.pico,
        "price_source_id": price_source_id,
        "charged_pico": end.charged_pico,
        "billed": int(end.billed),
        "ended_us": end.ended_us,
        "latency_us": end.latency_us,
        "first_byte_us": end.first_byte_us,
        "key": end.id,
    }


def call_end(end: CallEnd) -> Row:
    """Return the row of `update_calls`."""
    return {
        "status": end.status.value,
        "error": None if end.error is None else storable(end.error),
        "finish": None if end.finish is None else end.finish.value,
        "text_sha256": end.text_sha256,
        "flags": to_json(end.flags) if end.flags else None,
        "ended_us": end.ended_us,
        "key": end.id,
    }


def row_end(end: RowEnd) -> Row:
    """Return the row of `update_rows`."""
    return {
        "state": end.state.value,
        "call_id": end.call_id,
        "error": None if end.error is None else storable(end.error),
        "ended_us": end.ended_us,
        "key": end.id,
    }


@lru_cache(maxsize=1024)
def scope_keys(keys: tuple[str, ...]) -> str:
    """Return `reservations.scopes`: a job has few sets of scopes and many reservations."""
    return to_json(keys)


_INTERNED_AT_MOST = 10_000


_MASK = (1 << 63) - 1


def storable(text: str) -> str:
    """Return the text with characters replaced that UTF-8 or a database can't store (lone surrogates, NUL)."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def to_json(value: object) -> str:
    """Return compact JSON, in the order given.

    Raises:
        ValueError: a number is NaN or infinite, which JSON has not.
    """
    return storable(
        json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain)
    )


def maybe_json(value: object | None) -> str | None:
    """Return compact JSON; None for None."""
    return None if value is None else to_json(value)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - json checks it
    message = f"{type(value).__name__} is not JSON"
    raise TypeError(message)


def read_json(text: str) -> Json:
    """Return the value of a JSON column."""
    return json.loads(text)


def read_object(text: str | None) -> dict[str, Json]:
    """Return the object of a JSON column; an empty one for NULL."""
    value = {} if text is None else read_json(text)
    return value if isinstance(value, dict) else {}


def digest_id(text: str) -> int:
    """Return 63 bits of the text's SHA-256: the same id in every process, without a query."""
    return int(sha256_text(text)[:16], 16) & _MASK


class TagIds:
    """A cache of the ids of tag sets. It is cleared when it is large, to bound its memory."""

    __slots__ = ("_ids",)

    def __init__(self) -> None:
        self._ids: dict[frozenset[tuple[str, str]], int] = {}

    def __call__(self, tags: Mapping[str, str]) -> tuple[int, str | None]:
        """Return the id of a set, and its canonical JSON if it may not be on disk yet."""
        known = self._ids.get(frozenset(tags.items()))
        if known is not None:
            return known, None
        text = to_json(dict(sorted(tags.items())))
        return digest_id(text), text

    def remember(self, sets: Mapping[int, str]) -> None:
        """Keep the ids of sets that are on disk."""
        if len(self._ids) > _INTERNED_AT_MOST:
            self._ids.clear()
        for number, text in sets.items():
            tags = {str(name): str(value) for name, value in read_object(text).items()}
            self._ids[frozenset(tags.items())] = number
