"""OpenAI Responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from promptkit.simulator import validation as strict
from promptkit.simulator.formats import openai_shared
from promptkit.simulator.models import Family, Tokens
from promptkit.simulator.requests import Answer, Asked, Body, End

from .base import EFFORT_TOKENS, Events, Format, PromptText, event, inner, pieces

_REASON: Final = {
    End.LENGTH: "max_output_tokens",
    End.FILTER: "content_filter",
    End.BLOCKED: "content_filter",
}


def read(body: Body, model: str | None, stream: bool) -> Asked:  # noqa: ARG001, FBT001  one signature for all formats
    """What a Responses body asks."""
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
    return Asked(
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
    """Usage as Responses tells it."""
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


def whole(asked: Asked, answer: Answer) -> Body:
    """A `response` that is done."""
    reason = _REASON.get(answer.end)
    status = "incomplete" if reason else "completed"
    output = [*_reasoning(answer), *([_message(answer, status)] if answer.text or not reason else [])]
    usage = None if answer.tokens is None else usage_json(answer.tokens)
    done = {
        "status": status,
        "output": output,
        "usage": usage,
        "completed_at": None if reason else answer.created,
    }
    return {**_head(asked, answer), **done, "incomplete_details": {"reason": reason} if reason else None}


def events(asked: Asked, answer: Answer) -> Events:
    """The typed events from `response.created` to `response.completed` or `.incomplete`."""
    final = whole(asked, answer)
    begun: Body = {**_head(asked, answer), "status": "in_progress", "output": [], "usage": None}
    said: list[Mapping[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(final["output"]):
        said += (
            _message_events(item, index, answer) if item["type"] == "message" else _item_events(item, index)
        )
    said.append({"type": f"response.{final['status']}", "response": final})
    numbered = [event({**each, "sequence_number": number}) for number, each in enumerate(said)]
    return Events(numbered[:-1], numbered[-1:])


def _head(asked: Asked, answer: Answer) -> Body:
    return {
        "id": f"resp_{answer.id}",
        "object": "response",
        "created_at": answer.created,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": asked.max_tokens,
        "metadata": {},
        "model": answer.model,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": asked.effort, "summary": None},
        "service_tier": answer.tier or "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
    }


def _reasoning(answer: Answer) -> list[Body]:
    if answer.tokens is None or not answer.tokens.reasoning:
        return []
    return [{"id": f"rs_{answer.id}", "type": "reasoning", "summary": []}]


def _part(answer: Answer) -> Body:
    if answer.end is End.REFUSAL:
        return {"type": "refusal", "refusal": answer.text}
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": answer.text}


def _message(answer: Answer, status: str) -> Body:
    head = {"id": f"msg_{answer.id}", "type": "message", "status": status, "role": "assistant"}
    return {**head, "content": [_part(answer)]}


def _item_events(item: Body, index: int) -> list[Mapping[str, Any]]:
    return [
        {"type": "response.output_item.added", "output_index": index, "item": item},
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def _message_events(item: Body, index: int, answer: Answer) -> list[Mapping[str, Any]]:
    place = {"item_id": item["id"], "output_index": index, "content_index": 0}
    refused = answer.end is End.REFUSAL
    word = "refusal" if refused else "output_text"
    field = "refusal" if refused else "text"
    logprobs: Body = {} if refused else {"logprobs": []}
    empty = {**_part(answer), field: ""}
    opened: Body = {**item, "status": "in_progress", "content": []}
    deltas: list[Mapping[str, Any]] = [
        {"type": f"response.{word}.delta", **place, "delta": piece, **logprobs}
        for piece in pieces(answer.text)
    ]
    return [
        {"type": "response.output_item.added", "output_index": index, "item": opened},
        {"type": "response.content_part.added", **place, "part": empty},
        *deltas,
        {"type": f"response.{word}.done", **place, field: answer.text, **logprobs},
        {"type": "response.content_part.done", **place, "part": _part(answer)},
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def error_event(body: Body) -> bytes:
    """The `error` event of a stream that fails: flat as documented, and nested as the SDK raises it."""
    error = body["error"]
    said = {"code": error["code"], "message": error["message"], "param": error["param"]}
    return event({"type": "error", **said, "sequence_number": 99, "error": error})


FORMAT: Final = Format(
    Family.OPENAI, strict.lazily(strict.openai_responses), read, whole, events, error_event
)
