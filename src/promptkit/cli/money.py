"""Money as people read it (programs get `batch.usd_text`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptkit.types import usd

if TYPE_CHECKING:
    from promptkit.ledger import Money


def dollars(pico: int | None) -> str:
    """USD for people: `$1,204.50`, `$0.00042`, `<$0.000001`, `unknown`."""
    if pico is None:
        return "unknown"
    amount = usd(pico)
    if amount == 0:
        return "$0"
    if amount >= 1:
        return f"${amount:,.2f}"
    text = f"{amount:.6f}".rstrip("0")
    return f"${text.ljust(len('0.00'), '0')}" if text != "0." else "<$0.000001"


def spent(money: Money) -> str:
    """A sum over attempts: `$1.20`, and `$1.20 + up to $0.04 unknown` where some cost is not known."""
    if not money.unknown:
        return dollars(money.known_pico)
    if not money.at_most_unknown_pico:  # without a price there was no ceiling either
        return f"{dollars(money.known_pico)} + {money.unknown:,} unpriced"
    return f"{dollars(money.known_pico)} + up to {dollars(money.at_most_unknown_pico)} unknown"
