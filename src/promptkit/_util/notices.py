"""Notices: what promptkit logs to the logger `promptkit`, at INFO; at WARNING where the user should act."""

from __future__ import annotations

import logging
from collections.abc import Callable

LOGGER = logging.getLogger("promptkit")


def make_logger() -> logging.Logger:
    """Return a logger that passes its records on to the logger `promptkit`, and drops repeated ones."""
    # Not registered: repeats are dropped for each kit, not for the whole process.
    logger = logging.Logger("promptkit")  # noqa: LOG001
    logger.parent = LOGGER
    logger.addFilter(RepeatFilter())
    return logger


class RepeatFilter(logging.Filter):
    """Drops a record with the same `once` key as an earlier one, or without a key, with the same text."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[object] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is new."""
        key: object = getattr(record, "once", None) or record.getMessage()
        if key in self._seen:
            return False
        self._seen.add(key)
        return True


def show_notices(notify: Callable[[str], None]) -> None:
    """Pass the text of every notice and warning to a function, in place of the one of an earlier call."""
    for handler in LOGGER.handlers[:]:
        if isinstance(handler, NoticeHandler):
            LOGGER.removeHandler(handler)
    LOGGER.addHandler(NoticeHandler(notify))
    LOGGER.setLevel(logging.INFO)


class NoticeHandler(logging.Handler):
    """Passes the text of each record to a function."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._notify = notify

    def emit(self, record: logging.LogRecord) -> None:
        """Pass the text on."""
        self._notify(record.getMessage())
