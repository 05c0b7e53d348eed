"""Server-sent events, read incrementally from bytes in any pieces.

Lines end at LF, CRLF or CR and nowhere else (`str.splitlines` would also split at U+2028,
which JSON leaves unescaped), and are cut before anything is decoded, so a piece may end inside
a character. Source: the HTML standard, "Interpreting an event stream".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

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
