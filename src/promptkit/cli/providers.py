"""The commands about providers: `providers list` and `providers check`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from promptkit.batch.columns import usd_text
from promptkit.errors import ExitCode
from promptkit.types import Json, Limits, Model, Provider, Usage, dollars

from .face import Face
from .lanes import Closed, closed_lanes

if TYPE_CHECKING:
    from promptkit.config.keys import Keys
    from promptkit.config.settings import Settings
    from promptkit.providers.prices import Prices

    from .checking import Check


Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Those providers. Else all.")]


Live = Annotated[
    bool, typer.Option("--live", help="One tiny call each as well: the price is said first, $0.01 at most.")
]


_SAMPLE: Final = 1000
"""Tokens of a request whose price stands for the list price: no long-context band reaches down to it."""


def list_providers(face: Face, names: Names = None) -> None:
    """List providers and targets: keys, limits, prices, and what is closed until when.

    Prices are in USD per million tokens of input and output. A key is never shown. `checked`
    says how far the provider's file was tried, and when. What is closed is not asked by any
    process until then; `providers reset NAME` opens it.

    Examples:
        promptkit providers list
        promptkit providers list openai anthropic --json
    """
    from promptkit.providers.prices import Prices

    settings = face.settings()
    providers = chosen(settings, names)
    prices = Prices()
    closed = closed_lanes(face, settings, providers)
    if face.as_json:
        face.print_json([_json(provider, settings.keys, prices, closed) for provider in providers])
        return
    face.table(
        ("provider", "~key", "checked", "~limits", "~address"),
        [_provider_row(provider, settings.keys) for provider in providers],
    )
    face.print("")
    face.table(
        ("target", ">in $/M", ">out $/M", ">window", ">most out"),
        [_model_row(provider, model, prices) for provider in providers for model in provider.models.values()],
    )
    if closed:
        face.print("")
        face.table(("closed", "lane", "until", "~why"), [lane.row(settings.timezone) for lane in closed])
    for provider in providers:
        if provider.open_models:
            face.say(f"{provider.name}/ANY: it takes models that its file doesn't list")


def check(face: Face, names: Names = None, live: Live = False) -> int:
    """Check key, address and models of each provider, free of charge.

    Each one is asked for its list of models, through its own SDK. With --live each that answers
    is then asked for one word, through the engine, so that the call stands in the ledger; a pause
    or an outage that was met before doesn't keep it from asking. A key that works again opens what
    was closed until it would.

    Examples:
        promptkit providers check
        promptkit providers check openai --live
    """
    from .checking import check_all

    session = face.session(by_hand=True)
    providers = chosen(session.settings, names)
    checks = asyncio.run(check_all(session, providers, live=live, say=face.say))
    if face.as_json:
        face.print_json([one.as_json() for one in checks])
    else:
        face.table(("provider", "usable", "~what it says"), [_check_row(one) for one in checks])
    return ExitCode.OK if any(one.usable for one in checks) else ExitCode.AUTH


def chosen(settings: Settings, names: list[str] | None) -> list[Provider]:
    """The providers of those names, or all.

    Raises:
        UsageError: there is none of a name.
    """
    if not names:
        return list(settings.catalog.providers.values())
    return [settings.catalog.provider(name) for name in names]


def key_state(provider: Provider, keys: Keys) -> str:
    """What there is to say of a provider's key: never the key."""
    if provider.api_key_env is None:
        return "none needed"
    if keys.usable(provider):
        return f"{provider.api_key_env} is set"
    return provider.key_why or f"{provider.api_key_env} isn't set"


def _check_row(check: Check) -> tuple[str, str, str]:
    return check.provider, "yes" if check.usable else "no", check.says


def _provider_row(provider: Provider, keys: Keys) -> tuple[str, ...]:
    when = "" if provider.checked_on is None else f" {provider.checked_on}"
    return (
        provider.name,
        key_state(provider, keys),
        f"{provider.checked}{when}",
        _limits(provider.limits),
        provider.base_url or "(this process)",
    )


def _limits(limits: Limits) -> str:
    told = (
        (limits.requests_per_minute, "requests/min"),
        (limits.requests_per_day, "requests/day"),
        (limits.input_tokens_per_minute, "tokens in/min"),
        (limits.output_tokens_per_minute, "tokens out/min"),
        (limits.concurrency, "at once"),
    )
    return ", ".join(f"{count:,} {unit}" for count, unit in told if count is not None)


def _model_row(provider: Provider, model: Model, prices: Prices) -> tuple[str, ...]:
    read, written = list_price(provider, model, prices)
    return (
        f"{provider.name}/{model.id}",
        "unknown" if read is None else dollars(read),
        "unknown" if written is None else dollars(written),
        "" if model.context_window is None else f"{model.context_window:,}",
        "" if model.max_output_tokens is None else f"{model.max_output_tokens:,}",
    )


def list_price(provider: Provider, model: Model, prices: Prices) -> tuple[int | None, int | None]:
    """Pico-USD per million tokens of plain input and output, now; None where unknown."""
    card = prices.card(provider, model, datetime.now(UTC))
    if card is None:
        return None, None
    times = 1_000_000 // _SAMPLE
    read, written = card.pico(Usage(_SAMPLE, 0)), card.pico(Usage(0, _SAMPLE))
    return (None if read is None else read * times, None if written is None else written * times)


def _json(provider: Provider, keys: Keys, prices: Prices, closed: Sequence[Closed]) -> dict[str, Json]:
    return {
        "name": provider.name,
        "adapter": provider.adapter,
        "api": provider.api,
        "sdk": provider.sdk,
        "base_url": provider.base_url,
        "api_key_env": provider.api_key_env,
        "usable": keys.usable(provider),
        "key": key_state(provider, keys),
        "checked_how": provider.checked.value,
        "checked": None if provider.checked_on is None else provider.checked_on.isoformat(),
        "open_models": provider.open_models,
        "limits": {
            "requests_per_minute": provider.limits.requests_per_minute,
            "requests_per_day": provider.limits.requests_per_day,
            "input_tokens_per_minute": provider.limits.input_tokens_per_minute,
            "output_tokens_per_minute": provider.limits.output_tokens_per_minute,
            "concurrency": provider.limits.concurrency,
        },
        "closed": [lane.as_json() for lane in closed if lane.provider == provider.name],
        "models": [_model_json(provider, model, prices) for model in provider.models.values()],
    }


def _model_json(provider: Provider, model: Model, prices: Prices) -> dict[str, Json]:
    read, written = list_price(provider, model, prices)
    return {
        "target": f"{provider.name}/{model.id}",
        "input_usd_per_mtok": usd_text(read),
        "output_usd_per_mtok": usd_text(written),
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "rejects": [*sorted(model.rejects)],
    }
