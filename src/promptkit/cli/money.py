"""Money as people read it (programs get `batch.usd_text`)."""

from __future__ import annotations

from promptkit.types import usd


def dollars(pico: int | None) -> str:
    """USD for people: `$0.00042`, `$1.20`, `unknown`."""
    if pico is None:
        return "unknown"
    amount = usd(pico)
    if amount == 0:
        return "$0"
    return f"${amount:.2f}" if amount >= 1 else f"${amount:.6f}".rstrip("0")
