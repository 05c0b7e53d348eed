"""Which provider, format and action a path means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

from .formats import ANTHROPIC_MESSAGES, GEMINI_GENERATE, OPENAI_CHAT, OPENAI_RESPONSES, Format
from .models import Family, family_of


class Action(StrEnum):
    """What is wanted."""

    GENERATE = "generate"
    MODELS = "models"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request goes. `model` and `stream` are known here for Gemini alone."""

    provider: str
    family: Family
    action: Action
    method: str
    format: Format | None = None
    model: str | None = None
    stream: bool = False


_VERSIONS: Final = frozenset({"v1", "v1beta", "v1alpha", ""})
_GENERATE: Final = re.compile(
    r"(?P<head>.*)/models/(?P<model>[^/:]+):(?P<verb>generateContent|streamGenerateContent)"
)
_MODELS: Final = re.compile(r"(?P<head>.*)/models(?:/(?P<model>.+))?")
_TAILS: Final = (
    ("/chat/completions", OPENAI_CHAT),
    ("/responses", OPENAI_RESPONSES),
    ("/messages", ANTHROPIC_MESSAGES),
)


def find(path: str, headers: Mapping[str, str], own: str | None = None) -> Place | None:
    """The place of a path; None where nothing is served.

    Args:
        path: as it came, without the query.
        headers: tell the model lists of the providers apart, which share `/v1/models`.
        own: the provider whose port it came in by, if any: it wins over a path prefix.
    """
    for tail, form in _TAILS:
        if path.endswith(tail):
            provider = own or _prefix(path.removesuffix(tail)) or str(form.family)
            return Place(provider, form.family, Action.GENERATE, "POST", form)
    if found := _GENERATE.fullmatch(path):
        provider = own or _prefix(found["head"]) or "gemini"
        stream = found["verb"] == "streamGenerateContent"
        model = unquote(found["model"])
        return Place(provider, Family.GEMINI, Action.GENERATE, "POST", GEMINI_GENERATE, model, stream)
    if found := _MODELS.fullmatch(path):
        provider = own or _prefix(found["head"]) or _by_headers(found["head"], headers)
        action = Action.MODEL if found["model"] else Action.MODELS
        return Place(provider, family_of(provider), action, "GET", model=unquote(found["model"] or ""))
    return None


def _prefix(head: str) -> str | None:
    first = head.removeprefix("/").partition("/")[0]
    return None if first in _VERSIONS else unquote(first)


def _by_headers(head: str, headers: Mapping[str, str]) -> str:
    if "x-goog-api-key" in headers or "/v1beta" in head:
        return "gemini"
    return "anthropic" if "anthropic-version" in headers else "openai"


def key_of(headers: Mapping[str, str]) -> str | None:
    """The API key of a request: a bearer token, `x-api-key` or `x-goog-api-key`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return headers.get("x-goog-api-key") or headers.get("x-api-key") or bearer or None
