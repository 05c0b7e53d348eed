"""`promptkit providers list`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from promptkit.cli import options
from promptkit.cli.command import Cli
from promptkit.cli.output import listed, number_text, to_json, usd_text
from promptkit.cli.views.circuits import CIRCUIT_COLUMNS, OpenCircuit, recorded_circuits
from promptkit.types import Json, Limits, Model, Provider, Usage, dollars

if TYPE_CHECKING:
    from promptkit.config.keys import Keys
    from promptkit.config.settings import Settings
    from promptkit.providers.prices import Prices

_SAMPLE = 1000
"""Tokens of the request that gives the list price: no price band for long contexts begins below it."""


def list_providers(cli: Cli, names: options.Providers = None) -> None:
    """List providers and targets: keys, limits, prices, and open circuits.

    Prices are in USD per million tokens of input and output. Keys are never shown. `checked` is how
    the provider's file was checked, and when. No process asks a target with an open circuit before
    the time under `skipped until`; `providers reset NAME` closes the circuits.

    Examples:
        promptkit providers list
        promptkit providers list openai anthropic --json
    """
    from promptkit.providers.prices import Prices

    settings = cli.settings()
    providers = named_providers(settings, names)
    prices = Prices()
    circuits = recorded_circuits(cli, settings, providers)
    if cli.as_json:
        cli.print_json([_provider_json(provider, settings.keys, prices, circuits) for provider in providers])
        return
    cli.print_table(
        ("provider", "~key", "checked", "~limits", "~address"),
        [_provider_row(provider, settings.keys) for provider in providers],
    )
    cli.print("")
    cli.print_table(
        ("target", ">in $/M", ">out $/M", ">window", ">max output"),
        [_model_row(provider, model, prices) for provider in providers for model in provider.models.values()],
    )
    if circuits:
        cli.print("")
        cli.print_table(CIRCUIT_COLUMNS, [circuit.table_row(settings.timezone) for circuit in circuits])
    for provider in providers:
        if provider.open_models:
            cli.notice(
                f"{provider.name} also accepts models that its file does not list: {provider.name}/MODEL"
            )


def named_providers(settings: Settings, names: Sequence[str] | None) -> list[Provider]:
    """Return the providers with these names, or all without names.

    Raises:
        UsageError: there is no provider of a name.
    """
    if not names:
        return list(settings.catalog.providers.values())
    return [settings.catalog.provider(name) for name in names]


def _key_text(provider: Provider, keys: Keys) -> str:
    """Return the state of a provider's key, never the key."""
    if provider.api_key_env is None:
        return "none needed"
    if keys.usable(provider):
        return f"{provider.api_key_env} is set"
    return provider.key_why or f"{provider.api_key_env} isn't set"


def _provider_row(provider: Provider, keys: Keys) -> tuple[str, ...]:
    when = "" if provider.checked_on is None else f" {provider.checked_on}"
    return (
        provider.name,
        _key_text(provider, keys),
        f"{provider.checked}{when}",
        _limits_text(provider.limits),
        provider.base_url or "(this process)",
    )


def _limits_text(limits: Limits) -> str:
    parts = (
        (limits.requests_per_minute, "requests/min"),
        (limits.requests_per_day, "requests/day"),
        (limits.input_tokens_per_minute, "tokens in/min"),
        (limits.output_tokens_per_minute, "tokens out/min"),
        (limits.concurrency, "slots"),
    )
    return listed(f"{count:,} {unit}" for count, unit in parts if count is not None)


def _model_row(provider: Provider, model: Model, prices: Prices) -> tuple[str, ...]:
    return (
        f"{provider.name}/{model.id}",
        *(dollars(price) for price in _list_price(provider, model, prices)),
        number_text(model.context_window),
        number_text(model.max_output_tokens),
    )


def _list_price(provider: Provider, model: Model, prices: Prices) -> tuple[int | None, int | None]:
    """Return pico-USD per million tokens of plain input and output, now; None if unknown."""
    card = prices.card(provider, model, datetime.now(UTC))
    if card is None:
        return None, None
    times = 1_000_000 // _SAMPLE
    read, written = card.pico(Usage(_SAMPLE, 0)), card.pico(Usage(0, _SAMPLE))
    return (None if read is None else read * times, None if written is None else written * times)


def _provider_json(
    provider: Provider, keys: Keys, prices: Prices, circuits: Sequence[OpenCircuit]
) -> dict[str, Json]:
    return {
        "name": provider.name,
        "adapter": provider.adapter,
        "api": provider.api,
        "sdk": provider.sdk,
        "base_url": provider.base_url,
        "api_key_env": provider.api_key_env,
        "usable": keys.usable(provider),
        "key": _key_text(provider, keys),
        "checked_how": provider.checked.value,
        "checked": None if provider.checked_on is None else provider.checked_on.isoformat(),
        "open_models": provider.open_models,
        "limits": to_json(provider.limits),
        "closed": [circuit.json() for circuit in circuits if circuit.provider == provider.name],
        "models": [_model_json(provider, model, prices) for model in provider.models.values()],
    }


def _model_json(provider: Provider, model: Model, prices: Prices) -> dict[str, Json]:
    read, written = _list_price(provider, model, prices)
    return {
        "target": f"{provider.name}/{model.id}",
        "input_usd_per_mtok": usd_text(read),
        "output_usd_per_mtok": usd_text(written),
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "rejects": [*sorted(model.rejects)],
    }
