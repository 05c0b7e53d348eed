"""The reply cache's decisions: what makes two calls the same, how old a reply may be, which one serves. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from promptkit.errors import UsageError
from promptkit.types import Call, Target

NOT_LOOKED_UP: Final = 0.0
"""The age that no reply has: the call is made, and its reply kept for later ones."""


_AGE: Final = re.compile(r"(\d{1,6})\s*([smhdw])")


_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


_MASK: Final = (1 << 63) - 1


def read_age(text: str) -> float:
    """How old a reply may be, in seconds: `7d`, `12h`, `30m`, `45s`, `2w`; `0` is not at all.

    Raises:
        UsageError: it is none of these.
    """
    told = text.strip().lower()
    if told == "0":
        return NOT_LOOKED_UP
    found = _AGE.fullmatch(told)
    if found is None:
        raise UsageError(
            f"{text!r} doesn't say how old a cached reply may be",
            remedy="A number and s, m, h, d or w: 7d, 12h, 30m.",
        )
    return float(int(found[1]) * _SECONDS[found[2]])


def key_of(call: Call) -> int:
    """63 bits of a digest over all that shapes a reply, but the model: prompt, parameters, schema, tier."""
    told = [call.prompt.digest, asdict(call.params), call.schema, call.tier]
    text = json.dumps(told, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") & _MASK


@dataclass(frozen=True, slots=True)
class CachedReply:
    """A reply that may serve again: of which call, by what target, and what it cost (None: unknown)."""

    call_id: int
    target: Target
    text: str
    served_model: str | None
    cost_pico: int | None


def choose(replies: Sequence[CachedReply], targets: Iterable[Target]) -> CachedReply | None:
    """The reply that serves: of the first target that has one, the first given (the newest)."""
    by_target = {reply.target: reply for reply in reversed(replies)}
    return next((by_target[target] for target in targets if target in by_target), None)
