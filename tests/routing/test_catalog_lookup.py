"""Targets and where they lead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.errors import UsageError
from promptkit.routing.catalog import Catalog, parse_target
from promptkit.types import Model, Provider, Target

LISTED = Provider("openai", "openai", "responses", "openai", models={"gpt-6-luna": Model("gpt-6-luna", 7)})
OPEN = Provider(
    "ollama", "openai", "chat", "openai", open_models=True, open_model=Model("", rejects=frozenset({"top_k"}))
)
BARE = Provider("vllm", "openai", "chat", "openai", open_models=True)
CATALOG = Catalog({one.name: one for one in (LISTED, OPEN, BARE)})


@given(st.text("abc-.", min_size=1), st.text("abc/.:", min_size=1))
def test_a_target_splits_at_its_first_slash(provider: str, model: str) -> None:
    """A slug is provider/model; model ids may hold more slashes."""
    assert str(parse_target(f"{provider}/{model}")) == f"{provider}/{model}"
    assert parse_target(f"{provider}/{model}") == Target(provider, model)


@pytest.mark.parametrize("text", ["", "/", "openai", "openai/", "/gpt-6-luna"])
def test_half_a_target_is_refused(text: str) -> None:
    """A target needs both sides; the remedy shows one."""
    with pytest.raises(UsageError, match="is not a target") as caught:
        parse_target(text)
    assert "openai/gpt-6-luna" in str(caught.value)


def test_a_target_leads_to_its_model() -> None:
    """A listed model is found with its provider."""
    assert CATALOG.pair(Target("openai", "gpt-6-luna")) == (LISTED, Model("gpt-6-luna", 7))
    assert CATALOG.model(Target("openai", "gpt-6-luna")).context_window == 7


def test_an_open_provider_takes_any_model() -> None:
    """Where models are open, one that isn't listed gets what the file says for those."""
    assert CATALOG.model(Target("ollama", "vendor/x:7b")) == Model(
        "vendor/x:7b", rejects=frozenset({"top_k"})
    )
    assert CATALOG.model(Target("vllm", "x")) == Model("x")


@pytest.mark.parametrize(
    ("target", "what", "remedy"),
    [
        (Target("opnai", "x"), "unknown provider 'opnai'", "Did you mean 'openai'?"),
        (Target("zzz", "x"), "unknown provider 'zzz'", "Known here: ollama, openai, vllm."),
        (Target("openai", "gpt-6-lunar"), "openai has no model 'gpt-6-lunar'", "Did you mean 'gpt-6-luna'?"),
        (Target("openai", "zzz"), "openai has no model 'zzz'", "[[providers.openai.models]]"),
    ],
)
def test_an_unknown_target_names_the_closest(target: Target, what: str, remedy: str) -> None:
    """An unknown provider or model is refused with the closest name, and how to declare a new one."""
    with pytest.raises(UsageError) as caught:
        CATALOG.pair(target)
    assert caught.value.message == what
    assert remedy in str(caught.value.remedy)


def test_words() -> None:
    """The catalog shows its names only."""
    assert repr(CATALOG) == "Catalog(openai, ollama, vllm)"
