"""A reply that was just made: `run` and `retake` print it."""

from __future__ import annotations

from promptkit.cli.output import duration, usage_json, usd_text
from promptkit.types import Json, Reply, Status, dollars


def reply_summary(reply: Reply) -> str:
    """Return the target, tokens, cost and id of a call in one line."""
    if reply.cached_from is not None:
        return (
            f"{reply.target}, from the reply cache (call {reply.cached_from}), $0, "
            f"saved {dollars(reply.saved_pico)}, call {reply.id}"
        )
    usage = reply.usage
    tokens = "tokens unknown" if usage is None else f"{usage.input_tokens} in, {usage.output_tokens} out"
    status = "" if reply.status is Status.OK else f"{reply.status}; "
    first_s = reply.attempts[-1].first_byte_s if reply.attempts else None
    first = "" if first_s is None else f", first word after {duration(first_s)}"
    return f"{status}{reply.target}, {tokens}, {dollars(reply.cost_pico)}{first}, call {reply.id}"


def reply_json(reply: Reply) -> dict[str, object]:
    """Return a reply as JSON; `parsed`, `flags` and the cache only if the reply has them."""
    return {
        "id": reply.id,
        "text": reply.text,
        **({} if reply.parsed is None else {"parsed": reply.parsed}),
        **({"flags": list(reply.flags)} if reply.flags else {}),
        "target": str(reply.target),
        "served_model": reply.served_model,
        "template": str(reply.ref),
        "template_digest": reply.template_digest,
        "prompt_digest": reply.prompt_digest,
        "status": reply.status.value,
        **_cache_json(reply),
        "usage": usage_json(reply.usage),
        "cost_usd": usd_text(reply.cost_pico),
        "charged_usd": usd_text(reply.charged_pico),
        "latency_s": round(reply.latency_s, 6),
        "attempts": [
            {
                "target": str(attempt.target),
                "state": attempt.state.value,
                **({} if attempt.fault is None else {"fault": attempt.fault.value}),
                "cost_usd": usd_text(None if attempt.cost is None else attempt.cost.pico),
                "latency_s": round(attempt.latency_s, 6),
            }
            for attempt in reply.attempts
        ],
        "tags": dict(reply.tags),
    }


def _cache_json(reply: Reply) -> dict[str, Json]:
    if reply.cached_from is None:
        return {}
    return {"cached_from": reply.cached_from, "saved_usd": usd_text(reply.saved_pico)}
