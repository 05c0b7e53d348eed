"""The simulated models: windows, limits, rejected parameters, names in responses, and prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Final


class ProviderFamily(StrEnum):
    """The format of a provider's errors, headers and authentication."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"


def family_of(provider: str) -> ProviderFamily:
    """Return a provider's family; any other provider than the three uses OpenAI's format."""
    return ProviderFamily(provider) if provider in tuple(ProviderFamily) else ProviderFamily.OPENAI


KEYLESS = frozenset({"local", "ollama", "vllm"})
"""Hosts that need no key."""


@dataclass(frozen=True, slots=True)
class SimModel:
    """A model as its provider describes it.

    Attributes:
        rejects: wire names of parameters for which it returns a 400.
        efforts: words (or, for Gemini, `budget`/`level`) that it accepts for reasoning; empty for any.
        served_as: the name in responses, if it differs from `id`.
        cache_writes: whether cache writes have their own price.
        cache_min_tokens: the shortest prompt that is cached.
    """

    id: str
    context_window: int = 128_000
    max_output_tokens: int = 32_000
    rejects: frozenset[str] = frozenset()
    efforts: frozenset[str] = frozenset()
    served_as: str = ""
    cache_writes: bool = False
    cache_min_tokens: int = 1024

    @property
    def served(self) -> str:
        """The model name in responses."""
        return self.served_as or self.id


_GPT_REJECTS = frozenset(
    {"temperature", "top_p", "frequency_penalty", "presence_penalty", "logprobs", "logit_bias"}
    | {"max_tokens", "stop"}
)
_GPT_EFFORTS = frozenset({"none", "low", "medium", "high", "xhigh", "max"})
_CLAUDE_REJECTS = frozenset({"temperature", "top_p", "top_k"})


def _gpt(name: str, served_as: str) -> SimModel:
    return SimModel(name, 1_050_000, 128_000, _GPT_REJECTS, _GPT_EFFORTS, served_as, cache_writes=True)


def _claude(name: str, served_as: str) -> SimModel:
    return SimModel(
        name,
        1_000_000,
        128_000,
        _CLAUDE_REJECTS,
        served_as=served_as,
        cache_writes=True,
        cache_min_tokens=512,
    )


def _gemini_3(name: str) -> SimModel:
    return SimModel(name, 1_048_576, 65_536, efforts=frozenset({"level"}), cache_min_tokens=4096)


_SHIPPED: Final[Mapping[str, tuple[SimModel, ...]]] = {
    "openai": (
        _gpt("gpt-6-luna", "gpt-6-luna-2026-08-18"),
        _gpt("gpt-6.1-terra", "gpt-6.1-terra-2026-09-29"),
        _gpt("gpt-6.1-sol", "gpt-6.1-sol-2026-09-29"),
        _gpt("gpt-6-astra", "gpt-6-astra-2026-08-18"),
    ),
    "anthropic": (
        _claude("claude-haiku-5-5", "claude-haiku-5-5-20261001"),
        _claude("claude-sonnet-5-5", "claude-sonnet-5-5-20261001"),
        _claude("claude-opus-5-5", "claude-opus-5-5-20261001"),
    ),
    "gemini": (
        SimModel("gemini-2.5-flash-lite", 1_048_576, 65_536, efforts=frozenset({"budget"})),
        _gemini_3("gemini-3.8-flash"),
        _gemini_3("gemini-3.1-pro-preview"),
    ),
}


@dataclass(frozen=True, slots=True)
class Models:
    """The models of all providers: the shipped ones and a scenario's own, which take precedence.

    A host other than the three that lists no model accepts any model id.
    """

    extra: Mapping[tuple[str, str], SimModel] = field(default_factory=dict[tuple[str, str], SimModel])

    def of(self, provider: str) -> tuple[SimModel, ...]:
        """Return all models that a provider lists."""
        shipped = {model.id: model for model in _SHIPPED.get(provider, ())}
        own = {model.id: model for (name, _), model in self.extra.items() if name == provider}
        return tuple({**shipped, **own}.values())

    def find(self, provider: str, name: str) -> SimModel | None:
        """Return the model of a name, or of its dated name; None for a 404."""
        listed = self.of(provider)
        if not listed and provider not in _SHIPPED and name:
            return SimModel(name)
        return next((model for model in listed if name in (model.id, model.served)), None)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a call. The parts of `input` are disjoint; `output` includes `reasoning`."""

    uncached: int
    output: int
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0

    @property
    def input(self) -> int:
        """All tokens of the prompt, cached or not."""
        return self.uncached + self.cache_read + self.cache_write_5m + self.cache_write_1h


@dataclass(frozen=True, slots=True)
class Rates:
    """Pico-USD per token. `write` is the short cache write (5 or 30 minutes), `write_1h` the long one."""

    input: int
    output: int
    read: int
    write: int = 0
    write_1h: int = 0


@dataclass(frozen=True, slots=True)
class Card:
    """The rates of a model; `long` applies to a whole request of more than `above` input tokens.

    `tiers` are its service tiers, each as a fraction of the standard rate.
    """

    rates: Rates
    long: Rates | None = None
    above: int = 0
    batch_halves_reads: bool = True
    tiers: Mapping[str, tuple[int, int]] | None = None


_OPENAI_TIERS = {"flex": (1, 2), "batch": (1, 2), "priority": (2, 1), "fast": (2, 1)}
_ANTHROPIC_TIERS = {"batch": (1, 2)}
_GEMINI_TIERS = {"flex": (1, 2), "batch": (1, 2)}
_CARDS: Final[Mapping[tuple[str, str], Card]] = {
    ("openai", "gpt-6-luna"): Card(
        Rates(100_000, 500_000, 10_000, 125_000),
        Rates(200_000, 750_000, 20_000, 250_000),
        272_000,
        tiers=_OPENAI_TIERS,
    ),
    ("openai", "gpt-6.1-terra"): Card(
        Rates(1_000_000, 5_000_000, 50_000, 1_250_000),
        Rates(2_000_000, 7_500_000, 100_000, 2_500_000),
        272_000,
        tiers=_OPENAI_TIERS,
    ),
    ("openai", "gpt-6.1-sol"): Card(
        Rates(2_000_000, 10_000_000, 100_000, 2_500_000),
        Rates(4_000_000, 15_000_000, 200_000, 5_000_000),
        272_000,
        tiers=_OPENAI_TIERS,
    ),
    ("openai", "gpt-6-astra"): Card(
        Rates(10_000_000, 50_000_000, 1_000_000, 12_500_000),
        Rates(20_000_000, 75_000_000, 2_000_000, 25_000_000),
        272_000,
        tiers=_OPENAI_TIERS,
    ),
    ("anthropic", "claude-haiku-5-5"): Card(
        Rates(100_000, 500_000, 10_000, 125_000, 200_000),
        Rates(500_000, 2_500_000, 50_000, 625_000, 1_000_000),
        100_000,
        tiers=_ANTHROPIC_TIERS,
    ),
    ("anthropic", "claude-sonnet-5-5"): Card(
        Rates(2_000_000, 10_000_000, 100_000, 2_500_000, 4_000_000), tiers=_ANTHROPIC_TIERS
    ),
    ("anthropic", "claude-opus-5-5"): Card(
        Rates(4_000_000, 20_000_000, 200_000, 5_000_000, 8_000_000), tiers=_ANTHROPIC_TIERS
    ),
    ("gemini", "gemini-2.5-flash-lite"): Card(
        Rates(100_000, 400_000, 10_000), batch_halves_reads=False, tiers=_GEMINI_TIERS
    ),
    ("gemini", "gemini-3.1-pro-preview"): Card(
        Rates(2_000_000, 12_000_000, 200_000),
        Rates(4_000_000, 18_000_000, 400_000),
        200_000,
        batch_halves_reads=False,
        tiers=_GEMINI_TIERS,
    ),
    ("gemini", "gemini-3.8-flash"): Card(Rates(750_000, 3_750_000, 75_000), tiers=_GEMINI_TIERS),
}
_INTRODUCTION_ENDS = date(2027, 1, 1)
_AFTER_INTRODUCTION: Final[Mapping[tuple[str, str], Card]] = {
    ("gemini", "gemini-3.8-flash"): Card(Rates(1_500_000, 7_500_000, 150_000), tiers=_GEMINI_TIERS),
}


def priced_models() -> tuple[tuple[str, str], ...]:
    """Return every (provider, model) of the price list."""
    return tuple(_CARDS)


def card_of(provider: str, model: str, on: date) -> Card | None:
    """Return the rates of a model on a day; None if the price list doesn't have it."""
    later = _AFTER_INTRODUCTION.get((provider, model)) if on >= _INTRODUCTION_ENDS else None
    return later or _CARDS.get((provider, model))


def price(card: Card, tokens: Tokens, tier: str | None = None) -> int | None:
    """Return the cost of tokens in pico-USD; None if the card lists tiers without this one."""
    if tier is not None and card.tiers is not None and tier not in card.tiers:
        return None
    rates = card.long if card.long is not None and tokens.input > card.above else card.rates
    reads = tokens.cache_read * rates.read
    rest = (
        tokens.uncached * rates.input
        + tokens.cache_write_5m * rates.write
        + tokens.cache_write_1h * rates.write_1h
        + tokens.output * rates.output
    )
    times, over = (card.tiers or {}).get(tier or "", (1, 1))
    if tier == "batch" and not card.batch_halves_reads:
        return reads + rest * times // over
    return (reads + rest) * times // over
