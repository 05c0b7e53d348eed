"""The seam: what an adapter is, and the reading of streams that all share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

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

NO_HEADERS: Final[Mapping[str, str]] = {}


_DONE: Final = b"[DONE]"


class StreamDecoder(Protocol):
    """Reads one streamed reply."""

    def feed(self, chunk: bytes) -> list[str]:
        """Take the next bytes; return the new pieces of text."""
        ...

    def end(self, broken: TransportFailure | None = None) -> Outcome:
        """Take the end of the stream, or the break that ended it."""
        ...

    def so_far(self) -> Usage | None:
        """The tokens that the stream has told of by now; None where its format tells at the end alone."""
        ...


class Adapter(Protocol):
    """A wire format: two pure functions, and a decoder for streams."""

    def encode(self, call: Call, provider: Provider, model: Model) -> WireRequest | Failure:
        """Write a call; a failure (`invalid_request`) where the model refuses what it asks."""
        ...

    def decode(self, reply: WireReply) -> Outcome:
        """Read a whole reply, whatever its status."""
        ...

    def stream(self, headers: Mapping[str, str] = NO_HEADERS) -> StreamDecoder:
        """Begin to read a streamed reply of status 200. Header names are lower case."""
        ...


class Reader(ABC):
    """Reads the JSON of one wire format."""

    family: str

    @abstractmethod
    def read(self, body: JsonObject, headers: Mapping[str, str], heard: str = "") -> Outcome:
        """Read a reply; `heard` is the text that a stream gave, where the body repeats none."""

    def decode(self, reply: WireReply) -> Outcome:
        """Read a whole reply, whatever its status."""
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
    """A stream of events: finds text, the end, and errors in it.

    The same bytes give the same outcome however they are cut. What comes after the end counts
    no more, not even a break: the reply is whole.
    """

    def __init__(self, reader: Reader, headers: Mapping[str, str]) -> None:
        self._reader = reader
        self._headers = headers
        self._parser = SseParser()
        self._said: list[str] = []
        self._begun = False
        self._done = False
        self._over: Outcome | None = None

    def feed(self, chunk: bytes) -> list[str]:
        """Take the next bytes; return the new pieces of text."""
        return self._take(self._parser.feed(chunk))

    def end(self, broken: TransportFailure | None = None) -> Outcome:
        """Take the end of the stream, or the break that ended it."""
        # What the end cut through isn't a broken event: it is no event.
        self._take([event for event in self._parser.end() if _is_whole(event)])
        if self._over is None:
            self._take_stray()
        return self._over or self.outcome() or self._unfinished(broken)

    @abstractmethod
    def take(self, event: JsonObject) -> str:
        """Take one event; return the new text in it."""

    @abstractmethod
    def outcome(self) -> Outcome | None:
        """The outcome at the end of the stream; None where its end has not been said."""

    def served(self) -> Served:
        """What is known of the reply before its end; no usage, which only the end says in full."""
        return Served(request_id=request_id(self._headers, None))

    def so_far(self) -> Usage | None:
        """The tokens that the stream has told of by now; None where its format tells at the end alone."""
        return None

    @property
    def said(self) -> str:
        """The text so far."""
        return "".join(self._said)

    def _take(self, events: list[SseEvent]) -> list[str]:
        fresh: list[str] = []
        for event in events:
            if self._over is not None:
                break
            piece = self._event(event)
            if piece:
                fresh.append(piece)
                self._said.append(piece)
        return fresh

    def _event(self, event: SseEvent) -> str:
        if event.data.startswith(_DONE):
            self._done = True
            self._over = self.outcome()
            return ""
        body = load(event.data)
        if body is None:
            detail = "an event of the stream is not a JSON object"
            self._over = billed_failure(Fault.BROKEN_REPLY, detail, self.served(), self.said)
        elif event.name == "error" or body.get("type") == "error" or body.get("error"):
            self._over = self._error(body)
        else:
            self._begun = True
            return self.take(body)
        return ""

    def _error(self, body: JsonObject) -> Failure:
        failure = from_error(self._reader.family, body, self._headers, self.served())
        return with_text(failure, self.said, begun=self._begun)

    def _take_stray(self) -> None:
        """A host that fails may write plain JSON instead of events, or after them."""
        body = load(self._parser.stray)
        if body is None:
            return
        if body.get("error"):
            self._over = self._error(body)
        elif not self._begun:
            self._over = self._reader.read(body, self._headers)

    def _unfinished(self, broken: TransportFailure | None) -> Failure:
        """No event said that this was all: a failure, however much of it arrived."""
        if broken is not None and not self._begun:
            return from_transport_failure(TransportFailure(sent=True, detail=broken.detail))
        detail = (
            f"the stream was cut: {broken.detail}" if broken else "the stream ended before its last event"
        )
        return billed_failure(Fault.BROKEN_REPLY, detail, self.served(), self.said)


_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event: its name (`message` where it has none) and its data, lines joined by LF."""

    name: str
    data: bytes


class SseParser:
    """Turns a stream's bytes into events.

    `stray` collects the lines that belong to no event: a host that fails may answer with a
    plain JSON object where a stream was asked for, or add one to a stream that had begun.
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
        """Take the next bytes; return the events that they complete."""
        lines = (self._tail + chunk).splitlines(keepends=True)
        # A CR at the very end may be the first half of a CRLF: it waits for what follows.
        self._tail = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        return self._take(lines)

    def end(self) -> list[SseEvent]:
        """Take the end of the stream; return an event that lacked only its closing blank line."""
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
