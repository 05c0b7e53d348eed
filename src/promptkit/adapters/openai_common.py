"""What OpenAI's two formats share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from promptkit.types import Json, JsonObject, Model, Prompt, Provider, Usage

from .prefix import cache_key, cacheable
from .schemas import adapted
from .wire import count, member

FAMILY: Final = "openai"

TIERS: Final = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})

_NAME: Final = "reply"
"""What the schema of a structured reply is called; a constant keeps the cached prefix the same."""


def steering(prompt: Prompt, provider: Provider, model: Model) -> JsonObject:
    """The member that steers prompts with one beginning to one cache; none where nothing is cached."""
    prefix = cacheable(prompt, provider, model)
    return {} if prefix is None else {"prompt_cache_key": cache_key(prefix)}


def json_schema(schema: Mapping[str, Json]) -> JsonObject:
    """The schema as both formats take it: strict, but where strict mode can't express its structure."""
    form = adapted(schema, FAMILY)
    sent = form.schema if form.whole else schema
    return {"name": _NAME, "schema": dict(sent), "strict": form.whole}


def read_usage(usage: JsonObject, given: str, made: str) -> Usage | None:
    """Read usage; None where it doesn't count both ways.

    Args:
        usage: the object, empty where there is none.
        given: what the format calls input (`input` or `prompt`).
        made: what it calls output (`output` or `completion`).
    """
    input_tokens = count(usage, f"{given}_tokens")
    output_tokens = count(usage, f"{made}_tokens")
    if input_tokens is None or output_tokens is None:
        return None
    of_input = member(usage, f"{given}_tokens_details")
    reasoning = count(member(usage, f"{made}_tokens_details"), "reasoning_tokens") or 0
    return Usage(
        input_tokens=input_tokens,
        # Some hosts count reasoning beside the completion: more of it than of all tells them apart.
        output_tokens=output_tokens if reasoning <= output_tokens else output_tokens + reasoning,
        cache_read_tokens=count(of_input, "cached_tokens") or 0,
        cache_write_tokens=count(of_input, "cache_write_tokens") or 0,
        reasoning_tokens=reasoning,
    )
