"""An exception, as a break that can be stored and shown: no key, no path of a URL in it."""

from __future__ import annotations

import re
from typing import Final

from promptkit.types import WireBreak

_URL: Final = re.compile(r"(?P<scheme>\w+://)(?:[^\s/@'\"]*@)?(?P<host>[^\s/?#'\")]+)[^\s'\")]*")
_PATH: Final = re.compile(r"with url: \S+ ")  # as urllib3 says it
_LONGEST: Final = 300


def explain(error: BaseException, *, key: str | None) -> str:
    """Name an exception in one line of at most 300 characters.

    The key is blotted out, and of a URL only scheme and host stay: a path, a query or a user
    part may hold a secret.
    """
    told = " ".join(str(error).split())
    if key:
        told = told.replace(key, "[key]")
    told = _PATH.sub("", _URL.sub(r"\g<scheme>\g<host>", told))
    name = type(error).__name__
    return f"{name}: {told}"[:_LONGEST] if told else name


def broken(error: BaseException, *, sent: bool, key: str | None) -> WireBreak:
    """The break that an exception stands for."""
    return WireBreak(sent=sent, detail=explain(error, key=key))


def timed_out(timeout_s: float, *, sent: bool) -> WireBreak:
    """The break of an exchange whose time ran out."""
    what = "no whole answer" if sent else "no connection"
    return WireBreak(sent=sent, detail=f"{what} within {timeout_s:g} s")
