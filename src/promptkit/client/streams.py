"""A call whose text is read as it comes: an iterator of pieces, and the reply at its end."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, Self, TypeAlias, TypeVar

from promptkit.errors import StorageError, UsageError
from promptkit.types import Reply

Listen: TypeAlias = Callable[[str], None]


Make: TypeAlias = Callable[[Listen], Coroutine[Any, Any, Reply]]
"""Makes the call, telling each piece of its text."""


@dataclass(slots=True)
class _End:
    """Where the reply goes when it is whole."""

    reply: Reply | None = None

    def checked(self) -> Reply:
        if self.reply is None:
            raise UsageError(
                "the stream has not come to its end, so there is no reply yet",
                remedy="Read all its pieces first.",
            )
        return self.reply


class AsyncReplyStream:
    """The text of a call as it comes; see `AsyncPromptKit.stream`.

    Nothing is sent before the first piece is asked for. Leaving the `async with` block, or the
    loop where there is none, ends the call: what was sent by then is settled in the ledger.
    """

    def __init__(self, make: Make) -> None:
        self._end = _End()
        self._pieces = _pieces(make, self._end)

    @property
    def reply(self) -> Reply:
        """The finished reply, once all pieces were read.

        Raises:
            UsageError: the stream has not come to its end, or broke off.
        """
        return self._end.checked()

    def __aiter__(self) -> AsyncGenerator[str]:
        return self._pieces

    async def aclose(self) -> None:
        """End the call where it stands.

        Raises:
            LedgerError: what it took can't be written.
        """
        await self._pieces.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class ReplyStream:
    """The text of a call as it comes, for those who block; see `AsyncReplyStream`."""

    def __init__(self, stream: AsyncReplyStream, readings: Readings) -> None:
        self._stream = stream
        self._readings = readings

    @property
    def reply(self) -> Reply:
        """The finished reply, once all pieces were read.

        Raises:
            UsageError: the stream has not come to its end, or broke off.
        """
        return self._stream.reply

    def __iter__(self) -> Iterator[str]:
        return self._readings.read(aiter(self._stream))

    def close(self) -> None:
        """End the call where it stands.

        Raises:
            LedgerError: what it took can't be written.
        """
        self._readings.close(aiter(self._stream))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _pieces(make: Make, end: _End) -> AsyncGenerator[str]:
    """The pieces; joined, they are the reply's text.

    The call runs in a task of its own, so that a slow reader holds up neither the provider nor the
    clock that bounds the exchange.
    """
    queue: asyncio.Queue[str | None] = asyncio.Queue()
    call = asyncio.create_task(make(queue.put_nowait))
    call.add_done_callback(lambda _: queue.put_nowait(None))
    said = ""
    try:
        while (piece := await queue.get()) is not None:
            said += piece
            yield piece
        reply = call.result()
        end.reply = reply
        if len(reply.text) > len(said) and reply.text.startswith(said):
            yield reply.text[len(said) :]  # it came otherwise than piece by piece
    finally:
        if not call.done():
            await _ended(call)


async def _ended(call: asyncio.Task[Reply]) -> None:
    """Stop a call that nobody listens to any more, and wait until it stands in the books.

    Raises:
        StorageError: it can't be written down. Of any other end its caller did not want to know.
    """
    call.cancel()
    await asyncio.wait((call,))
    error = None if call.cancelled() else call.exception()
    if isinstance(error, StorageError):
        raise error


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
