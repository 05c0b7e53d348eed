"""What a process has open, and how a request becomes `Work`.

Settings and skeletons are at hand at once; the ledger and the engine (and with them SQLModel)
are opened when the first call is made, so that rendering needs neither.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time as clock
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from . import config
from .catalog import parse_target
from .config import Settings
from .errors import NoUsableKey, Unpriced, UsageError, closest
from .ids import IdMaker
from .library import Library
from .routing.budgets import day_begins, day_of
from .templates import Skeleton
from .types import Params, Provider, Route, TemplateRef

if TYPE_CHECKING:
    from .engine import Engine
    from .ledger import Ledger, Scope
    from .routing.flow import Plan

DEFAULT_ROUTE: Final = "default"
_FRESH_S: Final = 1.0
_dice = random.Random(secrets.randbits(128))  # noqa: S311 - for ids and jitter, no secrets


def load_settings(path: str | Path | None = None) -> Settings:
    """Read the configuration of this process: its environment, folder and home.

    Args:
        path: the file to read, or None to search for it.

    Raises:
        ConfigError: with file, line and what to do.
    """
    given = None if path is None else Path(path)
    return config.load(given, env=os.environ, cwd=Path.cwd(), home=Path.home())


class Day(NamedTuple):
    """A budget day and its bounds, in seconds since the epoch."""

    name: str
    begins_s: float
    ends_s: float


class Session:
    """One process at work.

    Args:
        settings: the configuration.
        say: is called with each notice, once.
    """

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self.settings = settings
        self.ids = IdMaker(lambda: clock.time_ns() // 1_000_000, _dice.getrandbits)
        self._say = say
        self._said: set[str] = set()
        self._library: Library | None = None
        self._open: tuple[Ledger, Engine] | None = None
        self._opening: asyncio.Lock | None = None
        self._remembered: set[str] = set()
        self._loaded: dict[str | TemplateRef, tuple[float, Skeleton]] = {}
        self._day = Day("", 0.0, 0.0)
        for warning in settings.warnings:
            self.say(warning)

    def say(self, text: str) -> None:
        """Tell the user something, but not twice."""
        if text not in self._said:
            self._said.add(text)
            self._say(text)

    @staticmethod
    def now() -> float:
        """Seconds since the epoch."""
        return clock.time()

    @property
    def library(self) -> Library:
        """The skeletons: the project's folders, then the shipped kit."""
        if self._library is None:
            self._library = Library(
                (*self.settings.templates, config.shipped("templates")),
                bytecode=config.cache_folder() / "bytecode",
            )
        return self._library

    def skeleton(self, ref: str | TemplateRef) -> Skeleton:
        """The skeleton that a reference means; the disk is asked again after a second.

        Raises:
            TemplateError: it is broken or not there.
        """
        held = self._loaded.get(ref)
        now_s = clock.monotonic()
        if held is None or now_s - held[0] > _FRESH_S:
            held = (now_s, self.library.load(ref))
            self._loaded[ref] = held
        return held[1]

    # ----------------------------------------------------------------- what to ask

    def route(self, name: str | None = None, targets: Sequence[str] | None = None) -> Route:
        """The route of that name, or one made of targets in order.

        Raises:
            UsageError: unknown route, provider or model; both a route and targets.
        """
        routes = self.settings.routes
        if targets:
            if name is not None:
                raise UsageError("give a route or targets, not both")
            base = routes.get(DEFAULT_ROUTE) or Route("", ())
            chosen = tuple(parse_target(text) for text in targets)
            route = replace(base, name=" ".join(targets), targets=chosen, last_resort=None)
        elif (name or DEFAULT_ROUTE) in routes:
            route = routes[name or DEFAULT_ROUTE]
        else:
            raise UsageError(
                f"unknown route {name or DEFAULT_ROUTE!r}", remedy=closest(name or DEFAULT_ROUTE, routes)
            )
        for target in route.targets:
            self.settings.catalog.pair(target)
        return route

    def plan(self, route: Route, *, resend_unknown: bool = True) -> Plan:
        """The plan of a route's calls, checked before anything is sent.

        Args:
            route: where calls may go.
            resend_unknown: whether an unknown outcome may be sent again.

        Raises:
            NoUsableKey: no target can be asked.
        """
        from .routing.plan import make_plan

        plan, skipped = make_plan(
            route, self.settings.catalog, self._why_unusable, resend_unknown=resend_unknown
        )
        for one in skipped:
            self.say(f"{one.target} is skipped: {one.why}")
        if not plan.hops:
            reasons = "; ".join(f"{one.target}: {one.why}" for one in skipped)
            raise NoUsableKey(
                f"no target of the route {route.name!r} can be asked ({reasons})",
                remedy="Set the variable, or put it into the env_file of promptkit.toml. "
                "Without any key, `--route demo` answers on the embedded model.",
            )
        return plan

    @staticmethod
    def params(skeleton: Skeleton, route: Route) -> Params:
        """The skeleton's parameters, with the route's output limit where it names none."""
        params = skeleton.spec.params
        if params.max_output_tokens is None:
            return replace(params, max_output_tokens=route.max_output_tokens)
        return params

    def scopes(self, own: str, cap_pico: int | None) -> tuple[Scope, ...]:
        """The hard caps that a call counts against.

        Args:
            own: the scope of the job or single call, like `job:night`.
            cap_pico: its cap as given on the command line, else the configured one counts.
        """
        from .ledger import Scope

        budgets = self.settings.budgets
        caps = [cap for cap in (cap_pico, budgets.per_job_pico) if cap is not None]
        scopes = [Scope(own, min(caps))] if caps else []
        if budgets.per_day_pico is not None:
            scopes.append(Scope(f"day:{self.today()}", budgets.per_day_pico))
        return tuple(scopes)

    def today(self) -> str:
        """The budget day, as an ISO date."""
        now_s = clock.time()
        if not self._day.begins_s <= now_s < self._day.ends_s:
            timezone, starts_at = self.settings.timezone, self.settings.day_starts_at
            day = day_of(datetime.fromtimestamp(now_s, UTC), timezone, starts_at)
            begins, ends = (day_begins(each, timezone, starts_at) for each in (day, day + timedelta(days=1)))
            self._day = Day(day.isoformat(), begins.timestamp(), ends.timestamp())
        return self._day.name

    def check_priced(self, engine: Engine, plan: Plan) -> None:
        """Refuse a plan with a target whose price nobody knows, where a budget is in force.

        Raises:
            Unpriced: naming the target and the ways out.
        """
        target = None if self.settings.allow_unpriced else engine.unpriced(plan)
        if target is not None:
            raise Unpriced(
                f"{target} has no price, and a budget is in force",
                remedy=f"Give it one ([models.price] in providers/{target.provider}.toml), take it off the route, "
                "or set allow_unpriced = true.",
            )

    def _why_unusable(self, provider: Provider) -> str | None:
        if not self.settings.keys.usable(provider):
            return provider.key_why or f"{provider.api_key_env} isn't set"
        return None

    # ----------------------------------------------------------------- what is open

    async def engine(self) -> Engine:
        """The engine, over an open ledger."""
        return (await self._opened())[1]

    async def ledger(self) -> Ledger:
        """The ledger, open and of this version's schema."""
        return (await self._opened())[0]

    async def remember(self, skeleton: Skeleton) -> None:
        """Keep the sources of a skeleton in the ledger, once."""
        if skeleton.digest not in self._remembered:
            ledger = await self.ledger()
            await ledger.remember_template(skeleton.sources())
            self._remembered.add(skeleton.digest)

    async def aclose(self) -> None:
        """Close what is open; what was written is on disk."""
        opened, self._open = self._open, None
        self._opening = None  # it belongs to the loop that is being left
        self._remembered.clear()
        if opened is not None:
            ledger, engine = opened
            await engine.aclose()
            await asyncio.to_thread(ledger.close)

    async def _opened(self) -> tuple[Ledger, Engine]:
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._open is None:
                self._open = await asyncio.to_thread(self._open_all)
            return self._open

    def _open_all(self) -> tuple[Ledger, Engine]:
        from .engine import Edge, Engine
        from .ledger import Ledger
        from .pricing import Prices

        settings = self.settings
        if settings.file is None:  # nobody named a database: the user's data folder may be new
            settings.database_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        ledger = Ledger.open(settings.database_path)
        engine = Engine(settings, ledger, Prices(), Edge(clock.time, _dice.random, self.say), self.ids)
        return ledger, engine
