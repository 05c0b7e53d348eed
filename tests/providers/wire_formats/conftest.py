"""A loopback server that replays recorded bytes to the real SDKs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from adapters_kit import Replay
from aiohttp import web
from aiohttp.test_utils import TestServer


@pytest.fixture
async def replay() -> AsyncIterator[Replay]:
    replayed = Replay()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", replayed.answer)
    async with TestServer(app) as server:
        replayed.server = server
        yield replayed
