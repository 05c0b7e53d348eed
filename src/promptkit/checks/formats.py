"""The formats of JSON Schema that a text is held against.

A schema's `format` binds nobody by itself; whoever writes `format = "date"` wants a date. What is
refused here is surely none: where readers differ (a time without its zone), the text passes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from uuid import UUID

Reader = Callable[[str], object]

_DATE: Final = r"\d{4}-\d\d-\d\d"
_TIME: Final = r"\d\d:\d\d.*"
_DURATION: Final = r"P(?=.)(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?)?)"


def _shaped(pattern: str, read: Reader = str) -> Reader:
    """Reads what is written like that."""
    compiled = re.compile(pattern)

    def reader(text: str) -> object:
        if not compiled.fullmatch(text):
            raise ValueError(text)
        return read(text)

    return reader


READERS: Final[Mapping[str, Reader]] = {
    "date": _shaped(_DATE, date.fromisoformat),
    "date-time": _shaped(rf"{_DATE}[Tt ]{_TIME}", lambda text: datetime.fromisoformat(text.upper())),
    "time": _shaped(_TIME, lambda text: time.fromisoformat(text.upper())),
    "duration": _shaped(_DURATION),
    "email": _shaped(r"[^@\s]+@[^@\s]+"),
    "hostname": _shaped(r"[^\s/:@]+"),
    "uri": _shaped(r"[A-Za-z][A-Za-z0-9+.-]*:\S+"),
    "uuid": _shaped(r"[0-9A-Fa-f-]{36}", UUID),
    "ipv4": IPv4Address,
    "ipv6": IPv6Address,
}
"""What reads a text of each format; a ValueError says that it is none."""
