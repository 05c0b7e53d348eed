"""A loopback server that replays recorded bytes to the real SDKs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer


class Replay:
    """Answers every request with the reply that was put in last; keeps what was asked."""

    def __init__(self) -> None:
        self._reply = (500, dict[str, str](), b"")
        self.asked = b""
        self.path = ""
        self.server: BaseTestServer | None = None

    @property
    def url(self) -> str:
        assert self.server is not None
        return str(self.server.make_url("")).rstrip("/")

    def put(self, body: bytes, headers: Mapping[str, str], status: int = 200) -> None:
        self._reply = (status, dict(headers), body)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked = await request.read()
        self.path = request.path_qs
        status, headers, body = self._reply
        return web.Response(status=status, headers=headers, body=body)


@pytest.fixture
async def replay() -> AsyncIterator[Replay]:
    replayed = Replay()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", replayed.answer)
    async with TestServer(app) as server:
        replayed.server = server
        yield replayed
