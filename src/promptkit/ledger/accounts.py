"""The accounts of `budgets`, read at the start of a group and written at its end."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select

from . import statements as sql
from . import tables as t
from .admission import Account, Book

_COLUMNS = t.BUDGETS.c
_SELECT = select(
    _COLUMNS.scope,
    _COLUMNS.cap_pico,
    _COLUMNS.spent_pico,
    _COLUMNS.held_pico,
    _COLUMNS.over_pico,
    _COLUMNS.stopped_cap_pico,
).with_for_update()  # SQLite has the whole database locked already


def load(connection: Connection, scopes: Collection[str]) -> dict[str, Account]:
    """These scopes' accounts; those that aren't there yet are left out."""
    if not scopes:
        return {}
    rows = connection.execute(_SELECT.where(_COLUMNS.scope.in_(sorted(scopes))))
    return {row[0]: Account(row[1], row[2], row[3], row[4], row[5]) for row in rows}


def store(connection: Connection, book: Book, now_us: int) -> None:
    """Write what changed."""
    new, changed = book.new(), book.changed()
    sql.insert_budgets(connection, [(key, *_columns(account, now_us)) for key, account in new.items()])
    sql.update_budgets(connection, [(*_columns(account, now_us), key) for key, account in changed.items()])


def _columns(account: Account, now_us: int) -> tuple[sql.Column, ...]:
    return (
        account.cap_pico,
        account.spent_pico,
        account.held_pico,
        account.over_pico,
        account.stopped_cap_pico,
        now_us,
    )
