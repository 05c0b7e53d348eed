"""Which provider, wire format and action a path means; and the checks of a request before it is answered."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote

from promptkit.simulator import sdk_validation

from .formats import ANTHROPIC_MESSAGES, GEMINI_GENERATE, OPENAI_CHAT, OPENAI_RESPONSES, WireFormat
from .models import KEYLESS, Models, ProviderFamily, SimModel, family_of
from .reply_text import count_tokens
from .requests import Body, ModelRequest, RequestRefused

_OPENAI, _ANTHROPIC, _GEMINI = ProviderFamily


class EndpointKind(StrEnum):
    """What an endpoint does: generate text, list the models, or describe one."""

    GENERATE = "generate"
    MODELS = "models"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint of a provider. `model` and `stream` are part of the path for Gemini only."""

    provider: str
    family: ProviderFamily
    kind: EndpointKind
    method: str
    format: WireFormat | None = None
    model: str | None = None
    stream: bool = False


_VERSIONS = frozenset({"v1", "v1beta", "v1alpha", ""})
_GENERATE = re.compile(
    r"(?P<head>.*)/models/(?P<model>[^/:]+):(?P<verb>generateContent|streamGenerateContent)"
)
_MODELS = re.compile(r"(?P<head>.*)/models(?:/(?P<model>.+))?")
_SUFFIXES = (
    ("/chat/completions", OPENAI_CHAT),
    ("/responses", OPENAI_RESPONSES),
    ("/messages", ANTHROPIC_MESSAGES),
)


def find_endpoint(path: str, headers: Mapping[str, str], own: str | None = None) -> Endpoint | None:
    """Return the endpoint of a path; None if there is none.

    Args:
        path: the path, without the query.
        headers: distinguish the model lists of the providers, which share `/v1/models`.
        own: the provider of the port, if any, which takes precedence over the path's prefix.
    """
    for suffix, wire_format in _SUFFIXES:
        if path.endswith(suffix):
            provider = own or _prefix(path.removesuffix(suffix)) or str(wire_format.family)
            return Endpoint(provider, wire_format.family, EndpointKind.GENERATE, "POST", wire_format)
    if match := _GENERATE.fullmatch(path):
        provider = own or _prefix(match["head"]) or "gemini"
        stream = match["verb"] == "streamGenerateContent"
        model = unquote(match["model"])
        return Endpoint(provider, _GEMINI, EndpointKind.GENERATE, "POST", GEMINI_GENERATE, model, stream)
    if match := _MODELS.fullmatch(path):
        provider = own or _prefix(match["head"]) or _by_headers(match["head"], headers)
        kind = EndpointKind.MODEL if match["model"] else EndpointKind.MODELS
        return Endpoint(provider, family_of(provider), kind, "GET", model=unquote(match["model"] or ""))
    return None


def _prefix(head: str) -> str | None:
    first = head.removeprefix("/").partition("/")[0]
    return None if first in _VERSIONS else unquote(first)


def _by_headers(head: str, headers: Mapping[str, str]) -> str:
    if "x-goog-api-key" in headers or "/v1beta" in head:
        return "gemini"
    return "anthropic" if "anthropic-version" in headers else "openai"


def key_of(headers: Mapping[str, str]) -> str | None:
    """Return the API key of a request: a bearer token, `x-api-key` or `x-goog-api-key`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return headers.get("x-goog-api-key") or headers.get("x-api-key") or bearer or None


_NO_KEY = {
    _OPENAI: ("openai.unauthorized", "You didn't provide an API key."),
    _ANTHROPIC: ("anthropic.unauthorized", "x-api-key header is required"),
    _GEMINI: ("gemini.forbidden", None),
}


def check_key(endpoint: Endpoint, key: str | None, allowed: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a request without a key, or with another key than those of the scenario, if it lists any."""
    if key is None:
        if endpoint.provider not in KEYLESS:
            raise RequestRefused(*_NO_KEY[endpoint.family])
    elif endpoint.provider in allowed and key not in allowed[endpoint.provider]:
        # Google answers an unknown key with a 400, not a 401.
        is_gemini = endpoint.family is _GEMINI
        raise RequestRefused("gemini.invalid_key_400" if is_gemini else f"{endpoint.family}.unauthorized")


def read_body(endpoint: Endpoint, raw: bytes, headers: Mapping[str, str], *, strictly: bool) -> ModelRequest:
    """Validate a body by the SDK's own types and read it.

    Raises:
        RequestRefused: a 400 that names the parameter.
    """
    if endpoint.family is _ANTHROPIC and "anthropic-version" not in headers:
        raise RequestRefused("anthropic.bad_request", "anthropic-version: header is required")
    fault, wire_format = f"{endpoint.family}.bad_request", endpoint.format
    assert wire_format is not None  # noqa: S101 - an endpoint that generates has a format
    try:
        body: Body = wire_format.validate(raw) if strictly else sdk_validation.parse(raw)
        request = wire_format.read(body, endpoint.model, endpoint.stream)
        sizes = {"model": len(request.model), "prompt": len(request.prompt)}
    except sdk_validation.NotValid as error:
        raise _not_valid(endpoint.family, error) from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RequestRefused(fault, f"The body can't be read: {error!r}") from error
    for name, size in sizes.items():
        if not size:
            raise RequestRefused(fault, f"Missing required parameter: '{name}'.", param=name)
    return request


def _not_valid(family: ProviderFamily, error: sdk_validation.NotValid) -> RequestRefused:
    fault = f"{family}.bad_request"
    if family is _OPENAI:
        code, message = {
            "extra_forbidden": ("unknown_parameter", f"Unknown parameter: '{error.param}'."),
            "missing": ("missing_required_parameter", f"Missing required parameter: '{error.param}'."),
        }.get(error.kind, ("invalid_type", f"Invalid value for '{error.param}': {error.message}"))
        return RequestRefused(fault, message, code=code, param=error.param)
    if family is _GEMINI and error.kind == "extra_forbidden":
        parent, _, name = error.param.rpartition(".")
        message = f"Invalid JSON payload received. Unknown name \"{name}\" at '{parent}': Cannot find field."
        return RequestRefused(fault, message)
    return RequestRefused(fault, str(error))


def find_model(endpoint: Endpoint, models: Models, name: str) -> SimModel:
    """Return the model.

    Raises:
        RequestRefused: the provider's 404.
    """
    model = models.find(endpoint.provider, name)
    if model is None:
        messages = {
            _OPENAI: f"The model `{name}` does not exist or you do not have access to it.",
            _ANTHROPIC: f"model: {name}",
            _GEMINI: f"models/{name} is not found for API version v1beta, or is not supported for generateContent. Call ListModels to see the list of available models and their supported methods.",
        }
        raise RequestRefused(f"{endpoint.family}.not_found", messages[endpoint.family])
    return model


def check_request(
    endpoint: Endpoint, request: ModelRequest, model: SimModel, *, require_max_tokens: bool
) -> None:
    """Refuse parameters that the model rejects, and sizes above its limits.

    Raises:
        RequestRefused: the provider's 400.
    """
    fault, limit = f"{endpoint.family}.bad_request", request.max_tokens
    rejected = sorted(request.given & model.rejects)
    if rejected:
        message = f"Unsupported parameter: '{rejected[0]}' is not supported with this model."
        if rejected[0] == "max_tokens":
            message += " Use 'max_completion_tokens' instead."
        raise RequestRefused(fault, message, code="unsupported_parameter", param=rejected[0])
    if request.effort is not None and model.efforts and request.effort not in model.efforts:
        message = (
            f"Unsupported value: reasoning '{request.effort}' is not supported with the '{model.id}' model."
        )
        raise RequestRefused(fault, message, code="unsupported_value", param="reasoning.effort")
    if limit is None and require_max_tokens:
        message = "The scenario requires an output limit in every request."
        raise RequestRefused(fault, message, param="max_tokens")
    if limit is not None and not 1 <= limit <= model.max_output_tokens:
        message = (
            f"max_tokens: {limit} is not between 1 and {model.max_output_tokens}, the maximum of {model.id}"
        )
        raise RequestRefused(fault, message, code="invalid_value", param="max_tokens")
    size, window = count_tokens(request.prompt), model.context_window
    if size > window:
        messages = {
            _OPENAI: None,
            _ANTHROPIC: f"prompt is too long: {size} tokens > {window} maximum",
            _GEMINI: f"The input token count ({size}) exceeds the maximum number of tokens allowed ({window}).",
        }
        raise RequestRefused(f"{endpoint.family}.context_length", messages[endpoint.family])
