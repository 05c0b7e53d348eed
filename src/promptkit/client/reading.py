"""What comes piece by piece on the loop thread, read by those who block."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .loop_thread import LoopThread

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Readings:
    """The async generators that a kit's users are reading.

    `thread` is the loop thread, started when it is first needed.
    """

    thread: Callable[[], LoopThread]
    open: set[AsyncGenerator[Any]] = field(default_factory=set[AsyncGenerator[Any]])

    def read(self, items: AsyncGenerator[_T]) -> Iterator[_T]:
        """Each item as it comes; leaving the loop closes what it comes from."""
        self.open.add(items)
        try:
            while True:
                try:
                    item = self.thread().run(_next(items))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self.close(items)

    def close(self, items: AsyncGenerator[Any]) -> None:
        """Close what is being read; if its kit was closed, that was done."""
        if items in self.open:
            self.open.discard(items)
            self.thread().see_to(items.aclose())


async def close_all(readings: set[AsyncGenerator[Any]]) -> None:
    """Close what nobody reads to its end."""
    while readings:
        items = readings.pop()
        with suppress(RuntimeError):  # another thread waits for its next item: it is cancelled with the rest
            await items.aclose()


async def _next(items: AsyncIterator[_T]) -> _T:
    return await anext(items)
