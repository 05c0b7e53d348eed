"""A stage for the user's configuration: a simulator in the place of every provider, books of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from promptkit.catalog import Catalog
from promptkit.config import Keys, Settings
from promptkit.errors import UsageError
from promptkit.pricing import Prices
from promptkit.routing.plan import make_plan
from promptkit.simulator import ModelRule, Scenario, Simulator
from promptkit.simulator.models import Models
from promptkit.simulator.rates import card_of
from promptkit.types import Model, Provider, Route, Target, Usage

from .outages import Player

_SDKS: Final = {"openai": "openai", "anthropic": "anthropic", "gemini": "google-genai"}
_KEY: Final = "drill-no-real-key"
_BEHIND: Final = {"openai": "/v1"}
_SAMPLE_TOKENS: Final = 1000


@dataclass(frozen=True, slots=True)
class Facts:
    """The user's own word on what is rehearsed.

    Attributes:
        route: as calls go.
        players: the providers that it leads to.
        keyless: those that have no key here.
        timeouts_s: how long an answer of each is waited for.
        rows: how many rows are played.
        place: where the user says where calls go.
    """

    route: Route
    players: tuple[Player, ...]
    keyless: tuple[str, ...]
    timeouts_s: dict[str, float]
    rows: int
    place: str


def facts_of(settings: Settings, route: Route, tags: Mapping[str, str], template: str, rows: int) -> Facts:
    """What is known before anything is played.

    Args:
        settings: the user's own.
        route: where calls may go.
        tags: the calls', for the rules.
        template: the skeleton's name, for the rules.
        rows: how many rows are played.

    Raises:
        UsageError: the rules leave no target.
    """
    ruling = settings.rules.ruling(template, tags)
    plan, _ = make_plan(route, settings.catalog, lambda _: None, ruling=ruling)
    if not plan.hops:
        raise UsageError(
            f"the rules leave no target of the route {route.name!r}", remedy="Take another --route."
        )
    providers = [settings.catalog.provider(hop.target.provider) for hop in plan.hops]
    named = {one.name: one for one in providers}
    return Facts(
        replace(route, targets=tuple(hop.target for hop in plan.hops)),
        players_of(providers),
        tuple(name for name, one in named.items() if not settings.keys.usable(one)),
        {name: one.timeout_s for name, one in named.items()},
        rows,
        f"[routes.{route.name}]" if route.name in settings.routes else "the targets",
    )


def players_of(providers: Iterable[Provider]) -> tuple[Player, ...]:
    """The providers as the simulator plays them, each once."""
    found = {one.name: Player(one.name, _family(one)) for one in providers}
    return tuple(found.values())


def scenario_for(settings: Settings, route: Route) -> Scenario:
    """A world in which every target of the user's routes is there, priced as the user's books price it."""
    routes = (*settings.routes.values(), route)
    targets = {target for one in routes for target in (*one.targets, one.last_resort) if target is not None}
    names = {target.provider for target in targets}
    return Scenario(
        prompt_cache=False,
        ports=dict.fromkeys(sorted(names), 0),
        models=tuple(_rules(settings.catalog, sorted(targets))),
    )


def rehearsal(settings: Settings, database: Path, address: Callable[[str], str]) -> Settings:
    """The user's settings, with every provider played, no real key, and books of its own.

    Args:
        settings: the user's.
        database: a file that may be thrown away.
        address: where the simulator plays a provider, without what stands behind the port.
    """
    providers = {
        name: _played(provider, address(name)) for name, provider in settings.catalog.providers.items()
    }
    return replace(
        settings,
        database=f"sqlite:///{database}",
        database_path=database,
        catalog=Catalog(providers),
        keys=Keys(dict.fromkeys(providers, _KEY)),
        warnings=(),
    )


def address_in(simulator: Simulator, ports: Iterable[str]) -> Callable[[str], str]:
    """Where a simulator plays a provider: on a port of its own, or on the one that serves all."""
    own = frozenset(ports)

    def address(name: str) -> str:
        return (
            f"http://127.0.0.1:{simulator.listener(name).port}" if name in own else f"{simulator.url}/{name}"
        )

    return address


def _played(provider: Provider, address: str) -> Provider:
    family = _family(provider)
    return replace(
        provider,
        adapter=family,
        api="chat" if provider.adapter == "local" else provider.api,
        sdk=_SDKS[family],
        base_url=address + _BEHIND.get(family, ""),
        base_url_env=None,
        api_key_env="PROMPTKIT_DRILL_KEY",
        key_allowed=True,
        key_why="",
        trusted=False,
    )


def _family(provider: Provider) -> str:
    """Whose wire format it speaks; the embedded model is played in OpenAI's."""
    return provider.adapter if provider.adapter in _SDKS else "openai"


def _rules(catalog: Catalog, targets: Iterable[Target]) -> Iterator[ModelRule]:
    """The models that the simulator doesn't know, or prices otherwise."""
    known, prices, now = Models(), Prices(), datetime.now(UTC)
    for target in targets:
        provider, model = catalog.pair(target)
        there = any(one.id == target.model for one in known.of(target.provider))
        if there and model.price is None and card_of(target.provider, target.model, now.date()) is not None:
            continue
        yield _rule(target, provider, model, prices, now)


def _rule(target: Target, provider: Provider, model: Model, prices: Prices, now: datetime) -> ModelRule:
    card = prices.card(provider, model, now)
    read, written = (
        None if card is None else _usd_mtok(card.pico(usage))
        for usage in (Usage(_SAMPLE_TOKENS, 0), Usage(0, _SAMPLE_TOKENS))
    )
    plain = ModelRule(target.provider, target.model)
    return replace(
        plain,
        context_window=model.context_window or plain.context_window,
        max_output_tokens=model.max_output_tokens or plain.max_output_tokens,
        input_usd_mtok=read,
        output_usd_mtok=written,
    )


def _usd_mtok(pico: int | None) -> Decimal | None:
    return None if pico is None else Decimal(pico) / _SAMPLE_TOKENS / 1_000_000
