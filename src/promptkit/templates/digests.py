"""Digests of sources and prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from promptkit.types import Message

from .epoch import EPOCH


def normalise(text: str) -> str:
    """Text with LF line ends, whatever the editor or git made of them."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def template_digest(text: str, includes: Mapping[str, str], *, epoch: int = EPOCH) -> str:
    """The digest that a seal holds, `epoch:sha256:hex`.

    Args:
        text: the whole source, LF-normalised.
        includes: each include as written, with the template digest of what it meant.
        epoch: the rendering epoch to seal under.
    """
    # JSON keeps the parts apart: no text can pose as another text plus an include.
    body = json.dumps([epoch, text, dict(includes)], sort_keys=True, separators=(",", ":"))
    return f"{epoch}:sha256:{hashlib.sha256(body.encode()).hexdigest()}"


def epoch_of(digest: str) -> int | None:
    """The epoch that a template digest was made under; None where it is no such digest."""
    number, _, rest = digest.partition(":")
    return int(number) if number.isdecimal() and rest.startswith("sha256:") else None


def prompt_digest(messages: Sequence[Message]) -> str:
    """The digest of roles and text as sent, `sha256:hex`."""
    # Each text stands behind its length, so that none can pose as another message.
    parts: list[bytes] = []
    for message in messages:
        content = message.content.encode("utf-8", "surrogatepass")
        parts += (b"%b %d\n" % (message.role.encode(), len(content)), content)
    return f"sha256:{hashlib.sha256(b''.join(parts)).hexdigest()}"
