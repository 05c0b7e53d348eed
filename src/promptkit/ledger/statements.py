"""The statements of the hot path, compiled once and run in bulk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

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

from promptkit.ledger import tables as t
from promptkit.types import AttemptState, Basis, Json, Usage

from .records import AttemptEnd, AttemptStart, CallEnd, CallStart, RowEnd

Column: TypeAlias = "str | int | None"


class Bulk:
    """A Core statement that is run with many tuples of values.

    On SQLite its compiled text goes straight to the driver: Core's handling would cost more
    than SQLite itself (an insert and an update of a row: 19 us against 5).
    """

    __slots__ = ("_names", "_sql", "_statement")

    def __init__(self, statement: Insert | Update | Delete, names: Sequence[str]) -> None:
        self._statement = statement
        self._names = tuple(names)
        self._sql = _compiled(statement, names)

    def __call__(self, connection: Connection, rows: Sequence[tuple[Column, ...]]) -> None:
        """Run it once a row; nothing for no rows."""
        if not rows:
            return
        if connection.dialect.name == "sqlite":
            connection.connection.cursor().executemany(self._sql, rows)
        else:
            names = self._names
            connection.execute(self._statement, [dict(zip(names, row, strict=True)) for row in rows])


class Lookup:
    """A Core query for the one row behind a `key`, run the same way."""

    __slots__ = ("_sql", "_statement")

    def __init__(self, statement: Select[Any]) -> None:
        self._statement = statement
        self._sql = _compiled(statement, ["key"])

    def __call__(self, connection: Connection, key: Column) -> Sequence[Any] | None:
        """The row, or None."""
        if connection.dialect.name == "sqlite":
            cursor = connection.connection.cursor()
            cursor.execute(self._sql, (key,))
            return cursor.fetchone()
        return connection.execute(self._statement, {"key": key}).first()


def _compiled(statement: Insert | Update | Delete | Select[Any], names: Sequence[str]) -> str:
    compiled = statement.compile(dialect=_SQLITE, column_keys=list(names))
    if list(compiled.positiontup or ()) != list(names):
        message = f"the columns stand as {compiled.positiontup}"
        raise TypeError(message)
    return str(compiled)


_SQLITE: Final = sqlite_dialect()


def _insert(table: Table, *leave_out: str) -> Bulk:
    return Bulk(insert(table), [column.name for column in table.columns if column.name not in leave_out])


def _update(table: Table, key: str, columns: Sequence[str]) -> Bulk:
    values = {column: bindparam(f"new_{column}", type_=table.c[column].type) for column in columns}
    statement = update(table).where(table.c[key] == bindparam("key")).values(values)
    return Bulk(statement, [*(f"new_{column}" for column in columns), "key"])


def or_ignore(connection: Connection, table: Table) -> Insert:
    """An insert that leaves alone what is already there."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as postgresql_insert

        return postgresql_insert(table).on_conflict_do_nothing()
    return insert(table).prefix_with("OR IGNORE")


CALL_STARTS: Final = (
    "id",
    "template_digest",
    "template_ref",
    "prompt_digest",
    "variables",
    "tagset_id",
    "parent_id",
    "deliverable",
    "job_id",
    "row_id",
    "route",
    "pack_id",
    "pack_items",
    "share_begin",
    "share_end",
    "cache_key",
    "cached_from_id",
    "saved_pico",
    "started_us",
)


ATTEMPT_STARTS: Final = (
    "id",
    "call_id",
    "target_number",
    "number",
    "provider",
    "model",
    "state",
    "max_cost_pico",
    "charged_pico",
    "billed",
    "started_us",
)


ATTEMPT_ENDS: Final = (
    "state",
    "fault",
    "detail",
    "http_status",
    "retry_after_us",
    "served_model",
    "tier",
    "request_id",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "cost_pico",
    "cost_basis",
    "cache_saved_pico",
    "estimate_pico",
    "price_source_id",
    "charged_pico",
    "billed",
    "ended_us",
    "latency_us",
    "first_byte_us",
)


CALL_ENDS: Final = ("status", "error", "finish", "text_sha256", "flags", "ended_us")


ROW_ENDS: Final = ("state", "call_id", "error", "ended_us")


ACCOUNTS: Final = ("cap_pico", "spent_pico", "reserved_pico", "over_pico", "stopped_cap_pico", "updated_us")


insert_calls: Final = Bulk(insert(t.CALLS), CALL_STARTS)


insert_attempts: Final = Bulk(insert(t.ATTEMPTS), ATTEMPT_STARTS)


insert_holds: Final = _insert(t.HOLDS)


insert_replies: Final = _insert(t.REPLIES)


insert_budgets: Final = _insert(t.BUDGETS)


insert_rows: Final = _insert(t.ROWS)


update_attempts: Final = _update(t.ATTEMPTS, "id", ATTEMPT_ENDS)


update_calls: Final = _update(t.CALLS, "id", CALL_ENDS)


update_shares: Final = _update(t.CALLS, "id", ("share_begin", "share_end"))


update_rows: Final = _update(t.ROWS, "id", ROW_ENDS)


update_budgets: Final = _update(t.BUDGETS, "scope", ACCOUNTS)


place_rows: Final = _update(
    t.ROWS,
    "id",
    ("position", "line", "seen", "variables", "passthrough", "tagset_id", "deliverable", "parent_call_id"),
)


count_unknowns: Final = Bulk(
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
    .values(unknowns=t.ROWS.c.unknowns + literal_column("1")),
    ("key",),
)
"""Adds one to the unknown outcomes of the row that an attempt was for, or of all rows in its pack."""


delete_holds: Final = Bulk(delete(t.HOLDS).where(t.HOLDS.c.attempt_id == bindparam("key")), ("key",))


find_account: Final = Lookup(
    select(*(t.BUDGETS.c[name] for name in ACCOUNTS[:5]))
    .where(t.BUDGETS.c.scope == bindparam("key"))
    .with_for_update()  # SQLite has the whole database locked already
)


_NO_USAGE = (None,) * 6


def call_start(call: CallStart, tagset_id: int | None) -> tuple[Column, ...]:
    """For `insert_calls`."""
    return (
        call.id,
        call.template_digest,
        call.template_ref,
        call.prompt_digest,
        maybe_json(call.variables),
        tagset_id,
        call.parent_id,
        call.deliverable,
        call.job_id,
        call.row_id,
        call.route,
        call.pack_id,
        call.pack_items,
        None if call.share is None else call.share.begin,
        None if call.share is None else call.share.end,
        call.cache_key,
        call.cached_from_id,
        call.saved_pico,
        call.started_us,
    )


def attempt_start(attempt: AttemptStart) -> tuple[Column, ...]:
    """For `insert_attempts`."""
    return (
        attempt.id,
        attempt.call_id,
        attempt.target_number,
        attempt.number,
        attempt.target.provider,
        attempt.target.model,
        AttemptState.OPEN.value,
        attempt.max_cost_pico,
        0,
        0,
        attempt.started_us,
    )


def attempt_end(end: AttemptEnd, price_source_id: int | None) -> tuple[Column, ...]:
    """For `update_attempts`."""
    cost, estimate = end.cost, end.estimate
    usage = end.usage if estimate is None else estimate.usage
    basis = Basis.ESTIMATED if estimate is not None else None if cost is None else cost.basis
    return (
        end.state.value,
        None if end.fault is None else end.fault.value,
        storable(end.detail) or None,
        end.http_status,
        end.retry_after_us,
        end.served_model,
        end.tier,
        end.request_id,
        *(_NO_USAGE if usage is None else _usage(usage)),
        None if cost is None else cost.pico,
        None if basis is None else basis.value,
        None if cost is None else cost.cache_saved_pico,
        None if estimate is None else estimate.pico,
        price_source_id,
        end.charged_pico,
        int(end.billed),
        end.ended_us,
        end.latency_us,
        end.first_byte_us,
        end.id,
    )


def _usage(usage: Usage) -> tuple[int, ...]:
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
        usage.reasoning_tokens,
    )


def call_end(end: CallEnd) -> tuple[Column, ...]:
    """For `update_calls`."""
    return (
        end.status.value,
        None if end.error is None else storable(end.error),
        None if end.finish is None else end.finish.value,
        end.text_sha256,
        to_json(end.flags) if end.flags else None,
        end.ended_us,
        end.id,
    )


def share(end: CallEnd) -> tuple[Column, ...]:
    """For `update_shares`."""
    assert end.share is not None  # noqa: S101 - who has none isn't asked
    return (end.share.begin, end.share.end, end.id)


def row_end(end: RowEnd) -> tuple[Column, ...]:
    """For `update_rows`."""
    error = None if end.error is None else storable(end.error)
    return (end.state.value, end.call_id, error, end.ended_us, end.id)


@lru_cache(maxsize=1024)
def scope_keys(keys: tuple[str, ...]) -> str:
    """For `holds.scopes`: a night has few sets of scopes and many holds."""
    return to_json(keys)


def reply(call_id: int, attempt_id: int | None, text: str) -> tuple[Column, ...]:
    """For `insert_replies`."""
    return (call_id, attempt_id, storable(text))


_INTERNED_AT_MOST: Final = 10_000


_MASK: Final = (1 << 63) - 1


def storable(text: str) -> str:
    """The text, with what UTF-8 or a database can't hold (lone surrogates, NUL) replaced."""
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
    """Compact JSON, in the order given. NaN and infinity are refused: JSON has none."""
    return storable(
        json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain)
    )


def maybe_json(value: object | None) -> str | None:
    """The same, None for None."""
    return None if value is None else to_json(value)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - json checks it
    message = f"{type(value).__name__} is not JSON"
    raise TypeError(message)


def read_json(text: str) -> Json:
    """The value behind a column."""
    return json.loads(text)


def read_object(text: str | None) -> dict[str, Json]:
    """The object behind a column; empty where there is none."""
    value = {} if text is None else read_json(text)
    return value if isinstance(value, dict) else {}


def digest_id(text: str) -> int:
    """63 bits of the text's SHA-256: the same in every process, so nobody has to ask."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") & _MASK


class TagIds:
    """Ids of tag sets, remembered; forgotten when there are many, so memory stays flat."""

    __slots__ = ("_ids",)

    def __init__(self) -> None:
        self._ids: dict[frozenset[tuple[str, str]], int] = {}

    def __call__(self, tags: Mapping[str, str]) -> tuple[int, str | None]:
        """The id of a set, and its canonical JSON where it may not be on disk yet."""
        known = self._ids.get(frozenset(tags.items()))
        if known is not None:
            return known, None
        text = to_json(dict(sorted(tags.items())))
        return digest_id(text), text

    def remember(self, sets: Mapping[int, str]) -> None:
        """These are on disk."""
        if len(self._ids) > _INTERNED_AT_MOST:
            self._ids.clear()
        for number, text in sets.items():
            tags = {str(name): str(value) for name, value in read_object(text).items()}
            self._ids[frozenset(tags.items())] = number
