"""What of a prompt a provider's cache can keep, and where that ends. Pure."""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import Final

from promptkit.tokens import estimate_text_tokens
from promptkit.types import Model, Prefix, Prompt, Provider

MOST_MARKS: Final = 4
"""So many blocks of a request Anthropic lets be marked."""

_KEY: Final = 32
"""Hex digits of the digest that a cache key carries: OpenAI takes up to 64 characters."""


def cacheable(prompt: Prompt, provider: Provider, model: Model) -> Prefix | None:
    """What other calls' prompts begin with, too, where the provider's cache keeps so much."""
    prefix = prompt.prefix
    if prefix is None or not provider.prompt_cache or prefix_tokens(prefix) < model.cache_min_tokens:
        return None
    return prefix


def prefix_tokens(prefix: Prefix) -> int:
    """About how many tokens a prefix has."""
    return _reach(prefix)[-1]


def cache_key(prefix: Prefix) -> str:
    """What steers calls with one beginning to one machine (`prompt_cache_key`)."""
    return prefix.digest.removeprefix("sha256:")[:_KEY]


def marks(prompt: Prompt, provider: Provider, model: Model) -> dict[int, int]:
    """Where to mark a prompt: behind how many characters of which message (from 0).

    A mark stands at the end of each message that is the same in every call, and where that ends;
    none where the model's least length isn't reached, and of more than four the last four.
    """
    prefix = cacheable(prompt, provider, model)
    if prefix is None:
        return {}
    reached = [at for at, tokens in enumerate(_reach(prefix)) if tokens >= model.cache_min_tokens]
    return {at: len(prefix.texts[at]) for at in reached[-MOST_MARKS:]}


@lru_cache(maxsize=256)
def _reach(prefix: Prefix) -> tuple[int, ...]:
    """About how many tokens the prefix has up to the end of each text."""
    return tuple(accumulate(estimate_text_tokens(text) for text in prefix.texts))
