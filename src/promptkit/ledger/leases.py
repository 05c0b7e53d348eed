"""The leases table: what of a provider's limits is given out to all processes together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from promptkit.routing.limits import SHARE_S, Ask, Kind, lease, lease_today

from . import tables as t

_ABSENT_S = 3 * SHARE_S


class Place(NamedTuple):
    """Whose limit it is: a model's, or with an empty model a provider's, under one account."""

    provider: str
    account: str
    model: str


@dataclass(frozen=True, slots=True)
class Today:
    """A wish for requests of a day that began at `began_s`."""

    wanted: int
    limit: int
    began_s: float


@dataclass(frozen=True, slots=True)
class Leased:
    """From when the units of each rate are free, and how many requests of the day were given."""

    starts_s: Mapping[Kind, float]
    today: int = 0


def take(
    connection: Connection, place: Place, asks: Sequence[Ask], today: Today | None, now_s: float
) -> Leased:
    """Lease the next units of some rates, and requests of a day."""
    starts: dict[Kind, float] = {}
    for ask in asks:
        free_us, _ = _read(connection, place, ask.kind) or (0, 0)
        starts[ask.kind], free_s = lease(free_us / 1e6, ask, now_s)
        _write(connection, place, ask.kind, round(free_s * 1e6), 0)
    if today is None:
        return Leased(starts)
    began_us, used = _read(connection, place, Kind.TODAY) or (0, 0)
    given, used = lease_today(began_us / 1e6, used, today.wanted, today.limit, today.began_s)
    _write(connection, place, Kind.TODAY, round(today.began_s * 1e6), used)
    return Leased(starts, given)


def join(connection: Connection, place: Place, owner_id: int, now_s: float) -> int:
    """Take part in a provider's slots for a few seconds; returns how many processes do."""
    column = t.LEASES.c
    mine = (*_at(place, Kind.SLOTS), column.owner_id == owner_id)
    all_of_them = _at(place, Kind.SLOTS)
    now_us, until_us = round(now_s * 1e6), round((now_s + _ABSENT_S) * 1e6)
    connection.execute(delete(t.LEASES).where(*all_of_them, column.at_us < now_us))
    if connection.execute(update(t.LEASES).where(*mine).values(at_us=until_us)).rowcount == 0:
        connection.execute(insert(t.LEASES), _columns(place, Kind.SLOTS, until_us, 0, owner_id))
    return connection.execute(select(func.count()).select_from(t.LEASES).where(*all_of_them)).scalar_one()


def _at(place: Place, kind: Kind) -> tuple[ColumnElement[bool], ...]:
    column = t.LEASES.c
    return (
        column.kind == kind.value,
        column.provider == place.provider,
        column.account == place.account,
        column.model == place.model,
    )


def _read(connection: Connection, place: Place, kind: Kind) -> tuple[int, int] | None:
    query = select(t.LEASES.c.at_us, t.LEASES.c.amount).where(*_at(place, kind), t.LEASES.c.owner_id == 0)
    row = connection.execute(query.with_for_update()).first()
    return None if row is None else (row[0], row[1])


def _write(connection: Connection, place: Place, kind: Kind, at_us: int, amount: int) -> None:
    mine = (*_at(place, kind), t.LEASES.c.owner_id == 0)
    changed = connection.execute(update(t.LEASES).where(*mine).values(at_us=at_us, amount=amount))
    if changed.rowcount == 0:
        connection.execute(insert(t.LEASES), _columns(place, kind, at_us, amount, 0))


def _columns(place: Place, kind: Kind, at_us: int, amount: int, owner_id: int) -> dict[str, object]:
    return {
        "kind": kind.value,
        "provider": place.provider,
        "account": place.account,
        "model": place.model,
        "owner_id": owner_id,
        "at_us": at_us,
        "amount": amount,
    }
