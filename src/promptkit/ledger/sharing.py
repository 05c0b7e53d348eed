"""What the processes of a night tell each other through the ledger: health, and parts of limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection

from promptkit.routing.health import Changes, LaneKey, Lanes

from . import lanes
from .group import State, Task
from .queries import Queries
from .writer import Writer


class Sharing(Queries):
    """The part of `Ledger` that is shared state, and no books."""

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

    async def reset_lanes(self, provider: str) -> int:
        """Open all lanes of a provider by hand; returns how many there were."""
        opened = await self._soon(partial(lanes.reset, provider=provider))
        assert isinstance(opened, int)  # noqa: S101 - what the task gives
        return opened

    def _soon(self, run: Callable[[Connection], object]) -> asyncio.Future[object]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        self._writer.put(Task(run), loop, future)
        return future
