"""The one way over HTTP that all SDKs share: prebuilt request out, value back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
import httpx2
from multidict import CIMultiDict
from yarl import URL

from promptkit.types import WireBreak, WireReply, WireRequest

from .base import StreamBroken, StreamStart, WireStream
from .breaks import broken, timed_out
from .wire import Exchange, Wire, lower, read_on

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

    async def send(self, request: WireRequest, timeout_s: float) -> WireReply | WireBreak:
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
    ) -> WireReply | WireBreak | None:
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

    def _broken(self, error: Exception, exchange: Exchange, timeout_s: float, *, expired: bool) -> WireBreak:
        if expired:
            return timed_out(timeout_s, sent=exchange.connected)
        return broken(error, sent=exchange.connected, key=self._key)

    async def models(self) -> list[str] | WireReply | WireBreak:
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
