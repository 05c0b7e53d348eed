"""An answer as it arrives, over real sockets, through the real SDKs."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import AbstractAsyncContextManager

import pytest
from loopback_peer import CHUNKED, KEY, Exchange, Opener, Peer, Script, answers, chunk, reply, short_s

from promptkit.providers.transport import StreamBroken, StreamStart, WireStream
from promptkit.types import TransportFailure, WireReply, WireRequest

pytestmark = pytest.mark.virtual_time
REQUEST = WireRequest("/ask", b"{}", stream=True)


async def test_chunks_come_as_they_are_sent(peer: Peer, opener: Opener) -> None:
    """The second is sent only after the first was seen."""
    seen = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.say(CHUNKED + chunk(b"data: 1\n\n"))
        await seen.wait()
        await exchange.say(chunk(b"data: 2\n\n") + chunk(b""))

    peer.script = script
    parts: list[bytes] = []
    async with opener(peer.url).stream(REQUEST, 60) as start:
        assert isinstance(start, WireStream)
        assert (start.status, start.headers["content-type"]) == (200, "text/event-stream")
        async for part in start.chunks:
            parts.append(part)
            seen.set()
    assert parts == [b"data: 1\n\n", b"data: 2\n\n"]


async def test_a_stream_read_to_its_end_leaves_its_connection(peer: Peer, opener: Opener) -> None:
    peer.script = answers(CHUNKED + chunk(b"data: 1\n\n") + chunk(b""))
    transport = opener(peer.url)
    for _ in range(3):
        assert await _read(transport.stream(REQUEST, 60)) == b"data: 1\n\n"
    assert peer.connections == 1


async def test_a_compressed_stream_is_unpacked(peer: Peer, opener: Opener) -> None:
    peer.script = answers(reply(gzip.compress(b"data: 1\n\n"), 200, "Content-Encoding: gzip"))
    assert await _read(opener(peer.url).stream(REQUEST, 60)) == b"data: 1\n\n"


@pytest.mark.parametrize("status", [307, 400, 401, 429, 500, 529])
async def test_an_error_comes_whole(status: int, peer: Peer, opener: Opener) -> None:
    """Where the status says no, there is nothing to stream."""
    peer.script = answers(reply(b'{"error": 1}', status, "Retry-After: 7"))
    async with opener(peer.url).stream(REQUEST, 60) as start:
        assert isinstance(start, WireReply)
        assert (start.status, start.body, start.headers["retry-after"]) == (status, b'{"error": 1}', "7")


async def test_refused_is_not_sent(free_port: int, opener: Opener) -> None:
    async with opener(f"http://127.0.0.1:{free_port}").stream(REQUEST, 60) as start:
        assert isinstance(start, TransportFailure)
        assert not start.sent


async def test_no_first_byte_in_time(peer: Peer, opener: Opener, sdk: str) -> None:
    async def stall(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.hung_up()

    peer.script, total_s = stall, short_s(sdk, 0.2)
    async with opener(peer.url).stream(REQUEST, total_s) as start:
        assert start == TransportFailure(sent=True, detail=f"no complete reply within {total_s:g} s")
    await asyncio.wait_for(peer.hung_up.wait(), 60)


async def _cut(exchange: Exchange) -> None:
    await exchange.request()
    await exchange.say(CHUNKED + chunk(b"data: 1\n\n") + b"ff\r\nda")


async def _reset(exchange: Exchange) -> None:
    await exchange.request()
    await exchange.say(CHUNKED + chunk(b"data: 1\n\n"))
    await asyncio.sleep(0.1)
    exchange.reset()


async def _stall(exchange: Exchange) -> None:
    await exchange.request()
    await exchange.say(CHUNKED + chunk(b"data: 1\n\n"))
    await exchange.hung_up()


@pytest.mark.parametrize("script", [_cut, _reset, _stall])
async def test_a_break_is_raised_after_what_had_arrived(
    script: Script, peer: Peer, opener: Opener, sdk: str
) -> None:
    """The total time covers the reading too."""
    peer.script = script
    parts: list[bytes] = []
    with pytest.raises(StreamBroken) as caught:  # noqa: PT012 - the loop is what raises
        async with opener(peer.url).stream(REQUEST, short_s(sdk, 0.5)) as start:
            assert isinstance(start, WireStream)
            async for part in start.chunks:
                parts.append(part)  # noqa: PERF401 - kept when the loop breaks
    assert b"".join(parts).startswith(b"data: 1\n\n")
    assert caught.value.failure.sent
    assert KEY not in caught.value.failure.detail


async def test_a_flood_is_cut_off(peer: Peer, opener: Opener) -> None:
    async def flood(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.say(CHUNKED)
        while True:
            await exchange.say(chunk(bytes(2**20)))

    peer.script = flood
    with pytest.raises(StreamBroken, match="larger than 64 MiB"):
        await _read(opener(peer.url).stream(REQUEST, 60))


async def test_leaving_early_hangs_up(peer: Peer, opener: Opener) -> None:
    """The provider can stop writing: nobody listens any more."""
    peer.script = _stall
    async with opener(peer.url).stream(REQUEST, 60) as start:
        assert isinstance(start, WireStream)
        assert await anext(start.chunks) == b"data: 1\n\n"
    await asyncio.wait_for(peer.hung_up.wait(), 60)


async def test_a_cancelled_reader_hangs_up(peer: Peer, opener: Opener) -> None:
    peer.script = _stall
    task = asyncio.ensure_future(_read(opener(peer.url).stream(REQUEST, 60)))
    await asyncio.wait_for(peer.asked.wait(), 60)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(peer.hung_up.wait(), 60)


async def test_a_fault_of_the_reader_stays_its_own(peer: Peer, opener: Opener) -> None:
    """What the block raises passes through as it is, and the connection closes."""
    peer.script = _stall
    with pytest.raises(KeyError):
        async with opener(peer.url).stream(REQUEST, 60):
            raise KeyError
    await asyncio.wait_for(peer.hung_up.wait(), 60)


async def _read(stream: AbstractAsyncContextManager[StreamStart]) -> bytes:
    async with stream as start:
        assert isinstance(start, WireStream)
        return b"".join([part async for part in start.chunks])
