"""Helpers for text."""

from __future__ import annotations

import hashlib


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a text in hex; a lone half of a surrogate pair, as JSON may bring it, is hashed too."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def shortened(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters; one that is cut ends with an ellipsis."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
