"""Paths into JSON: `$.scenes[0].title`, `$.scenes[*].title`. The part of JSONPath (RFC 9535) that tests need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from promptkit.types import Json

_STEP: Final = re.compile(
    r"""\.(?P<name>[^.\[\]'"]+)|\[(?P<index>-?\d+)\]|(?P<each>\[\*\]|\.\*)|\['(?P<quoted>[^']*)'\]"""
)

Step = str | int | None
"""A member's name, an index, or None for every item."""


def read_path(path: str) -> tuple[Step, ...] | None:
    """The steps of a path, or None where it is none. The `$` may be left out."""
    rest = path.removeprefix("$")
    if rest and rest[0] not in ".[":
        rest = f".{rest}"
    steps: list[Step] = []
    at = 0
    while at < len(rest):
        # ".*" is every member, not one called "*".
        found = _STEP.match(rest, at)
        if found is None:
            return None
        steps.append(_step(found))
        at = found.end()
    return tuple(steps)


def _step(found: re.Match[str]) -> Step:
    if found["each"] or found["name"] == "*":
        return None
    if found["index"] is not None:
        return int(found["index"])
    return found["quoted"] if found["quoted"] is not None else found["name"]


def find(value: Json, steps: Iterable[Step]) -> list[Json]:
    """Every value that the steps lead to."""
    found = [value]
    for step in steps:
        found = [inner for one in found for inner in _inner(one, step)]
    return found


def _inner(value: Json, step: Step) -> Iterator[Json]:
    if isinstance(value, dict):
        if step is None:
            yield from value.values()
        elif step in value:
            yield value[str(step)]
    elif isinstance(value, list):
        if step is None:
            yield from value
        elif isinstance(step, int) and -len(value) <= step < len(value):
            yield value[step]
