"""`Ledger.shared`: what the processes of a machine share: circuits, rate limits, and who has attempts open."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, insert, select, update

from promptkit._util.locks import LockFile, LockFolder
from promptkit.ledger import statements as sql
from promptkit.ledger import tables as t
from promptkit.routing.health import Changes, CircuitKey, CircuitKind, Circuits, CircuitState, merged
from promptkit.routing.limits import SHARE_S, Kind, LeaseRequest, lease, lease_today
from promptkit.types import AttemptState, Fault

from .accounts import Book
from .database import Reader
from .group import State, Task, load_accounts, store_accounts
from .statements import read_json
from .writer import Writer

_ABSENT_S = 3 * SHARE_S


class LimitKey(NamedTuple):
    """The owner of a limit: a model, or with an empty model a provider, under one account."""

    provider: str
    account: str
    model: str


@dataclass(frozen=True, slots=True)
class Today:
    """A wish for requests of a day that began at `began_s` (seconds since the epoch)."""

    wanted: int
    limit: int
    began_s: float


@dataclass(frozen=True, slots=True)
class Leased:
    """When the units of each rate are free (seconds since the epoch), and how many requests of the day were given."""

    starts_s: Mapping[Kind, float]
    today: int = 0


class Shared:
    """Circuits, leases of rate limits, and owners of open attempts, as all processes see them."""

    def __init__(self, reader: Reader, writer: Writer, state: State, folder: LockFolder) -> None:
        self._reader = reader
        self._writer = writer
        self._state = state
        self._folder = folder

    def circuits(self) -> Circuits:
        """Return the circuits of all providers that aren't closed or have failures."""
        with self._reader.connect() as connection:
            return load_circuits(connection)

    def merge_circuits(self, changed: Changes, now_s: float) -> asyncio.Future[None]:
        """Merge what this process learned of the targets' circuits.

        It is queued at once: it goes into one commit with the attempt that is finished next.

        Args:
            changed: the circuits that changed.
            now_s: seconds since the epoch.

        Returns:
            A future that is done when the change is on disk.
        """
        return self._writer.submit(Task(partial(merge_circuits, changed=changed, now_s=now_s)))

    async def claim_probe(self, keys: tuple[CircuitKey, ...], now_s: float, until_s: float) -> bool:
        """Claim the probe of half-open circuits; return False if another process has it or closed one."""
        owner_id = self._state.owner_id
        return await self._writer.run(
            partial(claim_probe, keys=keys, now_s=now_s, until_s=until_s, owner_id=owner_id)
        )

    async def reset_circuits(self, provider: str, *, terminal_of: str | None = None) -> int:
        """Close the circuits of a provider by hand: all, or the terminal ones of an account; return how many."""
        return await self._writer.run(partial(reset_circuits, provider=provider, terminal_of=terminal_of))

    async def lease(
        self, limit_key: LimitKey, asks: Sequence[LeaseRequest], today: Today | None, now_s: float
    ) -> Leased:
        """Lease the next units of a target's rates, and requests of its day."""
        return await self._writer.run(
            partial(lease_units, limit_key=limit_key, asks=asks, today=today, now_s=now_s)
        )

    def join(self, limit_key: LimitKey, now_s: float) -> asyncio.Future[int]:
        """Take part in a provider's slots for a few seconds; the result is the number of processes that do."""
        owner_id = self._state.owner_id
        return self._writer.submit(Task(partial(join, limit_key=limit_key, owner_id=owner_id, now_s=now_s)))

    async def sweep(self) -> int:
        """Settle attempts whose process died, at their max cost; return how many."""
        if not self.other_owners():
            return 0
        owner_id, now_us = self._state.owner_id, self._state.now_us()
        return await self._writer.run(partial(sweep, folder=self._folder, owner_id=owner_id, now_us=now_us))

    def other_owners(self) -> tuple[int, ...]:
        """Return the ids of other processes that have attempts open, or died with them."""
        owner = t.RESERVATIONS.c.owner_id
        return self._reader.scalars(select(owner).where(owner != self._state.owner_id).distinct())


# ---------------------------------------------------------------------- circuits
_ALL = select(t.HEALTH)


def load_circuits(connection: Connection) -> Circuits:
    """Return all stored circuits. There are few: a closed circuit without failures is not stored."""
    return dict(_circuit(row) for row in connection.execute(_ALL).mappings())


def merge_circuits(connection: Connection, changed: Changes, now_s: float) -> None:
    """Merge what a process learned."""
    before = load_circuits(connection)
    after = merged(before, changed, now_s)
    _store_circuits(connection, before, after, now_s, owner_id=None)


def claim_probe(
    connection: Connection, keys: tuple[CircuitKey, ...], now_s: float, until_s: float, owner_id: int
) -> bool:
    """Claim the probe of all these circuits, or of none because another process has one."""
    before = load_circuits(connection)
    mine = {key: before[key] for key in keys if key in before}
    if any(max(state.until_s, state.probe_until_s) > now_s for state in mine.values()):
        return False
    probed = {
        key: CircuitState(state.until_s, state.fault, state.why, state.failures, until_s)
        for key, state in mine.items()
    }
    _store_circuits(connection, before, {**before, **probed}, now_s, owner_id)
    return True


def reset_circuits(connection: Connection, provider: str, terminal_of: str | None = None) -> int:
    """Close the circuits of a provider: all, or the terminal ones of an account; return how many there were."""
    column = t.HEALTH.c
    mine = column.provider == provider
    if terminal_of is not None:
        mine &= (column.circuit == CircuitKind.TERMINAL.value) & (column.account == terminal_of)
    count = len(connection.execute(select(t.HEALTH.c.circuit).where(mine)).all())
    connection.execute(delete(t.HEALTH).where(mine))
    return count


def _store_circuits(
    connection: Connection, before: Circuits, after: Circuits, now_s: float, owner_id: int | None
) -> None:
    for key in before:
        if after.get(key) != before[key]:
            column = t.HEALTH.c
            connection.execute(
                delete(t.HEALTH).where(
                    column.circuit == key.kind.value,
                    column.provider == key.provider,
                    column.account == key.account,
                    column.model == key.model,
                )
            )
    for key, state in after.items():
        if before.get(key) != state:
            connection.execute(insert(t.HEALTH), _circuit_columns(key, state, now_s, owner_id))


def _circuit_columns(
    key: CircuitKey, state: CircuitState, now_s: float, owner_id: int | None
) -> dict[str, object]:
    return {
        "circuit": key.kind.value,
        "provider": key.provider,
        "account": key.account,
        "model": key.model,
        "until_us": round(state.until_s * 1e6),
        "fault": state.fault.value,
        "why": state.why,
        "failures": state.failures,
        "probe_owner_id": owner_id if state.probe_until_s else None,
        "probe_until_us": round(state.probe_until_s * 1e6),
        "updated_us": round(now_s * 1e6),
    }


def _circuit(row: Mapping[Any, Any]) -> tuple[CircuitKey, CircuitState]:
    key = CircuitKey(CircuitKind(row["circuit"]), row["provider"], row["account"], row["model"])
    until_s, probe_until_s = row["until_us"] / 1e6, (row["probe_until_us"] or 0) / 1e6
    return key, CircuitState(until_s, Fault(row["fault"]), row["why"], row["failures"], probe_until_s)


# ---------------------------------------------------------------------- leases
def lease_units(
    connection: Connection,
    limit_key: LimitKey,
    asks: Sequence[LeaseRequest],
    today: Today | None,
    now_s: float,
) -> Leased:
    """Lease the next units of some rates, and requests of a day."""
    starts: dict[Kind, float] = {}
    for ask in asks:
        free_us, _ = _read(connection, limit_key, ask.kind) or (0, 0)
        starts[ask.kind], free_s = lease(free_us / 1e6, ask, now_s)
        _write(connection, limit_key, ask.kind, round(free_s * 1e6), 0)
    if today is None:
        return Leased(starts)
    began_us, used = _read(connection, limit_key, Kind.TODAY) or (0, 0)
    given, used = lease_today(began_us / 1e6, used, today.wanted, today.limit, today.began_s)
    _write(connection, limit_key, Kind.TODAY, round(today.began_s * 1e6), used)
    return Leased(starts, given)


def join(connection: Connection, limit_key: LimitKey, owner_id: int, now_s: float) -> int:
    """Take part in a provider's slots for a few seconds; return how many processes do."""
    column = t.LEASES.c
    mine = (*_at(limit_key, Kind.SLOTS), column.owner_id == owner_id)
    everyone = _at(limit_key, Kind.SLOTS)
    now_us, until_us = round(now_s * 1e6), round((now_s + _ABSENT_S) * 1e6)
    connection.execute(delete(t.LEASES).where(*everyone, column.at_us < now_us))
    if connection.execute(update(t.LEASES).where(*mine).values(at_us=until_us)).rowcount == 0:
        connection.execute(insert(t.LEASES), _lease_columns(limit_key, Kind.SLOTS, until_us, 0, owner_id))
    return connection.execute(select(func.count()).select_from(t.LEASES).where(*everyone)).scalar_one()


def _at(limit_key: LimitKey, kind: Kind) -> tuple[ColumnElement[bool], ...]:
    column = t.LEASES.c
    return (
        column.kind == kind.value,
        column.provider == limit_key.provider,
        column.account == limit_key.account,
        column.model == limit_key.model,
    )


def _read(connection: Connection, limit_key: LimitKey, kind: Kind) -> tuple[int, int] | None:
    query = select(t.LEASES.c.at_us, t.LEASES.c.amount).where(*_at(limit_key, kind), t.LEASES.c.owner_id == 0)
    row = connection.execute(query.with_for_update()).first()
    return None if row is None else (row[0], row[1])


def _write(connection: Connection, limit_key: LimitKey, kind: Kind, at_us: int, amount: int) -> None:
    mine = (*_at(limit_key, kind), t.LEASES.c.owner_id == 0)
    changed = connection.execute(update(t.LEASES).where(*mine).values(at_us=at_us, amount=amount))
    if changed.rowcount == 0:
        connection.execute(insert(t.LEASES), _lease_columns(limit_key, kind, at_us, amount, 0))


def _lease_columns(
    limit_key: LimitKey, kind: Kind, at_us: int, amount: int, owner_id: int
) -> dict[str, object]:
    return {
        "kind": kind.value,
        "provider": limit_key.provider,
        "account": limit_key.account,
        "model": limit_key.model,
        "owner_id": owner_id,
        "at_us": at_us,
        "amount": amount,
    }


_MARK = (
    update(t.ATTEMPTS)
    .where(t.ATTEMPTS.c.id == bindparam("key"))
    .values(
        state=AttemptState.UNKNOWN.value,
        fault=Fault.UNKNOWN_OUTCOME.value,
        detail="its process ended before the reply was recorded",
        charged_pico=bindparam("new_charged"),
        billed=1,
        ended_us=bindparam("new_ended"),
    )
)


def sweep(connection: Connection, folder: LockFolder, owner_id: int, now_us: int) -> int:
    """Settle the attempts that dead processes left open; return how many."""
    dead: list[tuple[int, LockFile]] = []
    for (owner,) in connection.execute(select(t.RESERVATIONS.c.owner_id).distinct()).all():
        lock = folder.owner(owner)
        if owner != owner_id and lock.try_lock():
            dead.append((owner, lock))
    try:
        return settle_owners(connection, [owner for owner, _ in dead], now_us)
    finally:
        # If the transaction fails, the next sweep creates the file again and finds the reservations.
        for _, lock in dead:
            lock.release()


def settle_owners(connection: Connection, owners: Iterable[int], now_us: int) -> int:
    """Mark these owners' open attempts unknown, and charge them at their max cost; return how many."""
    owned = t.RESERVATIONS.c.owner_id.in_(list(owners))
    reserved = connection.execute(
        select(t.RESERVATIONS.c.attempt_id, t.RESERVATIONS.c.max_cost_pico, t.RESERVATIONS.c.scopes).where(
            owned
        )
    ).all()
    if not reserved:
        return 0
    scopes = {attempt_id: _scopes(text) for attempt_id, _, text in reserved}
    book = Book(load_accounts(connection, {key for keys in scopes.values() for key in keys}))
    for attempt_id, max_cost_pico, _ in reserved:
        book.settle(scopes[attempt_id], max_cost_pico, max_cost_pico or 0)
    connection.execute(
        _MARK, [{"key": row[0], "new_charged": row[1] or 0, "new_ended": now_us} for row in reserved]
    )
    sql.count_unknowns(connection, [{"key": row[0]} for row in reserved])
    connection.execute(delete(t.RESERVATIONS).where(owned))
    store_accounts(connection, book, now_us)
    return len(reserved)


def _scopes(text: str) -> tuple[str, ...]:
    keys = read_json(text)
    return tuple(str(key) for key in keys) if isinstance(keys, list) else ()
