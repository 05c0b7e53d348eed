"""Examples of a template's variables: values from its tests, and made-up ones where values are missing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from promptkit.types import Format, Kind, Value, Variable


@dataclass(frozen=True, slots=True)
class Example:
    """A named set of values."""

    name: str
    variables: Mapping[str, object] = field(default_factory=dict[str, object])


GENERATED = Example("made-up values")
"""The example of a template without tests: only required variables, all made up."""


def complete(
    example: Example, variables: Mapping[str, Variable]
) -> tuple[dict[str, object], tuple[str, ...]]:
    """Return an example's values for the declared variables, with missing required ones made up.

    Returns:
        The values, and the names of the made-up ones.
    """
    given = {name: value for name, value in example.variables.items() if name in variables}
    missing = [name for name, variable in variables.items() if variable.required and name not in given]
    return {**{name: sample_value(variables[name]) for name in missing}, **given}, tuple(missing)


def sample_value(variable: Variable) -> Value:
    """Return a value that a variable accepts, recognizable in a text; a pattern can't be met by guessing."""
    if variable.choices and variable.kind is not Kind.LIST:
        return variable.choices[0]
    match variable.kind:
        case Kind.STRING:
            value: Value = _text(variable)
        case Kind.BOOLEAN:
            value = True
        case Kind.LIST:
            value = _list(variable)
        case Kind.OBJECT:
            value = {name: sample_value(inner) for name, inner in variable.fields.items() if inner.required}
        case Kind.MESSAGES:
            value = [{"role": "user", "content": _text(variable)}]
        case _:
            value = _number(variable)
    return value


def _text(variable: Variable) -> str:
    if variable.format is not None:
        return _FORMATS[variable.format]
    text = f"[{variable.name}]"
    least = variable.min_length or 0
    return (text * (least // len(text) + 1))[:least] if least > len(text) else text[: variable.max_length]


_FORMATS = {
    Format.DATE: "2026-01-31",
    Format.URL: "https://example.com",
    Format.EMAIL: "name@example.com",
    Format.LANGUAGE: "en",
}


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
    return [sample_value(item) for _ in range(length)]
