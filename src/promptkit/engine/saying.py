"""What the engine says of money."""

from __future__ import annotations

from promptkit.ledger import Refused, SoftPassed


def refusal_text(refused: Refused, ceiling_pico: int) -> str:
    """Why a cap refused a call."""
    if refused.stopped:
        return f"{refused.scope_key} is stopped: a bill passed its ceiling under this cap"
    return (
        f"the cap {refused.scope_key} leaves no room: this call can cost up to {_dollars(ceiling_pico)}, "
        f"{_dollars(refused.spent_pico)} of {_dollars(refused.cap_pico)} are spent"
    )


def soft_text(passed: SoftPassed) -> str:
    """That a soft cap is reached."""
    return (
        f"soft cap passed: {_dollars(passed.spent_pico)} spent under {passed.scope_key}, "
        f"where {_dollars(passed.soft_pico)} was to be told; nothing is stopped"
    )


def _dollars(pico: int) -> str:
    return f"${pico / 1e12:.6f}"
