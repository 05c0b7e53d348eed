"""The one way over HTTP that all SDKs share: prebuilt request out, value back."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from multidict import CIMultiDict
from yarl import URL

from promptkit.config.keys import is_loopback
from promptkit.errors import ConfigError
from promptkit.types import Provider, TransportFailure, WireReply, WireRequest

from .transport import MAX_BODY, StreamBroken, StreamStart, WireStream, broken, timed_out

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace


MODELS_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Sdk:
    """What an SDK answers by itself.

    `http` is its own client, over the wire that takes the calls; `list_models` its question for
    models; `replied` finds the answer inside its exception for an error status.
    """

    http: httpx2.AsyncClient
    list_models: Callable[[], Awaitable[list[str]]]
    replied: Callable[[Exception], httpx2.Response | None]


class HttpTransport:
    """Sends prebuilt requests with what an SDK's client knows: its address, its headers, its wire.

    Args:
        wire: takes the calls.
        base_url: the address, as the SDK resolved it.
        headers: the SDK's default headers and authentication.
        sdk: what the SDK does itself.
        key: blotted out of whatever is told.
    """

    def __init__(
        self,
        *,
        wire: Wire,
        base_url: str,
        headers: Mapping[str, str],
        sdk: Sdk,
        key: str | None,
    ) -> None:
        self._wire = wire
        self._base_url = base_url.rstrip("/")
        self._headers = CIMultiDict(headers)
        self._sdk = sdk
        self._key = key
        self._urls: dict[str, URL] = {}

    def _exchange(self, request: WireRequest, *, whole: bool) -> Exchange:
        url = self._urls.get(request.path)
        if url is None:
            address = httpx2.URL(self._base_url + request.path)  # normalised as the SDKs do
            url = self._urls[request.path] = URL(str(address), encoded=True)
        return Exchange(url, self._headers, request.body, whole=whole)

    async def send(self, request: WireRequest, timeout_s: float) -> WireReply | TransportFailure:
        """Send a request and read the whole answer (see `Transport.send`)."""
        exchange = self._exchange(request, whole=True)
        clock = asyncio.timeout(timeout_s)
        try:
            async with clock:
                await self._wire.send(exchange)
        except Exception as error:  # noqa: BLE001 - whatever an SDK or its client leaks is an outcome
            return self._broken(error, exchange, timeout_s, expired=clock.expired())
        assert exchange.reply is not None  # noqa: S101 - the wire fills it or raises
        return exchange.reply

    @asynccontextmanager
    async def stream(self, request: WireRequest, timeout_s: float) -> AsyncGenerator[StreamStart]:
        """Send a request and read the answer as it comes (see `Transport.stream`)."""
        exchange = self._exchange(request, whole=False)
        deadline = asyncio.get_running_loop().time() + timeout_s
        refused = await self._start(exchange, timeout_s, deadline)
        response = exchange.response
        if response is None:
            assert refused is not None  # noqa: S101 - one of the two is there
            yield refused
            return
        try:
            async with aclosing(self._chunks(response, exchange, timeout_s, deadline)) as chunks:
                yield WireStream(response.status, lower(response.headers), chunks)
        finally:
            # Read to its end, the connection has gone back to the pool; else it must not.
            response.close()

    async def _start(
        self, exchange: Exchange, timeout_s: float, deadline: float
    ) -> WireReply | TransportFailure | None:
        clock = asyncio.timeout_at(deadline)
        try:
            async with clock:
                await self._wire.send(exchange)
        except Exception as error:  # noqa: BLE001 - as above
            return self._broken(error, exchange, timeout_s, expired=clock.expired())
        return exchange.reply

    async def _chunks(
        self, response: aiohttp.ClientResponse, exchange: Exchange, timeout_s: float, deadline: float
    ) -> AsyncGenerator[bytes]:
        parts = read_on(response)
        while True:
            clock = asyncio.timeout_at(deadline)
            try:
                async with clock:
                    part = await anext(parts, None)
            except Exception as error:
                raise StreamBroken(
                    self._broken(error, exchange, timeout_s, expired=clock.expired())
                ) from error
            if part is None:
                return
            yield part

    def _broken(
        self, error: Exception, exchange: Exchange, timeout_s: float, *, expired: bool
    ) -> TransportFailure:
        if expired:
            return timed_out(timeout_s, sent=exchange.connected)
        return broken(error, sent=exchange.connected, key=self._key)

    async def models(self) -> list[str] | WireReply | TransportFailure:
        """Ask the SDK for the models that the key may use (see `Transport.models`)."""
        try:
            async with asyncio.timeout(MODELS_TIMEOUT_S):
                return await self._sdk.list_models()
        except Exception as error:  # noqa: BLE001 - as above
            reply = self._sdk.replied(error)
            if reply is not None:
                return WireReply(reply.status_code, dict(reply.headers), reply.content)
            # A question that costs nothing: whether it arrived doesn't matter.
            return broken(error.__cause__ or error, sent=False, key=self._key)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._sdk.http.aclose()


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


NO_KEY: Final = "no-key"
"""What an SDK is given where there is no key, so that it looks for none in the environment; the
header that carries it never leaves."""


_WIRE: Final = (
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "host",
    "user-agent",
)


_SDK: Final = ("x-stainless-", "anthropic-version", "x-goog-api-client")


_AUTH: Final = ("authorization", "x-api-key", "x-goog-api-key")


def rule(provider: Provider, key: str | None) -> Callable[[str], bool]:
    """Say which headers (lower-case names) may go to a provider.

    The SDKs add what the environment says (organisation, project, custom headers with a
    gateway's token): that is for their own provider, at an address that is not a project's
    own choice, with its key, and for nobody else.
    """
    if key is not None and provider.trusted and provider.name == provider.adapter:
        return lambda _name: True
    names = _WIRE if key is None else _WIRE + _AUTH
    return lambda name: name in names or name.startswith(_SDK)


def allowed(headers: Mapping[str, object], may_send: Callable[[str], bool]) -> dict[str, str]:
    """The headers to send with each request; an SDK marks what it leaves out by other types."""
    return {
        name: value for name, value in headers.items() if isinstance(value, str) and may_send(name.lower())
    }


def checked(key: str | None, provider: Provider) -> str:
    """The key as an SDK takes it, or `NO_KEY`.

    Raises:
        ConfigError: it holds what no header can carry (a newline, a curly quote).
    """
    if key is None:
        return NO_KEY
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        what = f"the key of {provider.name} is empty or holds a character that no header can carry"
        raise ConfigError(
            what, remedy=f"set {provider.api_key_env or 'the key'} again, without quotes or newlines"
        )
    return key
