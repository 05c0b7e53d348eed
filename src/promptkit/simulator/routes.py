"""Which provider, format and action a path means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

from promptkit.simulator import validation as strict

from .formats import ANTHROPIC_MESSAGES, GEMINI_GENERATE, OPENAI_CHAT, OPENAI_RESPONSES, Format
from .models import KEYLESS, Family, Models, SimModel, family_of
from .requests import Asked, Body, Refused
from .text import count_tokens


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


def check_key(place: Place, key: str | None, allowed: Mapping[str, tuple[str, ...]]) -> None:
    """A key must be there, and be one of the scenario's where it lists any."""
    if key is None:
        if place.provider not in KEYLESS:
            raise Refused(*_NO_KEY[place.family])
    elif place.provider in allowed and key not in allowed[place.provider]:
        # Google answers a key that it doesn't know with a 400, not a 401.
        raise Refused(
            "gemini.invalid_key_400" if place.family is Family.GEMINI else f"{place.family}.unauthorized"
        )


_NO_KEY = {
    Family.OPENAI: ("openai.unauthorized", "You didn't provide an API key."),
    Family.ANTHROPIC: ("anthropic.unauthorized", "x-api-key header is required"),
    Family.GEMINI: ("gemini.forbidden", None),
}


def read_body(place: Place, raw: bytes, headers: Mapping[str, str], *, strictly: bool) -> Asked:
    """The body, checked against the SDK's own types and read.

    Raises:
        Refused: a 400 that names the parameter.
    """
    if place.family is Family.ANTHROPIC and "anthropic-version" not in headers:
        raise Refused("anthropic.bad_request", "anthropic-version: header is required")
    form = place.format
    assert form is not None  # noqa: S101  a place that generates has a format
    try:
        body: Body = form.validate(raw) if strictly else strict.parse(raw)
        asked = form.read(body, place.model, place.stream)
        size = len(asked.model), len(asked.prompt)
    except strict.NotValid as error:
        raise _not_valid(place.family, error) from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Refused(f"{place.family}.bad_request", f"The body can't be read: {error!r}") from error
    if not all(size):
        empty = "model" if not size[0] else "prompt"
        raise Refused(f"{place.family}.bad_request", f"Missing required parameter: '{empty}'.", param=empty)
    return asked


def _not_valid(family: Family, error: strict.NotValid) -> Refused:
    fault = f"{family}.bad_request"
    match family, error.kind:
        case Family.OPENAI, "extra_forbidden":
            message = f"Unknown parameter: '{error.param}'."
            return Refused(fault, message, code="unknown_parameter", param=error.param)
        case Family.OPENAI, "missing":
            message = f"Missing required parameter: '{error.param}'."
            return Refused(fault, message, code="missing_required_parameter", param=error.param)
        case Family.OPENAI, _:
            message = f"Invalid value for '{error.param}': {error.message}"
            return Refused(fault, message, code="invalid_type", param=error.param)
        case Family.GEMINI, "extra_forbidden":
            *where, name = error.param.split(".")
            message = f"Invalid JSON payload received. Unknown name \"{name}\" at '{'.'.join(where)}': Cannot find field."
            return Refused(fault, message)
        case _:
            return Refused(fault, str(error))


def find_model(place: Place, models: Models, name: str) -> SimModel:
    """The model, or the provider's 404."""
    model = models.find(place.provider, name)
    if model is None:
        messages = {
            Family.OPENAI: f"The model `{name}` does not exist or you do not have access to it.",
            Family.ANTHROPIC: f"model: {name}",
            Family.GEMINI: f"models/{name} is not found for API version v1beta, or is not supported for generateContent. Call ListModels to see the list of available models and their supported methods.",
        }
        raise Refused(f"{place.family}.not_found", messages[place.family])
    return model


def check_asked(place: Place, asked: Asked, model: SimModel, *, require_max_tokens: bool) -> None:
    """Parameters that the model rejects, and sizes that it can't hold."""
    family = place.family
    rejected = sorted(asked.given & model.rejects)
    if rejected:
        message = f"Unsupported parameter: '{rejected[0]}' is not supported with this model."
        if rejected[0] == "max_tokens":
            message += " Use 'max_completion_tokens' instead."
        raise Refused(f"{family}.bad_request", message, code="unsupported_parameter", param=rejected[0])
    if asked.effort is not None and model.efforts and asked.effort not in model.efforts:
        message = (
            f"Unsupported value: reasoning '{asked.effort}' is not supported with the '{model.id}' model."
        )
        raise Refused(f"{family}.bad_request", message, code="unsupported_value", param="reasoning.effort")
    _check_sizes(family, asked, model, require_max_tokens=require_max_tokens)


def _check_sizes(family: Family, asked: Asked, model: SimModel, *, require_max_tokens: bool) -> None:
    if asked.max_tokens is None and require_max_tokens:
        raise Refused(
            f"{family}.bad_request",
            "The scenario wants an output limit with every request.",
            param="max_tokens",
        )
    if asked.max_tokens is not None and not 1 <= asked.max_tokens <= model.max_output_tokens:
        message = f"max_tokens: {asked.max_tokens} is not between 1 and {model.max_output_tokens}, the maximum of {model.id}"
        raise Refused(f"{family}.bad_request", message, code="invalid_value", param="max_tokens")
    size = count_tokens(asked.prompt)
    if size > model.context_window:
        messages = {
            Family.OPENAI: None,
            Family.ANTHROPIC: f"prompt is too long: {size} tokens > {model.context_window} maximum",
            Family.GEMINI: f"The input token count ({size}) exceeds the maximum number of tokens allowed ({model.context_window}).",
        }
        raise Refused(f"{family}.context_length", messages[family])
