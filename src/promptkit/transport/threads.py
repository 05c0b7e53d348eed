"""A blocking call, seen from the event loop: what it emits arrives as an async iterator."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def from_thread(work: Callable[[Callable[[T], bool]], None], *, daemon: bool) -> AsyncGenerator[T]:
    """Run `work` in a thread of its own and yield what it emits.

    Args:
        work: called with `emit`, which returns True when nobody listens any more: then `work`
            should end. It is also told so when the process is ending.
        daemon: whether a process may end while the thread runs.

    Raises:
        Exception: whatever `work` raises.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[T] | Exception | None] = asyncio.Queue()
    stopped = threading.Event()

    def put(item: tuple[T] | Exception | None) -> None:
        with suppress(RuntimeError):  # the loop has closed: nobody listens
            loop.call_soon_threadsafe(queue.put_nowait, item)

    def emit(item: T) -> bool:
        put((item,))
        return stopped.is_set() or not threading.main_thread().is_alive()

    def run() -> None:
        try:
            work(emit)
        except Exception as error:  # noqa: BLE001 - raised again in the loop
            put(error)
        else:
            put(None)

    threading.Thread(target=run, name="promptkit-call", daemon=daemon).start()
    try:
        while (item := await queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item[0]
    finally:
        stopped.set()
