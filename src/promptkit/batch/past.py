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
    """One attempt with the same skeleton, as the ledger has it; `output_tokens` None: no answer."""

    call: int
    target: Target
    input_tokens: int | None
    output_tokens: int | None
    latency_s: float | None
    charged_pico: int


@dataclass(frozen=True, slots=True)
class Past:
    """What a skeleton's answers were like at a target.

    `low`, `mean` and `high` are output tokens; `of_estimate` counted input tokens to one that was
    estimated; `failed` attempts without an answer to one with; `lost` what those cost to what the
    answers cost.
    """

    answers: int
    low: int
    mean: float
    high: int
    latency_s: float | None = None
    failed: float = 0.0
    lost: float = 0.0
    of_estimate: float = 1.0


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
    )


def _rank(ordered: Sequence[int], share: float) -> int:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
