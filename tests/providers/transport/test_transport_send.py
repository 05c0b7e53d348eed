"""A whole answer, or how the exchange broke: as values, over real sockets, through the real SDKs."""

from __future__ import annotations

import asyncio
import gzip

import pytest
from loopback_peer import CHUNKED, KEY, Exchange, Opener, Peer, Script, answers, chunk, reply, short_s

from promptkit.types import TransportFailure, WireReply, WireRequest

pytestmark = pytest.mark.virtual_time
REQUEST = WireRequest("/ask", b'{"say": "\xc3\xa9"}')


async def test_the_body_goes_out_as_it_was_built(peer: Peer, opener: Opener) -> None:
    """Path below the address, body to the byte, the SDK's headers and the key."""
    await opener(f"{peer.url}/base").send(REQUEST, 60)
    head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    assert head.startswith((b"POST /base/ask HTTP/1.1", b"POST /base/v1beta/ask HTTP/1.1"))
    assert body == REQUEST.body
    assert KEY.encode() in head
    assert b"user-agent: " in head.lower()
    assert head.lower().count(b"content-type: application/json") == 1


@pytest.mark.parametrize("status", [200, 201, 400, 401, 402, 404, 408, 413, 429, 500, 503, 529])
async def test_any_status_is_a_value(status: int, peer: Peer, opener: Opener) -> None:
    """Status, headers under lower-case names and the body whole; nothing is asked twice."""
    peer.script = answers(reply(b'{"error": {"code": 1}}', status, "Retry-After: 7", "X-Request-ID: r1"))
    answer = await opener(peer.url).send(REQUEST, 60)
    assert isinstance(answer, WireReply)
    assert (answer.status, answer.body) == (status, b'{"error": {"code": 1}}')
    assert (answer.headers["retry-after"], answer.headers["x-request-id"]) == ("7", "r1")
    assert len(peer.requests) == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"\xff\xfe"])
async def test_what_is_no_json_comes_back_as_it_is(body: bytes, peer: Peer, opener: Opener) -> None:
    """Whether an answer makes sense is for the adapter to say."""
    peer.script = answers(reply(body))
    answer = await opener(peer.url).send(REQUEST, 60)
    assert isinstance(answer, WireReply)
    assert answer.body == body


async def test_a_compressed_answer_is_unpacked(peer: Peer, opener: Opener) -> None:
    peer.script = answers(reply(gzip.compress(b'{"a": 1}'), 200, "Content-Encoding: gzip"))
    answer = await opener(peer.url).send(REQUEST, 60)
    assert isinstance(answer, WireReply)
    assert answer.body == b'{"a": 1}'


async def test_a_redirect_is_not_followed(peer: Peer, other: Peer, opener: Opener) -> None:
    """The key goes to the provider's own host only."""
    peer.script = answers(reply(b"", 307, f"Location: {other.url}/ask"))
    transport = opener(peer.url)
    answer = await transport.send(REQUEST, 60)
    assert isinstance(answer, WireReply)
    assert answer.status == 307
    assert not isinstance(await transport.models(), list)
    assert other.connections == 0


async def _reset_unread(exchange: Exchange) -> None:
    await exchange.reader.read(1)  # before, it may still be the connecting that fails
    exchange.reset()


async def _reset_read(exchange: Exchange) -> None:
    await exchange.request()
    exchange.reset()


async def _hang_up(exchange: Exchange) -> None:
    await exchange.request()


async def _cut_short(exchange: Exchange) -> None:
    await exchange.request()
    await exchange.say(reply(b"0123456789")[:-4])


async def _cut_chunked(exchange: Exchange) -> None:
    await exchange.request()
    await exchange.say(CHUNKED + chunk(b"data: 1\n\n"))


async def _reset_inside(exchange: Exchange) -> None:
    await exchange.request()
    await exchange.say(CHUNKED + chunk(b"data: 1\n\n"))
    await asyncio.sleep(0.02)
    exchange.reset()


async def _garbage(exchange: Exchange) -> None:
    await exchange.request()
    await exchange.say(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


async def _bad_gzip(exchange: Exchange) -> None:
    await exchange.request()
    await exchange.say(reply(b"not compressed", 200, "Content-Encoding: gzip"))


async def _bomb(exchange: Exchange) -> None:
    await exchange.request()
    await exchange.say(reply(gzip.compress(bytes(80 * 2**20), 1), 200, "Content-Encoding: gzip"))
    await exchange.hung_up()


async def _flood(exchange: Exchange) -> None:
    await exchange.request()
    await exchange.say(CHUNKED)
    while True:
        await exchange.say(chunk(bytes(2**20)))


@pytest.mark.parametrize(
    "script",
    [
        _reset_unread,
        _reset_read,
        _hang_up,
        _cut_short,
        _cut_chunked,
        _reset_inside,
        _garbage,
        _bad_gzip,
        _bomb,
        _flood,
    ],
)
async def test_what_breaks_after_the_request_left_says_sent(
    script: Script, peer: Peer, opener: Opener
) -> None:
    """From the moment a connection stands, the provider may have the request: nobody can tell."""
    peer.script = script
    broken = await opener(peer.url).send(REQUEST, 60)
    assert isinstance(broken, TransportFailure)
    assert broken.sent
    _tells_no_secret(broken)
    assert peer.connections == 1


async def _stall(exchange: Exchange) -> None:
    await exchange.request()
    await exchange.hung_up()


async def _stall_unread(exchange: Exchange) -> None:
    await asyncio.sleep(10)
    await exchange.request()


async def _trickle(exchange: Exchange) -> None:
    await exchange.request()
    await exchange.say(CHUNKED)
    while True:
        await exchange.say(chunk(b":"))
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("script", [_stall, _stall_unread, _trickle])
async def test_the_time_is_total(script: Script, peer: Peer, opener: Opener, sdk: str) -> None:
    """It ends an exchange that stands still and one that trickles, as sent."""
    peer.script, total_s, loop = script, short_s(sdk, 0.3), asyncio.get_running_loop()
    transport, began_s = opener(peer.url), loop.time()
    broken = await transport.send(REQUEST, total_s)
    assert broken == TransportFailure(sent=True, detail=f"no complete reply within {total_s:g} s")
    assert sdk == "google-generativeai" or loop.time() - began_s == pytest.approx(total_s, abs=0.02)


async def test_a_slow_first_byte_is_waited_for(peer: Peer, opener: Opener) -> None:
    async def slow(exchange: Exchange) -> None:
        await exchange.request()
        await asyncio.sleep(1)
        await exchange.say(reply())

    peer.script = slow
    answer = await opener(peer.url, connect_timeout_s=0.5).send(REQUEST, 60)
    assert isinstance(answer, WireReply)


async def test_refused_is_not_sent(free_port: int, opener: Opener) -> None:
    broken = await opener(f"http://127.0.0.1:{free_port}").send(REQUEST, 60)
    _not_sent(broken)


async def test_an_unknown_host_is_not_sent(opener: Opener) -> None:
    _not_sent(await opener("http://nowhere.invalid").send(REQUEST, 60))


async def test_a_failed_handshake_is_not_sent(peer: Peer, opener: Opener) -> None:
    """TLS towards a server that speaks none."""

    async def plain(exchange: Exchange) -> None:
        await exchange.reader.read(1)
        await exchange.say(b"SSH-2.0-OpenSSH_9.6\r\n")

    peer.script = plain
    _not_sent(await opener(peer.url.replace("http:", "https:")).send(REQUEST, 60))


async def test_a_stalled_handshake_is_not_sent(peer: Peer, opener: Opener) -> None:
    """The connect time-out covers TLS."""
    peer.script = _stall_unread
    url = peer.url.replace("http:", "https:")
    _not_sent(await opener(url, connect_timeout_s=0.2).send(REQUEST, 60))


@pytest.mark.parametrize(("connect_s", "total_s"), [(0.2, 60), (60, 0.2)])
async def test_no_connection_in_time_is_not_sent(
    connect_s: float, total_s: float, full_port: int, opener: Opener, sdk: str
) -> None:
    """Whichever of the two clocks runs out first."""
    loop = asyncio.get_running_loop()
    transport, began_s = opener(f"http://127.0.0.1:{full_port}", connect_timeout_s=connect_s), loop.time()
    _not_sent(await transport.send(REQUEST, total_s))
    assert sdk == "google-generativeai" or loop.time() - began_s == pytest.approx(0.2, abs=0.02)


async def test_an_address_that_is_none_is_not_sent(opener: Opener) -> None:
    _not_sent(await opener("http://user:secret@127.0.0.1:1/?key=secret").send(REQUEST, 60))


async def test_a_cancelled_send_hangs_up(peer: Peer, opener: Opener) -> None:
    """A cancellation passes through, and the server sees the connection close."""
    peer.script = _stall
    task = asyncio.ensure_future(opener(peer.url).send(REQUEST, 60))
    await asyncio.wait_for(peer.asked.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(peer.hung_up.wait(), 60)


async def test_connections_are_used_again(peer: Peer, opener: Opener) -> None:
    transport = opener(peer.url)
    for _ in range(10):
        assert isinstance(await transport.send(REQUEST, 60), WireReply)
    assert (peer.connections, len(peer.requests)) == (1, 10)


async def test_five_hundred_at_once(peer: Peer, opener: Opener) -> None:
    """No pool limit holds a request back: the server answers only when all have come."""
    everyone = asyncio.Event()

    async def together(exchange: Exchange) -> None:
        await exchange.request()
        if len(peer.requests) == 500:
            everyone.set()
        await everyone.wait()
        await exchange.say(reply())

    peer.script = together
    transport = opener(peer.url)
    answers_ = await asyncio.gather(*[transport.send(REQUEST, 60) for _ in range(500)])
    assert all(isinstance(answer, WireReply) for answer in answers_)


async def test_a_connection_that_the_server_closed_is_not_used(peer: Peer, opener: Opener) -> None:
    """A pooled connection that ended meanwhile costs nothing: a new one is opened."""

    async def once(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.say(reply())

    peer.script = once
    transport = opener(peer.url)
    for _ in range(3):
        assert isinstance(await transport.send(REQUEST, 60), WireReply)
        await peer.closed()
        await asyncio.sleep(0.05)  # the client has seen it
    assert peer.connections == 3


async def test_a_connection_that_closes_on_the_request_is_an_unknown_outcome(
    peer: Peer, opener: Opener
) -> None:
    """Here the request was written; that it was not read can't be known, and it isn't sent again."""

    async def once(exchange: Exchange) -> None:
        await exchange.request()
        await exchange.say(reply())
        await exchange.reader.read(1)
        exchange.reset()

    peer.script = once
    transport = opener(peer.url)
    assert isinstance(await transport.send(REQUEST, 60), WireReply)
    broken = await transport.send(REQUEST, 60)
    assert isinstance(broken, TransportFailure)
    assert broken.sent
    assert peer.connections == 1


async def test_a_closed_transport_sends_nothing(peer: Peer, opener: Opener) -> None:
    transport = opener(peer.url)
    assert isinstance(await transport.send(REQUEST, 60), WireReply)
    await transport.aclose()
    await transport.aclose()
    _not_sent(await transport.send(REQUEST, 60))
    assert len(peer.requests) == 1


async def test_a_transport_closed_unused_sends_nothing(peer: Peer, opener: Opener) -> None:
    transport = opener(peer.url)
    await transport.aclose()
    _not_sent(await transport.send(REQUEST, 60))
    assert peer.connections == 0


async def test_a_proxy_from_the_environment_is_used(
    peer: Peer, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", peer.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert isinstance(await opener("http://provider.invalid").send(REQUEST, 60), WireReply)
    assert peer.requests[0].startswith(b"POST http://provider.invalid/")


async def test_a_host_that_needs_no_proxy_is_asked_directly(
    peer: Peer, other: Peer, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", other.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert isinstance(await opener(peer.url).send(REQUEST, 60), WireReply)
    assert other.connections == 0


async def test_this_machine_is_asked_directly_whatever_the_proxy(
    peer: Peer, other: Peer, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", other.url)
    monkeypatch.delenv("no_proxy", raising=False)
    assert isinstance(await opener(peer.url).send(REQUEST, 60), WireReply)
    assert other.connections == 0


def _not_sent(broken: WireReply | TransportFailure) -> None:
    assert isinstance(broken, TransportFailure)
    assert not broken.sent
    _tells_no_secret(broken)


def _tells_no_secret(broken: TransportFailure) -> None:
    assert broken.detail
    assert len(broken.detail) <= 300
    assert not any(secret in broken.detail for secret in (KEY, "secret", "/ask"))
