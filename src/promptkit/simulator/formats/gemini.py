"""Gemini generateContent and streamGenerateContent?alt=sse."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from promptkit.simulator import validation as strict
from promptkit.simulator.models import Family, Tokens
from promptkit.simulator.requests import Answer, Asked, Body, End

from .base import EFFORT_TOKENS, Events, Format, PromptText, dumps, inner, invalid, pieces

_AUTOMATIC: Final = -1


_CAMEL: Final = re.compile(r"_([a-z])")


_FINISH: Final = {
    End.STOP: "STOP",
    End.STOP_SEQUENCE: "STOP",
    End.LENGTH: "MAX_TOKENS",
    End.REFUSAL: "PROHIBITED_CONTENT",
    End.FILTER: "SAFETY",
}


_TIERS: Final = {"flex", "priority", "batch"}


def read(body: Body, model: str | None, stream: bool) -> Asked:  # noqa: FBT001  one signature for all formats
    """What a generateContent body asks; the model and whether it streams stand in the path."""
    body = _camel(body)
    config = _camel(inner(body, "generationConfig"))
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    if schema and config.get("responseMimeType") != "application/json":
        message = "Function calling or a response schema needs response_mime_type 'application/json'."
        raise invalid(Family.GEMINI, message)
    if not body["contents"]:
        raise invalid(Family.GEMINI, "* GenerateContentRequest.contents: contents is not specified")
    prompt = PromptText()
    prompt.value(schema)
    prompt.value(body.get("tools"))
    prompt.content(inner(body, "systemInstruction").get("parts"))
    for content in body["contents"]:
        prompt.content(content.get("parts"))
    kind, thinking = _thinking(_camel(inner(config, "thinkingConfig")))
    tier = str(body.get("serviceTier") or "").lower()
    given = {name for name, value in (*body.items(), *config.items()) if value is not None}
    return Asked(
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
    """Proto JSON takes `snake_case` names too."""
    return {_CAMEL.sub(lambda found: found[1].upper(), name): value for name, value in members.items()}


def _thinking(config: Body) -> tuple[str | None, int]:
    level, budget = config.get("thinkingLevel"), config.get("thinkingBudget")
    if level is not None and budget is not None:
        message = "You can only set only one of thinking budget and thinking level."
        raise invalid(Family.GEMINI, message)
    if level is not None:
        return "level", EFFORT_TOKENS.get(str(level).lower(), 0)
    if budget is not None:
        return "budget", EFFORT_TOKENS["medium"] if budget == _AUTOMATIC else cast("int", budget) // 4
    return None, 0


def usage_json(tokens: Tokens) -> Body:
    """Usage as Gemini tells it: candidates leave out thoughts, the prompt includes what was cached."""
    said: Body = {
        "promptTokenCount": tokens.input,
        "candidatesTokenCount": tokens.output - tokens.reasoning,
        "totalTokenCount": tokens.input + tokens.output,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens.input}],
    }
    if tokens.reasoning:
        said["thoughtsTokenCount"] = tokens.reasoning
    if tokens.cache_read:
        said["cachedContentTokenCount"] = tokens.cache_read
        said["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": tokens.cache_read}]
    if tokens.output == tokens.reasoning:
        del said["candidatesTokenCount"]
    return said


def whole(asked: Asked, answer: Answer) -> Body:  # noqa: ARG001  one signature for all formats
    """A `GenerateContentResponse`."""
    return _chunk(answer, answer.text, last=True)


def events(asked: Asked, answer: Answer) -> Events:  # noqa: ARG001  one signature for all formats
    """Chunks that are responses themselves; the last one alone has the finish reason."""
    parts = list(pieces(answer.text)) or [""]
    head = [_event(_chunk(answer, piece, last=False)) for piece in parts[:-1]]
    return Events(head, [_event(_chunk(answer, parts[-1], last=True))])


def _event(value: Body) -> bytes:
    return b"data: " + dumps(value) + b"\r\n\r\n"


def _chunk(answer: Answer, text: str, *, last: bool) -> Body:
    tail: Body = {"modelVersion": answer.model, "responseId": answer.id}
    if answer.tokens is not None:
        told = answer.tokens if last else Tokens(answer.tokens.input, 0)
        tail = {"usageMetadata": usage_json(told), **tail}
    if answer.end is End.BLOCKED:
        return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, **tail}
    content: Body = {"role": "model"}
    if text:
        content["parts"] = [{"text": text}]
    candidate: Body = {"content": content, "index": 0}
    if last:
        candidate["finishReason"] = _FINISH[answer.end]
    return {"candidates": [candidate], **tail}


def error_event(body: Body) -> bytes:
    """An error in mid-stream: an event like any other."""
    return _event(body)


FORMAT: Final = Format(Family.GEMINI, strict.lazily(strict.gemini_generate), read, whole, events, error_event)
