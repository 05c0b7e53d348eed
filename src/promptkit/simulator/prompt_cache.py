"""The prompt caches: which prefixes a provider has seen, for how long."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from .models import Tokens
from .text import tokens_of_bytes

STEP_TOKENS: Final = 128


MIN_TOKENS: Final = 1024


_STEP_BYTES: Final = STEP_TOKENS * 4


_IMPLICIT_TTL_S: Final = 1800.0


_KEPT: Final = 100_000


@dataclass(frozen=True, slots=True)
class Mark:
    """An Anthropic cache breakpoint: it ends behind `size` bytes of the prompt."""

    size: int
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a prompt finds in the cache, and what it will leave there once its reply begins."""

    tokens: Tokens
    leaves: tuple[tuple[bytes, float], ...] = ()


class PrefixCache:
    """Prefixes by digest, with the time (seconds, any steady clock) at which each one ends."""

    def __init__(self) -> None:
        self._ends: OrderedDict[bytes, float] = OrderedDict()

    def remember(self, lookup: Lookup, now: float) -> None:
        """A reply began: from now on its prefixes can be read."""
        for key, ttl_s in lookup.leaves:
            self._ends[key] = now + ttl_s
            self._ends.move_to_end(key)
        while len(self._ends) > _KEPT:
            self._ends.popitem(last=False)

    def implicit(
        self, scope: str, prompt: bytes, now: float, *, writes: bool, least: int = MIN_TOKENS
    ) -> Lookup:
        """Automatic caching: from `least` tokens on, in steps of 128 (OpenAI, Gemini).

        Args:
            scope: provider, key and model: caches aren't shared between them.
            prompt: the whole prompt, in the order in which the model reads it.
            now: seconds of a steady clock.
            writes: whether writing is billed apart (OpenAI since 5.6).
            least: tokens below which nothing is cached.
        """
        total = tokens_of_bytes(len(prompt))
        if len(prompt) < least * 4:
            return Lookup(Tokens(total, 0))
        keys = _prefixes(scope, prompt, range(least * 4, len(prompt) + 1, _STEP_BYTES))
        seen = next((at for at in range(len(keys), 0, -1) if self._alive(keys[at - 1], now)), 0)
        read = least + (seen - 1) * STEP_TOKENS if seen else 0
        written = least + (len(keys) - 1) * STEP_TOKENS - read if writes else 0
        tokens = Tokens(total - read - written, 0, cache_read=read, cache_write_5m=written)
        return Lookup(tokens, tuple((key, _IMPLICIT_TTL_S) for key in keys))

    def marked(
        self, scope: str, prompt: bytes, marks: Sequence[Mark], now: float, *, least: int = MIN_TOKENS
    ) -> Lookup:
        """Caching by breakpoints (Anthropic): nothing is cached below `least` tokens."""
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
            written[mark.ttl_s > 300] += fresh  # noqa: PLR2004  the short lifetime, in seconds
            done += fresh
        tokens = Tokens(total - done, 0, read, written[False], written[True])
        return Lookup(tokens, tuple((key, float(mark.ttl_s)) for mark, key in zip(usable, keys, strict=True)))

    def _alive(self, key: bytes, now: float) -> bool:
        return self._ends.get(key, float("-inf")) > now


def _prefixes(scope: str, prompt: bytes, sizes: Sequence[int]) -> list[bytes]:
    state, done, keys = blake2b(scope.encode(), digest_size=16), 0, list[bytes]()
    for size in sizes:
        state.update(prompt[done:size])
        done = size
        keys.append(state.digest())
    return keys
