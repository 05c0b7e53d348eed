"""Reading references: `ugc/script`, `@2`, `@LABEL`, `@draft`, `@sha256:PREFIX`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence

from promptkit.errors import UsageError
from promptkit.types import Message, TemplateRef

DRAFT = "draft"
HASH = "sha256:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(?:/[A-Za-z0-9][A-Za-z0-9_-]*)*")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_VERSION_FILE = re.compile(r"[vV][0-9]+")
_HASH = re.compile(r"sha256:[0-9a-f]{4,64}")
_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_FORM = "A reference is NAME, NAME@2, NAME@LABEL, NAME@draft or NAME@sha256:PREFIX, e.g. ugc/script@2."


def parse_ref(text: str) -> TemplateRef:
    """Read a reference.

    Args:
        text: as typed on a command line or written in an include.

    Raises:
        UsageError: it is none, or its path climbs out of the template folders.
    """
    name, sign, at = text.strip().partition("@")
    if ".." in name.split("/") or name.startswith(("/", "~")) or "\\" in name or ":" in name:
        raise UsageError(
            f"the template name {name!r} climbs out of the template folders",
            remedy="Name it from the top of a template folder, e.g. ugc/script.",
        )
    if not _NAME.fullmatch(name):
        raise UsageError(f"not a template reference: {text!r}", remedy=_FORM)
    if not sign:
        return TemplateRef(name)
    if _VERSION_FILE.fullmatch(at):
        raise UsageError(f"not a template reference: {text!r}", remedy=f"Write {name}@{at[1:]}.")
    if not any(form.fullmatch(at) for form in (_VERSION, _HASH, _LABEL)):
        raise UsageError(f"not a template reference: {text!r}", remedy=_FORM)
    return TemplateRef(name, at)


def version_of(ref: TemplateRef) -> int | None:
    """Return the version number that a reference names, or None."""
    return int(ref.at) if ref.at is not None and _VERSION.fullmatch(ref.at) else None


def is_pinned(ref: TemplateRef) -> bool:
    """Return whether a reference always means the same text: a version number or a digest."""
    return version_of(ref) is not None or (ref.at or "").startswith(HASH)


def normalise(text: str) -> str:
    """Return a text with LF line ends."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


EPOCH = 1


def template_digest(text: str, includes: Mapping[str, str], *, epoch: int = EPOCH) -> str:
    """Return the digest of a seal, `epoch:sha256:hex`.

    Args:
        text: the whole source, LF-normalised.
        includes: each include as written, with the template digest of what it meant.
        epoch: the rendering epoch to seal under.
    """
    # JSON keeps the parts apart: no text can pose as another text plus an include.
    body = json.dumps([epoch, text, dict(includes)], sort_keys=True, separators=(",", ":"))
    return f"{epoch}:sha256:{hashlib.sha256(body.encode()).hexdigest()}"


def epoch_of(digest: str) -> int | None:
    """Return the epoch of a template digest, or None if it is not a digest."""
    number, _, rest = digest.partition(":")
    return int(number) if number.isdecimal() and rest.startswith("sha256:") else None


def prompt_digest(messages: Sequence[Message]) -> str:
    """Return the digest of roles and text as sent, `sha256:hex`."""
    # The length of each text comes first, so that no text can pose as another message.
    parts: list[bytes] = []
    for message in messages:
        content = message.content.encode("utf-8", "surrogatepass")
        parts += (b"%b %d\n" % (message.role.encode(), len(content)), content)
    return f"sha256:{hashlib.sha256(b''.join(parts)).hexdigest()}"
