"""Recording contract fixtures from the real providers, with nothing in them that is somebody's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

_IDS: Final = re.compile(r"\b((?:chatcmpl|resp|msg|rs|req|fp|gen|run|org|proj)[-_])[A-Za-z0-9_-]{6,}")
_OPAQUE: Final = frozenset(
    {"signature", "thoughtSignature", "encrypted_content", "responseId", "obfuscation"}
)
"""Members that carry long opaque texts."""
_TIMES: Final = frozenset({"created", "created_at", "completed_at"})
_SAFE_HEADERS: Final = ("content-type", "retry-after")
_SAFE_PREFIXES: Final = ("x-ratelimit-", "anthropic-ratelimit-", "openai-version", "openai-processing")


def redact_text(text: str, secrets: Sequence[str]) -> str:
    """A text without keys and without ids that lead back to an account."""
    for secret in secrets:
        text = text.replace(secret, "REDACTED")
    return _IDS.sub(r"\1redacted", text)


def redact_body(body: bytes, secrets: Sequence[str]) -> bytes:
    """A JSON body, redacted and laid out to be read; what is no JSON only loses its keys and ids."""
    text = body.decode("utf-8", "replace")
    try:
        value: object = json.loads(text)
    except ValueError:
        return redact_text(text, secrets).encode()
    told = json.dumps(_redact(value), indent=1, ensure_ascii=False)
    return redact_text(told, secrets).encode() + b"\n"


def redact_stream(raw: bytes, secrets: Sequence[str]) -> bytes:
    """A server-sent stream: the data of each event redacted, everything else as it came."""
    lines = raw.decode("utf-8", "replace").split("\n")
    return redact_text("\n".join(map(_redact_line, lines)), secrets).encode()


def redact_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that say something of the contract and nothing of the account."""
    return {
        name: value
        for name, value in sorted(headers.items())
        if name in _SAFE_HEADERS or name.startswith(_SAFE_PREFIXES)
    }


def _redact_line(line: str) -> str:
    head, colon, data = line.partition("data: ")
    if head or not colon:
        return line
    try:
        value: object = json.loads(data)
    except ValueError:
        return line
    end = "\r" if data.endswith("\r") else ""
    return f"data: {json.dumps(_redact(value), ensure_ascii=False, separators=(',', ':'))}{end}"


def _redact(value: object) -> object:
    if isinstance(value, dict):
        return {name: _member(name, inner) for name, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_redact(inner) for inner in cast("list[Any]", value)]
    return value


def _member(name: str, value: object) -> object:
    if name in _OPAQUE and isinstance(value, str):
        return "redacted"
    return 1_795_000_000 if name in _TIMES and isinstance(value, int | float) else _redact(value)
