"""The health table: lanes that are closed, or will be, as all processes know them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select

from promptkit.routing.health import Changes, Lane, LaneKey, Lanes, LaneState, merged
from promptkit.types import Fault

from . import tables as t

_ALL: Final = select(t.HEALTH)


def load(connection: Connection) -> Lanes:
    """All lanes: there are few, for what is well is not kept."""
    return dict(_lane(row) for row in connection.execute(_ALL).mappings())


def learn(connection: Connection, changed: Changes, now_s: float) -> None:
    """Bring in what a process learned."""
    before = load(connection)
    after = merged(before, changed, now_s)
    _store(connection, before, after, now_s, owner_id=None)


def claim(
    connection: Connection, keys: tuple[LaneKey, ...], now_s: float, until_s: float, owner_id: int
) -> bool:
    """Take the probe of half-open lanes: all of them, or none because somebody else tries one."""
    before = load(connection)
    mine = {key: before[key] for key in keys if key in before}
    if any(max(state.until_s, state.probe_until_s) > now_s for state in mine.values()):
        return False
    probed = {
        key: LaneState(state.until_s, state.fault, state.why, state.failures, until_s)
        for key, state in mine.items()
    }
    _store(connection, before, {**before, **probed}, now_s, owner_id)
    return True


def reset(connection: Connection, provider: str, terminal_of: str | None = None) -> int:
    """Open the lanes of a provider: all, or the terminal ones of an account; returns how many there were."""
    column = t.HEALTH.c
    mine = column.provider == provider
    if terminal_of is not None:
        mine &= (column.lane == Lane.TERMINAL.value) & (column.account == terminal_of)
    count = len(connection.execute(select(t.HEALTH.c.lane).where(mine)).all())
    connection.execute(delete(t.HEALTH).where(mine))
    return count


def _store(connection: Connection, before: Lanes, after: Lanes, now_s: float, owner_id: int | None) -> None:
    for key in before:
        if after.get(key) != before[key]:
            column = t.HEALTH.c
            connection.execute(
                delete(t.HEALTH).where(
                    column.lane == key.lane.value,
                    column.provider == key.provider,
                    column.account == key.account,
                    column.model == key.model,
                )
            )
    for key, state in after.items():
        if before.get(key) != state:
            connection.execute(insert(t.HEALTH), _columns(key, state, now_s, owner_id))


def _columns(key: LaneKey, state: LaneState, now_s: float, owner_id: int | None) -> dict[str, object]:
    return {
        "lane": key.lane.value,
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


def _lane(row: Mapping[Any, Any]) -> tuple[LaneKey, LaneState]:
    key = LaneKey(Lane(row["lane"]), row["provider"], row["account"], row["model"])
    until_s, probe_until_s = row["until_us"] / 1e6, (row["probe_until_us"] or 0) / 1e6
    return key, LaneState(until_s, Fault(row["fault"]), row["why"], row["failures"], probe_until_s)
