"""The named faults: what each one looks like on the wire. Pure functions over `fault_table`.

Names are `FAMILY.NAME` for error replies in one provider's own shape, `http.STATUS` for a
plain error of that status in whatever shape the provider speaks, `wire.NAME` for broken
exchanges and `reply.NAME` for replies that arrive and are not what was hoped for.
"""

from __future__ import annotations

import json
from dataclasses import replace
from difflib import get_close_matches
from http import HTTPStatus
from typing import Any, Final

from .fault_table import ANTHROPIC, ERRORS, REPLY, WIRE, ErrorSpec
from .models import Family
from .words import ErrorReply

_HTML: Final = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>"

_GEMINI_WORDS: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_ANTHROPIC_WORDS: Final = {spec.status: spec.kind for spec in reversed(tuple(ANTHROPIC.values()))}


def names() -> tuple[str, ...]:
    """All names but the open family `http.STATUS`."""
    return (*ERRORS, *WIRE, *REPLY)


def problem_with(name: str) -> str | None:
    """Why a name is no fault, with the closest one that is; None where it is one."""
    if name in ERRORS or name in WIRE or name in REPLY:
        return None
    head, _, status = name.partition(".")
    if head == "http" and status.isdecimal() and 400 <= int(status) <= 599:  # noqa: PLR2004  HTTP's error range
        return None
    close = get_close_matches(name, names(), 1)
    return f"unknown fault {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")


def family_of_fault(name: str) -> Family | None:
    """The family whose shape a fault has; None where it suits any."""
    head = name.partition(".")[0]
    return Family(head) if head in tuple(Family) else None


def error_reply(  # noqa: PLR0913  an error has that many facts
    name: str,
    family: Family,
    *,
    request_id: str,
    message: str | None = None,
    code: str | None = None,
    param: str | None = None,
    retry_after_s: float | None = None,
) -> ErrorReply:
    """The error reply of a named fault (or `http.STATUS`) in the shape of a family.

    Args:
        name: a name of `ERRORS` or `http.STATUS`.
        family: whose JSON it is, for `http.STATUS`; a family's own fault keeps its own.
        request_id: goes into the body where the provider does that (Anthropic).
        message: replaces the table's message.
        code: replaces the table's code.
        param: the parameter at fault.
        retry_after_s: the hint; sent as Retry-After or, by Gemini, as RetryInfo.
    """
    family = family_of_fault(name) or family
    spec = ERRORS.get(name) or _plain(int(name.removeprefix("http.")), family)
    hint = (
        {} if retry_after_s is None or family is Family.GEMINI else {"retry-after": f"{retry_after_s:.10g}"}
    )
    if spec.html:
        return ErrorReply(
            spec.status,
            hint,
            _HTML.format(f"{spec.status} {HTTPStatus(spec.status).phrase}").encode(),
            "text/html",
        )
    spec = replace(spec, message=message or spec.message, code=code or spec.code, param=param or spec.param)
    body = error_body(spec, family, request_id, retry_after_s)
    return ErrorReply(spec.status, hint, json.dumps(body, ensure_ascii=False).encode())


def error_body(
    spec: ErrorSpec, family: Family, request_id: str, retry_after_s: float | None = None
) -> dict[str, Any]:
    """The JSON of an error in a family's shape."""
    match family:
        case Family.OPENAI:
            said = {"message": spec.message, "type": spec.kind, "param": spec.param, "code": spec.code}
            return {"error": said}
        case Family.ANTHROPIC:
            inner: dict[str, Any] = {"type": spec.kind, "message": spec.message}
            if spec.details:
                inner["details"] = dict(spec.details[0])
            return {"type": "error", "error": inner, "request_id": request_id}
        case Family.GEMINI:
            return {"error": _gemini_error(spec, retry_after_s)}


def _gemini_error(spec: ErrorSpec, retry_after_s: float | None) -> dict[str, Any]:
    message, details = spec.message, [dict(each) for each in spec.details]
    if retry_after_s is not None:
        message = f"{message}\nPlease retry in {retry_after_s:.10g}s."
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        details.append({"@type": kind, "retryDelay": f"{retry_after_s:.10g}s"})
    said = {"code": spec.status, "message": message, "status": spec.kind}
    return {**said, "details": details} if details else said


def stream_error(name: str | None, family: Family, request_id: str) -> tuple[ErrorSpec, dict[str, Any]]:
    """The error that comes inside a stream, and its JSON; by default, an overload."""
    default = {Family.OPENAI: "openai.server_error", Family.ANTHROPIC: "anthropic.overloaded_529"}
    name = name or default.get(family, "gemini.overloaded")
    spec = ERRORS.get(name) or _plain(int(name.removeprefix("http.")), family)
    return spec, error_body(spec, family, request_id)


def _plain(status: int, family: Family) -> ErrorSpec:
    phrase = HTTPStatus(status).phrase if status in tuple(HTTPStatus) else "Error"
    match family:
        case Family.OPENAI:
            kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
        case Family.ANTHROPIC:
            fallback = "api_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
            kind = _ANTHROPIC_WORDS.get(status, fallback)
        case Family.GEMINI:
            kind = _GEMINI_WORDS.get(status, "UNKNOWN")
    return ErrorSpec(status, kind, phrase)
