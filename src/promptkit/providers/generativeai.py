"""A second driver of Gemini: the google-generativeai package, which ended in 2025.

Its client uses REST through `requests`, which blocks: each call has a thread. Its typed replies
drop what the package is too old to know, such as the count of thoughts, which is billed. So a
prebuilt body goes through the client's session, and the reply comes back unchanged.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeAlias

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from promptkit.config.keys import host_of, is_loopback
from promptkit.errors import ConfigError
from promptkit.types import Provider, TransportFailure, WireReply, WireRequest

from .http import MODELS_TIMEOUT_S, BodyTooLarge, checked_key, lower
from .transport import (
    MAX_BODY,
    StreamBroken,
    StreamStart,
    WireStream,
    from_thread,
    timed_out,
    transport_failure,
)

VERSION = "v1beta"
"""The only version of the API that the package supports."""

_POOL = 64
_SUCCESS = 2  # hundreds


def open_generativeai(provider: Provider, key: str | None) -> GenerativeAiTransport:
    """Open a client of the google-generativeai package.

    Raises:
        ConfigError: no key, or another version of the API than v1beta.
    """
    if key is None:
        raise ConfigError(f"provider {provider.name}: google-generativeai needs a key")
    if provider.api_version not in (None, VERSION):
        raise ConfigError(
            f"provider {provider.name}: google-generativeai supports {VERSION} only",
            remedy='leave out api_version, or set sdk = "google-genai"',
        )
    with _ignore_end_notice():
        client: Any = import_module("google.generativeai.client")
    options = {"api_endpoint": provider.base_url} if provider.base_url else {}
    client.configure(api_key=checked_key(key, provider), transport="rest", client_options=options)
    return GenerativeAiTransport(
        client.get_default_generative_client().transport,
        client.get_default_model_client(),
        connect_timeout_s=provider.connect_timeout_s,
        key=key,
    )


@contextmanager
def _ignore_end_notice() -> Generator[None]:
    """Hide the warning that the package has ended, shown at every import; our documentation has it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


class _Call:
    """The connection of a call, once it is established, as seen outside of its thread."""

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.connected = False

    def hang_up(self) -> None:
        """Wake the thread, wherever it waits for the server."""
        if self.socket is not None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)


class _Current(threading.local):
    call: _Call | None = None


_current = _Current()


class _Connection(HTTPConnection):
    """A connection that records itself in its thread's call once it is established."""

    def send(self, data: Any) -> None:
        """Send a part of a request; the first one opens the connection."""
        if self.sock is None:
            self.connect()
        call = _current.call
        if call is not None:
            call.socket = self.sock
            call.connected = True
        super().send(data)


class _ConnectionTls(_Connection, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection  # pyright: ignore[reportAssignmentType] - as in urllib3 itself


class _PoolTls(HTTPSConnectionPool):
    ConnectionCls = _ConnectionTls  # pyright: ignore[reportAssignmentType] - the same


class _Adapter(HTTPAdapter):
    """Pools of such connections, without retries."""

    def __init__(self) -> None:
        super().__init__(pool_connections=1, pool_maxsize=_POOL, max_retries=0)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _PoolTls}


@dataclass(frozen=True, slots=True)
class _Head:
    status: int
    headers: dict[str, str]


_Item: TypeAlias = "_Head | bytes"


class GenerativeAiTransport:
    """A `promptkit.providers.transport.Transport` over a blocking session."""

    def __init__(self, transport: Any, models: Any, *, connect_timeout_s: float, key: str) -> None:
        self._session: requests.Session = transport._session  # noqa: SLF001 - frozen: the package has ended
        self._address = f"{transport._host.rstrip('/')}/{VERSION}"  # noqa: SLF001 - the same
        self._models = models
        self._connect_timeout_s = connect_timeout_s
        self._key = key
        self._headers = {"content-type": "application/json", "x-goog-api-key": key}
        self._closed = False
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter())
        if is_loopback(host_of(self._address)):
            self._session.trust_env = False  # this machine needs no proxy
        models.transport._session.max_redirects = 0  # noqa: SLF001 - the key goes to this host only

    async def send(self, request: WireRequest, timeout_s: float) -> WireReply | TransportFailure:
        """Send a request and read the whole reply (see `Transport.send`)."""
        call = _Call()
        try:
            async with (
                asyncio.timeout(timeout_s),
                aclosing(self._exchange(call, request, timeout_s)) as items,
            ):
                return await _whole(await _head(items), items)
        except Exception as error:  # noqa: BLE001 - whatever the libraries leak is an outcome
            return self._broken(error, call, timeout_s)

    @asynccontextmanager
    async def stream(self, request: WireRequest, timeout_s: float) -> AsyncGenerator[StreamStart]:
        """Send a request and read the response as it arrives (see `Transport.stream`)."""
        call = _Call()
        deadline = asyncio.get_running_loop().time() + timeout_s
        async with aclosing(self._exchange(call, request, timeout_s)) as items:
            start: _Head | StreamStart
            try:
                async with asyncio.timeout_at(deadline):
                    start = await _head(items)
                    if start.status // 100 != _SUCCESS:
                        start = await _whole(start, items)
            except Exception as error:  # noqa: BLE001 - as above
                start = self._broken(error, call, timeout_s)
            if isinstance(start, _Head):
                async with aclosing(self._chunks(call, items, timeout_s, deadline)) as chunks:
                    yield WireStream(start.status, start.headers, chunks)
            else:
                yield start

    async def _chunks(
        self, call: _Call, items: AsyncIterator[_Item], timeout_s: float, deadline: float
    ) -> AsyncGenerator[bytes]:
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    item = await anext(items, None)
            except Exception as error:
                raise StreamBroken(self._broken(error, call, timeout_s)) from error
            if item is None:
                return
            assert isinstance(item, bytes)  # noqa: S101 - the head came first
            yield item

    async def _exchange(self, call: _Call, request: WireRequest, timeout_s: float) -> AsyncGenerator[_Item]:
        def work(emit: Callable[[_Item], bool]) -> None:
            _current.call = call
            with self._post(request, timeout_s) as response:
                emit(_Head(response.status_code, lower(response.headers)))
                size = 0
                for part in response.iter_content(None):
                    size += len(part)
                    if size > MAX_BODY:
                        raise BodyTooLarge
                    emit(part)
            call.socket = None  # another call may use it now

        try:
            async with aclosing(from_thread(work, daemon=True)) as items:
                async for item in items:
                    yield item
        finally:
            call.hang_up()

    def _post(self, request: WireRequest, timeout_s: float) -> requests.Response:
        if self._closed:
            raise RuntimeError("the transport is closed")
        # Bypasses AuthorizedSession.request, which retries after a 401.
        return requests.Session.request(
            self._session,
            "POST",
            self._address + request.path,
            data=request.body,
            headers=self._headers,
            timeout=(min(self._connect_timeout_s, timeout_s), timeout_s),
            allow_redirects=False,
            stream=True,
        )

    def _broken(self, error: Exception, call: _Call, timeout_s: float) -> TransportFailure:
        if isinstance(error, TimeoutError):
            return timed_out(timeout_s, sent=call.connected)
        return transport_failure(error, sent=call.connected, key=self._key)

    async def models(self) -> list[str] | WireReply | TransportFailure:
        """Ask the SDK for the models that the key may use (see `Transport.models`)."""

        def work(emit: Callable[[str], bool]) -> None:
            for model in self._models.list_models(retry=None, timeout=MODELS_TIMEOUT_S):
                emit(model.name.removeprefix("models/"))

        try:
            async with asyncio.timeout(MODELS_TIMEOUT_S), aclosing(from_thread(work, daemon=True)) as names:
                return [name async for name in names]
        except Exception as error:  # noqa: BLE001 - as above
            response = getattr(error, "response", None)  # google.api_core's errors have it
            if isinstance(response, requests.Response):
                return WireReply(response.status_code, lower(response.headers), response.content)
            return transport_failure(error, sent=False, key=self._key)

    async def aclose(self) -> None:
        """Close the idle connections; later requests fail without being sent."""
        self._closed = True
        self._session.close()
        self._models.transport.close()


async def _head(items: AsyncIterator[_Item]) -> _Head:
    head = await anext(items)
    assert isinstance(head, _Head)  # noqa: S101 - it is emitted first
    return head


async def _whole(head: _Head, items: AsyncIterator[_Item]) -> WireReply:
    parts = [item async for item in items if isinstance(item, bytes)]
    return WireReply(head.status, head.headers, b"".join(parts))
