"""OpenAI Responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promptkit.simulator import sdk_validation
from promptkit.simulator.formats import openai_shared
from promptkit.simulator.models import ProviderFamily, Tokens
from promptkit.simulator.requests import Body, FinishReason, ModelReply, ModelRequest

from .base import EFFORT_TOKENS, PromptText, StreamEvents, WireFormat, event, inner, pieces

_REASON = {
    FinishReason.LENGTH: "max_output_tokens",
    FinishReason.FILTER: "content_filter",
    FinishReason.BLOCKED: "content_filter",
}


def read(body: Body, model: str | None, stream: bool) -> ModelRequest:  # noqa: ARG001, FBT001 - one signature for all formats
    """Read a Responses body."""
    prompt = PromptText()
    form = inner(inner(body, "text"), "format")
    schema = openai_shared.schema_of(form, "response_format")
    prompt.value(schema)
    prompt.value(body.get("tools"))
    if body.get("instructions"):
        prompt.add(body["instructions"])
    given = body.get("input", "")
    if isinstance(given, str):
        prompt.add(given)
    else:
        for item in given:
            prompt.content(item.get("content", item))
    effort = inner(body, "reasoning").get("effort")
    return ModelRequest(
        model=body.get("model", ""),
        prompt=str(prompt),
        topic=prompt.topic,
        max_tokens=body.get("max_output_tokens"),
        stream=bool(body.get("stream")),
        schema=schema,
        given=frozenset(name for name, value in body.items() if value is not None),
        effort=effort,
        thinking=EFFORT_TOKENS.get(effort or "none", 0),
        tier=openai_shared.tier_of(body),
        implicit_cache=openai_shared.caches(body),
        cache_key=body.get("prompt_cache_key") or "",
    )


def usage_json(tokens: Tokens) -> Body:
    """Return the usage."""
    return {
        "input_tokens": tokens.input,
        "input_tokens_details": {
            "cached_tokens": tokens.cache_read,
            "cache_write_tokens": tokens.cache_write_5m,
        },
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.input + tokens.output,
    }


def whole(request: ModelRequest, reply: ModelReply) -> Body:
    """Return a complete `response`."""
    reason = _REASON.get(reply.end)
    status = "incomplete" if reason else "completed"
    output = [*_reasoning(reply), *([_message(reply, status)] if reply.text or not reason else [])]
    usage = None if reply.tokens is None else usage_json(reply.tokens)
    done = {
        "status": status,
        "output": output,
        "usage": usage,
        "completed_at": None if reason else reply.created,
    }
    return {**_head(request, reply), **done, "incomplete_details": {"reason": reason} if reason else None}


def events(request: ModelRequest, reply: ModelReply) -> StreamEvents:
    """Return the typed events from `response.created` to `response.completed` or `.incomplete`."""
    final = whole(request, reply)
    begun: Body = {**_head(request, reply), "status": "in_progress", "output": [], "usage": None}
    fields: list[Mapping[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(final["output"]):
        fields += (
            _message_events(item, index, reply) if item["type"] == "message" else _item_events(item, index)
        )
    fields.append({"type": f"response.{final['status']}", "response": final})
    numbered = [event({**each, "sequence_number": number}) for number, each in enumerate(fields)]
    return StreamEvents(numbered[:-1], numbered[-1:])


def _head(request: ModelRequest, reply: ModelReply) -> Body:
    return {
        "id": f"resp_{reply.id}",
        "object": "response",
        "created_at": reply.created,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": request.max_tokens,
        "metadata": {},
        "model": reply.model,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": request.effort, "summary": None},
        "service_tier": reply.tier or "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
    }


def _reasoning(reply: ModelReply) -> list[Body]:
    if reply.tokens is None or not reply.tokens.reasoning:
        return []
    return [{"id": f"rs_{reply.id}", "type": "reasoning", "summary": []}]


def _part(reply: ModelReply) -> Body:
    if reply.end is FinishReason.REFUSAL:
        return {"type": "refusal", "refusal": reply.text}
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": reply.text}


def _message(reply: ModelReply, status: str) -> Body:
    head = {"id": f"msg_{reply.id}", "type": "message", "status": status, "role": "assistant"}
    return {**head, "content": [_part(reply)]}


def _item_events(item: Body, index: int) -> list[Mapping[str, Any]]:
    return [
        {"type": "response.output_item.added", "output_index": index, "item": item},
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def _message_events(item: Body, index: int, reply: ModelReply) -> list[Mapping[str, Any]]:
    position = {"item_id": item["id"], "output_index": index, "content_index": 0}
    refused = reply.end is FinishReason.REFUSAL
    word = "refusal" if refused else "output_text"
    field = "refusal" if refused else "text"
    logprobs: Body = {} if refused else {"logprobs": []}
    empty = {**_part(reply), field: ""}
    opened: Body = {**item, "status": "in_progress", "content": []}
    deltas: list[Mapping[str, Any]] = [
        {"type": f"response.{word}.delta", **position, "delta": piece, **logprobs}
        for piece in pieces(reply.text)
    ]
    return [
        {"type": "response.output_item.added", "output_index": index, "item": opened},
        {"type": "response.content_part.added", **position, "part": empty},
        *deltas,
        {"type": f"response.{word}.done", **position, field: reply.text, **logprobs},
        {"type": "response.content_part.done", **position, "part": _part(reply)},
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def error_event(body: Body) -> bytes:
    """Return the `error` event of a failed stream: flat as documented, and nested as the SDK raises it."""
    error = body["error"]
    fields = {"code": error["code"], "message": error["message"], "param": error["param"]}
    return event({"type": "error", **fields, "sequence_number": 99, "error": error})


FORMAT = WireFormat(
    ProviderFamily.OPENAI,
    sdk_validation.lazily(sdk_validation.openai_responses),
    read,
    whole,
    events,
    error_event,
)
