"""Send a planned response: whole, streamed, late, cut, broken or not at all."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence

from aiohttp import web

from .exchange import PlannedResponse

_BROKEN_EVENT = b'data: {"id": "broken", "cho\n\n'
_LINGER_0 = struct.pack("ii", 1, 0)


def reset(request: web.BaseRequest) -> web.Response:
    """Break the connection with a RST, so the client can't take it for a normal end."""
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        transport.abort()
    return web.Response()


async def deliver(request: web.BaseRequest, planned: PlannedResponse) -> web.StreamResponse:
    """Send a response, or break it as its fault says; its bill line records whether it was sent whole."""
    fault = "" if planned.wire_fault is None else planned.wire_fault.fault
    if fault == "wire.reset_after":
        return reset(request)
    if fault == "wire.stall" or (fault == "wire.stall_stream" and planned.events is None):
        await asyncio.Event().wait()
    first_s = planned.timing.first_s
    if planned.wire_fault is not None and fault == "wire.slow_first_byte":
        first_s += planned.wire_fault.seconds
    if first_s > 0:
        await asyncio.sleep(first_s)
    planned.on_begin()
    if planned.events is not None:
        return await _stream(request, planned, fault)
    if planned.timing.rest_s > 0:
        await asyncio.sleep(planned.timing.rest_s)
    return await _whole(request, planned, fault)


async def _whole(request: web.BaseRequest, planned: PlannedResponse, fault: str) -> web.StreamResponse:
    body = planned.body
    cut = body[: min(int(len(body) * _cut_share(planned)), max(len(body) - 1, 0))]
    if fault in ("wire.cut_body", "wire.cut_stream"):
        response = web.StreamResponse(status=planned.status, headers=planned.headers)
        response.content_type = planned.content_type
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(cut)
        _close(request)
        return response
    if fault in ("wire.malformed", "wire.early_end"):
        body = cut
    elif request.transport is not None and not request.transport.is_closing():
        _mark_delivered(planned, delivered=True)
    return web.Response(
        status=planned.status,
        headers=planned.headers,
        body=body,
        content_type=planned.content_type,
        charset=None if planned.content_type == "application/json" else "utf-8",
    )


async def _stream(request: web.BaseRequest, planned: PlannedResponse, fault: str) -> web.StreamResponse:
    assert planned.events is not None  # noqa: S101 - the caller checked it
    head, tail = list(planned.events.head), list(planned.events.tail)
    at = int(len(head) * _cut_share(planned))
    response = web.StreamResponse(status=planned.status, headers=planned.headers)
    response.content_type = planned.content_type
    response.charset = "utf-8"
    await response.prepare(request)
    match fault:
        case "wire.cut_stream" | "wire.cut_body":
            event = (head + tail)[at]
            await _write(response, planned, [*head[:at], event[: len(event) // 2]])
            _close(request)
            return response
        case "wire.stall_stream":
            await _write(response, planned, head[:at])
            await asyncio.Event().wait()
        case "wire.early_end":
            await _write(response, planned, head[:at])
        case "wire.stream_error":
            await _write(response, planned, [*head[:at], planned.error_event])
        case "wire.malformed":
            await _write(response, planned, [*head[:at], _BROKEN_EVENT, *head[at:], *tail])
        case _:
            await _write(response, planned, head)
            # A client that reads the last byte may read the bill at once, so mark it before that byte.
            _mark_delivered(planned, delivered=True)
            try:
                await response.write(b"".join(tail))
            except (ConnectionError, asyncio.CancelledError):
                _mark_delivered(planned, delivered=False)
                raise
    await response.write_eof()
    return response


def _cut_share(planned: PlannedResponse) -> float:
    return 0.5 if planned.wire_fault is None else planned.wire_fault.at


async def _write(response: web.StreamResponse, planned: PlannedResponse, events: Sequence[bytes]) -> None:
    if planned.timing.rest_s > 0:
        for event in events:
            await response.write(event)
            await asyncio.sleep(planned.timing.rest_s / len(events))
        return
    # At once, but in two writes that split an event, as on a real connection.
    joined = b"".join(events)
    middle = len(joined) // 2
    if joined:
        await response.write(joined[:middle] or joined)
    if middle:
        await response.write(joined[middle:])


def _mark_delivered(planned: PlannedResponse, *, delivered: bool) -> None:
    if planned.line is not None:
        planned.line.delivered = delivered


def _close(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.close()
