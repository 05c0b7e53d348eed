"""Money: costs in pico-USD, estimates, and what is counted together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from .calls import Part, Usage

PICO_PER_USD = 10**12


class Basis(StrEnum):
    """The model whose price determined a cost."""

    SERVED = "served"
    ASKED = "asked"
    """The served model has no known price: priced as the requested one."""
    ESTIMATED = "estimated"
    """The cost is unknown: an `Estimate` from what was sent and what arrived."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of an attempt: pico-USD, rounded once, and the source of its rates.

    `source` is like `genai-prices 0.2.3` or `providers/openai.toml`. `cache_saved_pico` is what the
    provider's prompt cache saved, against all input at the uncached rate; below 0 if writing it
    cost more than reading it saved.
    """

    pico: int
    source: str
    basis: Basis = Basis.SERVED
    cache_saved_pico: int = 0

    @property
    def usd(self) -> Decimal:
        """The cost in USD."""
        return usd(self.pico)

    def part(self, part: Part) -> Cost:
        """Return a part of the cost and of what the prompt cache saved."""
        return replace(self, pico=part.of(self.pico), cache_saved_pico=part.of(self.cache_saved_pico))


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimated usage and cost of a stream that was cut or abandoned before its usage was reported.

    It does not include reasoning tokens, which are invisible; `pico` is None if no price is known.
    Caps never count it: they count the max cost.
    """

    usage: Usage
    pico: int | None


def usd(pico: int) -> Decimal:
    """Convert pico-USD to USD, exactly."""
    return Decimal(pico).scaleb(-12)


def sum_or_none(picos: Iterable[int | None]) -> int | None:
    """Return the sum of amounts in pico-USD, or None if one of them is unknown."""
    total = 0
    for pico in picos:
        if pico is None:
            return None
        total += pico
    return total


def dollars(pico: int | None) -> str:
    """Format money for people: `$1,204.50`, `$0.00042`, `<$0.000001`, `unknown`."""
    if pico is None:
        return "unknown"
    amount = usd(pico)
    if amount == 0:
        return "$0"
    if amount >= 1:
        return f"${amount:,.2f}"
    text = f"{amount:.6f}".rstrip("0")
    return f"${text.ljust(len('0.00'), '0')}" if text != "0." else "<$0.000001"


@dataclass(frozen=True, slots=True)
class Scope:
    """Money that is counted together: `job:<id>`, `day:2026-11-22`, `month:2026-11 client=barly`.

    `cap_pico` stops calls that would exceed it, `soft_pico` only causes a notice; None is no cap.
    """

    key: str
    cap_pico: int | None
    soft_pico: int | None = None
