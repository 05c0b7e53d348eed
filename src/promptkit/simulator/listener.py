"""A port of 127.0.0.1 that can refuse, which a shared port can't."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from aiohttp import web

from promptkit.errors import UsageError

if TYPE_CHECKING:
    from asyncio import Task

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http import RawRequestMessage
    from aiohttp.streams import StreamReader
    from aiohttp.web_protocol import RequestHandler

LOOPBACK: Final = "127.0.0.1"
MAX_BODY: Final = 32 * 1024 * 1024
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Listener:
    """A port of 127.0.0.1 that can be closed, so that it refuses, and opened again."""

    def __init__(self, handler: Handler, port: int) -> None:
        self._handler = handler
        self.port = port
        self._runner: web.ServerRunner | None = None
        self._placeholder: socket.socket | None = None

    async def open(self) -> None:
        """Listen; port 0 becomes whichever is free."""
        if self._runner is not None:
            return
        self._release()
        server = web.Server(
            self._handler, request_factory=_request, handler_cancellation=True, access_log=None
        )
        runner = web.ServerRunner(server, shutdown_timeout=0.05)
        await runner.setup()
        try:
            await web.TCPSite(runner, LOOPBACK, self.port, backlog=1024).start()
        except OSError as error:
            await runner.cleanup()
            what = f"port {self.port} can't be opened: {error.strerror or error}"
            raise UsageError(what, remedy="choose another --port, or 0 for a free one") from error
        self.port = runner.addresses[0][1]
        self._runner = runner

    async def refuse(self) -> None:
        """Close, and keep the port without listening: connections are refused."""
        if self._runner is None:
            return
        await self.close()
        self._placeholder = socket.socket()
        self._placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._placeholder.bind((LOOPBACK, self.port))

    async def close(self) -> None:
        """Stop listening and break what is open."""
        self._release()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _release(self) -> None:
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: Task[None],
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY)
