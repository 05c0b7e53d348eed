"""What the engine says aloud: of targets that are left out, of money, and of what may have cost some."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from promptkit.ids import show_id
from promptkit.ledger import Refused, SoftPassed
from promptkit.routing.budgets import scope_words
from promptkit.types import Attempt, Failure, Fault, Target, dollars

from .verdicts import EVERYBODYS


class Voice:
    """Says things, and those that would come with every call only once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self._said: set[object] = set()

    def once(self, what: object, text: str) -> None:
        """Say it, unless something was said of `what`."""
        if what not in self._said:
            self._said.add(what)
            self.say(text)

    def failed(self, target: Target, failure: Failure) -> None:
        """Say, once a target, what a user may want to do something about."""
        if failure.fault in EVERYBODYS:
            self.once((target, failure.fault), f"{target} is left out ({failure.fault}): {failure.detail}")
        elif failure.fault is Fault.UNKNOWN_OUTCOME:
            self.once((target, failure.fault, failure.shown), unknown_text(target, failure))


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


def overrun_text(attempt: Attempt, scopes: Sequence[str]) -> str:
    """That a bill passed the ceiling that was held for it."""
    return (
        f"{attempt.target} billed more than the ceiling of attempt {show_id(attempt.id)}: "
        f"nothing more starts under {', '.join(scopes)} until the cap is raised"
    )
