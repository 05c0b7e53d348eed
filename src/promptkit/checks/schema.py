"""Holding a JSON value against a JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from promptkit.types import Json

from .text import Problem

_SHOWN: Final = 120
_MOST: Final = 20


def check_json(value: Json, schema: Mapping[str, Json]) -> tuple[Problem, ...]:
    """Everything in a value that its schema doesn't allow, at most 20 problems.

    Args:
        value: a reply, read as JSON.
        schema: a JSON Schema (draft 2020-12 where it names none). Nothing is fetched: a reference
            that leads outside is a problem.
    """
    # Imported here: 55 ms that only structured replies need.
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    schema = dict(schema)
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
        errors = sorted(kind(schema, registry=Registry()).iter_errors(value), key=lambda one: one.json_path)
    except SchemaError as cause:
        return (Problem("schema", f"the schema itself is broken: {_short(cause.message)}"),)
    except (Unresolvable, RecursionError) as cause:
        return (Problem("schema", f"the schema can't be followed: {_short(str(cause))}"),)
    return tuple(Problem("schema", f"{error.json_path}: {_short(error.message)}") for error in errors[:_MOST])


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
