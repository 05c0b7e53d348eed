"""Bytes of a rows file to text, block by block, with the line for what can't be read."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import Final

from promptkit.errors import InputError

_BLOCK: Final = 1 << 16
_REMEDY: Final = "save the whole file as UTF-8"


def blocks(chunks: Iterable[bytes], size: int = _BLOCK) -> Iterator[bytes]:
    """Gather chunks (lines of a file, say) into blocks of at least `size` bytes."""
    gathered: list[bytes] = []
    length = 0
    for chunk in chunks:
        gathered.append(chunk)
        length += len(chunk)
        if length >= size:
            yield b"".join(gathered)
            gathered, length = [], 0
    if gathered:
        yield b"".join(gathered)


class Decoder:
    """Decodes a file in order.

    With no `encoding` it reads UTF-8, and turns to cp1252 when the first byte above ASCII proves
    not to be UTF-8: all text before it reads the same in both.

    Args:
        encoding: `utf-8`, `utf-16-le`, `utf-16-be`, or None where no mark tells.
        name: the file's name, for messages.
        newline: what ends a line here, for counting them.
    """

    __slots__ = ("_ascii", "_line", "_name", "_newline", "_tail", "_utf16", "encoding")

    def __init__(self, encoding: str | None, name: str, newline: str = "\n") -> None:
        self.encoding = encoding
        self._name = name
        self._newline = newline
        self._line = 1
        self._tail = b""
        self._ascii = encoding is None
        utf16 = encoding is not None and encoding.startswith("utf-16")
        self._utf16 = codecs.getincrementaldecoder(encoding)() if encoding is not None and utf16 else None

    def decode(self, data: Iterable[bytes]) -> Iterator[str]:
        """The text of all blocks, without a byte order mark.

        Raises:
            InputError: a byte is no text in the file's encoding, or is NUL; the line is named.
        """
        first = True
        for block in data:
            text = self._feed(block, final=False)
            yield text.removeprefix("\ufeff") if first else text
            first = first and not text
        yield self._feed(b"", final=True)

    def _feed(self, block: bytes, *, final: bool) -> str:
        text = self._utf16_text(block, final=final) if self._utf16 else self._text(block, final=final)
        if "\0" in text:
            raise self._error("a NUL byte", text[: text.index("\0")])
        self._line += text.count(self._newline)
        return text

    def _utf16_text(self, block: bytes, *, final: bool) -> str:
        assert self._utf16 is not None  # noqa: S101 - for the type checker; _feed asked
        try:
            return self._utf16.decode(block, final)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(error.encoding)
            raise self._error("a byte pair that is no UTF-16", before) from error

    def _text(self, block: bytes, *, final: bool) -> str:
        data = self._tail + block
        self._tail = b""
        if self.encoding == "cp1252":
            return self._cp1252(data)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            return self._not_utf8(data, error, final=final)
        if self._ascii and not text.isascii():
            self._ascii, self.encoding = False, "utf-8"
        return text

    def _not_utf8(self, data: bytes, error: UnicodeDecodeError, *, final: bool) -> str:
        before = data[: error.start]
        if error.end == len(data) and "unexpected end" in error.reason and not final:
            self._tail = data[error.start :]  # a character cut by the end of the block
            text = before.decode("utf-8")
            self._ascii = self._ascii and text.isascii()
            return text
        if self._ascii and before.isascii():
            self._ascii, self.encoding = False, "cp1252"
            return self._cp1252(data)
        what = f"byte 0x{data[error.start]:02X} is not UTF-8, though the text before it is"
        raise self._error(what, before.decode("utf-8")) from error

    def _cp1252(self, data: bytes) -> str:
        try:
            return data.decode("cp1252")
        except UnicodeDecodeError as error:
            what = f"byte 0x{data[error.start]:02X} is neither UTF-8 nor cp1252"
            raise self._error(what, data[: error.start].decode("cp1252")) from error

    def _error(self, what: str, before: str) -> InputError:
        line = self._line + before.count(self._newline)
        return InputError(what, file=self._name, line=line, remedy=_REMEDY)
