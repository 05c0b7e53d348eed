"""Attempts that died with their process: found by its free lock, settled at their ceilings."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, delete, select, update

from promptkit.types import AttemptState, Fault

from . import statements as sql
from . import tables as t
from .accounts import load, store
from .admission import Book
from .encoding import read_json
from .locks import LockFile, LockFolder

_MARK = (
    update(t.ATTEMPTS)
    .where(t.ATTEMPTS.c.id == bindparam("key"))
    .values(
        state=AttemptState.UNKNOWN.value,
        fault=Fault.UNKNOWN_OUTCOME.value,
        detail="its process ended before the answer was recorded",
        charged_pico=bindparam("new_charged"),
        billed=1,
        ended_us=bindparam("new_ended"),
    )
)


def sweep(connection: Connection, folder: LockFolder, owner_id: int, now_us: int) -> int:
    """Settle what dead processes left open; returns how many attempts that were."""
    dead: list[tuple[int, LockFile]] = []
    for (owner,) in connection.execute(select(t.HOLDS.c.owner_id).distinct()).all():
        lock = folder.owner(owner)
        if owner != owner_id and lock.try_lock():
            dead.append((owner, lock))
    try:
        return settle_owners(connection, [owner for owner, _ in dead], now_us)
    finally:
        # Should the transaction fail, the next sweep makes the file again and finds the holds.
        for _, lock in dead:
            lock.release()


def settle_owners(connection: Connection, owners: Iterable[int], now_us: int) -> int:
    """Mark these owners' open attempts unknown, and charge them at their ceilings."""
    owned = t.HOLDS.c.owner_id.in_(list(owners))
    holds = connection.execute(
        select(t.HOLDS.c.attempt_id, t.HOLDS.c.ceiling_pico, t.HOLDS.c.scopes).where(owned)
    ).all()
    if not holds:
        return 0
    scopes = {attempt_id: _scopes(text) for attempt_id, _, text in holds}
    book = Book(load(connection, {key for keys in scopes.values() for key in keys}))
    for attempt_id, ceiling_pico, _ in holds:
        book.settle(scopes[attempt_id], ceiling_pico, ceiling_pico or 0)
    connection.execute(
        _MARK, [{"key": row[0], "new_charged": row[1] or 0, "new_ended": now_us} for row in holds]
    )
    sql.count_unknowns(connection, [(row[0],) for row in holds])
    connection.execute(delete(t.HOLDS).where(owned))
    store(connection, book, now_us)
    return len(holds)


def _scopes(text: str) -> tuple[str, ...]:
    keys = read_json(text)
    return tuple(str(key) for key in keys) if isinstance(keys, list) else ()
