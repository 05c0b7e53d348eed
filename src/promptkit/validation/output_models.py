"""Pydantic models of the caller for structured replies."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from promptkit.errors import UsageError
from promptkit.types import Json


@dataclass(frozen=True, slots=True)
class OutputModel:
    """What a structured reply must be, and what is made of it; `read` says why it can't by a ValueError."""

    schema: Mapping[str, Json]
    read: Callable[[Json], object]


def output_model_of(model: type[Any]) -> OutputModel:
    """Return the output model for a Pydantic model.

    Raises:
        UsageError: it is no Pydantic model, or JSON Schema can't say it.
    """
    from pydantic import BaseModel, ValidationError
    from pydantic.errors import PydanticUserError

    if not (isinstance(model, type) and issubclass(model, BaseModel)):  # pyright: ignore[reportUnnecessaryIsInstance] - who knows no types
        raise UsageError(
            f"output = {model!r} is no Pydantic model",
            remedy="Give a subclass of pydantic.BaseModel, or write a JSON Schema into the template's [output].",
        )
    try:
        schema: dict[str, Json] = model.model_json_schema()
    except PydanticUserError as cause:
        raise UsageError(f"JSON Schema can't express the model {model.__name__}: {cause.message}") from None

    def read(value: Json) -> object:
        try:
            return model.model_validate_json(json.dumps(value))
        except ValidationError as cause:
            problems = (
                f"${''.join(f'.{part}' if isinstance(part, str) else f'[{part}]' for part in error['loc'])}: {error['msg']}"
                for error in cause.errors(include_url=False, include_context=False, include_input=False)
            )
            raise ValueError("; ".join(problems)) from None
        except Exception as cause:  # a validator is the caller's code; its reply is paid
            msg = f"a validator of {model.__name__} broke on it: {type(cause).__name__}: {cause}"
            raise ValueError(msg) from cause

    return OutputModel(schema, read)
