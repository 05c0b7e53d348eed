"""Sums of money as people read them (programs get `batch.usd_text`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptkit.types import dollars

if TYPE_CHECKING:
    from promptkit.ledger.records import Money


def spent(money: Money) -> str:
    """A sum over attempts: `$1.20`, and `$1.20 + up to $0.04 unknown` where some cost is not known."""
    if not money.unknown:
        return dollars(money.known_pico)
    if not money.at_most_unknown_pico:  # without a price there was no ceiling either
        return f"{dollars(money.known_pico)} + {money.unknown:,} unpriced"
    return f"{dollars(money.known_pico)} + up to {dollars(money.at_most_unknown_pico)} unknown"
