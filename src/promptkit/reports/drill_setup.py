"""What a drill runs with: the user's settings with every provider simulated, and rows for any template."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from promptkit.authoring.examples import GENERATED, Example, complete
from promptkit.config.keys import Keys
from promptkit.config.settings import Settings
from promptkit.errors import UsageError
from promptkit.providers.prices import Prices
from promptkit.reports.drill_outages import SimulatedProvider
from promptkit.routing.catalog import Catalog
from promptkit.routing.plan import make_plan
from promptkit.simulator.models import Models, card_of
from promptkit.simulator.scenario import ModelRule, Scenario
from promptkit.simulator.server import Simulator
from promptkit.templates.template import Template
from promptkit.types import Kind, Model, Provider, Route, Target, Usage, Variable

_SDKS = {"openai": "openai", "anthropic": "anthropic", "gemini": "google-genai"}
_PATHS = {"openai": "/v1"}
_KEY = "drill-no-real-key"
_SAMPLE_TOKENS = 1000


@dataclass(frozen=True, slots=True)
class DrillFacts:
    """The user's own configuration of what the drill runs.

    Attributes:
        route: the route, without the targets that the rules exclude.
        providers: the providers of the route.
        keyless: those without a usable key.
        timeouts_s: each provider's timeout.
        rows: the number of rows per outage.
        config_table: the table of the configuration that names the targets.
    """

    route: Route
    providers: tuple[SimulatedProvider, ...]
    keyless: tuple[str, ...]
    timeouts_s: dict[str, float]
    rows: int
    config_table: str


def facts_of(
    settings: Settings, route: Route, tags: Mapping[str, str], template: str, rows: int
) -> DrillFacts:
    """Return the facts that are known before the drill runs.

    Args:
        settings: the user's settings.
        route: the route of the calls.
        tags: the tags of the calls, for the rules.
        template: the template's name, for the rules.
        rows: the number of rows per outage.

    Raises:
        UsageError: the rules leave no target.
    """
    ruling = settings.rules.ruling(template, tags)
    plan, _ = make_plan(route, settings.catalog, lambda _: None, ruling=ruling)
    if not plan.targets:
        raise UsageError(
            f"the rules leave no target of the route {route.name!r}", remedy="Choose another --route."
        )
    providers = {
        planned.target.provider: settings.catalog.provider(planned.target.provider)
        for planned in plan.targets
    }
    return DrillFacts(
        replace(route, targets=tuple(planned.target for planned in plan.targets)),
        tuple(SimulatedProvider(name, _family(provider)) for name, provider in providers.items()),
        tuple(name for name, provider in providers.items() if not settings.keys.usable(provider)),
        {name: provider.timeout_s for name, provider in providers.items()},
        rows,
        f"[routes.{route.name}]" if route.name in settings.routes else "the targets",
    )


def _family(provider: Provider) -> str:
    """Return the wire format of a provider; the embedded model is simulated in OpenAI's."""
    return provider.adapter if provider.adapter in _SDKS else "openai"


def scenario_for(settings: Settings, route: Route) -> Scenario:
    """Return a scenario with every target of the user's routes, at the user's prices."""
    routes = (*settings.routes.values(), route)
    targets = {
        target for each in routes for target in (*each.targets, each.last_resort) if target is not None
    }
    names = {target.provider for target in targets}
    return Scenario(
        prompt_cache=False,
        ports=dict.fromkeys(sorted(names), 0),
        models=tuple(_model_rules(settings.catalog, sorted(targets))),
    )


def _model_rules(catalog: Catalog, targets: Iterable[Target]) -> Iterator[ModelRule]:
    """Yield the models that the simulator doesn't know, or that have another price there."""
    known, prices, now = Models(), Prices(), datetime.now(UTC)
    for target in targets:
        provider, model = catalog.pair(target)
        is_known = any(known_model.id == target.model for known_model in known.of(target.provider))
        if not is_known or model.price is not None or not card_of(target.provider, target.model, now.date()):
            yield _model_rule(target, provider, model, prices, now)


def _model_rule(target: Target, provider: Provider, model: Model, prices: Prices, now: datetime) -> ModelRule:
    card = prices.card(provider, model, now)
    input_price, output_price = (
        None if card is None else _usd_per_mtok(card.pico(usage))
        for usage in (Usage(_SAMPLE_TOKENS, 0), Usage(0, _SAMPLE_TOKENS))
    )
    default = ModelRule(target.provider, target.model)
    return replace(
        default,
        context_window=model.context_window or default.context_window,
        max_output_tokens=model.max_output_tokens or default.max_output_tokens,
        input_usd_mtok=input_price,
        output_usd_mtok=output_price,
    )


def _usd_per_mtok(pico: int | None) -> Decimal | None:
    return None if pico is None else Decimal(pico) / _SAMPLE_TOKENS / 1_000_000


def drill_settings(settings: Settings, database: Path, address: Callable[[str], str]) -> Settings:
    """Return the user's settings with every provider simulated, no real key, and another database.

    Args:
        settings: the user's settings.
        database: a temporary file.
        address: returns the simulator's address for a provider, without a path.
    """
    providers = {
        name: _simulated(provider, address(name)) for name, provider in settings.catalog.providers.items()
    }
    return replace(
        settings,
        database=f"sqlite:///{database}",
        database_path=database,
        catalog=Catalog(providers),
        keys=Keys(dict.fromkeys(providers, _KEY)),
        warnings=(),
    )


def _simulated(provider: Provider, address: str) -> Provider:
    family = _family(provider)
    return replace(
        provider,
        adapter=family,
        api="chat" if provider.adapter == "local" else provider.api,
        sdk=_SDKS[family],
        base_url=address + _PATHS.get(family, ""),
        base_url_env=None,
        api_key_env="PROMPTKIT_DRILL_KEY",
        key_allowed=True,
        key_why="",
        trusted=False,
    )


def addresses(simulator: Simulator, ports: Iterable[str]) -> Callable[[str], str]:
    """Return a function for a provider's address: its own port, or the one that serves all providers."""
    own = frozenset(ports)

    def address(name: str) -> str:
        if name in own:
            return f"http://127.0.0.1:{simulator.listener(name).port}"
        return f"{simulator.url}/{name}"

    return address


def sample_rows(
    template: Template, examples: Sequence[Mapping[str, object]], count: int
) -> list[dict[str, object]]:
    """Return rows that the template accepts, as different as it allows.

    Args:
        template: the template, which declares the variables.
        examples: the variables of its tests, if any.
        count: the number of rows.
    """
    variables = template.spec.variables
    named = [Example("test", values) for values in examples] or [GENERATED]
    rows = [complete(example, variables)[0] for example in named]
    return [_numbered(rows[index % len(rows)], variables, index + 1) for index in range(count)]


def _numbered(row: Mapping[str, object], variables: Mapping[str, Variable], number: int) -> dict[str, object]:
    """Return a row with a number at the end of the first text that has room for it."""
    for name in (*row, *(name for name in variables if name not in row)):
        variable, value = variables[name], row.get(name, f"[{name}]")
        if isinstance(value, str) and _accepts_any_text(variable):
            suffix = f" {number}"
            left = None if variable.max_length is None else max(variable.max_length - len(suffix), 0)
            text = f"{value[:left]}{suffix}"
            if variable.max_length is None or len(text) <= variable.max_length:
                return {**row, name: text}
    return dict(row)


def _accepts_any_text(variable: Variable) -> bool:
    return (
        variable.kind is Kind.STRING
        and not variable.choices
        and variable.format is None
        and variable.pattern is None
    )
