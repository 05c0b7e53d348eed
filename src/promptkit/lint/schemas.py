"""What of a JSON Schema no wording can bring through a provider's structured output.

Adapters rewrite or leave out what only bounds a value; what is told here remains. Sources: the
providers' pages on structured output, 2026-11 (OpenAI: the root is an object; Anthropic: no
recursion; all: nothing is fetched, so no reference leads outside).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, cast

from promptkit.types import Json

_ROOT_IS_OBJECT: Final = frozenset({"openai", "anthropic"})
_NOT_RECURSIVE: Final = frozenset({"anthropic"})


def not_taken(schema: Mapping[str, Json], family: str) -> Iterator[str]:
    """What a wire format's structured output can't express, in words.

    Args:
        schema: the whole schema.
        family: the adapter's family (`openai`, `anthropic`, `gemini`, `local`).
    """
    if family in _ROOT_IS_OBJECT and schema.get("type") != "object":
        yield f'the root of the schema must have type = "object", not {schema.get("type")!r}'
    for ref in dict.fromkeys(_refs(schema)):
        if not ref.startswith("#"):
            yield f"the reference {ref!r} leads outside of the schema"
        elif family in _NOT_RECURSIVE and _is_circular(schema, ref):
            yield f"the reference {ref!r} leads back to itself"


def _refs(node: Json | Mapping[str, Json]) -> Iterator[str]:
    """Every `$ref` below a node."""
    if isinstance(node, Mapping):
        ref = node.get("$ref")
        if isinstance(ref, str):
            yield ref
    members = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
    for member in members:
        yield from _refs(member)


def _is_circular(schema: Mapping[str, Json], ref: str) -> bool:
    """Whether what a reference means leads to the same reference again."""
    seen: set[str] = set()
    pending = [ref]
    while pending:
        inner = set(_refs(_target(schema, pending.pop())))
        if ref in inner:
            return True
        pending += inner - seen
        seen |= inner
    return ref == "#"


def _target(schema: Mapping[str, Json], ref: str) -> Json:
    """What a local reference means; None where it leads nowhere."""
    node: Json = cast("Json", dict(schema))
    if ref == "#" or not ref.startswith("#"):
        return None  # the root holds every reference, so it is asked for by name alone
    for name in ref.removeprefix("#/").split("/"):
        node = node.get(name) if isinstance(node, dict) else None
    return node
