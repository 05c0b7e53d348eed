"""Keys taken out of what is said: a message may quote what a library was given."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final

_NAMES: Final = re.compile(r"(^|_)(KEYS?|TOKENS?|SECRETS?|PASSWORD)(_|$)")


_SHORTEST: Final = 8
"""Shorter values would be found everywhere."""


_known: set[str] = set()


def remember(secrets: Iterable[str]) -> None:
    """Keep secrets out of everything that is said from here on."""
    _known.update(secret for secret in secrets if len(secret) >= _SHORTEST)


def clean(text: str) -> str:
    """The text without any key: those of the configuration, and what the environment calls one."""
    for secret in sorted(_known | _environment(), key=len, reverse=True):
        text = text.replace(secret, "[key]")
    return text


def _environment() -> set[str]:
    """What looks like a key by its name, for errors that come before the configuration is read."""
    return {value for name, value in os.environ.items() if len(value) >= _SHORTEST and _NAMES.search(name)}
