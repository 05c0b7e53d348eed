"""Servers and transports for the tests of this room."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from importlib.util import find_spec

import pytest
from loopback_peer import KEY, SDKS, Opener, Peer, provider_of

from promptkit.providers.transport import Transport, open_transport


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    server = await peer.start()
    yield peer
    await peer.stop(server)


@pytest.fixture
async def other() -> AsyncIterator[Peer]:
    """A second server, to which nothing should go."""
    peer = Peer()
    server = await peer.start()
    yield peer
    await peer.stop(server)


@pytest.fixture(params=SDKS)
def sdk(request: pytest.FixtureRequest) -> str:
    if request.param == "google-generativeai" and find_spec("google.generativeai") is None:
        pytest.skip("the extra `google-generativeai` is not installed")
    return request.param


@pytest.fixture
async def opener(sdk: str) -> AsyncIterator[Opener]:
    """Open transports of the SDK under test; they are closed at the end."""
    opened: list[Transport] = []

    def open_one(
        url: str, *, key: str | None = KEY, name: str = "", connect_timeout_s: float = 60.0
    ) -> Transport:
        provider = provider_of(sdk, url, name=name, connect_timeout_s=connect_timeout_s)
        opened.append(open_transport(provider, key))
        return opened[-1]

    yield open_one
    for transport in opened:
        await transport.aclose()


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose queue of connections is full: a new one is never answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting: list[socket.socket] = []
        for _ in range(4):
            client = socket.socket()
            client.settimeout(0)
            with suppress(BlockingIOError):
                client.connect(listener.getsockname())
            waiting.append(client)
        yield listener.getsockname()[1]
        for client in waiting:
            client.close()


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
