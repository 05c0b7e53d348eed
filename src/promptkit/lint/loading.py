"""Findings of a template that doesn't load, and of versions and seals that don't hold: PK101, PK6xx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from promptkit.errors import PromptKitError

from .findings import ERROR, Finding
from .rules import RULES

_BY_WORDS: Final[Mapping[str, str]] = {
    "unknown variable": "PK101",
    "unknown field": "PK101",
    "includes only pinned versions": "PK603",
    "after it was published": "PK602",
    "has no seal": "PK602",
    "conflict in git": "PK602",
    "not a seal": "PK602",
    "stands nowhere": "PK602",
    "stands on version": "PK602",
    "versions.toml": "PK602",
}
"""The library's errors that have a code of their own, by words of theirs; all others are PK601."""


def from_error(template: str, error: PromptKitError) -> Finding:
    """The finding of a template that can't be loaded.

    Args:
        template: its reference.
        error: what loading it raised.
    """
    told = f"{error.what} {error.file or ''}"
    code = next((code for words, code in _BY_WORDS.items() if words in told), "PK601")
    return Finding(
        code, RULES[code].name, ERROR, error.what, template, error.file, error.line, error.remedy or ""
    )
