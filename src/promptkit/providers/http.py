"""HTTP as all SDKs share it: a prebuilt request goes out, the reply comes back as a value.

The SDKs supply the address, the authentication and the default headers. Calls bypass their clients,
which would parse each reply into typed objects (several times the CPU of the whole exchange).
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from multidict import CIMultiDict
from yarl import URL

from promptkit.config.keys import is_loopback
from promptkit.errors import ConfigError
from promptkit.types import Provider, TransportFailure, WireReply, WireRequest

from .transport import MAX_BODY, StreamBroken, StreamStart, WireStream, timed_out, transport_failure

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace


MODELS_TIMEOUT_S = 30.0


def open_sdk(
    provider: Provider,
    key: str | None,
    client: Callable[..., Any],
    http_client: Callable[..., httpx2.AsyncClient],
    **listing: int,
) -> HttpTransport:
    """Open a client of the openai or the anthropic package; it neither retries nor follows redirects.

    Args:
        provider: the address.
        key: None if the provider needs none.
        client: the package's asynchronous client.
        http_client: the package's HTTP client.
        listing: arguments of the question for models.

    Raises:
        ConfigError: the key contains characters that no header can carry.
    """
    may_send = header_rule(provider, key)
    wire = Wire(connect_timeout_s=provider.connect_timeout_s, may_send=may_send)
    # The wire applies the proxies itself.
    http = http_client(transport=wire, trust_env=False, follow_redirects=False)
    sdk = client(
        api_key=checked_key(key, provider), base_url=provider.base_url, http_client=http, max_retries=0
    )

    async def list_models() -> list[str]:
        return [model.id async for model in sdk.models.list(**listing)]

    return HttpTransport(
        wire=wire,
        base_url=str(sdk.base_url),
        headers=allowed_headers({**sdk.default_headers, **sdk.auth_headers}, may_send),
        http=http,
        list_models=list_models,
        key=key,
    )


class HttpTransport:
    """A `promptkit.providers.transport.Transport` over HTTP.

    Args:
        wire: sends the calls.
        base_url: the address, as the SDK resolved it.
        headers: the SDK's default headers and authentication.
        http: the SDK's own client, over the same wire.
        list_models: asks the SDK for the ids of its models.
        key: removed from every error message.
    """

    def __init__(
        self,
        *,
        wire: Wire,
        base_url: str,
        headers: Mapping[str, str],
        http: httpx2.AsyncClient,
        list_models: Callable[[], Awaitable[list[str]]],
        key: str | None,
    ) -> None:
        self._wire = wire
        self._base_url = base_url.rstrip("/")
        self._headers = CIMultiDict(headers)
        self._http = http
        self._list_models = list_models
        self._key = key
        self._urls: dict[str, URL] = {}

    async def send(self, request: WireRequest, timeout_s: float) -> WireReply | TransportFailure:
        """Send a request and read the whole reply (see `Transport.send`)."""
        connection = ConnectionState()
        clock = asyncio.timeout(timeout_s)
        try:
            async with clock:
                return await _whole(await self._post(request, connection))
        except Exception as error:  # noqa: BLE001 - whatever an SDK or its client leaks is an outcome
            return self._failure(error, connection, timeout_s, expired=clock.expired())

    @asynccontextmanager
    async def stream(self, request: WireRequest, timeout_s: float) -> AsyncGenerator[StreamStart]:
        """Send a request and read the reply as it comes (see `Transport.stream`)."""
        connection = ConnectionState()
        deadline = asyncio.get_running_loop().time() + timeout_s
        start = await self._start(request, connection, timeout_s, deadline)
        if not isinstance(start, aiohttp.ClientResponse):
            yield start
            return
        try:
            async with aclosing(self._chunks(start, connection, timeout_s, deadline)) as chunks:
                yield WireStream(start.status, lower(start.headers), chunks)
        finally:
            # A response that was read to its end has returned its connection to the pool; any other must not.
            start.close()

    async def _start(
        self, request: WireRequest, connection: ConnectionState, timeout_s: float, deadline: float
    ) -> aiohttp.ClientResponse | WireReply | TransportFailure:
        """Send a request; an error status is read whole."""
        clock = asyncio.timeout_at(deadline)
        try:
            async with clock:
                response = await self._post(request, connection)
                return response if httpx2.codes.is_success(response.status) else await _whole(response)
        except Exception as error:  # noqa: BLE001 - as above
            return self._failure(error, connection, timeout_s, expired=clock.expired())

    async def _chunks(
        self,
        response: aiohttp.ClientResponse,
        connection: ConnectionState,
        timeout_s: float,
        deadline: float,
    ) -> AsyncGenerator[bytes]:
        parts = _bounded(response)
        while True:
            clock = asyncio.timeout_at(deadline)
            try:
                async with clock:
                    part = await anext(parts, None)
            except Exception as error:
                failure = self._failure(error, connection, timeout_s, expired=clock.expired())
                raise StreamBroken(failure) from error
            if part is None:
                return
            yield part

    async def _post(self, request: WireRequest, connection: ConnectionState) -> aiohttp.ClientResponse:
        url = self._urls.get(request.path)
        if url is None:
            address = httpx2.URL(self._base_url + request.path)  # normalised as the SDKs do
            url = self._urls[request.path] = URL(str(address), encoded=True)
        return await self._wire.post(url, self._headers, request.body, connection)

    def _failure(
        self, error: Exception, connection: ConnectionState, timeout_s: float, *, expired: bool
    ) -> TransportFailure:
        if expired:
            return timed_out(timeout_s, sent=connection.established)
        return transport_failure(error, sent=connection.established, key=self._key)

    async def models(self) -> list[str] | WireReply | TransportFailure:
        """Ask the SDK for the models that the key may use (see `Transport.models`)."""
        try:
            async with asyncio.timeout(MODELS_TIMEOUT_S):
                return await self._list_models()
        except Exception as error:  # noqa: BLE001 - as above
            # Each SDK's error for an error status carries the response.
            response: object = getattr(error, "response", None)
            if isinstance(response, httpx2.Response) and response.is_error:
                return WireReply(response.status_code, dict(response.headers), response.content)
            # A question that costs nothing: whether it arrived doesn't matter.
            return transport_failure(error.__cause__ or error, sent=False, key=self._key)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


KEEPALIVE_S = 4.0
"""Idle connections are closed before common servers close them (uvicorn and Node.js: 5 s): a request
on a connection that the server is just closing would have an unknown outcome, charged at its max cost."""

_AT_ONCE = 2**20
"""A larger body is written in pieces: at once it would block every other call (aiohttp warns of it)."""


class BodyTooLarge(Exception):
    """A reply of more than `MAX_BODY` bytes."""

    def __init__(self) -> None:
        super().__init__(f"the reply is larger than {MAX_BODY // 2**20} MiB")


class ConnectionState:
    """Whether a call has a connection: from then on its request may have arrived."""

    __slots__ = ("established",)

    def __init__(self) -> None:
        self.established = False


_connection: ContextVar[ConnectionState | None] = ContextVar("connection", default=None)
"""The state of the call that is being sent. aiohttp's own way, tracing, costs 5 % more CPU per call."""


class _Connector(aiohttp.TCPConnector):
    """Records when a call gets its connection."""

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        state = _connection.get()
        if state is not None:
            state.established = True
        return connection


class Wire(httpx2.AsyncBaseTransport):
    """A session that sends the requests of one client, all to one host.

    The session is made on first use, in the running loop; that request's address decides on TLS
    and proxy.

    Args:
        connect_timeout_s: time limit of DNS, TCP and TLS together.
        may_send: whether a header of that name (lower case) may be sent.
    """

    def __init__(self, *, connect_timeout_s: float, may_send: Callable[[str], bool]) -> None:
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_timeout_s)
        self._may_send = may_send
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def post(
        self, url: URL, headers: CIMultiDict[str], body: bytes, connection: ConnectionState
    ) -> aiohttp.ClientResponse:
        """Send a call and return the response, whose body is not read yet."""
        token = _connection.set(connection)
        try:
            return await self._request("POST", url, headers, body)
        finally:
            _connection.reset(token)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send what the SDK asks by itself, such as for its models."""
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

    async def _request(
        self, method: str, url: URL, headers: Mapping[str, str], data: bytes | None
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            if self._closed:
                raise RuntimeError("the client is closed")
            self._session = self._open(url)
        body = io.BytesIO(data) if data and len(data) > _AT_ONCE else data
        return await self._session.request(method, url, headers=headers, data=body, allow_redirects=False)

    def _open(self, url: URL) -> aiohttp.ClientSession:
        # No limit here: the caller decides how many requests are in flight.
        connector = _Connector(limit=0, keepalive_timeout=KEEPALIVE_S, ssl=_tls(url))
        return aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), proxy=_proxy(url), timeout=self._timeout
        )


def _tls(url: URL) -> ssl.SSLContext | bool:
    # As the SDKs do: the system's trust store, or SSL_CERT_FILE. Not made for plain HTTP (30 ms).
    return httpx2.create_ssl_context() if url.scheme == "https" else True


def _proxy(url: URL) -> str | None:
    if url.host is None or is_loopback(url.host) or proxy_bypass(url.host):
        return None
    return getproxies().get(url.scheme)


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers under lower-case names; of a name given twice, the last."""
    return {name.lower(): value for name, value in headers.items()}


async def _whole(response: aiohttp.ClientResponse) -> WireReply:
    return WireReply(response.status, lower(response.headers), await _read(response))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read the whole body. A connection whose response was not read to its end is closed."""
    try:
        parts = [part async for part in _bounded(response)]
    except BaseException:
        response.close()
        raise
    response.release()
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _bounded(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Read the body as it arrives, up to `MAX_BODY` bytes."""
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MAX_BODY:
            raise BodyTooLarge
        yield part


NO_KEY = "no-key"
"""The key that an SDK gets if there is none, because it would look for one in the environment; the
header that carries it is never sent."""

_WIRE_HEADERS = (
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "host",
    "user-agent",
)
_SDK_HEADERS = ("x-stainless-", "anthropic-version", "x-goog-api-client")
_AUTH_HEADERS = ("authorization", "x-api-key", "x-goog-api-key")


def header_rule(provider: Provider, key: str | None) -> Callable[[str], bool]:
    """Return a function that decides which headers (lower-case names) may go to a provider.

    The SDKs add what the environment contains (organisation, project, custom headers with a
    gateway's token). Only their own provider gets that: with its key, and at an address that
    the project did not choose.
    """
    if key is not None and provider.trusted and provider.name == provider.adapter:
        return lambda _name: True
    names = _WIRE_HEADERS if key is None else _WIRE_HEADERS + _AUTH_HEADERS
    return lambda name: name in names or name.startswith(_SDK_HEADERS)


def allowed_headers(headers: Mapping[str, object], may_send: Callable[[str], bool]) -> dict[str, str]:
    """Return the headers to send with each request; an SDK marks those it leaves out by other types."""
    return {
        name: value for name, value in headers.items() if isinstance(value, str) and may_send(name.lower())
    }


def checked_key(key: str | None, provider: Provider) -> str:
    """Return the key as an SDK takes it, or `NO_KEY`.

    Raises:
        ConfigError: it contains characters that no header can carry (a newline, a curly quote).
    """
    if key is None:
        return NO_KEY
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            f"the key of {provider.name} is empty or contains a character that no header can carry",
            remedy=f"set {provider.api_key_env or 'the key'} again, without quotes or newlines",
        )
    return key
