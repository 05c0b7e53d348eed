"""The parts of a wire format, and what all formats share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from promptkit.simulator.models import ProviderFamily
from promptkit.simulator.prompt_cache import CacheBreakpoint
from promptkit.simulator.requests import Body, ModelReply, ModelRequest, RequestRefused

_PIECES = 12
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
EFFORT_TOKENS: Final[Mapping[str, int]] = {
    "none": 0,
    "minimal": 16,
    "low": 64,
    "medium": 192,
    "high": 512,
    "xhigh": 1024,
    "max": 2048,
}
"""About the number of reasoning tokens at each level of effort."""


@dataclass(frozen=True, slots=True)
class StreamEvents:
    """A streamed reply as server-sent events; the `tail` completes it."""

    head: Sequence[bytes]
    tail: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class WireFormat:
    """A wire format, as pure functions.

    Attributes:
        family: the format of its errors.
        validate: raises `NotValid` if the SDK's own parameter types reject the body.
        read: reads a body, with the model of the path and whether it streams (Gemini).
        whole: returns the reply's JSON.
        events: returns the reply as a stream.
        error_event: returns an error inside a stream.
    """

    family: ProviderFamily
    validate: Callable[[bytes], Body]
    read: Callable[[Body, str | None, bool], ModelRequest]
    whole: Callable[[ModelRequest, ModelReply], Body]
    events: Callable[[ModelRequest, ModelReply], StreamEvents]
    error_event: Callable[[Body], bytes]


def dumps(value: Any) -> bytes:
    """Return a value as compact JSON in UTF-8."""
    return _ENCODE(value).encode("utf-8", "surrogatepass")


def data(value: Any) -> bytes:
    """Return an event with data only."""
    return b"data: " + dumps(value) + b"\n\n"


def event(value: Mapping[str, Any]) -> bytes:
    """Return an event whose name is the `type` of its data."""
    return b"event: " + str(value["type"]).encode() + b"\n" + data(value)


def pieces(text: str) -> Iterator[str]:
    """Yield a text in at most a dozen deltas."""
    size = max(8, -(-len(text) // _PIECES))
    for at in range(0, len(text), size):
        yield text[at : at + size]


def inner(body: Body, name: str) -> Body:
    """Return an object inside an object; an empty one if it is absent or null."""
    value = body.get(name)
    return cast("Body", value) if isinstance(value, dict) else {}


class PromptText:
    """The prompt's text in the order in which the model reads it, with its cache breakpoints."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0
        self.marks: list[CacheBreakpoint] = []

    def add(self, text: str, cache_control: Any = None) -> None:
        """Add a block; a cache control sets a breakpoint after it."""
        if self._parts:
            self._size += 1
        self._parts.append(text)
        self._size += len(text.encode("utf-8", "surrogatepass"))
        if cache_control is not None:
            self.mark(cache_control)

    def mark(self, cache_control: Mapping[str, Any]) -> None:
        """Add a breakpoint after everything that was added so far."""
        self.marks.append(CacheBreakpoint(self._size, 3600 if cache_control.get("ttl") == "1h" else 300))

    def content(self, content: Any) -> None:
        """Add a message's content: text, or a list of parts. Other parts than text count as their JSON."""
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
        """Add a schema or a list of tools, which count as their JSON."""
        if value:
            self.add(dumps(value).decode())

    @property
    def topic(self) -> str:
        """The last block, which the reply takes its words from."""
        return self._parts[-1] if self._parts else ""

    def __str__(self) -> str:
        return "\n".join(self._parts)


def schema_problem(schema: Any, *, all_required: bool, path: str = "()") -> str | None:
    """Return why structured output refuses a schema: open objects and, on OpenAI, optional fields."""
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


def invalid(
    family: ProviderFamily, message: str, param: str | None = None, code: str | None = None
) -> RequestRefused:
    """Return a 400 in the family's format."""
    return RequestRefused(f"{family}.bad_request", message, code=code, param=param)
