"""What it costs: pico-USD, where its rates come from, and what is counted together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Final

from .calls import Part, Usage

PICO_PER_USD: Final = 10**12


class Basis(StrEnum):
    """By which model's price an attempt was costed."""

    SERVED = "served"
    ASKED = "asked"
    """The served model is unknown to the price list: priced as the one asked for."""
    ESTIMATED = "estimated"
    """Nobody knows the bill: an `Estimate` by what was sent and what arrived."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an attempt cost: pico-USD, rounded once, and where the rates come from.

    `source` is like `genai-prices 0.2.3` or `providers/openai.toml`. `cache_saved_pico` is what the
    provider's prompt cache saved, against all input at the uncached rate; below 0 where writing it
    cost more than reading it saved.
    """

    pico: int
    source: str
    basis: Basis = Basis.SERVED
    cache_saved_pico: int = 0

    @property
    def usd(self) -> Decimal:
        """The same, in USD."""
        return usd(self.pico)

    def part(self, part: Part) -> Cost:
        """Return a part of the cost and of what the prompt cache saved."""
        return replace(self, pico=part.of(self.pico), cache_saved_pico=part.of(self.cache_saved_pico))


@dataclass(frozen=True, slots=True)
class Estimate:
    """About what an attempt took whose provider never told: a stream that was cut or given up.

    Tokens of reasoning that never showed are not in it; `pico` is None where no price is known.
    Caps never count it: they count the ceiling.
    """

    usage: Usage
    pico: int | None


def usd(pico: int) -> Decimal:
    """Turn pico-USD into USD, exactly."""
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
    """Money as people read it: `$1,204.50`, `$0.00042`, `<$0.000001`, `unknown`."""
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
    """Money counted together: `job:<id>`, `day:2026-11-22`, `month:2026-11 client=barly`.

    `cap_pico` stops what would pass it, `soft_pico` is only told when it is passed; None is none.
    """

    key: str
    cap_pico: int | None
    soft_pico: int | None = None
