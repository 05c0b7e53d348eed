"""The rule on the cacheable prefix, with what breaking it costs: PK301."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from promptkit.tokens import estimate_text_tokens
from promptkit.types import Target, usd

from .findings import Spot, World
from .flow import Piece
from .subject import Subject

_MOVABLE_TOKENS: Final = 40
"""A shorter stretch is a label beside its value: it can't be moved."""


def broken_prefix(subject: Subject, world: World) -> Iterator[Spot]:
    """A value that differs from call to call, in front of text that doesn't."""
    before, breaker, after = _split(subject.flow)
    if breaker is None or not after:
        return
    lost = [one for one in (_lost(world, before, after, target) for target in world.route.targets) if one]
    if not lost:
        return
    dearest = max(lost, key=lambda one: one.pico_per_call)
    cost = f"{usd(round(dearest.pico_per_call * 1000)):.4f}"
    yield Spot(
        f"{breaker.variable} stands before {after:,} tokens of text that is the same in every call: "
        f"{dearest.tokens:,} tokens aren't cached, ${cost} per 1,000 calls on {dearest.target}",
        breaker.file,
        breaker.line,
        "Put stable text first (the system message, rules, examples), and what differs behind it.",
    )


@dataclass(frozen=True, slots=True)
class _Lost:
    """What one target doesn't cache, and what that costs a call."""

    target: Target
    tokens: int
    pico_per_call: Fraction


def _split(flow: tuple[Piece, ...]) -> tuple[int, Piece | None, int]:
    """Stable tokens before the first break, the break, and the movable stable tokens behind it."""
    stretches: list[str] = [""]
    breaker: Piece | None = None
    for piece in flow:
        if piece.variable:
            breaker = breaker or piece
            stretches.append("")
        else:
            stretches[-1] += piece.text
    counts = [estimate_text_tokens(text) for text in stretches]
    return counts[0], breaker, sum(count for count in counts[1:] if count >= _MOVABLE_TOKENS)


def _lost(world: World, before: int, after: int, target: Target) -> _Lost | None:
    provider, model = world.catalog.pair(target)
    if provider.adapter == "anthropic" and not provider.prompt_cache:
        return None  # it caches only what is marked
    least = model.cache_min_tokens
    card = world.prices.card(provider, model, world.at)
    tariff = None if card is None else card.tariff()
    if tariff is None or before + after < least:
        return None
    band = tariff.bands[0]
    saved = Fraction(band.uncached - band.cache_read, tariff.denominator)
    tokens = after if before >= least else before + after
    return _Lost(target, tokens, saved * tokens) if saved > 0 else None
