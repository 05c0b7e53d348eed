"""What the engine says of money, and of what may have cost some."""

from __future__ import annotations

from promptkit.ledger import Refused, SoftPassed
from promptkit.routing.budgets import scope_words
from promptkit.types import Failure, Target, dollars


def refusal_text(refused: Refused, ceiling_pico: int) -> str:
    """Why a cap refused a call."""
    scope = scope_words(refused.scope_key)
    if refused.stopped:
        return f"{scope} is stopped: a bill passed its ceiling under the cap of {dollars(refused.cap_pico)}"
    return (
        f"{scope} has no room left under its cap of {dollars(refused.cap_pico)}: {dollars(refused.spent_pico)} "
        f"are spent, and a call can cost up to {dollars(ceiling_pico)}"
    )


def soft_text(passed: SoftPassed) -> str:
    """That a soft cap is reached."""
    return (
        f"soft cap passed: {scope_words(passed.scope_key)} has spent {dollars(passed.spent_pico)}, "
        f"where {dollars(passed.soft_pico)} was to be told; nothing is stopped"
    )


def unknown_text(target: Target, failure: Failure) -> str:
    """That nobody knows what an attempt cost."""
    if failure.shown:
        what = f"{target} was {failure.detail}: what it has said is kept, and will be billed"
        return f"{what}, so it counts at its ceiling"
    what = f"{target} left a request without an answer ({failure.detail}): it may have been billed"
    return f"{what}, so it counts at its ceiling"
