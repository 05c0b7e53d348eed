"""Durations as people write them: `45s`, `30m`, `12h`, `7d`, `2w`."""

from __future__ import annotations

import re

_DURATION = re.compile(r"(\d{1,6})\s*([smhdw])")

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def read_duration_s(text: str) -> int | None:
    """Read a duration and return it in seconds, or None if the text is not one."""
    match = _DURATION.fullmatch(text)
    return None if match is None else int(match[1]) * _SECONDS[match[2]]
