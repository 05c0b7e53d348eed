"""Anthropic: the Messages format (`POST /v1/messages`), and the client of the anthropic package.

The SDK's API version has no temperature, top_p or top_k any more. A level of reasoning is a word
(adaptive thinking with that effort; `disabled` switches it off) or a budget of thinking tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from promptkit.types import (
    Call,
    Failure,
    Fault,
    Finish,
    JsonObject,
    Model,
    Outcome,
    Provider,
    Usage,
    WireRequest,
)

from .adapter import NO_HEADERS, EventStream, Reader
from .params import Format, fit, marks, split_system
from .replies import Served, count, from_error, member, members, request_id, settle, text, wire_request
from .schemas import adapted

if TYPE_CHECKING:
    from .http import HttpTransport

FAMILY = "anthropic"

_MODELS_PER_PAGE = 1000
"""The most that the API allows."""


def open_anthropic(provider: Provider, key: str | None) -> HttpTransport:
    """Open a client of the anthropic package."""
    import anthropic

    from .http import open_sdk

    client, http_client = anthropic.AsyncAnthropic, anthropic.DefaultAioHttpClient
    return open_sdk(provider, key, client, http_client, limit=_MODELS_PER_PAGE)


_FORMAT = Format(
    "Anthropic Messages", {"stop": "stop_sequences"}, frozenset({"auto", "standard_only"}), least_budget=1024
)

_OFF = frozenset({"disabled", "off", "none"})

_ENDINGS: Mapping[str, Finish | Fault] = {
    "end_turn": Finish.STOP,
    "stop_sequence": Finish.STOP,
    "max_tokens": Finish.LENGTH,
    "model_context_window_exceeded": Finish.LENGTH,
    "refusal": Fault.CONTENT,
}
"""The meaning of `stop_reason`. Any other is broken: `tool_use` and `pause_turn` belong to tools,
which are never offered."""


class AnthropicMessages(Reader):
    """The Anthropic Messages format."""

    family = FAMILY

    def encode(self, call: Call, provider: Provider, model: Model) -> WireRequest | Failure:
        """Encode a call."""
        fitted = fit(call, model, _FORMAT)
        if isinstance(fitted, Failure):
            return fitted
        prompt = split_system(fitted.messages)
        # A system message that was moved breaks the prefix: then nothing is marked.
        cuts = {} if prompt.warnings else marks(call.prompt, provider, model)
        first = len(prompt.system)
        body: JsonObject = {
            "model": model.id,
            "max_tokens": fitted.max_output_tokens,
            "messages": [
                {"role": m.role, "content": _blocks(m.content, cuts[at]) if at in cuts else m.content}
                for at, m in enumerate(prompt.conversation, start=first)
            ],
            **fitted.sampling,
        }
        if prompt.system:
            body["system"] = [
                block for at, text in enumerate(prompt.system) for block in _blocks(text, cuts.get(at))
            ]
        config = _reasoning(body, fitted.reasoning)
        if call.schema is not None:
            config["format"] = {"type": "json_schema", "schema": dict(adapted(call.schema, FAMILY).schema)}
        if config:
            body["output_config"] = config
        if fitted.tier is not None:
            body["service_tier"] = fitted.tier
        if call.stream:
            body["stream"] = True
        return wire_request("/v1/messages", body, call, (*fitted.warnings, *prompt.warnings))

    def stream(self, headers: Mapping[str, str] = NO_HEADERS) -> MessageStream:
        """Return a decoder of a streamed reply."""
        return MessageStream(self, headers)

    def read(self, body: JsonObject, headers: Mapping[str, str], streamed: str = "") -> Outcome:
        """Read a message object."""
        usage = member(body, "usage")
        served = Served(
            _usage(usage),
            text(body, "model"),
            text(usage, "service_tier"),
            request_id(headers, text(body, "id")),
        )
        if body.get("error"):
            return from_error(FAMILY, body, headers, served)
        blocks = (part for part in members(body, "content") if part.get("type") == "text")
        content = "".join(text(part, "text") or "" for part in blocks) or streamed
        reason = text(body, "stop_reason") or "unknown"
        ending = _ENDINGS.get(reason, Fault.BROKEN_REPLY)
        return settle(content, ending, _why(reason, member(body, "stop_details")), served)


def _blocks(content: str, cut: int | None) -> list[JsonObject]:
    """Return a message's text as blocks: the part that every call shares is marked for the cache."""
    if cut is None:
        return [{"type": "text", "text": content}]
    marked: JsonObject = {"type": "text", "text": content[:cut], "cache_control": {"type": "ephemeral"}}
    rest = content[cut:]
    return [marked, {"type": "text", "text": rest}] if rest else [marked]


def _reasoning(body: JsonObject, level: str | int | None) -> JsonObject:
    """Set the reasoning of a body; return what belongs into its `output_config`."""
    if level is None:
        return {}
    if isinstance(level, str) and level not in _OFF:
        body["thinking"] = {"type": "adaptive"}
        return {} if level == "adaptive" else {"effort": level}
    if isinstance(level, int) and level > 0:
        body["thinking"] = {"type": "enabled", "budget_tokens": level}
    else:
        body["thinking"] = {"type": "disabled"}
    return {}


def _why(reason: str, details: JsonObject) -> str:
    reasons = (text(details, "category"), text(details, "explanation"))
    return ": ".join((f"stop_reason is {reason}", *(word for word in reasons if word)))


def _usage(usage: JsonObject) -> Usage | None:
    """Read usage. Anthropic's `input_tokens` counts neither cache reads nor cache writes; ours counts both."""
    uncached = count(usage, "input_tokens")
    output = count(usage, "output_tokens")
    if uncached is None or output is None:
        return None
    writes = member(usage, "cache_creation")
    an_hour = count(writes, "ephemeral_1h_input_tokens") or 0
    both = an_hour + (count(writes, "ephemeral_5m_input_tokens") or 0)
    written = max(count(usage, "cache_creation_input_tokens") or 0, both)
    read = count(usage, "cache_read_input_tokens") or 0
    return Usage(
        input_tokens=uncached + read + written,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=an_hour,
        reasoning_tokens=count(member(usage, "output_tokens_details"), "thinking_tokens") or 0,
    )


class MessageStream(EventStream):
    """A decoder of a streamed message: `message_start`, blocks, `message_delta`, `message_stop`."""

    def __init__(self, reader: AnthropicMessages, headers: Mapping[str, str]) -> None:
        super().__init__(reader, headers)
        self._message: JsonObject = {}

    def take(self, event: JsonObject) -> str:
        """Take one event."""
        kind = event.get("type")
        if kind == "content_block_delta":
            return _text_of(member(event, "delta"), "text_delta")
        if kind == "content_block_start":
            return _text_of(member(event, "content_block"), "text")
        if kind == "message_start":
            # The content comes in blocks of its own.
            self._message = {**member(event, "message"), "content": []}
        elif kind == "message_delta":
            self._message |= member(event, "delta")
            fresh = {key: value for key, value in member(event, "usage").items() if value is not None}
            self._message["usage"] = member(self._message, "usage") | fresh
        elif kind == "message_stop":
            self._over = self._reader.read(self._message, self._headers, self.text)
        return ""

    def served(self) -> Served:
        """Return what the message's start contains besides text."""
        return Served(
            None,
            text(self._message, "model"),
            text(member(self._message, "usage"), "service_tier"),
            request_id(self._headers, text(self._message, "id")),
        )

    def so_far(self) -> Usage | None:
        """Return the counts of `message_start` (the input, a first token of output) and of `message_delta`, if it came."""
        return _usage(member(self._message, "usage"))

    def outcome(self) -> Outcome | None:
        """Return None: only `message_stop` ends a message."""
        return None


def _text_of(part: JsonObject, kind: str) -> str:
    return text(part, "text") or "" if part.get("type") == kind else ""
