"""A delivery on the wire: whole, streamed, late, cut, broken or not at all."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from .exchange import Delivery

_BROKEN: Final = b'data: {"id": "broken", "cho\n\n'


_LINGER_0: Final = struct.pack("ii", 1, 0)


def reset(request: web.BaseRequest) -> web.Response:
    """Break the connection with a RST, so that nobody takes it for an end."""
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        transport.abort()
    return web.Response()


async def deliver(request: web.BaseRequest, delivery: Delivery) -> web.StreamResponse:
    """Send it, or break it as its trick says; the bill's line learns whether it went out whole."""
    trick = "" if delivery.trick is None else delivery.trick.fault
    if trick == "wire.reset_after":
        return reset(request)
    if trick == "wire.stall" or (trick == "wire.stall_stream" and delivery.events is None):
        await asyncio.Event().wait()
    late = delivery.trick.seconds if delivery.trick is not None and trick == "wire.slow_first_byte" else 0.0
    if delivery.pace.first_s + late > 0:
        await asyncio.sleep(delivery.pace.first_s + late)
    delivery.on_begin()
    if delivery.events is not None:
        return await _stream(request, delivery, trick)
    if delivery.pace.rest_s > 0:
        await asyncio.sleep(delivery.pace.rest_s)
    return await _whole(request, delivery, trick)


async def _whole(request: web.BaseRequest, delivery: Delivery, trick: str) -> web.StreamResponse:
    body = delivery.body
    cut = body[: _cut_at(delivery, len(body))]
    if trick in ("wire.cut_body", "wire.cut_stream"):
        response = web.StreamResponse(status=delivery.status, headers=delivery.headers)
        response.content_type = delivery.content_type
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(cut)
        _close(request)
        return response
    if trick in ("wire.malformed", "wire.early_end"):
        body = cut
    elif request.transport is not None and not request.transport.is_closing():
        _delivered(delivery)
    return web.Response(
        status=delivery.status,
        headers=delivery.headers,
        body=body,
        content_type=delivery.content_type,
        charset=_charset(delivery),
    )


async def _stream(request: web.BaseRequest, delivery: Delivery, trick: str) -> web.StreamResponse:
    assert delivery.events is not None  # noqa: S101  the caller looked
    head, tail = list(delivery.events.head), list(delivery.events.tail)
    at = _cut_at(delivery, len(head))
    response = web.StreamResponse(status=delivery.status, headers=delivery.headers)
    response.content_type = delivery.content_type
    response.charset = "utf-8"
    await response.prepare(request)
    match trick:
        case "wire.cut_stream" | "wire.cut_body":
            event = (head + tail)[at]
            await _write(response, delivery, [*head[:at], event[: len(event) // 2]])
            _close(request)
            return response
        case "wire.stall_stream":
            await _write(response, delivery, head[:at])
            await asyncio.Event().wait()
        case "wire.early_end":
            await _write(response, delivery, head[:at])
        case "wire.stream_error":
            await _write(response, delivery, [*head[:at], delivery.error_event])
        case "wire.malformed":
            await _write(response, delivery, [*head[:at], _BROKEN, *head[at:], *tail])
        case _:
            await _write(response, delivery, head)
            # Whoever reads the last byte may read the bill at once: the mark comes first.
            _delivered(delivery)
            await _last(response, delivery, tail)
    await response.write_eof()
    return response


async def _last(response: web.StreamResponse, delivery: Delivery, tail: Sequence[bytes]) -> None:
    try:
        await response.write(b"".join(tail))
    except (ConnectionError, asyncio.CancelledError):
        if delivery.line is not None:
            delivery.line.delivered = False
        raise


async def _write(response: web.StreamResponse, delivery: Delivery, events: Sequence[bytes]) -> None:
    if delivery.pace.rest_s > 0:
        for event in events:
            await response.write(event)
            await asyncio.sleep(delivery.pace.rest_s / len(events))
        return
    # At once, but in two writes that meet inside an event, as they may on a real wire.
    joined = b"".join(events)
    middle = len(joined) // 2
    if joined:
        await response.write(joined[:middle] or joined)
    if middle:
        await response.write(joined[middle:])


def _cut_at(delivery: Delivery, size: int) -> int:
    share = 0.5 if delivery.trick is None else delivery.trick.at
    return min(int(size * share), max(size - 1, 0)) if delivery.events is None else int(size * share)


def _delivered(delivery: Delivery) -> None:
    if delivery.line is not None:
        delivery.line.delivered = True


def _close(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.close()


def _charset(delivery: Delivery) -> str | None:
    return None if delivery.content_type == "application/json" else "utf-8"
