"""Anthropic Messages."""

from __future__ import annotations

from typing import Final

from promptkit.simulator import validation as strict
from promptkit.simulator.models import Family, Tokens
from promptkit.simulator.requests import Answer, Asked, Body, End

from .base import EFFORT_TOKENS, Events, Format, PromptText, event, inner, invalid, pieces, schema_problem

_LEAST_BUDGET: Final = 1024


_MAX_MARKS: Final = 4


_STOP: Final = {
    End.STOP: "end_turn",
    End.STOP_SEQUENCE: "stop_sequence",
    End.LENGTH: "max_tokens",
    End.REFUSAL: "refusal",
    End.FILTER: "refusal",
    End.BLOCKED: "refusal",
}


_REFUSED: Final = {
    "type": "refusal",
    "category": "general_harms",
    "explanation": "The request was declined by the simulator's script.",
}


def read(body: Body, model: str | None, stream: bool) -> Asked:  # noqa: ARG001, FBT001  one signature for all formats
    """What a Messages body asks."""
    _limits(body)
    config = inner(body, "output_config")
    schema = inner(config, "format").get("schema")
    problem = schema_problem(schema, all_required=False)
    if problem:
        raise invalid(Family.ANTHROPIC, f"output_config.format.schema: {problem}")
    prompt = PromptText()
    prompt.value(schema)
    for tool in body.get("tools") or ():
        prompt.value(tool)
    prompt.content(body.get("system"))
    for message in body["messages"]:
        prompt.content(message["content"])
    if body.get("cache_control"):
        prompt.mark(body["cache_control"])
    if len(prompt.marks) > _MAX_MARKS:
        message = f"A maximum of 4 blocks with cache_control may be provided. Found {len(prompt.marks)}."
        raise invalid(Family.ANTHROPIC, message)
    return Asked(
        model=body["model"],
        prompt=str(prompt),
        topic=prompt.topic,
        max_tokens=body["max_tokens"],
        stream=bool(body.get("stream")),
        schema=schema,
        given=frozenset(body),
        effort=config.get("effort"),
        thinking=_thinking(body, config.get("effort")),
        tier="batch" if body.get("service_tier") == "batch" else None,
        marks=tuple(prompt.marks),
        implicit_cache=False,
        stops=tuple(body.get("stop_sequences") or ()),
    )


def _limits(body: Body) -> None:
    if body["max_tokens"] < 1:
        raise invalid(Family.ANTHROPIC, "max_tokens: must be greater than or equal to 1")
    if not body["messages"]:
        raise invalid(Family.ANTHROPIC, "messages: at least one message is required")
    for at, message in enumerate(body["messages"]):
        if message["content"] in ("", []):
            what = f"messages.{at}: all messages must have non-empty content except for the optional final assistant message"
            raise invalid(Family.ANTHROPIC, what)


def _thinking(body: Body, effort: str | None) -> int:
    thinking = inner(body, "thinking")
    match thinking.get("type"):
        case "enabled":
            budget = int(thinking["budget_tokens"])
            if budget < _LEAST_BUDGET:
                message = "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
                raise invalid(Family.ANTHROPIC, message)
            if budget >= body["max_tokens"]:
                raise invalid(Family.ANTHROPIC, "`max_tokens` must be greater than `thinking.budget_tokens`.")
            return budget // 4
        case "adaptive":
            return EFFORT_TOKENS.get(effort or "medium", 0)
        case _:
            return 0


def usage_json(tokens: Tokens, tier: str | None) -> Body:
    """Usage as Messages tells it: `input_tokens` leaves out what the cache read and wrote."""
    return {
        "input_tokens": tokens.uncached,
        "cache_creation_input_tokens": tokens.cache_write_5m + tokens.cache_write_1h,
        "cache_read_input_tokens": tokens.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": tokens.cache_write_5m,
            "ephemeral_1h_input_tokens": tokens.cache_write_1h,
        },
        "output_tokens": tokens.output,
        "output_tokens_details": {"thinking_tokens": tokens.reasoning},
        "service_tier": tier or "standard",
    }


def whole(asked: Asked, answer: Answer) -> Body:  # noqa: ARG001  one signature for all formats
    """A `message` that is done."""
    usage = {} if answer.tokens is None else {"usage": usage_json(answer.tokens, answer.tier)}
    return {**_head(answer), "content": _blocks(answer), **_stop(answer), **usage}


def events(asked: Asked, answer: Answer) -> Events:  # noqa: ARG001  one signature for all formats
    """The typed events from `message_start` to `message_stop`."""
    start: Body = {
        **_head(answer),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
    }
    delta: Body = {"type": "message_delta", "delta": _stop(answer)}
    if answer.tokens is not None:
        usage = usage_json(answer.tokens, answer.tier)
        start["usage"] = {**usage, "output_tokens": 1, "output_tokens_details": {"thinking_tokens": 0}}
        told = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        delta["usage"] = {name: usage[name] for name in (*told, "output_tokens", "output_tokens_details")}
    head = [event({"type": "message_start", "message": start}), event({"type": "ping"})]
    for index, block in enumerate(_blocks(answer)):
        head += _block_events(index, block)
    return Events(head, [event(delta), event({"type": "message_stop"})])


def _head(answer: Answer) -> Body:
    return {
        "id": f"msg_{answer.id}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "container": None,
    }


def _stop(answer: Answer) -> Body:
    reason = _STOP[answer.end]
    details = _REFUSED if reason == "refusal" else None
    return {"stop_reason": reason, "stop_sequence": answer.stop, "stop_details": details}


def _blocks(answer: Answer) -> list[Body]:
    blocks: list[Body] = []
    if answer.tokens is not None and answer.tokens.reasoning:
        blocks.append({"type": "thinking", "thinking": "", "signature": f"sig_{answer.id}"})
    if answer.text:
        blocks.append({"type": "text", "text": answer.text, "citations": None})
    return blocks


def _block_events(index: int, block: Body) -> list[bytes]:
    if block["type"] == "thinking":
        empty = {**block, "signature": ""}
        deltas: list[Body] = [{"type": "signature_delta", "signature": block["signature"]}]
    else:
        empty = {"type": "text", "text": "", "citations": None}
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
    return [
        event({"type": "content_block_start", "index": index, "content_block": empty}),
        *(event({"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas),
        event({"type": "content_block_stop", "index": index}),
    ]


def error_event(body: Body) -> bytes:
    """The `error` event of a stream that fails."""
    return event(body)


FORMAT: Final = Format(
    Family.ANTHROPIC, strict.lazily(strict.anthropic_messages), read, whole, events, error_event
)
