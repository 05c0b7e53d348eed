"""What the processes of a night tell each other through the ledger: health, and parts of limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from sqlalchemy import Connection

from promptkit.routing.health import Changes, LaneKey, Lanes
from promptkit.routing.limits import Ask

from . import lanes, leases
from .group import Op, State, Task
from .job_books import JobBooks
from .writer import Writer


class Sharing(JobBooks):
    """The part of `Ledger` that is shared state, and no books; and how all of its parts write."""

    _writer: Writer
    _state: State

    def lanes(self) -> Lanes:
        """The lanes of all providers as they stand; a read of a fraction of a millisecond."""
        with self._read() as connection:
            return lanes.load(connection)

    def learn(self, changed: Changes, now_s: float) -> asyncio.Future[object]:
        """Bring in what this process learned of the targets' health.

        It is queued at once: with the attempt that is finished next, it goes into one commit.

        Args:
            changed: what became of which lanes.
            now_s: seconds since the epoch.

        Returns:
            What is done when it is on disk.
        """
        return self._soon(partial(lanes.learn, changed=changed, now_s=now_s))

    async def claim_probe(self, keys: tuple[LaneKey, ...], now_s: float, until_s: float) -> bool:
        """Claim to be the one that tries half-open lanes; False where another does, or has closed one."""
        owner_id = self._state.owner_id
        run = partial(lanes.claim, keys=keys, now_s=now_s, until_s=until_s, owner_id=owner_id)
        return bool(await self._soon(run))

    async def reset_lanes(self, provider: str, *, terminal_of: str | None = None) -> int:
        """Open the lanes of a provider by hand: all, or the terminal ones of an account; returns how many."""
        opened = await self._soon(partial(lanes.reset, provider=provider, terminal_of=terminal_of))
        assert isinstance(opened, int)  # noqa: S101 - what the task gives
        return opened

    async def lease(
        self, place: leases.Place, asks: Sequence[Ask], today: leases.Today | None, now_s: float
    ) -> leases.Leased:
        """Lease the next units of a target's rates, and requests of its day."""
        result = await self._soon(partial(leases.take, place=place, asks=asks, today=today, now_s=now_s))
        assert isinstance(result, leases.Leased)  # noqa: S101 - what the task gives
        return result

    def join(self, place: leases.Place, now_s: float) -> asyncio.Future[object]:
        """Take part in a provider's slots for a few seconds; the result is how many processes do."""
        owner_id = self._state.owner_id
        return self._soon(partial(leases.join, place=place, owner_id=owner_id, now_s=now_s))

    def _soon(self, run: Callable[[Connection], object]) -> asyncio.Future[object]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        self._writer.put(Task(run), loop, future)
        return future

    async def _ask_task(self, run: Callable[[Connection], object]) -> object:
        op: Op = Task(run)
        return await self._writer.ask(op)

    async def _do(self, run: Callable[[Connection], None]) -> None:
        await self._ask_task(run)

    async def _count(self, run: Callable[[Connection], int]) -> int:
        result = await self._ask_task(run)
        assert isinstance(result, int)  # noqa: S101 - what the task gives
        return result
