"""The statements of the hot path, compiled once and run in bulk."""

from __future__ import annotations

from collections.abc import Sequence
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

from . import tables as t

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
    "hop",
    "number",
    "provider",
    "model",
    "state",
    "ceiling_pico",
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
ACCOUNTS: Final = ("cap_pico", "spent_pico", "held_pico", "over_pico", "stopped_cap_pico", "updated_us")

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
