"""How values become columns: compact JSON, ids from digests, text that every database takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Final

from promptkit.types import Json

_INTERNED_AT_MOST: Final = 10_000
_MASK: Final = (1 << 63) - 1


def storable(text: str) -> str:
    """The text, with what UTF-8 or a database can't hold (lone surrogates, NUL) replaced."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def to_json(value: object) -> str:
    """Compact JSON, in the order given. NaN and infinity are refused: JSON has none."""
    return storable(
        json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain)
    )


def maybe_json(value: object | None) -> str | None:
    """The same, None for None."""
    return None if value is None else to_json(value)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - json checks it
    message = f"{type(value).__name__} is not JSON"
    raise TypeError(message)


def read_json(text: str) -> Json:
    """The value behind a column."""
    return json.loads(text)


def read_object(text: str | None) -> dict[str, Json]:
    """The object behind a column; empty where there is none."""
    value = {} if text is None else read_json(text)
    return value if isinstance(value, dict) else {}


def digest_id(text: str) -> int:
    """63 bits of the text's SHA-256: the same in every process, so nobody has to ask."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") & _MASK


class TagIds:
    """Ids of tag sets, remembered; forgotten when there are many, so memory stays flat."""

    __slots__ = ("_ids",)

    def __init__(self) -> None:
        self._ids: dict[frozenset[tuple[str, str]], int] = {}

    def __call__(self, tags: Mapping[str, str]) -> tuple[int, str | None]:
        """The id of a set, and its canonical JSON where it may not be on disk yet."""
        known = self._ids.get(frozenset(tags.items()))
        if known is not None:
            return known, None
        text = to_json(dict(sorted(tags.items())))
        return digest_id(text), text

    def remember(self, sets: Mapping[int, str]) -> None:
        """These are on disk."""
        if len(self._ids) > _INTERNED_AT_MOST:
            self._ids.clear()
        for number, text in sets.items():
            tags = {str(name): str(value) for name, value in read_object(text).items()}
            self._ids[frozenset(tags.items())] = number
