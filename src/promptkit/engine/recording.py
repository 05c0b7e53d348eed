"""The engine's side of the books: holds before a request leaves, and the ends of attempts, calls and rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from promptkit.errors import LedgerError
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import Admitted, AttemptStart, CallEnd, MemberEnd, Refused, RowEnd, SoftPassed
from promptkit.routing.budgets import scope_words
from promptkit.routing.flow import GaveUp, Verdict
from promptkit.types import Attempt, Failure, Fault, Target, dollars
from promptkit.types.ids import show_id

from .attempts import STOPPED, ActiveCall, Settled, call_end, call_start, us_of
from .calls import EVERYBODYS
from .pack import member_starts, pack_ends

_HOLD_POLL_S: Final = 0.25
"""How often a call that waits for room under a cap looks again: another process may have freed it."""


_GONE: Final = GaveUp(None, STOPPED)


class Books:
    """Writes down what is done for a call, and says aloud what a user should know of its money.

    Args:
        ledger: where it is written.
        clock: seconds since the epoch.
        voice: what says it.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], float], voice: Voice) -> None:
        self._ledger = ledger
        self._clock = clock
        self._voice = voice
        self.soft: dict[str, SoftPassed] = {}
        """The scopes whose soft cap was found passed, with what was spent at the last look."""

    async def hold(self, making: ActiveCall, start: AttemptStart) -> Failure | None:
        """Commit the attempt and its hold, waiting for room that other holds may free."""
        kept = making.kept
        call = None if making.begun else call_start(making, kept)
        members = () if making.begun or not making.members else member_starts(making, kept)
        while True:
            admission = await self._ledger.calls.begin(start, making.work.scopes, call, members)
            if isinstance(admission, Admitted):
                making.begun = True
                return None
            if not admission.may_free:
                making.refused_by = admission.scope_key
                return Failure(Fault.BUDGET, refusal_text(admission, start.max_cost_pico or 0))
            await self._ledger.calls.wait_for_release(_HOLD_POLL_S, admission.releases)

    async def close(
        self, making: ActiveCall, settled: Settled, verdict: Verdict | None, *, stopped: bool = False
    ) -> None:
        """Close an attempt with its settlement, and the call and its row with the last one."""
        making.attempts.append(settled.attempt)
        call, row, members = None, None, tuple[MemberEnd, ...]()
        if verdict is not None:
            making.closed = True
            call, row, members = self._ends(making, verdict, stopped=stopped)
        closed = await self._ledger.calls.finish(settled.end, call, row, members)
        if closed.overrun:
            self._voice.say(overrun_text(settled.attempt, closed.overrun))
        for passed in closed.soft:
            self.soft[passed.scope_key] = passed
            self._voice.once(("soft", passed.scope_key), soft_text(passed))

    async def end_unsent(self, making: ActiveCall, verdict: Verdict) -> None:
        """End a call whose last step sent nothing."""
        call, row, members = self._ends(making, verdict)
        start = None if making.begun else call_start(making, making.kept)
        await self._ledger.calls.end(call, row, start, members)

    async def abandon(self, making: ActiveCall) -> None:
        """End a call whose caller has gone between two attempts; its row waits."""
        if making.closed:
            return
        end, _, members = self._ends(making, _GONE)
        with suppress(LedgerError):  # a closed ledger has settled what was open
            await asyncio.shield(self._ledger.calls.end(end, members=members))

    def _ends(
        self, making: ActiveCall, verdict: Verdict, *, stopped: bool = False
    ) -> tuple[CallEnd, RowEnd | None, tuple[MemberEnd, ...]]:
        kept, ended_us = making.kept, us_of(self._clock())
        if not making.members:
            return *call_end(making, verdict, kept, ended_us, stopped=stopped), ()
        end, members = pack_ends(making, verdict, kept, ended_us, stopped=stopped)
        return end, None, members


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


def refusal_text(refused: Refused, max_cost_pico: int) -> str:
    """Why a cap refused a call."""
    scope = scope_words(refused.scope_key)
    if refused.stopped:
        return f"{scope} is stopped: a bill passed its ceiling under the cap of {dollars(refused.cap_pico)}"
    return (
        f"{scope} has no room left under its cap of {dollars(refused.cap_pico)}: {dollars(refused.spent_pico)} "
        f"are spent, and a call can cost up to {dollars(max_cost_pico)}"
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
