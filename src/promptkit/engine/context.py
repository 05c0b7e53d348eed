"""The context of a process: what all its calls share, opened when first needed.

The ledger and the engine (and with them SQLModel) are opened by the first call: rendering needs
neither.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from promptkit._util.notices import make_logger
from promptkit.config.loading import load
from promptkit.config.paths import cache_folder, shipped
from promptkit.config.settings import Settings
from promptkit.errors import NoUsableKey, Unpriced, UsageError, closest
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

DEFAULT_ROUTE = "default"

_FRESH_S = 1.0

_PLANS = 256

_NO_TAGS: Mapping[str, str] = {}

_RANDOM = random.Random()  # noqa: S311 - for ids, no secret


def load_settings(path: str | Path | None = None) -> Settings:
    """Read the configuration of this process: its environment, folder and home.

    Args:
        path: the file to read, or None to search for it.

    Raises:
        ConfigError: with file, line and remedy.
    """
    given = None if path is None else Path(path)
    return load(given, env=os.environ, cwd=Path.cwd(), home=Path.home())


class Session:
    """Everything that a process shares between calls: settings, ids, clock and log; ledger and engine once needed.

    Args:
        settings: the configuration.
        log: gets notices and warnings; see `promptkit._util.notices`.
        ignore_temporary: send calls to targets with an open throttle or health circuit, too.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        log: logging.Logger | None = None,
        *,
        ignore_temporary: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.log = log or make_logger()
        self.now = clock
        """Seconds since the epoch."""
        self.ids = IdMaker(lambda: int(clock() * 1e3), _RANDOM.getrandbits)
        self._ignore_temporary = ignore_temporary
        self._open: tuple[Ledger, Engine] | None = None
        self._opening: asyncio.Lock | None = None
        self._remembered: set[str] = set()
        # Per call, loading would cost 200 us, planning 50 us and the calendar 45 us: a call costs 400 us.
        self._loaded: dict[str | TemplateRef, tuple[float, Template]] = {}
        self._plans: dict[tuple[Route, bool, Ruling], Plan] = {}
        self._period: Period | None = None
        for warning in settings.warnings:
            self.log.warning(warning)

    def notice(self, text: str) -> None:
        """Log a notice, unless this context has logged the same text."""
        self.log.info(text)

    @cached_property
    def library(self) -> Library:
        """The templates: the project's folders, then the shipped kit."""
        folders = (*self.settings.templates, shipped("templates"))
        return Library(folders, bytecode=cache_folder() / "bytecode")

    def template(self, ref: str | TemplateRef) -> Template:
        """Return the template of a reference; the disk is read again after a second.

        Raises:
            TemplateError: it is broken or missing.
        """
        loaded = self._loaded.get(ref)
        now_s = time.monotonic()
        if loaded is None or now_s - loaded[0] > _FRESH_S:
            loaded = (now_s, self.library.load(ref))
            self._loaded[ref] = loaded
        return loaded[1]

    def route(
        self,
        name: str | None = None,
        targets: Sequence[str] | None = None,
        *,
        ref: str | TemplateRef = "",
        tags: Mapping[str, str] = _NO_TAGS,
    ) -> Route:
        """Return the route of a call; see `route_for`."""
        return route_for(self.settings, name, targets, ref=ref, tags=tags)

    def plan(
        self,
        route: Route,
        *,
        template: str = "",
        tags: Mapping[str, str] = _NO_TAGS,
        resend_unknown: bool = True,
    ) -> Plan:
        """Return the plan of calls over a route, made once for all calls with the same rules.

        Args:
            route: where calls may go.
            template: the template's name, for the rules.
            tags: the calls', for the rules.
            resend_unknown: whether a request with an unknown outcome may be sent a second time.

        Raises:
            NoUsableKey: no target can be asked.
            UsageError: the rules leave no target.
        """
        key = (route, resend_unknown, self.settings.rules.ruling(template, tags))
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            plan, skipped = plan_for(self.settings, *key)
            self._plans[key] = plan
            for target in skipped:
                if target.rule is None:  # what a rule forbids is as the user wants it
                    self.log.info("%s is skipped: %s", target.target, target.why)
        return plan

    @staticmethod
    def params(template: Template, route: Route) -> Params:
        """Return the template's parameters; the route's output limit where the template sets none."""
        params = template.spec.params
        if params.max_output_tokens is None:
            return replace(params, max_output_tokens=route.max_output_tokens)
        return params

    def scopes(self, own: str, cap_pico: int | None, tags: Mapping[str, str] = _NO_TAGS) -> tuple[Scope, ...]:
        """Return the scopes of a call: its job, the budget day and month, in all and by each of its tags.

        Args:
            own: the scope of the job or single call, like `job:<id>`.
            cap_pico: its cap from the command line, in pico-USD, besides the configured one.
            tags: the call's.
        """
        budgets = self.settings.budgets
        if cap_pico is None and not budgets:
            return ()
        return scopes_of(budgets, tags, self.period(), own, cap_pico)

    def period(self) -> Period:
        """Return the current budget day and month."""
        now = datetime.fromtimestamp(self.now(), UTC)
        if self._period is None or not self._period.begins <= now < self._period.ends:
            self._period = period_of(now, self.settings.timezone, self.settings.day_starts_at)
        return self._period

    def today(self) -> str:
        """Return the budget day, as an ISO date."""
        return self.period().day

    def check_priced(self, engine: Engine, plan: Plan) -> None:
        """Refuse a plan with a target of unknown price under a budget.

        Raises:
            Unpriced: with the target and the ways out.
        """
        from .engine import unpriced_text

        target = None if self.settings.allow_unpriced else engine.unpriced(plan)
        if target is not None:
            raise Unpriced(
                unpriced_text(target),
                remedy=f"Give it one ([models.price] in providers/{target.provider}.toml), take it off the route, "
                "or set allow_unpriced = true.",
            )

    async def engine(self) -> Engine:
        """Return the engine, over an open ledger."""
        return (await self._opened())[1]

    async def ledger(self) -> Ledger:
        """Return the ledger, open and with this version's schema."""
        return (await self._opened())[0]

    async def remember(self, template: Template) -> None:
        """Write the sources of a template to the ledger, once."""
        if template.digest not in self._remembered:
            ledger = await self.ledger()
            await ledger.calls.store_templates(template.sources())
            self._remembered.add(template.digest)

    async def aclose(self) -> None:
        """Close the engine and the ledger; all records are on disk."""
        ledger = await self.let_go()
        if ledger is not None:
            await asyncio.to_thread(ledger.close)

    async def let_go(self) -> Ledger | None:
        """Close what belongs to this event loop, and return the open ledger for the caller to close."""
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

        from .engine import Engine

        settings, clock = self.settings, self.now
        if settings.file is None:  # no database is configured: the user's data folder may be new
            settings.database_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        ledger = Ledger.open(settings.database_path, clock=lambda: int(clock() * 1e6))
        engine = Engine(
            settings,
            ledger,
            ids=self.ids,
            log=self.log,
            clock=clock,
            ignore_temporary=self._ignore_temporary,
        )
        return ledger, engine


def route_for(
    settings: Settings,
    name: str | None = None,
    targets: Sequence[str] | None = None,
    *,
    ref: str | TemplateRef = "",
    tags: Mapping[str, str] = _NO_TAGS,
) -> Route:
    """Return the route of that name, or one made of targets in order; else the rules' route, else `default`.

    Args:
        settings: routes, rules and providers.
        name: the route's name, as the user gives it.
        targets: `provider/model`, in order, instead of a route.
        ref: the template, for the rules.
        tags: the call's, for the rules.

    Raises:
        UsageError: unknown route, provider or model; both a route and targets.
    """
    routes = settings.routes
    if targets:
        if name is not None:
            raise UsageError("give a route or targets, not both")
        base = routes.get(DEFAULT_ROUTE) or Route("", ())
        route = replace(
            base,
            name=" ".join(targets),
            targets=tuple(parse_target(text) for text in targets),
            last_resort=None,
            strategy="ordered",
            weights=(),
            cache_s=None,
        )
    else:
        name = name or _route_by_rules(settings, ref, tags) or DEFAULT_ROUTE
        if name not in routes:
            raise UsageError(f"unknown route {name!r}", remedy=closest(name, routes))
        route = routes[name]
    for target in route.targets:
        settings.catalog.pair(target)
    return route


def _route_by_rules(settings: Settings, ref: str | TemplateRef, tags: Mapping[str, str]) -> str | None:
    if not settings.rules:
        return None
    parsed = parse_ref(ref) if isinstance(ref, str) and ref else ref
    return settings.rules.ruling(parsed.name if isinstance(parsed, TemplateRef) else "", tags).route


def plan_for(
    settings: Settings,
    route: Route,
    resend_unknown: bool,  # noqa: FBT001 - part of a key
    ruling: Ruling,
) -> tuple[Plan, tuple[Skipped, ...]]:
    """Plan the calls of a route; returns the plan and the targets that it skips.

    Raises:
        NoUsableKey: no target can be asked.
        UsageError: the rules leave no target.
    """
    from promptkit.routing.plan import make_plan

    def why_unusable(provider: Provider) -> str | None:
        if settings.keys.usable(provider):
            return None
        return provider.key_why or f"{provider.api_key_env} isn't set"

    plan, skipped = make_plan(
        route, settings.catalog, why_unusable, ruling=ruling, resend_unknown=resend_unknown
    )
    if plan.targets:
        return plan, skipped
    rules = list(dict.fromkeys(str(target.rule) for target in skipped if target.rule is not None))
    if rules and all(target.rule is not None for target in skipped):
        raise UsageError(
            f"the rules leave no target of the route {route.name!r}: {' and '.join(rules)} "
            f"{'forbid' if len(rules) > 1 else 'forbids'} every one of them",
            remedy="Choose another --route, or name one in the rule: route = ...",
        )
    reasons = "; ".join(f"{target.target}: {target.why}" for target in skipped)
    raise NoUsableKey(
        f"no target of the route {route.name!r} can be asked ({reasons})",
        remedy="Set the variable, or put it into the env_file of promptkit.toml. "
        "Without any key, `--route demo` answers on the embedded model.",
    )


def checked_tags(tags: Mapping[str, object] | None) -> dict[str, str]:
    """Return a call's tags, checked.

    Raises:
        UsageError: a name or value is no string.
    """
    for name, value in (tags or {}).items():
        if not (isinstance(name, str) and isinstance(value, str)):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
            wrong = value if isinstance(name, str) else name  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(
                f"the tag {name!r} is not a string: {wrong!r} ({type(wrong).__name__})",
                remedy="Names and values of tags are strings.",
            )
    return {name: str(value) for name, value in (tags or {}).items()}
