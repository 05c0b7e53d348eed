"""How much work something does, counted in calls: the same on every machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

TWICE = 2.5
"""So many times the work, at most, for twice the input."""


@dataclass
class CallRequest:
    """The calls counted so far, of Python's functions and of C's."""

    calls: int = 0


@contextmanager
def counted() -> Generator[CallRequest]:
    """Count the calls that this thread makes in the block."""
    work = CallRequest()

    def seen(frame: FrameType, event: str, argument: object) -> None:
        del frame, argument
        work.calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        yield work
    finally:
        sys.setprofile(before)


def calls_of(function: Callable[[], object]) -> int:
    """Return how many calls a function makes."""
    with counted() as work:
        function()
    return work.calls
