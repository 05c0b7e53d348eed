"""Validation of request bodies by the SDKs' own parameter types, without unknown keys.

pydantic's schemas are made stricter before they are compiled: every TypedDict forbids extra keys,
and `Iterable` fields, which validate lazily, become lists.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import pydantic
from pydantic_core import CoreSchema, SchemaValidator, ValidationError

from promptkit.types import JsonObject

Validate = Callable[[bytes], JsonObject]


class NotValid(ValueError):
    """The SDK would not send this body. `param` is the path of the problem."""

    def __init__(self, param: str, message: str, kind: str) -> None:
        super().__init__(f"{param}: {message}" if param else message)
        self.param = param
        self.message = message
        self.kind = kind


def lazily(make: Callable[[], Validate]) -> Validate:
    """Return a check that is built when it is first needed, because its SDK is slow to import."""

    def validate(body: bytes) -> JsonObject:
        return make()(body)

    return validate


def parse(body: bytes) -> JsonObject:
    """Return the body as a JSON object, without further checks."""
    try:
        value = json.loads(body)
    except ValueError as error:
        raise NotValid("", f"the body is not valid JSON: {error}", "json_invalid") from error
    if not isinstance(value, dict):
        raise NotValid("", "the body must be a JSON object", "dict_type")
    return cast("JsonObject", value)


@cache
def openai_responses() -> Validate:
    """Return the check for bodies of POST /responses."""
    from openai.types.responses import response_create_params as params

    return _by_stream(params.ResponseCreateParamsNonStreaming, params.ResponseCreateParamsStreaming)


@cache
def openai_chat() -> Validate:
    """Return the check for bodies of POST /chat/completions."""
    from openai.types.chat import completion_create_params as params

    return _by_stream(params.CompletionCreateParamsNonStreaming, params.CompletionCreateParamsStreaming)


@cache
def anthropic_messages() -> Validate:
    """Return the check for bodies of POST /v1/messages."""
    from anthropic.types import message_create_params as params

    return _by_stream(params.MessageCreateParamsNonStreaming, params.MessageCreateParamsStreaming)


@cache
def gemini_generate() -> Validate:
    """Return the check for bodies of POST models/{m}:generateContent: proto JSON, camelCase or snake_case."""
    from google.genai import types

    fields: dict[str, Any] = {
        "model": (str | None, None),
        "contents": (list[types.Content], ...),
        "system_instruction": (types.Content | None, None),
        "generation_config": (types.GenerationConfig | None, None),
        "safety_settings": (list[types.SafetySetting] | None, None),
        "tools": (list[types.Tool] | None, None),
        "tool_config": (types.ToolConfig | None, None),
        "cached_content": (str | None, None),
        "labels": (dict[str, str] | None, None),
        "service_tier": (types.ServiceTier | None, None),
        "store": (bool | None, None),
        "continuation_token": (str | None, None),
    }
    model = cast(
        "type[pydantic.BaseModel]",
        pydantic.create_model("GenerateContentRequest", __base__=types.Content.__base__, **fields),
    )
    adapter = pydantic.TypeAdapter(model)
    adapter.rebuild(force=True)

    def validate(body: bytes) -> JsonObject:
        value = parse(body)
        with warnings.catch_warnings():
            # google-genai accepts an unknown enum member with a warning; the service refuses it.
            warnings.simplefilter("error", UserWarning)
            try:
                adapter.validate_python(value)
            except ValidationError as error:
                raise _not_valid(error) from error
            except UserWarning as error:
                raise NotValid("", str(error), "enum") from error
        return value

    return validate


def _by_stream(whole: Any, streamed: Any) -> Validate:
    check_whole, check_streamed = _validator(whole), _validator(streamed)

    def validate(body: bytes) -> JsonObject:
        # The two types differ only in `stream`, so a wrong guess costs one more validation.
        guess = check_streamed if b'"stream":true' in body or b'"stream": true' in body else check_whole
        try:
            return guess.validate_json(body, strict=True)
        except ValidationError as first:
            other = check_whole if guess is check_streamed else check_streamed
            try:
                return other.validate_json(body, strict=True)
            except ValidationError:
                raise _not_valid(first) from first

    return validate


def _validator(kind: Any) -> SchemaValidator:
    schema = cast("CoreSchema", _stricter(pydantic.TypeAdapter(kind).core_schema))
    return SchemaValidator(schema)


def _stricter(node: Any) -> Any:
    if isinstance(node, dict):
        members = cast("dict[str, Any]", node)
        if members.get("type") == "typed-dict":
            members = {**members, "extra_behavior": "forbid"}
        elif members.get("type") == "generator":
            members = {**members, "type": "list"}
        return {name: _stricter(each) for name, each in members.items()}
    if isinstance(node, (list, tuple)):
        items = [_stricter(each) for each in cast("list[Any] | tuple[Any, ...]", node)]
        return items if isinstance(node, list) else tuple(items)
    return node


def _not_valid(error: ValidationError) -> NotValid:
    errors = error.errors(include_url=False, include_input=False)
    # A union reports every branch; a key that no branch knows is the most likely mistake.
    first = next(
        (each for each in errors if each["type"] in ("extra_forbidden", "missing") and len(each["loc"]) == 1),
        None,
    )
    first = first or next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    return NotValid(".".join(str(part) for part in first["loc"]), first["msg"], first["type"])
