"""Waiting for something that comes, however slow the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

HANGS_S: Final = 180.0
"""After so long, in seconds, a test that waits has hung. No test measures anything by it."""


def wait_for(what: Callable[[], bool], running: Callable[[], bool] = lambda: True) -> None:
    """Wait in this thread until something holds, as long as what it depends on runs."""
    deadline_s = time.monotonic() + HANGS_S
    while not what():
        assert running(), "it has ended"
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.01)
