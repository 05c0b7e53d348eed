"""The JSON Schema of a skeleton's variables, for editors, forms and other programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from promptkit.types import Format, Json, Kind, TemplateSpec, Variable

from .variables import SPEAKERS

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_TYPES: Final[Mapping[Kind, str]] = {
    Kind.STRING: "string",
    Kind.INTEGER: "integer",
    Kind.NUMBER: "number",
    Kind.BOOLEAN: "boolean",
    Kind.LIST: "array",
    Kind.OBJECT: "object",
    Kind.MESSAGES: "array",
}
_FORMATS: Final[Mapping[Format, str]] = {
    Format.DATE: "date",
    Format.URL: "uri",
    Format.EMAIL: "email",
    Format.LANGUAGE: "language",  # no name of the standard's own: validators take it for a remark
}
_ITEM: Final[dict[str, Json]] = {"type": ["string", "number", "boolean", "array"]}
_TURN: Final[dict[str, Json]] = {
    "type": "object",
    "properties": {
        "role": {"enum": list(SPEAKERS)},
        "content": {"type": "string", "minLength": 1},
    },
    "required": ["role", "content"],
    "additionalProperties": False,
}


def variables_schema(spec: TemplateSpec, title: str = "") -> dict[str, Json]:
    """The schema (draft 2020-12) of an object with a skeleton's variables.

    Args:
        spec: its front matter.
        title: what to call it, e.g. its reference.

    What it takes, `Skeleton.bind` takes too; that reads text as other kinds besides.
    """
    head: dict[str, Json] = {"$schema": DIALECT}
    head |= {key: text for key, text in (("title", title), ("description", spec.description)) if text}
    return {**head, **_object(spec.variables)}


def _object(fields: Mapping[str, Variable]) -> dict[str, Json]:
    required: list[Json] = [name for name, field in fields.items() if field.required]
    return {
        "type": "object",
        "properties": {name: _schema(field) for name, field in fields.items()},
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _schema(variable: Variable) -> dict[str, Json]:
    """The schema of one variable."""
    found: dict[str, Json] = {"type": _TYPES[variable.kind]}
    if variable.kind is Kind.OBJECT:
        found = _object(variable.fields)
    elif variable.kind is Kind.LIST:
        found["items"] = _items(variable)
    elif variable.kind is Kind.MESSAGES:
        found["items"] = dict(_TURN)
    elif variable.choices:
        found["enum"] = _choices(variable)
    size = "Length" if variable.kind is Kind.STRING else "Items"
    members: dict[str, Json] = {
        "description": variable.description or None,
        "default": cast("Json", variable.default),
        f"min{size}": variable.min_length,
        f"max{size}": variable.max_length,
        "minimum": variable.minimum,
        "maximum": variable.maximum,
        "format": None if variable.format is None else _FORMATS[variable.format],
        "pattern": None if variable.pattern is None else f"^(?:{_bare(variable.pattern)})$",
        "x-untrusted": variable.untrusted or None,
    }
    return found | {key: member for key, member in members.items() if member is not None}


def _items(variable: Variable) -> dict[str, Json]:
    if variable.items is not None:
        return _schema(variable.items)
    return {"enum": _choices(variable)} if variable.choices else dict(_ITEM)


def _choices(variable: Variable) -> list[Json]:
    return cast("list[Json]", list(variable.choices))


def _bare(pattern: str) -> str:
    """A pattern without the anchors that it doesn't need."""
    text = pattern.removeprefix("^")
    slashes = len(text[:-1]) - len(text[:-1].rstrip("\\"))
    return text[:-1] if text.endswith("$") and slashes % 2 == 0 else text
