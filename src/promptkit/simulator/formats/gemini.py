"""Gemini generateContent and streamGenerateContent?alt=sse."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from promptkit.simulator import sdk_validation
from promptkit.simulator.models import ProviderFamily, Tokens
from promptkit.simulator.requests import Body, FinishReason, ModelReply, ModelRequest

from .base import EFFORT_TOKENS, PromptText, StreamEvents, WireFormat, dumps, inner, invalid, pieces

_AUTOMATIC = -1
_CAMEL = re.compile(r"_([a-z])")
_FINISH = {
    FinishReason.STOP: "STOP",
    FinishReason.STOP_SEQUENCE: "STOP",
    FinishReason.LENGTH: "MAX_TOKENS",
    FinishReason.REFUSAL: "PROHIBITED_CONTENT",
    FinishReason.FILTER: "SAFETY",
}
_TIERS = {"flex", "priority", "batch"}


def read(body: Body, model: str | None, stream: bool) -> ModelRequest:  # noqa: FBT001 - one signature for all formats
    """Read a generateContent body; the path has the model and whether it streams."""
    body = _camel(body)
    config = _camel(inner(body, "generationConfig"))
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    if schema and config.get("responseMimeType") != "application/json":
        message = "Function calling or a response schema needs response_mime_type 'application/json'."
        raise invalid(ProviderFamily.GEMINI, message)
    if not body["contents"]:
        raise invalid(ProviderFamily.GEMINI, "* GenerateContentRequest.contents: contents is not specified")
    prompt = PromptText()
    prompt.value(schema)
    prompt.value(body.get("tools"))
    prompt.content(inner(body, "systemInstruction").get("parts"))
    for content in body["contents"]:
        prompt.content(content.get("parts"))
    kind, thinking = _thinking(_camel(inner(config, "thinkingConfig")))
    tier = str(body.get("serviceTier") or "").lower()
    given = {name for name, value in (*body.items(), *config.items()) if value is not None}
    return ModelRequest(
        model=model or "",
        prompt=str(prompt),
        topic=prompt.topic,
        max_tokens=config.get("maxOutputTokens"),
        stream=stream,
        schema=schema,
        given=frozenset(given),
        effort=kind,
        thinking=thinking,
        tier=tier if tier in _TIERS else None,
        stops=tuple(config.get("stopSequences") or ()),
    )


def _camel(members: Mapping[str, Any]) -> Body:
    """Return members by their camelCase names; proto JSON also accepts `snake_case`."""
    return {_CAMEL.sub(lambda match: match[1].upper(), name): value for name, value in members.items()}


def _thinking(config: Body) -> tuple[str | None, int]:
    level, budget = config.get("thinkingLevel"), config.get("thinkingBudget")
    if level is not None and budget is not None:
        message = "You can only set only one of thinking budget and thinking level."
        raise invalid(ProviderFamily.GEMINI, message)
    if level is not None:
        return "level", EFFORT_TOKENS.get(str(level).lower(), 0)
    if budget is not None:
        return "budget", EFFORT_TOKENS["medium"] if budget == _AUTOMATIC else cast("int", budget) // 4
    return None, 0


def usage_json(tokens: Tokens) -> Body:
    """Return the usage; candidates exclude thoughts, the prompt includes cached tokens."""
    fields: Body = {
        "promptTokenCount": tokens.input,
        "candidatesTokenCount": tokens.output - tokens.reasoning,
        "totalTokenCount": tokens.input + tokens.output,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens.input}],
    }
    if tokens.reasoning:
        fields["thoughtsTokenCount"] = tokens.reasoning
    if tokens.cache_read:
        fields["cachedContentTokenCount"] = tokens.cache_read
        fields["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": tokens.cache_read}]
    if tokens.output == tokens.reasoning:
        del fields["candidatesTokenCount"]
    return fields


def whole(request: ModelRequest, reply: ModelReply) -> Body:  # noqa: ARG001 - one signature for all formats
    """Return a `GenerateContentResponse`."""
    return _chunk(reply, reply.text, last=True)


def events(request: ModelRequest, reply: ModelReply) -> StreamEvents:  # noqa: ARG001 - one signature for all formats
    """Return chunks, each a response; only the last one has the finish reason."""
    parts = list(pieces(reply.text)) or [""]
    head = [_event(_chunk(reply, piece, last=False)) for piece in parts[:-1]]
    return StreamEvents(head, [_event(_chunk(reply, parts[-1], last=True))])


def _event(value: Body) -> bytes:
    return b"data: " + dumps(value) + b"\r\n\r\n"


def _chunk(reply: ModelReply, text: str, *, last: bool) -> Body:
    tail: Body = {"modelVersion": reply.model, "responseId": reply.id}
    if reply.tokens is not None:
        tokens = reply.tokens if last else Tokens(reply.tokens.input, 0)
        tail = {"usageMetadata": usage_json(tokens), **tail}
    if reply.end is FinishReason.BLOCKED:
        return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, **tail}
    content: Body = {"role": "model"}
    if text:
        content["parts"] = [{"text": text}]
    candidate: Body = {"content": content, "index": 0}
    if last:
        candidate["finishReason"] = _FINISH[reply.end]
    return {"candidates": [candidate], **tail}


def error_event(body: Body) -> bytes:
    """Return an error inside a stream, an event like any other."""
    return _event(body)


FORMAT = WireFormat(
    ProviderFamily.GEMINI,
    sdk_validation.lazily(sdk_validation.gemini_generate),
    read,
    whole,
    events,
    error_event,
)
