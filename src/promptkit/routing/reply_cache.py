"""The reply cache: when two calls are equal, how old a reply may be, and which reply is used. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from promptkit.errors import UsageError
from promptkit.types import Call, Target

NOT_LOOKED_UP = 0.0
"""No lookup: the call is sent, and its reply is cached for later calls."""

_AGE = re.compile(r"(\d{1,6})\s*([smhdw])")

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

_MASK = (1 << 63) - 1


def read_age(text: str) -> float:
    """Read the greatest age of a cached reply, in seconds: `7d`, `12h`, `30m`, `45s`, `2w`, or `0` for no lookup.

    Raises:
        UsageError: the text is none of these.
    """
    age = text.strip().lower()
    if age == "0":
        return NOT_LOOKED_UP
    match = _AGE.fullmatch(age)
    if match is None:
        raise UsageError(
            f"{text!r} is not an age of cached replies",
            remedy="Write a number and s, m, h, d or w: 7d, 12h, 30m.",
        )
    return float(int(match[1]) * _SECONDS[match[2]])


def key_of(call: Call) -> int:
    """Return 63 bits of a digest over prompt, parameters, schema and tier: all that shapes a reply but the model."""
    parts = [call.prompt.digest, asdict(call.params), call.schema, call.tier]
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") & _MASK


@dataclass(frozen=True, slots=True)
class CachedReply:
    """A reply in the cache: its call, its target, and its cost in pico-USD (None: unknown)."""

    call_id: int
    target: Target
    text: str
    served_model: str | None
    cost_pico: int | None


def choose(replies: Sequence[CachedReply], targets: Iterable[Target]) -> CachedReply | None:
    """Return the reply to use: that of the first target with one; of several, the first given (the newest)."""
    by_target = {reply.target: reply for reply in reversed(replies)}
    return next((by_target[target] for target in targets if target in by_target), None)
