"""The wire under an SDK's own client: connections over aiohttp, for calls and for `httpx2`.

The SDKs bring such a transport themselves. This one differs in what the ledger needs to know:
whether a request was handed to a connection (the SDKs' reports a server that hung up as a
connect time-out), how much may be read, and that nothing is sent again behind our back. Calls
go straight through it; through `httpx2`'s client, its request and its response each of them
would cost 40 us of CPU more at concurrency 50, a tenth of all that promptkit takes.
"""

from __future__ import annotations

import io
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from multidict import CIMultiDict
from yarl import URL

from promptkit.catalog import is_loopback
from promptkit.types import WireReply

from .base import MAX_BODY

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

KEEPALIVE_S: Final = 4.0
"""Idle connections close before common servers close them (uvicorn and Node.js: 5 s): a request
on a connection that the server is just closing would be an unknown outcome, charged as paid."""


_AT_ONCE: Final = 2**20
"""A larger body is written in pieces: at once it would hold up every other call (aiohttp warns of it)."""


class BodyTooLarge(Exception):
    """An answer of more than `MAX_BODY` bytes."""

    def __init__(self) -> None:
        super().__init__(f"the answer is larger than {MAX_BODY // 2**20} MiB")


class Exchange:
    """A request built beforehand, which also takes the answer back.

    `headers` and `url` are in aiohttp's own types, made once per client and path. `connected`
    turns True when a connection stands: from there on the request may have arrived. A success
    that is not to be read as a `whole` is left in `response`, for its reader to close.
    """

    __slots__ = ("body", "connected", "headers", "reply", "response", "url", "whole")

    def __init__(self, url: URL, headers: CIMultiDict[str], body: bytes, *, whole: bool) -> None:
        self.url = url
        self.headers = headers
        self.body = body
        self.whole = whole
        self.connected = False
        self.reply: WireReply | None = None
        self.response: aiohttp.ClientResponse | None = None


_exchange: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


class _Connector(aiohttp.TCPConnector):
    """Tells the exchange that a connection stands."""

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        exchange = _exchange.get()
        if exchange is not None:
            exchange.connected = True
        return connection


class Wire(httpx2.AsyncBaseTransport):
    """Carries the requests of one client, all to one host.

    The session is made on first use, in the running loop; that request's address decides on TLS
    and proxy.

    Args:
        connect_timeout_s: what DNS, TCP and TLS may take together.
        may_send: whether a header of that name (lower case) may leave.
    """

    def __init__(self, *, connect_timeout_s: float, may_send: Callable[[str], bool]) -> None:
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_timeout_s)
        self._may_send = may_send
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def _open(self, url: URL) -> aiohttp.ClientSession:
        # No limit here: how many requests are in flight is the caller's to say.
        connector = _Connector(limit=0, keepalive_timeout=KEEPALIVE_S, ssl=_tls(url))
        return aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), proxy=_proxy(url), timeout=self._timeout
        )

    async def _request(
        self, method: str, url: URL, headers: Mapping[str, str], data: bytes | None
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            if self._closed:
                raise RuntimeError("the client is closed")
            self._session = self._open(url)
        body = io.BytesIO(data) if data and len(data) > _AT_ONCE else data
        return await self._session.request(method, url, headers=headers, data=body, allow_redirects=False)

    async def send(self, exchange: Exchange) -> None:
        """Send a call and put the answer, or its beginning, into the exchange."""
        token = _exchange.set(exchange)
        try:
            response = await self._request("POST", exchange.url, exchange.headers, exchange.body)
        finally:
            _exchange.reset(token)
        if exchange.whole or not httpx2.codes.is_success(response.status):
            body = await _read(response)
            exchange.reply = WireReply(response.status, lower(response.headers), body)
        else:
            exchange.response = response

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """What the SDK asks by itself, such as for its models."""
        headers = {name: value for name, value in request.headers.items() if self._may_send(name)}
        url = URL(str(request.url), encoded=True)
        response = await self._request(request.method, url, headers, await request.aread() or None)
        body = await _read(response)
        names = lower(response.headers)
        names.pop("content-encoding", None)  # aiohttp has decoded it
        return httpx2.Response(response.status, headers=names, content=body, request=request)

    async def aclose(self) -> None:
        """Close the session, for good."""
        self._closed = True
        if self._session is not None:
            await self._session.close()
            self._session = None


def _tls(url: URL) -> ssl.SSLContext | bool:
    # As the SDKs do: the system's trust store, or SSL_CERT_FILE. Not made for plain HTTP (30 ms).
    return httpx2.create_ssl_context() if url.scheme == "https" else True


def _proxy(url: URL) -> str | None:
    if url.host is None or is_loopback(url.host) or proxy_bypass(url.host):
        return None
    return getproxies().get(url.scheme)


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers under lower-case names; of a name given twice, the last."""
    return {name.lower(): value for name, value in headers.items()}


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The whole body, bounded. A connection whose answer was not read to its end is closed."""
    parts: list[bytes] = []
    size = 0
    try:
        async for part in response.content.iter_any():
            size += len(part)
            if size > MAX_BODY:
                raise BodyTooLarge  # noqa: TRY301 - one place closes the connection
            parts.append(part)
    except BaseException:
        response.close()
        raise
    response.release()
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def read_on(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The body as it arrives, bounded like a whole one."""
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MAX_BODY:
            raise BodyTooLarge
        yield part
