"""A call whose text is read as it comes: an iterator of pieces, and the reply at its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

from promptkit.errors import StorageError, UsageError
from promptkit.types import Reply

from .reading import Readings

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
