"""What every driver gives: a request goes out, and what came back is a value.

Importing this imports no SDK.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from promptkit.types import WireBreak, WireReply, WireRequest

MAX_BODY: Final = 64 * 2**20
"""The largest answer that is read, in bytes after decompression."""


class StreamBroken(Exception):
    """A stream that broke while it was read; `broken` says how. What had arrived stays good."""

    def __init__(self, broken: WireBreak) -> None:
        super().__init__(broken.detail)
        self.broken = broken


@dataclass(frozen=True, slots=True)
class WireStream:
    """An answer that is arriving (status 2xx). Header names are lower case.

    `chunks` yields bytes as they come, cut anywhere; a break is raised as `StreamBroken`.
    """

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


StreamStart: TypeAlias = WireReply | WireStream | WireBreak
"""How a stream can begin: refused whole (an error status), flowing, or broken at once."""


class Transport(Protocol):
    """One provider's client. Use it from one event loop, and close it there."""

    async def send(self, request: WireRequest, timeout_s: float) -> WireReply | WireBreak:
        """Send a request and read the whole answer.

        Args:
            request: path below the provider's address, and the JSON body.
            timeout_s: what the exchange may take from first to last byte, connecting included.

        Returns:
            The answer, whatever its status, or how the exchange broke. Nothing is raised for
            what the network, the SDK or the server does; only a cancellation passes through.
        """
        ...

    def stream(self, request: WireRequest, timeout_s: float) -> AbstractAsyncContextManager[StreamStart]:
        """Send a request and read the answer as it comes; leaving the block closes it."""
        ...

    async def models(self) -> list[str] | WireReply | WireBreak:
        """The ids of the models that this key may use: a free, authenticated question."""
        ...

    async def aclose(self) -> None:
        """Close the connections. Closing twice is allowed."""
        ...
