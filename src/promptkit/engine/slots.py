"""Slots: how many requests to a target are under way at once, in one process and among all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from promptkit.errors import LedgerError
from promptkit.ledger import Ledger
from promptkit.ledger.leases import Place
from promptkit.routing.limits import SHARE_S, share


class Slots:
    """How many requests may be under way at once; who comes first gets the next one that is free.

    A process that uses an eighth of them or more takes its equal part with the others that do.
    """

    def __init__(self, place: Place, limit: int, ledger: Ledger, clock: Callable[[], float]) -> None:
        self.allowed = limit
        self.taken = 0
        self._place = place
        self._limit = limit
        self._ledger = ledger
        self._clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._joined_s = 0.0

    async def take(self) -> None:
        """Wait for a slot."""
        if 8 * (self.taken + 1) >= self._limit:
            self._join()
        if self.taken < self.allowed and not self._waiting:
            self.taken += 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.give()  # it came in the very moment in which nobody wanted it any more
            else:
                self._waiting.remove(waiter)
            raise

    def give(self) -> None:
        """Let the next one have it."""
        self.taken -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self.taken < self.allowed:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self.taken += 1
                waiter.set_result(None)

    def _join(self) -> None:
        """Say that this process takes part; nobody waits for the answer."""
        now_s = self._clock()
        if 0 <= now_s - self._joined_s < SHARE_S:
            return
        self._joined_s = now_s
        with suppress(LedgerError):  # the call's own attempt fails likewise, and says so
            self._ledger.join(self._place, now_s).add_done_callback(self._joined)

    def _joined(self, answer: asyncio.Future[object]) -> None:
        if not answer.cancelled() and answer.exception() is None:
            count = answer.result()
            self.allowed = share(self._limit, count if isinstance(count, int) else 1)
            self._wake()
