"""Text helpers."""

from __future__ import annotations


def shortened(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters; one that is cut ends with an ellipsis."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
