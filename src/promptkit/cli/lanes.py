"""Which targets are closed, until when and why; and `providers reset`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final
from zoneinfo import ZoneInfo

import typer

from promptkit.errors import LedgerError
from promptkit.routing.health import keys_of
from promptkit.types import Json, Provider, Target

from .face import Face

if TYPE_CHECKING:
    from promptkit.config.settings import Settings
    from promptkit.routing.health import CircuitKey, CircuitState, Lanes


_WHY: Final = 100
"""Characters of a reason that a line of progress shows."""


Chosen = Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Those providers.")]


All = Annotated[bool, typer.Option("--all", help="All providers.")]


@dataclass(frozen=True, slots=True)
class Closed:
    """A lane as it is told to people. `until_s` is None where the next call tries it again."""

    provider: str
    model: str
    lane: str
    until_s: float | None
    why: str
    another_key: bool

    def row(self, timezone: ZoneInfo) -> tuple[str, str, str, str]:
        """For a table."""
        why = f"{self.why} (with another key or address)" if self.another_key else self.why
        who = f"{self.provider}/{self.model}" if self.model else self.provider
        return who, self.lane, clock_text(self.until_s, timezone), why

    def as_json(self) -> dict[str, Json]:
        """For programs; `until` is seconds since the epoch."""
        return {
            "model": self.model or None,
            "lane": self.lane,
            "until": self.until_s,
            "why": self.why,
            "another_key": self.another_key,
        }


def reset(face: Face, names: Chosen = None, everything: All = False) -> None:
    """Open all that is closed of a provider: it is asked again at once, by running jobs too.

    For when you have paid the bill, or the outage is over, and don't want to wait until the time
    that `providers list` shows.

    Examples:
        promptkit providers reset openai
        promptkit providers reset --all
    """
    from promptkit.errors import UsageError

    settings = face.settings()
    if bool(names) == everything:
        raise UsageError("name the providers to open, or say --all")
    chosen = [settings.catalog.provider(name) for name in names or ()] or settings.catalog.providers.values()
    opened = asyncio.run(_reset(face, settings, [provider.name for provider in chosen]))
    if face.as_json:
        face.print_json(opened)
        return
    for name, count in opened.items():
        if count or names:
            face.print(f"{name}: {'nothing was closed' if not count else 'open again'}")


async def _reset(face: Face, settings: Settings, names: Sequence[str]) -> dict[str, int]:
    with face.ledger(settings) as ledger:
        return {name: await ledger.shared.reset_circuits(name) for name in names}


def closed_lanes(face: Face, settings: Settings, providers: Sequence[Provider]) -> list[Closed]:
    """What is closed of these providers, or half open, as the ledger knows it; nothing where there is none."""
    if not settings.database_path.exists():
        return []
    from promptkit.engine.attempts import accounts_of

    try:
        with face.ledger(settings) as ledger:
            lanes = ledger.shared.circuits()
    except LedgerError as error:
        face.say(f"the ledger can't say what is closed: {error}")
        return []
    accounts = accounts_of(settings.catalog, settings.keys)
    return told(lanes, {provider.name: accounts[provider.name] for provider in providers}, time.time())


def told(lanes: Lanes, accounts: Mapping[str, str], now_s: float) -> list[Closed]:
    """What is closed, or half open, of the providers that have these accounts."""
    return [
        _closed(key, state, accounts[key.provider], now_s)
        for key, state in sorted(lanes.items())
        if key.provider in accounts and _counts(key, state, now_s)
    ]


class Weather:
    """How the providers of a route stand while a job runs: those that are closed, until when and why.

    Args:
        settings: providers, keys, and the clock to tell times by.
        targets: the route's.
        lanes: asked for what is closed now.
    """

    def __init__(self, settings: Settings, targets: Sequence[Target], lanes: Callable[[], Lanes]) -> None:
        from promptkit.engine.attempts import accounts_of

        accounts = accounts_of(settings.catalog, settings.keys)
        self._accounts = {target.provider: accounts[target.provider] for target in targets}
        self._models = {(target.provider, target.model) for target in targets}
        self._timezone = settings.timezone
        self._lanes = lanes

    def lines(self) -> list[str]:
        """`openai/gpt-6-luna closed until 06:12:00: too many requests`; nothing where all are open."""
        closed = told(self._lanes(), self._accounts, time.time())
        return [
            f"{f'{one.provider}/{one.model}' if one.model else one.provider} closed until "
            f"{clock_text(one.until_s, self._timezone)}: {' '.join(one.why.split())[:_WHY]}"
            for one in closed
            if one.until_s is not None
            and not one.another_key
            and (not one.model or (one.provider, one.model) in self._models)
        ]


def _counts(key: CircuitKey, state: CircuitState, now_s: float) -> bool:
    """Failures that closed nothing, and pauses that are over, are no news."""
    return state.until_s > now_s or (state.until_s > 0 and key.lane != "throttle")


def _closed(key: CircuitKey, state: CircuitState, account: str, now_s: float) -> Closed:
    until_s = max(state.until_s, state.probe_until_s)
    another = key not in keys_of(Target(key.provider, key.model), account)
    return Closed(
        key.provider, key.model, key.lane.value, until_s if until_s > now_s else None, state.why, another
    )


def clock_text(until_s: float | None, timezone: ZoneInfo) -> str:
    """The time at which something opens, on the user's own clock."""
    if until_s is None:
        return "half open: the next call tries it"
    until, today = datetime.fromtimestamp(until_s, timezone), datetime.now(timezone).date()
    return f"{until:%H:%M:%S}" if until.date() == today else f"{until:%Y-%m-%d %H:%M}"
