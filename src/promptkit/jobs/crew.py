"""Workers that share a task, and that can become more while they are at it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine


class Crew:
    """So many tasks of the same work.

    Args:
        work: what each does until there is nothing left.
        size: how many begin.
    """

    def __init__(self, work: Callable[[], Coroutine[None, None, None]], size: int) -> None:
        self._work = work
        self._workers: list[asyncio.Task[None]] = []
        self.grow(size)

    def grow(self, size: int) -> None:
        """Be at least so many."""
        while len(self._workers) < size:
            self._workers.append(asyncio.create_task(self._work()))

    async def wait(self) -> None:
        """Wait until all of them have ended, those that come meanwhile, too."""
        while waiting := [worker for worker in self._workers if not worker.done()]:
            await asyncio.wait(waiting)

    def check(self) -> None:
        """Raise what the first of them failed with."""
        for worker in self._workers:
            worker.result()

    async def end(self, *others: asyncio.Task[None]) -> None:
        """End them at once, and other tasks with them."""
        tasks = (*self._workers, *others)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
