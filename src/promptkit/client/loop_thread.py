"""An event loop on a thread of its own, for those who block."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, Protocol, TypeVar

from promptkit.errors import UsageError

_T = TypeVar("_T")


class Run(Protocol):
    """Runs a coroutine elsewhere and waits for it."""

    def __call__(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run it."""
        ...


class LoopThread:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._left: set[asyncio.Task[object]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="promptkit-loop", daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether this is that thread."""
        return threading.current_thread() is self._thread

    @property
    def is_of_another_process(self) -> bool:
        """Whether the process was forked since: the thread did not come along."""
        return os.getpid() != self._pid

    def check_process(self) -> None:
        """Make sure that the thread is there.

        Raises:
            UsageError: the process was forked since.
        """
        if self.is_of_another_process:
            raise UsageError(
                "this PromptKit was in use before the process was forked",
                remedy="Make one in each process, after the fork.",
            )

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine there and wait for it; an interrupt here cancels it there.

        Raises:
            UsageError: the process was forked since: the thread did not come along.
        """
        try:
            self.check_process()
        except UsageError:
            work.close()
            raise
        ended: Future[_T] = Future()
        tasks: list[asyncio.Task[_T]] = []

        def begin() -> None:
            tasks.append(self._loop.create_task(work))
            tasks[0].add_done_callback(partial(_hand_over, ended))

        def cancel() -> None:
            for task in tasks:
                task.cancel()

        self._loop.call_soon_threadsafe(begin)
        try:
            return ended.result()
        except BaseException:
            if not ended.done():
                self._loop.call_soon_threadsafe(cancel)
                # What it has in flight is being written down: wait until it is.
                wait((ended,))
            raise

    def see_to(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine there and wait for it, unless this is that thread: the garbage collector calls from any."""
        if self.is_current:
            self._left.add(task := self._loop.create_task(work))
            task.add_done_callback(self._left.discard)
        else:
            self.run(work)

    def stop(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _hand_over(ended: Future[_T], task: asyncio.Task[_T]) -> None:
    """Give what became of a task to the thread that waits for it."""
    if task.cancelled():
        ended.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        ended.set_exception(error)
    else:
        ended.set_result(task.result())


async def end_others() -> None:
    """Cancel what still runs on this loop, and wait until it has written down what it had in flight."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
