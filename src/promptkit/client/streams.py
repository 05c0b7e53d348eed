"""Streams: a call's text as an iterator of pieces, and the reply at its end; and the loop thread that blocking code reads them on."""

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

Start: TypeAlias = Callable[[Listen], Coroutine[Any, Any, Reply]]
"""Make the call, and pass each piece of its text to the listener."""


@dataclass(slots=True)
class _End:
    """Receives the reply when it is complete."""

    reply: Reply | None = None

    def checked(self) -> Reply:
        if self.reply is None:
            raise UsageError(
                "the stream has not ended, so there is no reply yet",
                remedy="Read all its pieces first.",
            )
        return self.reply


class AsyncReplyStream:
    """The text of a call as it arrives; see `AsyncPromptKit.stream`.

    Nothing is sent before you ask for the first piece. If you leave the `async with` block, or the
    loop without one, the call ends: its attempts so far are recorded in the ledger.
    """

    def __init__(self, start: Start) -> None:
        self._end = _End()
        self._pieces = _pieces(start, self._end)

    @property
    def reply(self) -> Reply:
        """The finished reply, after all pieces were read.

        Raises:
            UsageError: the stream has not ended, or broke off.
        """
        return self._end.checked()

    def __aiter__(self) -> AsyncGenerator[str]:
        return self._pieces

    async def aclose(self) -> None:
        """End the call now.

        Raises:
            LedgerError: the ledger can't be written.
        """
        await self._pieces.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class ReplyStream:
    """The text of a call as it arrives, for blocking code; see `AsyncReplyStream`."""

    def __init__(self, stream: AsyncReplyStream, readings: Readings) -> None:
        self._stream = stream
        self._readings = readings

    @property
    def reply(self) -> Reply:
        """The finished reply, after all pieces were read.

        Raises:
            UsageError: the stream has not ended, or broke off.
        """
        return self._stream.reply

    def __iter__(self) -> Iterator[str]:
        return self._readings.read(aiter(self._stream))

    def close(self) -> None:
        """End the call now.

        Raises:
            LedgerError: the ledger can't be written.
        """
        self._readings.close(aiter(self._stream))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _pieces(start: Start, end: _End) -> AsyncGenerator[str]:
    """Yield the pieces; joined, they are the reply's text.

    The call runs in a task of its own: a slow reader delays neither the provider nor the timeout.
    """
    queue: asyncio.Queue[str | None] = asyncio.Queue()
    call = asyncio.create_task(start(queue.put_nowait))
    call.add_done_callback(lambda _: queue.put_nowait(None))
    read = ""
    try:
        while (piece := await queue.get()) is not None:
            read += piece
            yield piece
        reply = call.result()
        end.reply = reply
        if len(reply.text) > len(read) and reply.text.startswith(read):
            yield reply.text[len(read) :]  # text that did not arrive as pieces, such as a cached reply
    finally:
        if not call.done():
            await _ended(call)


async def _ended(call: asyncio.Task[Reply]) -> None:
    """Stop a call that is not read any more, and wait until the ledger has it.

    Raises:
        StorageError: the ledger can't be written. Other errors are dropped: the caller has left.
    """
    call.cancel()
    await asyncio.wait((call,))
    error = None if call.cancelled() else call.exception()
    if isinstance(error, StorageError):
        raise error


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Readings:
    """The async generators that users of a kit are reading.

    `thread` is the loop thread, started when it is first needed.
    """

    thread: Callable[[], LoopThread]
    open: set[AsyncGenerator[Any]] = field(default_factory=set[AsyncGenerator[Any]])

    def read(self, items: AsyncGenerator[_T]) -> Iterator[_T]:
        """Yield each item as it arrives; leaving the loop closes its source."""
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
        """Close a generator, unless closing its kit has done so."""
        if items in self.open:
            self.open.discard(items)
            self.thread().run_or_schedule(items.aclose())


async def close_all(readings: set[AsyncGenerator[Any]]) -> None:
    """Close generators that were not read to their end."""
    while readings:
        items = readings.pop()
        with suppress(RuntimeError):  # another thread waits for its next item, and is cancelled with the rest
            await items.aclose()


async def _next(items: AsyncIterator[_T]) -> _T:
    return await anext(items)


class Run(Protocol):
    """A function that runs a coroutine on the loop thread and waits for it."""

    def __call__(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run the coroutine."""
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
        """Whether the current thread is this one."""
        return threading.current_thread() is self._thread

    @property
    def is_of_another_process(self) -> bool:
        """Whether the process was forked since; the thread is missing then."""
        return os.getpid() != self._pid

    def check_process(self) -> None:
        """Check that the thread exists.

        Raises:
            UsageError: the process was forked since.
        """
        if self.is_of_another_process:
            raise UsageError(
                "this PromptKit was in use before the process was forked",
                remedy="Create a PromptKit in each process, after the fork.",
            )

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the thread and wait for it; an interrupt cancels it.

        Raises:
            UsageError: the process was forked since; the thread is missing.
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
                # Its calls in flight are being recorded: wait for that.
                wait((ended,))
            raise

    def run_or_schedule(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine and wait for it, or only schedule it on the thread itself: garbage collection runs on any thread."""
        if self.is_current:
            self._left.add(task := self._loop.create_task(work))
            task.add_done_callback(self._left.discard)
        else:
            self.run(work)

    def stop(self) -> None:
        """Stop the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _hand_over(ended: Future[_T], task: asyncio.Task[_T]) -> None:
    """Pass the outcome of a task to the thread that waits for it."""
    if task.cancelled():
        ended.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        ended.set_exception(error)
    else:
        ended.set_result(task.result())


async def end_others() -> None:
    """Cancel the other tasks of this loop, and wait until they have recorded their calls in flight."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
