"""What a process has open, and how a request becomes `CallRequest`.

Settings and templates are at hand at once; the ledger and the engine (and with them SQLModel)
are opened when the first call is made, so that rendering needs neither.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from promptkit.config.loading import load
from promptkit.config.paths import cache_folder, shipped
from promptkit.config.settings import Settings
from promptkit.errors import NoUsableKey, PromptKitError, Unpriced, UsageError, closest
from promptkit.routing.budgets import Period, period_of, scopes_of
from promptkit.routing.catalog import parse_target
from promptkit.routing.plan import Ruling
from promptkit.templates.library import Library
from promptkit.templates.reference import parse_ref
from promptkit.templates.template import Template
from promptkit.types import Params, Provider, Route, Scope, TemplateRef
from promptkit.types.ids import IdMaker

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger
    from promptkit.routing.flow import Plan
    from promptkit.routing.plan import Skipped

    from .engine import Engine


DEFAULT_ROUTE: Final = "default"


_FRESH_S: Final = 1.0


_PLANS: Final = 256


_NO_TAGS: Final[Mapping[str, str]] = {}


_dice = random.Random(secrets.randbits(128))  # noqa: S311 - for ids and jitter, no secrets


def load_settings(path: str | Path | None = None) -> Settings:
    """Read the configuration of this process: its environment, folder and home.

    Args:
        path: the file to read, or None to search for it.

    Raises:
        ConfigError: with file, line and what to do.
    """
    given = None if path is None else Path(path)
    return load(given, env=os.environ, cwd=Path.cwd(), home=Path.home())


class Session:
    """One process at work.

    Args:
        settings: the configuration.
        say: is called with each notice, once.
        by_hand: somebody asks to see how a target is, however it was found before.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        say: Callable[[str], None],
        *,
        by_hand: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.now = clock
        """Seconds since the epoch."""
        self._by_hand = by_hand
        self.ids = IdMaker(lambda: int(clock() * 1e3), _dice.getrandbits)
        self._say = say
        self._said: set[str] = set()
        self._library: Library | None = None
        self._open: tuple[Ledger, Engine] | None = None
        self._opening: asyncio.Lock | None = None
        self._remembered: set[str] = set()
        self._loaded: dict[str | TemplateRef, tuple[float, Template]] = {}
        self._period: tuple[float, float, Period] | None = None
        self._plans: dict[tuple[Route, bool, Ruling], Plan] = {}
        for warning in settings.warnings:
            self.say(warning)

    def say(self, text: str) -> None:
        """Tell the user something, but not twice."""
        if text not in self._said:
            self._said.add(text)
            self._say(text)

    @property
    def library(self) -> Library:
        """The templates: the project's folders, then the shipped kit."""
        if self._library is None:
            self._library = Library(
                (*self.settings.templates, shipped("templates")),
                bytecode=cache_folder() / "bytecode",
            )
        return self._library

    def template(self, ref: str | TemplateRef) -> Template:
        """The template that a reference means; the disk is asked again after a second.

        Raises:
            TemplateError: it is broken or not there.
        """
        held = self._loaded.get(ref)
        now_s = time.monotonic()
        if held is None or now_s - held[0] > _FRESH_S:
            held = (now_s, self.library.load(ref))
            self._loaded[ref] = held
        return held[1]

    # ----------------------------------------------------------------- what to ask

    def route(
        self,
        name: str | None = None,
        targets: Sequence[str] | None = None,
        *,
        ref: str | TemplateRef = "",
        tags: Mapping[str, str] = _NO_TAGS,
    ) -> Route:
        """The route of that name, or one made of targets in order; else what a rule says, else `default`.

        Args:
            name: as the user says it.
            targets: `provider/model`, in order, instead of a route.
            ref: the template, for the rules.
            tags: the call's, for the rules.

        Raises:
            UsageError: unknown route, provider or model; both a route and targets.
        """
        routes = self.settings.routes
        if targets:
            if name is not None:
                raise UsageError("give a route or targets, not both")
            base = routes.get(DEFAULT_ROUTE) or Route("", ())
            chosen = tuple(parse_target(text) for text in targets)
            route = replace(
                base,
                name=" ".join(targets),
                targets=chosen,
                last_resort=None,
                strategy="ordered",
                weights=(),
                cache_s=None,
            )
        else:
            name = name or self._ruled(ref, tags) or DEFAULT_ROUTE
            if name not in routes:
                raise UsageError(f"unknown route {name!r}", remedy=closest(name, routes))
            route = routes[name]
        for target in route.targets:
            self.settings.catalog.pair(target)
        return route

    def _ruled(self, ref: str | TemplateRef, tags: Mapping[str, str]) -> str | None:
        """The route that a rule sends such calls over."""
        rules = self.settings.rules
        if not rules:
            return None
        named = parse_ref(ref) if isinstance(ref, str) and ref else ref
        return rules.ruling(named.name if isinstance(named, TemplateRef) else "", tags).route

    def plan(
        self,
        route: Route,
        *,
        template: str = "",
        tags: Mapping[str, str] = _NO_TAGS,
        resend_unknown: bool = True,
    ) -> Plan:
        """The plan of calls over a route, checked before anything is sent. Made once for all that fare alike.

        Args:
            route: where calls may go.
            template: the template's name, for the rules.
            tags: the calls', for the rules.
            resend_unknown: whether an unknown outcome may be sent again.

        Raises:
            NoUsableKey: no target can be asked.
            UsageError: the rules leave no target.
        """
        key = (route, resend_unknown, self.settings.rules.ruling(template, tags))
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            plan = self._plans[key] = self._make_plan(*key)
        return plan

    def _make_plan(self, route: Route, resend_unknown: bool, ruling: Ruling) -> Plan:  # noqa: FBT001 - the parts of a key
        from promptkit.routing.plan import make_plan

        plan, skipped = make_plan(
            route, self.settings.catalog, self._why_unusable, ruling=ruling, resend_unknown=resend_unknown
        )
        if not plan.targets:
            raise _nowhere_to_go(route, skipped)
        for one in skipped:
            if one.rule is None:  # what a rule forbids is as the user wants it
                self.say(f"{one.target} is skipped: {one.why}")
        return plan

    @staticmethod
    def params(template: Template, route: Route) -> Params:
        """The template's parameters, with the route's output limit where it names none."""
        params = template.spec.params
        if params.max_output_tokens is None:
            return replace(params, max_output_tokens=route.max_output_tokens)
        return params

    def scopes(self, own: str, cap_pico: int | None, tags: Mapping[str, str] = _NO_TAGS) -> tuple[Scope, ...]:
        """What a call counts in: its job, the budget day and month, in all and by each of its tags.

        Args:
            own: the scope of the job or single call, like `job:<id>`.
            cap_pico: its cap as given on the command line, besides the configured one.
            tags: the call's.
        """
        budgets = self.settings.budgets
        if cap_pico is None and not budgets:
            return ()
        return scopes_of(budgets, tags, self.period(), own, cap_pico)

    def period(self) -> Period:
        """The budget day and month that it is."""
        now_s = self.now()
        if self._period is None or not self._period[0] <= now_s < self._period[1]:
            now = datetime.fromtimestamp(now_s, UTC)
            period = period_of(now, self.settings.timezone, self.settings.day_starts_at)
            self._period = (period.begins.timestamp(), period.ends.timestamp(), period)
        return self._period[2]

    def today(self) -> str:
        """The budget day, as an ISO date."""
        return self.period().day

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

    async def remember(self, template: Template) -> None:
        """Keep the sources of a template in the ledger, once."""
        if template.digest not in self._remembered:
            ledger = await self.ledger()
            await ledger.calls.store_templates(template.sources())
            self._remembered.add(template.digest)

    async def aclose(self) -> None:
        """Close what is open; what was written is on disk."""
        ledger = await self.let_go()
        if ledger is not None:
            await asyncio.to_thread(ledger.close)

    async def let_go(self) -> Ledger | None:
        """Close what belongs to this loop; the ledger, where one was open, is the caller's to close."""
        opened, self._open = self._open, None
        self._opening = None  # it belongs to the loop that is being left
        self._remembered.clear()
        if opened is None:
            return None
        ledger, engine = opened
        await engine.aclose()
        return ledger

    async def _opened(self) -> tuple[Ledger, Engine]:
        if self._open is not None:
            return self._open
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._open is None:
                self._open = await asyncio.to_thread(self._open_all)
            return self._open

    def _open_all(self) -> tuple[Ledger, Engine]:
        from promptkit.ledger.ledger import Ledger
        from promptkit.providers.prices import Prices

        from .calls import Edge
        from .engine import Engine

        settings, clock = self.settings, self.now
        if settings.file is None:  # nobody named a database: the user's data folder may be new
            settings.database_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        ledger = Ledger.open(settings.database_path, clock=lambda: int(clock() * 1e6))
        edge = Edge(clock, _dice.random, self.say, by_hand=self._by_hand)
        engine = Engine(settings, ledger, Prices(), edge, self.ids)
        return ledger, engine


def checked_tags(tags: Mapping[str, object] | None) -> dict[str, str]:
    """A call's tags, each a text by a text.

    Raises:
        UsageError: one isn't, by its name.
    """
    for name, value in (tags or {}).items():
        if not (isinstance(name, str) and isinstance(value, str)):  # pyright: ignore[reportUnnecessaryIsInstance] - who knows no types
            wrong = value if isinstance(name, str) else name  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(
                f"the tag {name!r} is no text: {wrong!r} ({type(wrong).__name__})",
                remedy="Names and values of tags are texts.",
            )
    return {name: str(value) for name, value in (tags or {}).items()}


def _nowhere_to_go(route: Route, skipped: Sequence[Skipped]) -> PromptKitError:
    """Why no target of a route can be asked: the rules leave none, or those they leave have no key."""
    rules = list(dict.fromkeys(str(one.rule) for one in skipped if one.rule is not None))
    if rules and all(one.rule is not None for one in skipped):
        what = f"the rules leave no target of the route {route.name!r}: {' and '.join(rules)}"
        return UsageError(
            f"{what} {'forbid' if len(rules) > 1 else 'forbids'} every one of them",
            remedy="Take another --route, or let the rule name one: route = ...",
        )
    reasons = "; ".join(f"{one.target}: {one.why}" for one in skipped)
    return NoUsableKey(
        f"no target of the route {route.name!r} can be asked ({reasons})",
        remedy="Set the variable, or put it into the env_file of promptkit.toml. "
        "Without any key, `--route demo` answers on the embedded model.",
    )
