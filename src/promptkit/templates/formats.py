"""Formats of string variables: what a text must be, whatever it says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Final
from urllib.parse import urlsplit

from promptkit.types import Format

MAX_URL: Final = 2_048
MAX_EMAIL: Final = 254
MAX_LANGUAGE: Final = 100

EXAMPLES: Final[Mapping[Format, str]] = {
    Format.DATE: "a date like 2026-11-21",
    Format.URL: "an address like https://example.com/page",
    Format.EMAIL: "an e-mail address like name@example.com",
    Format.LANGUAGE: "a language tag like fr or pt-BR",
}
"""Each format in words."""

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})*")
_UNWRITTEN = re.compile(r"[\s\x00-\x1f\x7f<>\"\\^`{|}]")
_LANGUAGE = re.compile(
    r"(?:[a-z]{2,3}(?:-[a-z]{3}){0,3}|[a-z]{4,8})"  # language, and extended language
    r"(?:-[a-z]{4})?"  # script
    r"(?:-(?:[a-z]{2}|[0-9]{3}))?"  # region
    r"(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*"  # variants
    r"(?:-[a-wyz0-9](?:-[a-z0-9]{2,8})+)*"  # extensions
    r"(?:-x(?:-[a-z0-9]{1,8})+)?"  # for private use
    r"|x(?:-[a-z0-9]{1,8})+",
    re.IGNORECASE | re.ASCII,
)
"""A well-formed tag (RFC 5646, section 2.1) but for the grandfathered ones, which it deprecates."""


def fits(kind: Format, text: str) -> bool:
    """Whether a text is of a format."""
    return _CHECKS[kind](text)


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_url(text: str) -> bool:
    """An http or https address with a host; what RFC 3986 wants percent-encoded must be."""
    if len(text) > MAX_URL or _UNWRITTEN.search(text):
        return False
    try:
        parts = urlsplit(text)
        port_fits = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port_fits


def _is_email(text: str) -> bool:
    """As HTML's e-mail field takes it (WHATWG): nobody's real address is refused."""
    return len(text) <= MAX_EMAIL and _EMAIL.fullmatch(text) is not None


def _is_language(text: str) -> bool:
    return len(text) <= MAX_LANGUAGE and _LANGUAGE.fullmatch(text) is not None


_CHECKS: Final[Mapping[Format, Callable[[str], bool]]] = {
    Format.DATE: _is_date,
    Format.URL: _is_url,
    Format.EMAIL: _is_email,
    Format.LANGUAGE: _is_language,
}
