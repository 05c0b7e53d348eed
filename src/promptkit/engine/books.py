"""The engine's side of the books: holds before a request leaves, and the ends of attempts, calls and rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from promptkit.errors import LedgerError
from promptkit.ledger import Admitted, AttemptStart, CallEnd, Ledger, MemberEnd, RowEnd, SoftPassed
from promptkit.routing.flow import GaveUp, Verdict
from promptkit.types import Failure, Fault

from .entries import Making, call_end, call_start, us_of
from .packed import member_starts, pack_ends
from .saying import Voice, overrun_text, refusal_text, soft_text
from .settling import Settled
from .streaming import STOPPED

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

    async def hold(self, making: Making, start: AttemptStart) -> Failure | None:
        """Commit the attempt and its hold, waiting for room that other holds may free."""
        kept = making.kept
        call = None if making.begun else call_start(making, kept)
        members = () if making.begun or not making.members else member_starts(making, kept)
        while True:
            admission = await self._ledger.begin(start, making.work.scopes, call, members)
            if isinstance(admission, Admitted):
                making.begun = True
                return None
            if not admission.may_free:
                making.refused_by = admission.scope_key
                return Failure(Fault.BUDGET, refusal_text(admission, start.ceiling_pico or 0))
            await self._ledger.freed(_HOLD_POLL_S, admission.releases)

    async def close(
        self, making: Making, settled: Settled, verdict: Verdict | None, *, stopped: bool = False
    ) -> None:
        """Close an attempt with its settlement, and the call and its row with the last one."""
        making.attempts.append(settled.attempt)
        call, row, members = None, None, tuple[MemberEnd, ...]()
        if verdict is not None:
            making.closed = True
            call, row, members = self._ends(making, verdict, stopped=stopped)
        closed = await self._ledger.finish(settled.end, call, row, members)
        if closed.overrun:
            self._voice.say(overrun_text(settled.attempt, closed.overrun))
        for passed in closed.soft:
            self.soft[passed.scope_key] = passed
            self._voice.once(("soft", passed.scope_key), soft_text(passed))

    async def end_unsent(self, making: Making, verdict: Verdict) -> None:
        """End a call whose last step sent nothing."""
        call, row, members = self._ends(making, verdict)
        start = None if making.begun else call_start(making, making.kept)
        await self._ledger.end_call(call, row, start, members)

    async def abandon(self, making: Making) -> None:
        """End a call whose caller has gone between two attempts; its row waits."""
        if making.closed:
            return
        end, _, members = self._ends(making, _GONE)
        with suppress(LedgerError):  # a closed ledger has settled what was open
            await asyncio.shield(self._ledger.end_call(end, members=members))

    def _ends(
        self, making: Making, verdict: Verdict, *, stopped: bool = False
    ) -> tuple[CallEnd, RowEnd | None, tuple[MemberEnd, ...]]:
        kept, ended_us = making.kept, us_of(self._clock())
        if not making.members:
            return *call_end(making, verdict, kept, ended_us, stopped=stopped), ()
        end, members = pack_ends(making, verdict, kept, ended_us, stopped=stopped)
        return end, None, members
