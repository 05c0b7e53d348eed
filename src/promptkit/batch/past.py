"""What the ledger has seen of a skeleton, summed up for a quote."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from promptkit.types import Target

_LOW: Final = 0.1
_HIGH: Final = 0.9
"""The lengths that `low` and `high` are: a tenth of the answers were shorter, a tenth longer."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One attempt with the same skeleton, as the ledger has it; `output_tokens` None: no answer.

    `job` is the batch's, None of a single call; what was read from the provider's prompt cache and
    written to it is part of `input_tokens`.
    """

    call: int
    target: Target
    input_tokens: int | None
    output_tokens: int | None
    latency_s: float | None
    charged_pico: int
    job: int | None = None
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Cached:
    """The shares of a call's input tokens that a prompt cache serves (`read`) and takes in (`written`)."""

    read: float = 0.0
    written: float = 0.0


@dataclass(frozen=True, slots=True)
class Past:
    """What a skeleton's answers were like at a target.

    `low`, `mean` and `high` are output tokens; `of_estimate` counted input tokens to one that was
    estimated; `failed` attempts without an answer to one with; `lost` what those cost to what the
    answers cost; `cached` what the prompt cache did in batches, once their first call was answered.
    """

    answers: int
    low: int
    mean: float
    high: int
    latency_s: float | None = None
    failed: float = 0.0
    lost: float = 0.0
    of_estimate: float = 1.0
    cached: Cached | None = None


def past_of(seen: Sequence[Seen], of_estimate: float = 1.0) -> Past | None:
    """Sum attempts up; None where none of them was answered."""
    lengths = sorted(one.output_tokens for one in seen if one.output_tokens is not None)
    if not lengths:
        return None
    waits = [one.latency_s for one in seen if one.output_tokens is not None and one.latency_s is not None]
    paid = sum(one.charged_pico for one in seen if one.output_tokens is not None)
    lost = sum(one.charged_pico for one in seen if one.output_tokens is None)
    return Past(
        answers=len(lengths),
        low=_rank(lengths, _LOW),
        mean=sum(lengths) / len(lengths),
        high=_rank(lengths, _HIGH),
        latency_s=sum(waits) / len(waits) if waits else None,
        failed=(len(seen) - len(lengths)) / len(lengths),
        lost=lost / paid if paid else 0.0,
        of_estimate=of_estimate,
        cached=_cached(seen),
    )


def _cached(seen: Sequence[Seen]) -> Cached | None:
    """What the prompt cache did for the rows of batches; None where no batch had two.

    A batch's first call finds the cache cold, and single calls find it as it happens to be: how
    they fared says nothing of a row.
    """
    begun: set[int] = set()
    tokens = read = written = 0
    for one in sorted(seen, key=lambda one: one.call):
        if one.job is None or one.output_tokens is None:
            continue
        if one.job in begun:
            tokens += one.input_tokens or 0
            read += one.cache_read_tokens
            written += one.cache_write_tokens
        begun.add(one.job)
    return Cached(read / tokens, written / tokens) if tokens else None


def _rank(ordered: Sequence[int], share: float) -> int:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
