"""The accounts of `budgets`, read at the start of a group and written at its end."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from . import statements as sql
from .admission import Account, Book


def load(connection: Connection, scopes: Collection[str]) -> dict[str, Account]:
    """These scopes' accounts; those that aren't there yet are left out."""
    # One by one, for they are few and an IN of any length costs a compilation; in order, so
    # that two processes on PostgreSQL can't lock each other out.
    rows = {key: sql.find_account(connection, key) for key in sorted(scopes)}
    return {key: Account(*row) for key, row in rows.items() if row is not None}


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
