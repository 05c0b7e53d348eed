"""The providers' prompt caches: which prefixes are cached, and until when."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from .models import Tokens
from .reply_text import tokens_of_bytes

STEP_TOKENS = 128
MIN_TOKENS = 1024
_STEP_BYTES = STEP_TOKENS * 4
_IMPLICIT_TTL_S = 1800.0
_MAX_PREFIXES = 100_000


@dataclass(frozen=True, slots=True)
class CacheBreakpoint:
    """An Anthropic cache breakpoint, after `size` bytes of the prompt."""

    size: int
    ttl_s: int


@dataclass(frozen=True, slots=True)
class CacheLookup:
    """The cached tokens of a prompt, and the prefixes that it writes when its reply begins."""

    tokens: Tokens
    writes: tuple[tuple[bytes, float], ...] = ()


class PrefixCache:
    """Prefixes by digest, each with the time when it ends (seconds of any steady clock)."""

    def __init__(self) -> None:
        self._ends: OrderedDict[bytes, float] = OrderedDict()

    def remember(self, lookup: CacheLookup, now: float) -> None:
        """Write the prefixes of a prompt whose reply begins."""
        for key, ttl_s in lookup.writes:
            self._ends[key] = now + ttl_s
            self._ends.move_to_end(key)
        while len(self._ends) > _MAX_PREFIXES:
            self._ends.popitem(last=False)

    def implicit(
        self, scope: str, prompt: bytes, now: float, *, writes: bool, least: int = MIN_TOKENS
    ) -> CacheLookup:
        """Look a prompt up with automatic caching, in steps of 128 tokens (OpenAI, Gemini).

        Args:
            scope: provider, key and model, which have separate caches.
            prompt: the whole prompt, in the model's order.
            now: seconds of a steady clock.
            writes: whether cache writes have their own price (OpenAI since 5.6).
            least: the shortest prompt that is cached, in tokens.
        """
        total = tokens_of_bytes(len(prompt))
        if len(prompt) < least * 4:
            return CacheLookup(Tokens(total, 0))
        keys = _prefixes(scope, prompt, range(least * 4, len(prompt) + 1, _STEP_BYTES))
        seen = next((at for at in range(len(keys), 0, -1) if self._alive(keys[at - 1], now)), 0)
        read = least + (seen - 1) * STEP_TOKENS if seen else 0
        written = least + (len(keys) - 1) * STEP_TOKENS - read if writes else 0
        tokens = Tokens(total - read - written, 0, cache_read=read, cache_write_5m=written)
        return CacheLookup(tokens, tuple((key, _IMPLICIT_TTL_S) for key in keys))

    def marked(
        self,
        scope: str,
        prompt: bytes,
        marks: Sequence[CacheBreakpoint],
        now: float,
        *,
        least: int = MIN_TOKENS,
    ) -> CacheLookup:
        """Look a prompt up with cache breakpoints (Anthropic)."""
        total = tokens_of_bytes(len(prompt))
        usable = [mark for mark in marks if tokens_of_bytes(mark.size) >= least]
        keys = _prefixes(scope, prompt, [mark.size for mark in usable])
        read, written = 0, {True: 0, False: 0}
        for mark, key in zip(usable, keys, strict=True):
            if self._alive(key, now):
                read = tokens_of_bytes(mark.size)
        done = read
        for mark in usable:
            fresh = max(0, tokens_of_bytes(mark.size) - done)
            written[mark.ttl_s > 300] += fresh  # noqa: PLR2004 - the short lifetime, in seconds
            done += fresh
        tokens = Tokens(total - done, 0, read, written[False], written[True])
        return CacheLookup(
            tokens, tuple((key, float(mark.ttl_s)) for mark, key in zip(usable, keys, strict=True))
        )

    def _alive(self, key: bytes, now: float) -> bool:
        return self._ends.get(key, float("-inf")) > now


def _prefixes(scope: str, prompt: bytes, sizes: Sequence[int]) -> list[bytes]:
    state, done, keys = blake2b(scope.encode(), digest_size=16), 0, list[bytes]()
    for size in sizes:
        state.update(prompt[done:size])
        done = size
        keys.append(state.digest())
    return keys
