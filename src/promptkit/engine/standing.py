"""How the targets stand, as all processes of the night know it: health and limits, kept at hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final

from promptkit.catalog import Catalog
from promptkit.errors import LedgerError
from promptkit.ledger import Ledger
from promptkit.routing.health import PASSING, PROBE_S, Changes, Health, LaneKey, Lanes, Park, changes, merged
from promptkit.types import Call, Outcome, Target

from .gates import Gate, Gates, Turn

FRESH_S: Final = 0.25
"""How old what is known of other processes may be."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A call's way to a target: the lanes that it tries again, and what it took of the limits."""

    probed: tuple[LaneKey, ...] = ()
    gate: Gate | None = None
    turn: Turn | None = None


_FREE: Final = Entry()


class Standing:
    """The health of the targets in one process, and their limits.

    What is learned here holds at once, goes to the ledger with the attempt that taught it, and
    is read back by all others within `FRESH_S`. Where nothing goes wrong nothing is written,
    and one short read serves all calls of a quarter of a second.

    Args:
        ledger: which all processes share.
        catalog: who has which limits.
        accounts: the accounts in use, by provider (`accounts_of`).
        clock: seconds since the epoch.
        by_hand: ask though others were told to wait, or found that nobody answers.
    """

    def __init__(
        self,
        ledger: Ledger,
        catalog: Catalog,
        accounts: Mapping[str, str],
        clock: Callable[[], float],
        *,
        by_hand: bool = False,
    ) -> None:
        self.health = Health(accounts=accounts, ignored=PASSING if by_hand else frozenset())
        self._gates = Gates(catalog, ledger, accounts, clock)
        self._ledger = ledger
        self._clock = clock
        self._read_s = 0.0
        self._pending: dict[asyncio.Future[object], Changes] = {}
        self._sleepers: set[asyncio.Future[None]] = set()
        self._poll: asyncio.TimerHandle | None = None

    def park(self, target: Target, now_s: float) -> Park | None:
        """What keeps a target closed now."""
        return self.health.park(target, now_s) or self._gates.park(target, now_s)

    def look(self, now_s: float) -> Standing:
        """Make sure that nothing here is older than `FRESH_S`."""
        if not 0 <= now_s - self._read_s < FRESH_S:
            self._read(now_s)
        return self

    async def enter(self, target: Target, call: Call) -> Entry | None:
        """Wait for the call's turn under the target's limits, and look at its lanes again.

        Returns:
            What `leave` is told when the attempt is over, however it ends; None where the
            target closed meanwhile, or another call is trying it again.
        """
        gate, turn = self._gates.of(target), None
        if gate is not None:
            turn = await gate.enter(call)
            if turn is None:
                return None
        now_s = self._clock()
        if not self.health.lanes:
            return _FREE if gate is None else Entry((), gate, turn)
        entry, admitted = Entry(self.health.half_open(target, now_s), gate, turn), False
        try:
            if self.health.park(target, now_s) is None:
                admitted = not entry.probed or await self._claim(entry.probed)
        finally:
            if not admitted:
                self.leave(entry, None)
        return entry if admitted else None

    def heard(self, target: Target, headers: Mapping[str, str]) -> None:
        """Hold back as far as a reply's headers say."""
        gate = self._gates.of(target)
        if gate is not None:
            gate.heard(headers)

    @staticmethod
    def leave(entry: Entry, outcome: Outcome | None) -> None:
        """Give back what the entry took of the limits; no outcome: nothing was sent."""
        if entry.gate is not None and entry.turn is not None:
            entry.gate.leave(entry.turn, outcome)

    def learn(self, target: Target, outcome: Outcome, now_s: float, probed: tuple[LaneKey, ...] = ()) -> None:
        """Take in what came of an attempt; to be called just before the ledger closes that.

        Args:
            target: which was asked.
            outcome: what came of it.
            now_s: seconds since the epoch.
            probed: the lanes that the attempt tried again; a probe that found nothing ends, too.
        """
        before = self.health
        health = before.after(target, outcome, now_s)
        if health is before and not probed:
            return
        lost = tuple(key for key in probed if key in health.lanes and health.lanes[key].until_s <= now_s)
        if lost:
            health = health.probing(lost, 0.0)
        self._take(health, now_s)
        self._tell(changes(before.lanes, health.lanes), now_s)

    async def _claim(self, keys: tuple[LaneKey, ...]) -> bool:
        """Become the one call that tries half-open lanes; False where another is."""
        now_s = self._clock()
        # At once, so that no other call of this process tries it meanwhile.
        self.health = self.health.probing(keys, now_s + PROBE_S)
        if await self._ledger.claim_probe(keys, now_s, now_s + PROBE_S):
            return True
        self._read(self._clock())
        return False

    async def sleep(self, seconds: float) -> None:
        """Wait so long, or until a lane opens early: a probe found it well, or it was opened by hand."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        with self._sleeping(waiter, loop), suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await waiter

    @contextmanager
    def _sleeping(
        self, waiter: asyncio.Future[None], loop: asyncio.AbstractEventLoop
    ) -> Generator[None, None, None]:
        self._sleepers.add(waiter)
        if self._poll is None:
            self._poll = loop.call_later(FRESH_S, self._look_again, loop)
        try:
            yield
        finally:
            self._sleepers.discard(waiter)
            if not self._sleepers:
                self._stop_looking()

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look on behalf of all sleepers, whom nobody else would wake."""
        self._poll = loop.call_later(FRESH_S, self._look_again, loop)
        self.look(self._clock())

    def _stop_looking(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None

    # ------------------------------------------------------------------ inside

    def _read(self, now_s: float) -> None:
        self._read_s = now_s
        try:
            lanes: Lanes = self._ledger.lanes()
        except LedgerError:
            return  # a paid reply may be waiting to be written, and that write will say what is wrong
        if not lanes and not self.health.lanes:
            return
        for changed in self._pending.values():
            lanes = merged(lanes, changed, now_s)
        self._take(replace(self.health, lanes=lanes), now_s)

    def _take(self, health: Health, now_s: float) -> None:
        before, self.health = self.health.lanes, health
        if self._sleepers and _opened(before, health.lanes, now_s):
            sleepers, self._sleepers = self._sleepers, set()
            for waiter in sleepers:
                if not waiter.done():
                    waiter.set_result(None)

    def _tell(self, changed: Changes, now_s: float) -> None:
        """Write what changed, and read what has become of it once it is on disk."""
        if not changed:
            return
        with suppress(LedgerError):  # the attempt's own end, which comes next, fails likewise and says so
            told = self._ledger.learn(changed, now_s)
            self._pending[told] = changed
            told.add_done_callback(self._told)

    def _told(self, told: asyncio.Future[object]) -> None:
        self._pending.pop(told, None)
        if not told.cancelled() and told.exception() is None:
            self._read_s = 0.0


def _opened(before: Lanes, after: Lanes, now_s: float) -> bool:
    """Whether a lane opens earlier than it was to."""
    for key, state in before.items():
        until_s = max(state.until_s, state.probe_until_s)
        now = after.get(key)
        if until_s > now_s and (now is None or max(now.until_s, now.probe_until_s) < until_s):
            return True
    return False
