"""What a wire format is, and what they share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from promptkit.simulator.models import Family
from promptkit.simulator.prompt_cache import Mark
from promptkit.simulator.requests import Answer, Asked, Body, Refused

_PIECES: Final = 12


_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


EFFORT_TOKENS: Final[Mapping[str, int]] = {
    "none": 0,
    "minimal": 16,
    "low": 64,
    "medium": 192,
    "high": 512,
    "xhigh": 1024,
    "max": 2048,
}
"""About how many tokens a model thinks at each level of effort."""


@dataclass(frozen=True, slots=True)
class Events:
    """A streamed reply as server-sent events: the `tail` is what makes it complete."""

    head: Sequence[bytes]
    tail: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Format:
    """A wire format: pure functions.

    Attributes:
        family: whose error shapes go with it.
        validate: raises `Refused` where the SDK's own parameter types would not have it.
        read: what the body asks, given the model of the path (Gemini) and whether it streams.
        whole: the reply's JSON.
        events: the reply as a stream.
        error_event: an error as it comes inside a stream.
    """

    family: Family
    validate: Callable[[bytes], Body]
    read: Callable[[Body, str | None, bool], Asked]
    whole: Callable[[Asked, Answer], Body]
    events: Callable[[Asked, Answer], Events]
    error_event: Callable[[Body], bytes]


def dumps(value: Any) -> bytes:
    """Compact JSON, UTF-8."""
    return _ENCODE(value).encode("utf-8", "surrogatepass")


def data(value: Any) -> bytes:
    """One event with nothing but data."""
    return b"data: " + dumps(value) + b"\n\n"


def event(value: Mapping[str, Any]) -> bytes:
    """One event that is named for the `type` of its data."""
    return b"event: " + str(value["type"]).encode() + b"\n" + data(value)


def pieces(text: str) -> Iterator[str]:
    """The text in at most a dozen deltas."""
    size = max(8, -(-len(text) // _PIECES))
    for at in range(0, len(text), size):
        yield text[at : at + size]


def inner(body: Body, name: str) -> Body:
    """An object inside an object; empty where it is absent or null."""
    value = body.get(name)
    return cast("Body", value) if isinstance(value, dict) else {}


class PromptText:
    """The prompt's text in the order in which the model reads it, and where the marks stand."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0
        self.marks: list[Mark] = []

    def add(self, text: str, cache_control: Any = None) -> None:
        """One block; a cache control marks the prefix that ends behind it."""
        if self._parts:
            self._size += 1
        self._parts.append(text)
        self._size += len(text.encode("utf-8", "surrogatepass"))
        if cache_control is not None:
            self.mark(cache_control)

    def mark(self, cache_control: Mapping[str, Any]) -> None:
        """A breakpoint behind all that was added so far."""
        self.marks.append(Mark(self._size, 3600 if cache_control.get("ttl") == "1h" else 300))

    def content(self, content: Any) -> None:
        """A message's content: text, or a list of parts (what is no text counts as its JSON)."""
        if isinstance(content, str):
            self.add(content)
        elif isinstance(content, Mapping):
            part = cast("Mapping[str, Any]", content)
            text = part.get("text")
            self.add(text if isinstance(text, str) else dumps(part).decode(), part.get("cache_control"))
        elif content is not None:
            for part in content:
                self.content(part)

    def value(self, value: Any) -> None:
        """A schema or a list of tools: it counts as its JSON."""
        if value:
            self.add(dumps(value).decode())

    @property
    def topic(self) -> str:
        """The last block: what the reply will be about."""
        return self._parts[-1] if self._parts else ""

    def __str__(self) -> str:
        return "\n".join(self._parts)


def schema_problem(schema: Any, *, all_required: bool, path: str = "()") -> str | None:
    """What structured outputs refuse in a schema: open objects and, on OpenAI, optional fields."""
    if not isinstance(schema, Mapping):
        return None
    schema = cast("Mapping[str, Any]", schema)
    properties = cast("Mapping[str, Any]", schema.get("properties") or {})
    if schema.get("type") == "object" or properties:
        if schema.get("additionalProperties") is not False:
            return f"In context={path}, 'additionalProperties' is required to be supplied and to be false."
        missing = sorted(set(properties) - set(schema.get("required") or ()))
        if all_required and missing:
            return (
                f"In context={path}, 'required' must include every key in properties. Missing {missing[0]!r}."
            )
    children = [*properties.items(), ("items", schema.get("items"))]
    children += inner(dict(schema), "$defs").items()
    children += [(f"anyOf[{at}]", each) for at, each in enumerate(schema.get("anyOf") or ())]
    problems = (
        schema_problem(each, all_required=all_required, path=f"{path}.{name}") for name, each in children
    )
    return next((problem for problem in problems if problem), None)


def invalid(family: Family, message: str, param: str | None = None, code: str | None = None) -> Refused:
    """A 400 in the family's words."""
    return Refused(f"{family}.bad_request", message, code=code, param=param)
