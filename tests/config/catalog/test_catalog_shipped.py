"""The shipped provider files, held against the SDKs' own types and the price list."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from anthropic.types import OutputConfigParam
from genai_prices.data import providers as price_lists
from genai_prices.types import ModelInfo
from google.genai.types import ThinkingLevel
from openai.types.shared.reasoning_effort import ReasoningEffort

from promptkit._util import toml
from promptkit.config.provider_files import read_provider
from promptkit.types import Checked, Model, Provider, Reasoning

FOLDER = Path(__file__).parents[3] / "providers"
SHIPPED = {
    file.stem: read_provider(file.stem, toml.parse(file.read_text("utf-8"), file=str(file)))
    for file in sorted(FOLDER.glob("*.toml"))
}
MODELS = [
    pytest.param(provider, model, id=f"{provider.name}/{model.id}")
    for provider in SHIPPED.values()
    for model in provider.models.values()
]


def words_of(annotation: object) -> set[str]:
    """The strings of a Literal, wherever it is nested in an annotation."""
    if isinstance(annotation, str):
        return {annotation}
    return {word for argument in get_args(annotation) for word in words_of(argument)}


EFFORTS = words_of(ReasoningEffort)
WORDS: dict[str, set[str]] = {
    "openai": EFFORTS,
    "anthropic": words_of(get_type_hints(OutputConfigParam)["effort"]) | {"disabled"},
    "gemini": {level.value for level in ThinkingLevel},
}


def price_entry(provider: Provider, model: Model) -> ModelInfo | None:
    for one in price_lists:
        if one.id == provider.price_provider:
            return one.find_model(model.price_ref or model.id)
    return None


def test_the_promised_providers_are_there() -> None:
    """Three providers, the embedded model, and seven more as data alone."""
    assert set(SHIPPED) == {
        *("openai", "anthropic", "gemini", "local", "mistral", "groq"),
        *("deepseek", "openrouter", "nvidia", "ollama", "vllm"),
    }


def test_checked_is_honest() -> None:
    """Nobody has called a provider for money yet: `live` is the embedded model alone."""
    how = {name: provider.checked for name, provider in SHIPPED.items()}
    assert [name for name, one in how.items() if one is Checked.LIVE] == ["local"]
    assert sorted(name for name, one in how.items() if one is Checked.SIMULATOR) == [
        "anthropic",
        "gemini",
        "openai",
    ]
    assert all(provider.checked_on for provider in SHIPPED.values())


@pytest.mark.parametrize(("provider", "model"), MODELS)
def test_reasoning_words_are_the_sdks_own(provider: Provider, model: Model) -> None:
    """Every level is mapped, to a word that the SDK's types know or to a number of tokens."""
    if model.reasoning is None:
        return
    assert set(model.reasoning) == set(Reasoning)
    words = {value for value in model.reasoning.values() if isinstance(value, str)}
    assert words <= WORDS[provider.adapter]


@pytest.mark.parametrize(("provider", "model"), MODELS)
def test_prices_and_windows_are_known(provider: Provider, model: Model) -> None:
    """A listed model has a price, and its window is about what the price list says; only NVIDIA has no price."""
    entry = price_entry(provider, model)
    if entry is None:
        assert model.price is not None or provider.name == "nvidia"
        return
    assert not entry.deprecated
    if entry.context_window and model.context_window:
        assert abs(model.context_window / entry.context_window - 1) < 0.05


@pytest.mark.parametrize("name", ["local", "ollama", "vllm"])
def test_what_runs_at_home_is_free_and_needs_no_key(name: str) -> None:
    """The embedded model and servers of one's own cost nothing, said as a price of zero."""
    provider = SHIPPED[name]
    pattern = provider.open_model or next(iter(provider.models.values()))
    assert pattern.price is not None
    assert (pattern.price.input_mtok, pattern.price.output_mtok) == (0, 0)
    assert provider.api_key_env is None


def test_the_sdks_own_address_variables_are_named() -> None:
    """OPENAI_BASE_URL, ANTHROPIC_BASE_URL and GOOGLE_GEMINI_BASE_URL move exactly their providers."""
    assert {name: one.base_url_env for name, one in SHIPPED.items() if one.base_url_env} == {
        "openai": "OPENAI_BASE_URL",
        "anthropic": "ANTHROPIC_BASE_URL",
        "gemini": "GOOGLE_GEMINI_BASE_URL",
    }


def test_each_model_says_from_how_many_tokens_on_it_caches() -> None:
    """By the providers' own pages: with one length for all a shorter prefix is never marked, and a longer one in vain."""
    least = {
        name: {model.cache_min_tokens for model in SHIPPED[name].models.values()}
        for name in ("openai", "anthropic")
    }
    assert least == {"openai": {1024}, "anthropic": {512}}
    assert {name: model.cache_min_tokens for name, model in SHIPPED["gemini"].models.items()} == {
        "gemini-2.5-flash-lite": 1024,
        "gemini-2.5-flash": 1024,
        "gemini-3.8-flash": 4096,
        "gemini-3.1-pro-preview": 4096,
    }
