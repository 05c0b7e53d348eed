"""Anthropic Messages."""

from __future__ import annotations

from promptkit.simulator import sdk_validation
from promptkit.simulator.models import ProviderFamily, Tokens
from promptkit.simulator.requests import Body, FinishReason, ModelReply, ModelRequest

from .base import (
    EFFORT_TOKENS,
    PromptText,
    StreamEvents,
    WireFormat,
    event,
    inner,
    invalid,
    pieces,
    schema_problem,
)

_LEAST_BUDGET = 1024
_MAX_MARKS = 4
_STOP = {
    FinishReason.STOP: "end_turn",
    FinishReason.STOP_SEQUENCE: "stop_sequence",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.REFUSAL: "refusal",
    FinishReason.FILTER: "refusal",
    FinishReason.BLOCKED: "refusal",
}
_REFUSED = {
    "type": "refusal",
    "category": "general_harms",
    "explanation": "The request was declined by the simulator's script.",
}


def read(body: Body, model: str | None, stream: bool) -> ModelRequest:  # noqa: ARG001, FBT001 - one signature for all formats
    """Read a Messages body."""
    _limits(body)
    config = inner(body, "output_config")
    schema = inner(config, "format").get("schema")
    problem = schema_problem(schema, all_required=False)
    if problem:
        raise invalid(ProviderFamily.ANTHROPIC, f"output_config.format.schema: {problem}")
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
        raise invalid(ProviderFamily.ANTHROPIC, message)
    return ModelRequest(
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
        raise invalid(ProviderFamily.ANTHROPIC, "max_tokens: must be greater than or equal to 1")
    if not body["messages"]:
        raise invalid(ProviderFamily.ANTHROPIC, "messages: at least one message is required")
    for at, message in enumerate(body["messages"]):
        if message["content"] in ("", []):
            problem = f"messages.{at}: all messages must have non-empty content except for the optional final assistant message"
            raise invalid(ProviderFamily.ANTHROPIC, problem)


def _thinking(body: Body, effort: str | None) -> int:
    thinking = inner(body, "thinking")
    match thinking.get("type"):
        case "enabled":
            budget = int(thinking["budget_tokens"])
            if budget < _LEAST_BUDGET:
                message = "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
                raise invalid(ProviderFamily.ANTHROPIC, message)
            if budget >= body["max_tokens"]:
                raise invalid(
                    ProviderFamily.ANTHROPIC, "`max_tokens` must be greater than `thinking.budget_tokens`."
                )
            return budget // 4
        case "adaptive":
            return EFFORT_TOKENS.get(effort or "medium", 0)
        case _:
            return 0


def usage_json(tokens: Tokens, tier: str | None) -> Body:
    """Return the usage; `input_tokens` excludes what the cache read and wrote."""
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


def whole(request: ModelRequest, reply: ModelReply) -> Body:  # noqa: ARG001 - one signature for all formats
    """Return a complete `message`."""
    usage = {} if reply.tokens is None else {"usage": usage_json(reply.tokens, reply.tier)}
    return {**_head(reply), "content": _blocks(reply), **_stop(reply), **usage}


def events(request: ModelRequest, reply: ModelReply) -> StreamEvents:  # noqa: ARG001 - one signature for all formats
    """Return the typed events from `message_start` to `message_stop`."""
    start: Body = {
        **_head(reply),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
    }
    delta: Body = {"type": "message_delta", "delta": _stop(reply)}
    if reply.tokens is not None:
        usage = usage_json(reply.tokens, reply.tier)
        start["usage"] = {**usage, "output_tokens": 1, "output_tokens_details": {"thinking_tokens": 0}}
        names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        delta["usage"] = {name: usage[name] for name in (*names, "output_tokens", "output_tokens_details")}
    head = [event({"type": "message_start", "message": start}), event({"type": "ping"})]
    for index, block in enumerate(_blocks(reply)):
        head += _block_events(index, block)
    return StreamEvents(head, [event(delta), event({"type": "message_stop"})])


def _head(reply: ModelReply) -> Body:
    return {
        "id": f"msg_{reply.id}",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "container": None,
    }


def _stop(reply: ModelReply) -> Body:
    reason = _STOP[reply.end]
    details = _REFUSED if reason == "refusal" else None
    return {"stop_reason": reason, "stop_sequence": reply.stop, "stop_details": details}


def _blocks(reply: ModelReply) -> list[Body]:
    blocks: list[Body] = []
    if reply.tokens is not None and reply.tokens.reasoning:
        blocks.append({"type": "thinking", "thinking": "", "signature": f"sig_{reply.id}"})
    if reply.text:
        blocks.append({"type": "text", "text": reply.text, "citations": None})
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
    """Return the `error` event of a failed stream."""
    return event(body)


FORMAT = WireFormat(
    ProviderFamily.ANTHROPIC,
    sdk_validation.lazily(sdk_validation.anthropic_messages),
    read,
    whole,
    events,
    error_event,
)
