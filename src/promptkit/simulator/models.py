"""The scripted models: windows, limits, what each one rejects, and the name it answers under."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Family(StrEnum):
    """Whose error shapes, headers and auth a provider speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"


def family_of(provider: str) -> Family:
    """A provider that is not one of the three speaks OpenAI's format."""
    return Family(provider) if provider in tuple(Family) else Family.OPENAI


KEYLESS: Final = frozenset({"local", "ollama", "vllm"})
"""Hosts that ask for no key."""


@dataclass(frozen=True, slots=True)
class SimModel:
    """A model as its provider would describe it.

    Attributes:
        rejects: request parameters, by their wire names, that it answers with a 400.
        efforts: words (or, for Gemini, `budget`/`level`) it takes for reasoning; empty: any.
        served_as: the name in its replies, where that differs from `id`.
        cache_writes: whether writing to the cache is billed apart.
        cache_min_tokens: below this nothing is cached.
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
        """The model name in replies."""
        return self.served_as or self.id


_GPT_REJECTS: Final = frozenset(
    {"temperature", "top_p", "frequency_penalty", "presence_penalty", "logprobs", "logit_bias"}
    | {"max_tokens", "stop"}
)
_GPT_EFFORTS: Final = frozenset({"none", "low", "medium", "high", "xhigh", "max"})
_CLAUDE_REJECTS: Final = frozenset({"temperature", "top_p", "top_k"})


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
    """The models of all providers: the shipped ones and a scenario's own, which win.

    A host that is none of the three and lists no model takes any model id.
    """

    extra: Mapping[tuple[str, str], SimModel] = field(default_factory=dict[tuple[str, str], SimModel])

    def of(self, provider: str) -> tuple[SimModel, ...]:
        """All models that a provider lists."""
        shipped = {model.id: model for model in _SHIPPED.get(provider, ())}
        own = {model.id: model for (name, _), model in self.extra.items() if name == provider}
        return tuple({**shipped, **own}.values())

    def find(self, provider: str, name: str) -> SimModel | None:
        """The model behind a name, its dated name included; None is a 404."""
        listed = self.of(provider)
        found = next((model for model in listed if name in (model.id, model.served)), None)
        if found is None and not listed and provider not in _SHIPPED and name:
            return SimModel(name)
        return found
