"""Time that passes only while everything waits, for tests of pauses, deadlines and timeouts.

A test marked `virtual_time` runs on a loop whose clock stands still while there is work: while a
task can run, while the ledger's thread writes, while a function runs in another thread. Where
nothing is left but timers, the clock jumps to the first of them. So nothing takes longer on a slow
machine, a pause of an hour takes none, and what was measured is exact.

The whole test must live in one loop: no other process and no thread that the loop doesn't know may
take part. While the blocking client of `google-generativeai` runs a call in its thread, time
passes as it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import pytest

from promptkit.ledger.writer import Writer

MARK = "virtual_time"
_SETTLE_S = 0.005
"""How long a wait really waits before the clock jumps: what is on its way through a socket arrives."""
_CALL_THREAD = "promptkit-call"

_Ready = list[tuple[selectors.SelectorKey, int]]


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own."""

    def __init__(self) -> None:
        self._began_s = time.time()
        self._passed_s = 0.0
        self._elsewhere: list[asyncio.Future[Any]] = []
        super().__init__(_Selector(self))

    def time(self) -> float:
        """Return the seconds that have passed, by which all timers go."""
        return self._passed_s

    def now(self) -> float:
        """Return seconds since the epoch, as far as they have passed here."""
        return self._began_s + self._passed_s

    def skip(self, seconds: float) -> None:
        """Let time pass."""
        self._passed_s += seconds

    def await_elsewhere(self, future: asyncio.Future[Any]) -> None:
        """Stop the clock until another thread has resolved a future."""
        self._elsewhere.append(future)

    def busy_elsewhere(self) -> bool:
        """Return whether another thread still works for this loop."""
        self._elsewhere = [future for future in self._elsewhere if not future.done()]
        return bool(self._elsewhere)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """Run a function in a thread; the clock stands still meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self.await_elsewhere(future)
        return future


class _Selector(selectors.DefaultSelector):
    """A selector that jumps over the time in which nothing happens."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> _Ready:
        """Return what is ready; nothing, once the clock has jumped to the end of the timeout."""
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if any(thread.name == _CALL_THREAD for thread in threading.enumerate()):
            began_s = time.monotonic()
            ready = super().select(timeout)
            self._loop.skip(time.monotonic() - began_s)
            return ready
        while True:
            busy = self._loop.busy_elsewhere()
            ready = super().select(_SETTLE_S)
            if ready:
                return ready
            if not busy:
                self._loop.skip(timeout)
                return []


def loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the loop of a test, by its mark."""
    if item.get_closest_marker(MARK):
        return {"virtual": VirtualLoop}
    return {"plain": asyncio.new_event_loop}


def clock() -> Callable[[], float] | None:
    """Return the clock of the running loop, in seconds since the epoch; None: the machine's."""
    loop = asyncio.get_running_loop()
    return loop.now if isinstance(loop, VirtualLoop) else None


@contextlib.contextmanager
def watching_the_ledger() -> Generator[None]:
    """Let the clocks stand still while a ledger's thread writes for their loops."""
    submit = Writer.submit

    def watched(self: Writer, op: Any) -> asyncio.Future[Any]:
        future = submit(self, op)
        loop = asyncio.get_running_loop()
        if isinstance(loop, VirtualLoop):
            loop.await_elsewhere(future)
        return future

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Writer, "submit", watched)
        yield
