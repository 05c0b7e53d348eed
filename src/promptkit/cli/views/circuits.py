"""Open circuits: `providers list` shows them, and jobs name them beside their progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from promptkit.cli.output import shortened
from promptkit.errors import LedgerError
from promptkit.routing.health import circuit_keys
from promptkit.types import Json, Provider, Target

if TYPE_CHECKING:
    from promptkit.cli.command import Cli
    from promptkit.config.settings import Settings
    from promptkit.routing.health import CircuitKey, Circuits, CircuitState

_REASON_LENGTH = 100
"""Characters of a reason beside the progress of a job."""


@dataclass(frozen=True, slots=True)
class OpenCircuit:
    """A circuit that is open, or half-open: then `until_s` is None, and the next call is the probe."""

    provider: str
    model: str
    circuit: str
    until_s: float | None
    why: str
    another_key: bool

    @property
    def name(self) -> str:
        """The target, or the provider if all of its models are skipped."""
        return f"{self.provider}/{self.model}" if self.model else self.provider

    def table_row(self, zone: ZoneInfo) -> tuple[str, str, str, str]:
        """Return the row of `CIRCUIT_COLUMNS`."""
        why = f"{self.why} (with another key or address)" if self.another_key else self.why
        return self.name, self.circuit, skipped_until(self.until_s, zone), why

    def json(self) -> dict[str, Json]:
        """Return the circuit as JSON; `until` is in seconds since the epoch."""
        return {
            "model": self.model or None,
            "circuit": self.circuit,
            "until": self.until_s,
            "why": self.why,
            "another_key": self.another_key,
        }


CIRCUIT_COLUMNS = ("target", "circuit", "skipped until", "~why")


def recorded_circuits(cli: Cli, settings: Settings, providers: Sequence[Provider]) -> list[OpenCircuit]:
    """Read the open circuits of providers from the ledger; none if there is no ledger."""
    if not settings.database_path.exists():
        return []
    from promptkit.engine.endpoints import accounts_of

    try:
        with cli.ledger(settings) as ledger:
            states = ledger.shared.circuits()
    except LedgerError as error:
        cli.notice(f"open circuits are unknown, because the ledger is not readable: {error}")
        return []
    accounts = accounts_of(settings.catalog, settings.keys)
    return _open(states, {provider.name: accounts[provider.name] for provider in providers}, time.time())


class OpenCircuits:
    """The open circuits of a route while a job runs.

    Args:
        settings: providers, keys, and the time zone of messages.
        targets: the route's.
        states: returns the states of all circuits now.
    """

    def __init__(self, settings: Settings, targets: Sequence[Target], states: Callable[[], Circuits]) -> None:
        from promptkit.engine.endpoints import accounts_of

        accounts = accounts_of(settings.catalog, settings.keys)
        self._accounts = {target.provider: accounts[target.provider] for target in targets}
        self._models = {(target.provider, target.model) for target in targets}
        self._zone = settings.timezone
        self._states = states

    def lines(self) -> list[str]:
        """Return a line for each: `openai/gpt-6-luna skipped until 06:12:00: too many requests`."""
        return [
            f"{circuit.name} skipped until {skipped_until(circuit.until_s, self._zone)}: "
            f"{shortened(circuit.why, _REASON_LENGTH)}"
            for circuit in _open(self._states(), self._accounts, time.time())
            if circuit.until_s is not None
            and not circuit.another_key
            and (not circuit.model or (circuit.provider, circuit.model) in self._models)
        ]


def _open(states: Circuits, accounts: Mapping[str, str], now_s: float) -> list[OpenCircuit]:
    return [
        _open_circuit(key, state, accounts[key.provider], now_s)
        for key, state in sorted(states.items())
        if key.provider in accounts and _is_open(key, state, now_s)
    ]


def _is_open(key: CircuitKey, state: CircuitState, now_s: float) -> bool:
    """Return whether a circuit is open or half-open; a throttle is closed when its time is over."""
    return state.until_s > now_s or (state.until_s > 0 and key.kind != "throttle")


def _open_circuit(key: CircuitKey, state: CircuitState, account: str, now_s: float) -> OpenCircuit:
    until_s = max(state.until_s, state.probe_until_s)
    return OpenCircuit(
        key.provider,
        key.model,
        key.kind.value,
        until_s if until_s > now_s else None,
        state.why,
        another_key=key not in circuit_keys(Target(key.provider, key.model), account),
    )


def skipped_until(until_s: float | None, zone: ZoneInfo) -> str:
    """Return the local time at which a circuit lets calls through again."""
    if until_s is None:
        return "half-open: the next call is a probe"
    until, today = datetime.fromtimestamp(until_s, zone), datetime.now(zone).date()
    return f"{until:%H:%M:%S}" if until.date() == today else f"{until:%Y-%m-%d %H:%M}"
