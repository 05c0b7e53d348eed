"""A loopback server on bare sockets that does what it is told, well or badly."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from promptkit.providers.transport import Transport
from promptkit.types import Provider

KEY = "sk-canary-0123456789"
SDKS = ("openai", "anthropic", "google-genai", "google-generativeai")
_ADAPTERS = {"google-genai": "gemini", "google-generativeai": "gemini"}


@dataclass
class Exchange:
    """One connection, as a script sees it."""

    peer: Peer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        """Read one request, head and body; the empty string when the client has hung up."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        whole = head + await self.reader.readexactly(length)
        self.peer.requests.append(whole)
        self.peer.asked.set()
        return whole

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Hang up with a TCP reset instead of an orderly end."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def hung_up(self) -> None:
        """Wait until the client closes the connection."""
        with suppress(ConnectionError):
            while await self.reader.read(1024):
                pass
        self.peer.hung_up.set()


Script: TypeAlias = Callable[[Exchange], Awaitable[None]]


def reply(body: bytes = b"{}", status: int = 200, *headers: str) -> bytes:
    """A whole HTTP answer."""
    lines = [f"HTTP/1.1 {status} Whatever", "Content-Type: application/json", *headers]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def answers(*replies: bytes) -> Script:
    """Answer the requests of a connection in turn, the last for ever."""

    async def script(exchange: Exchange) -> None:
        count = 0
        while await exchange.request():
            await exchange.say(replies[min(count, len(replies) - 1)])
            count += 1
        exchange.peer.hung_up.set()

    return script


@dataclass
class Peer:
    """A server on a free loopback port, which runs `script` for each connection."""

    script: Script = field(default_factory=lambda: answers(reply()))
    requests: list[bytes] = field(default_factory=list[bytes])
    connections: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.ensure_future(self._run(Exchange(self, reader, writer)))
        self._tasks.add(task)

    async def _run(self, exchange: Exchange) -> None:
        try:
            with suppress(ConnectionError):
                await self.script(exchange)
        finally:
            exchange.writer.transport.abort() if exchange.writer.is_closing() else exchange.writer.close()
            with suppress(ConnectionError):
                await exchange.writer.wait_closed()

    async def closed(self) -> None:
        """Wait until every connection has been closed from here."""
        await asyncio.gather(*self._tasks)

    async def stop(self, server: asyncio.Server) -> None:
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await server.wait_closed()


Opener: TypeAlias = Callable[..., Transport]


def short_s(sdk: str, seconds: float) -> float:
    """A timeout that a call runs into. The blocking SDK lives by the machine's clock, and has time to connect."""
    return max(seconds, 2.0) if sdk == "google-generativeai" else seconds


def provider_of(sdk: str, url: str, *, name: str = "", connect_timeout_s: float = 60.0) -> Provider:
    adapter = _ADAPTERS.get(sdk, sdk)
    return Provider(
        name=name or adapter,
        adapter=adapter,
        api="any",
        sdk=sdk,
        base_url=url,
        connect_timeout_s=connect_timeout_s,
    )
