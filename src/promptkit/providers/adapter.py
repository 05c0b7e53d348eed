"""The interface of a wire format, and the reading of event streams that all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from promptkit.types import (
    Call,
    Failure,
    Fault,
    JsonObject,
    Model,
    Outcome,
    Provider,
    TransportFailure,
    Usage,
    WireReply,
    WireRequest,
)

from .replies import (
    Served,
    billed_failure,
    from_error,
    from_reply,
    from_transport_failure,
    load,
    request_id,
    with_text,
)

NO_HEADERS: Mapping[str, str] = {}
_DONE = b"[DONE]"


class StreamDecoder(Protocol):
    """Reads one streamed reply."""

    def feed(self, chunk: bytes) -> list[str]:
        """Take the next bytes and return the new pieces of text."""
        ...

    def end(self, failure: TransportFailure | None = None) -> Outcome:
        """Take the end of the stream, or the failure that cut it."""
        ...

    def so_far(self) -> Usage | None:
        """Return the tokens that the stream has reported so far; None if its format reports them only at the end."""
        ...


class Adapter(Protocol):
    """A wire format: two pure functions, and a decoder for streams."""

    def encode(self, call: Call, provider: Provider, model: Model) -> WireRequest | Failure:
        """Encode a call; a failure (`invalid_request`) if the model rejects what it asks for."""
        ...

    def decode(self, reply: WireReply) -> Outcome:
        """Decode a whole reply, whatever its status."""
        ...

    def stream(self, headers: Mapping[str, str] = NO_HEADERS) -> StreamDecoder:
        """Return a decoder of a streamed reply of status 200. Header names are lower case."""
        ...


class Reader(ABC):
    """Base of the wire formats: reads their JSON."""

    family: str

    @abstractmethod
    def read(self, body: JsonObject, headers: Mapping[str, str], streamed: str = "") -> Outcome:
        """Read a reply; `streamed` is the text of a stream, for a body that does not repeat it."""

    def decode(self, reply: WireReply) -> Outcome:
        """Decode a whole reply, whatever its status."""
        if not 200 <= reply.status < 300:  # noqa: PLR2004
            return from_reply(self.family, reply)
        body = load(reply.body)
        if body is None:
            served = Served(request_id=request_id(reply.headers, None))
            return billed_failure(Fault.BROKEN_REPLY, "the reply is not a JSON object", served)
        return self.read(body, reply.headers)


def _is_whole(event: SseEvent) -> bool:
    return event.data.startswith(_DONE) or load(event.data) is not None


class EventStream(ABC):
    """Base of the stream decoders: finds text, the end, and errors in a stream of events.

    The same bytes give the same outcome however they are cut. Nothing counts after the end, not even
    a failure, because the reply is complete.
    """

    def __init__(self, reader: Reader, headers: Mapping[str, str]) -> None:
        self._reader = reader
        self._headers = headers
        self._parser = SseParser()
        self._pieces: list[str] = []
        self._begun = False
        self._done = False
        self._over: Outcome | None = None

    def feed(self, chunk: bytes) -> list[str]:
        """Take the next bytes and return the new pieces of text."""
        return self._take(self._parser.feed(chunk))

    def end(self, failure: TransportFailure | None = None) -> Outcome:
        """Take the end of the stream, or the failure that cut it."""
        # An event that the end cut through does not count as a broken event.
        self._take([event for event in self._parser.end() if _is_whole(event)])
        if self._over is None:
            self._take_stray()
        return self._over or self.outcome() or self._unfinished(failure)

    @abstractmethod
    def take(self, event: JsonObject) -> str:
        """Take one event and return its new text."""

    @abstractmethod
    def outcome(self) -> Outcome | None:
        """Return the outcome at the end of the stream, or None if no event has ended it."""

    def served(self) -> Served:
        """Return what is known of the reply before its end, without the usage, which is not complete before."""
        return Served(request_id=request_id(self._headers, None))

    def so_far(self) -> Usage | None:
        """Return the tokens that the stream has reported so far; None if its format reports them only at the end."""
        return None

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._pieces)

    def _take(self, events: list[SseEvent]) -> list[str]:
        fresh: list[str] = []
        for event in events:
            if self._over is not None:
                break
            piece = self._event(event)
            if piece:
                fresh.append(piece)
                self._pieces.append(piece)
        return fresh

    def _event(self, event: SseEvent) -> str:
        if event.data.startswith(_DONE):
            self._done = True
            self._over = self.outcome()
            return ""
        body = load(event.data)
        if body is None:
            detail = "an event of the stream is not a JSON object"
            self._over = billed_failure(Fault.BROKEN_REPLY, detail, self.served(), self.text)
        elif event.name == "error" or body.get("type") == "error" or body.get("error"):
            self._over = self._error(body)
        else:
            self._begun = True
            return self.take(body)
        return ""

    def _error(self, body: JsonObject) -> Failure:
        failure = from_error(self._reader.family, body, self._headers, self.served())
        return with_text(failure, self.text, begun=self._begun)

    def _take_stray(self) -> None:
        """Read plain JSON that a failing host wrote instead of events, or after them."""
        body = load(self._parser.stray)
        if body is None:
            return
        if body.get("error"):
            self._over = self._error(body)
        elif not self._begun:
            self._over = self._reader.read(body, self._headers)

    def _unfinished(self, cut: TransportFailure | None) -> Failure:
        """Return the failure of a stream that no event ended, however much of it arrived."""
        if cut is not None and not self._begun:
            return from_transport_failure(TransportFailure(sent=True, detail=cut.detail))
        detail = f"the stream was cut: {cut.detail}" if cut else "the stream ended before its last event"
        return billed_failure(Fault.BROKEN_REPLY, detail, self.served(), self.text)


_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event: its name (`message` where it has none) and its data, lines joined by LF."""

    name: str
    data: bytes


class SseParser:
    """A parser of server-sent events.

    `stray` collects the lines that belong to no event: a failing host may reply with a plain JSON
    object instead of a stream, or add one to a stream that had begun.
    """

    __slots__ = ("_begun", "_data", "_name", "_stray", "_tail")

    def __init__(self) -> None:
        self._tail = b""
        self._name = b""
        self._data: list[bytes] = []
        self._stray: list[bytes] = []
        self._begun = False

    @property
    def stray(self) -> bytes:
        """The lines that belong to no event, joined by LF."""
        return b"\n".join(self._stray)

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Take the next bytes and return the events that they complete."""
        lines = (self._tail + chunk).splitlines(keepends=True)
        # A CR at the very end may be the first half of a CRLF: keep it until the next bytes.
        self._tail = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        return self._take(lines)

    def end(self) -> list[SseEvent]:
        """Take the end of the stream and return an event that lacked only its closing blank line."""
        lines = [self._tail, b""]
        self._tail = b""
        return self._take(lines)

    def _take(self, lines: list[bytes]) -> list[SseEvent]:
        if lines and not self._begun:
            self._begun = True
            lines[0] = lines[0].removeprefix(_BOM)
        events: list[SseEvent] = []
        for raw in lines:
            line = raw.rstrip(b"\r\n")
            if line:
                self._field(line)
            elif self._data:
                name = self._name.decode("utf-8", "replace") or "message"
                events.append(SseEvent(name, b"\n".join(self._data)))
                self._data = []
                self._name = b""
            else:
                self._name = b""
        return events

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif name == b"event":
            self._name = value.removeprefix(b" ")
        elif name not in {b"", b"id", b"retry"}:
            self._stray.append(line)
