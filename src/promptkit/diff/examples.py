"""Values to render both sides with: the saved examples, completed where a side asks for more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from promptkit.types import Format, Kind, Value, Variable

_FORMATS: Final[Mapping[Format, str]] = {
    Format.DATE: "2026-01-31",
    Format.URL: "https://example.com",
    Format.EMAIL: "name@example.com",
    Format.LANGUAGE: "en",
}


@dataclass(frozen=True, slots=True)
class Example:
    """A named set of values."""

    name: str
    variables: Mapping[str, object] = field(default_factory=dict[str, object])


BARE: Final = Example("made-up values")
"""What serves where no example is saved: nothing but what is required, made up."""


def completed(
    example: Example, variables: Mapping[str, Variable]
) -> tuple[dict[str, object], tuple[str, ...]]:
    """The values of an example that a side declares, and what it requires besides, made up.

    Returns:
        The values, and the names of those that were made up.
    """
    given = {name: value for name, value in example.variables.items() if name in variables}
    lacking = [name for name, variable in variables.items() if variable.required and name not in given]
    return {**{name: stand_in(variables[name]) for name in lacking}, **given}, tuple(lacking)


def stand_in(variable: Variable) -> Value:  # noqa: PLR0911 - one return a kind
    """A value that a variable accepts, recognisable in a text; a pattern can't be met by guessing."""
    if variable.choices and variable.kind is not Kind.LIST:
        return variable.choices[0]
    match variable.kind:
        case Kind.STRING:
            return _text(variable)
        case Kind.BOOLEAN:
            return True
        case Kind.LIST:
            return _list(variable)
        case Kind.OBJECT:
            return {name: stand_in(inner) for name, inner in variable.fields.items() if inner.required}
        case Kind.MESSAGES:
            return [{"role": "user", "content": _text(variable)}]
        case _:
            return _number(variable)


def _text(variable: Variable) -> str:
    if variable.format is not None:
        return _FORMATS[variable.format]
    text = f"[{variable.name}]"
    least = variable.min_length or 0
    return (text * (least // len(text) + 1))[:least] if least > len(text) else text[: variable.max_length]


def _number(variable: Variable) -> int | float:
    least, most = variable.minimum, variable.maximum
    number = float(least if least is not None else 1.0 if most is None else min(1.0, most))
    if variable.kind is Kind.INTEGER:
        number = math.floor(number) if least is None else math.ceil(number)
    return int(number) if float(number).is_integer() else number


def _list(variable: Variable) -> Value:
    length = max(variable.min_length or 0, 1 if variable.max_length != 0 else 0)
    if variable.choices:
        return [variable.choices[index % len(variable.choices)] for index in range(length)]
    item = variable.items or Variable(variable.name)
    return [stand_in(item) for _ in range(length)]
