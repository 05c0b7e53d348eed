"""Helpers for text."""

from __future__ import annotations

import hashlib


def sha256_text(text: str) -> str:
    """Return the SHA-256 of a text as hexadecimal digits. A lone surrogate is hashed, too."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
