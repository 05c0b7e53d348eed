"""Variables: what a caller gave, coerced to what a skeleton declares."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, cast

from promptkit.types import Kind, Value, Variable

MAX_DEPTH: Final = 8
"""How deep lists may nest."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WORDS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_KINDS: Final[Mapping[type, Kind]] = {
    str: Kind.STRING,
    bool: Kind.BOOLEAN,
    int: Kind.INTEGER,
    float: Kind.NUMBER,
}
_INT64: Final = 1 << 63
_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class Bad:
    """A value that doesn't fit, and why."""

    why: str


def bind(
    variables: Mapping[str, Variable], given: Mapping[str, object]
) -> tuple[dict[str, Value], list[str]]:
    """Coerce what was given, before defaults.

    Args:
        variables: the declarations, in order.
        given: values by name; text is read as the declared kind.

    Returns:
        The values in declared order, and all problems found, each one line.
    """
    bound: dict[str, Value] = {}
    problems: list[str] = []
    for name, variable in variables.items():
        if name not in given:
            if variable.required:
                problems.append(f"{name}: missing; it must be {expected(variable)}")
            continue
        result = coerce(variable, given[name])
        if isinstance(result, Bad):
            problems.append(f"{name}: {result.why}")
        else:
            bound[name] = result
    problems += [_unknown(name, variables) for name in given if name not in variables]
    return bound, problems


def _unknown(name: str, variables: Mapping[str, Variable]) -> str:
    if not variables:
        return f"{name}: unknown; this skeleton takes no variables"
    close = difflib.get_close_matches(name, variables, n=1)
    hint = f"did you mean {close[0]}?" if close else f"it takes {', '.join(variables)}"
    return f"{name}: unknown; {hint}"


def expected(variable: Variable) -> str:
    """What a variable wants, in words: `a string of at most 80 characters (Brand name)`."""
    article = "an" if variable.kind is Kind.INTEGER else "a"
    parts = [f"{article} {variable.kind}"]
    if variable.choices:
        shown = ", ".join(_show(choice) for choice in variable.choices)
        parts = [f"a list of: {shown}" if variable.kind is Kind.LIST else f"one of: {shown}"]
    unit = "items" if variable.kind is Kind.LIST else "characters"
    if variable.min_length is not None:
        parts.append(f"at least {variable.min_length} {unit}")
    if variable.max_length is not None:
        parts.append(f"at most {variable.max_length} {unit}")
    if variable.minimum is not None:
        parts.append(f"at least {variable.minimum:g}")
    if variable.maximum is not None:
        parts.append(f"at most {variable.maximum:g}")
    text = ", ".join(parts)
    return f"{text} ({variable.description})" if variable.description else text


def coerce(variable: Variable, value: object, *, from_text: bool = True) -> Value | Bad:
    """One value as the declared kind.

    Args:
        variable: the declaration.
        value: text for any kind, or a value of that kind.
        from_text: whether text may be read as another kind (a cell, a `-v`).
    """
    if value is None:
        return Bad(f"None; leave it out, or give {expected(variable)}")
    plain = _read(variable, value) if from_text and isinstance(value, str) else _typed(variable, value)
    if isinstance(plain, Bad):
        return plain
    return _within(variable, plain)


def _wrong(variable: Variable, value: object) -> Bad:
    return Bad(f"{_show(value)} is not {expected(variable)}")


def _show(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return json.dumps(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…", ensure_ascii=False)[
        slice(None) if isinstance(value, str) else slice(1, -1)
    ]


def _read(variable: Variable, text: str) -> Value | Bad:
    """Text as the declared kind."""
    match variable.kind:
        case Kind.STRING:
            return _unicode(variable, text)
        case Kind.INTEGER:
            return int(text) if _INTEGER.fullmatch(text.strip()) else _wrong(variable, text)
        case Kind.NUMBER:
            return _read_number(variable, text.strip())
        case Kind.BOOLEAN:
            found = _WORDS.get(text.strip().lower())
            return Bad(f"{_show(text)} is not a boolean: true or false") if found is None else found
        case _:
            return _read_list(variable, text.strip())


def _read_number(variable: Variable, text: str) -> Value | Bad:
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return _wrong(variable, text)


def _read_list(variable: Variable, text: str) -> Value | Bad:
    """A JSON array, else items between semicolons; empty ones are left out."""
    if not text.startswith("["):
        items = [item.strip() for item in text.split(";")]
        return _typed(variable, [item for item in items if item])
    try:
        return _typed(variable, json.loads(text))
    except (ValueError, RecursionError):
        return Bad(f"{_show(text)} begins like a JSON array and is none")


def _typed(variable: Variable, value: object) -> Value | Bad:  # noqa: PLR0911 - one return a row
    """A value that already has a type, which must be the declared one."""
    match variable.kind, value:
        case Kind.STRING, str():
            return _unicode(variable, value)
        case Kind.BOOLEAN, bool():
            return value
        case ((Kind.INTEGER | Kind.NUMBER), bool()):
            return _wrong(variable, value)
        case ((Kind.INTEGER | Kind.NUMBER), int()):
            return int(value)
        case Kind.INTEGER, float() if value.is_integer():
            return int(value)
        case Kind.NUMBER, (float() | Decimal()) if math.isfinite(value):
            return float(value)
        case Kind.LIST, (list() | tuple()):
            return _typed_list(cast("list[object] | tuple[object, ...]", value))
        case _:
            return _wrong(variable, value)


def _typed_list(items: list[object] | tuple[object, ...]) -> Value | Bad:
    try:
        # Most items are plain text: those take no further look.
        return [item if type(item) is str and item.isascii() else _item(item, MAX_DEPTH) for item in items]
    except ValueError as cause:
        return Bad(str(cause))


def _item(value: object, depth: int) -> Value:
    """One item of a list, copied; ValueError where a list can't hold it."""
    if isinstance(value, (list, tuple)):
        if depth == 1:
            message = f"lists nest deeper than {MAX_DEPTH}"
            raise ValueError(message)
        return [_item(item, depth - 1) for item in cast("list[object] | tuple[object, ...]", value)]
    kind = _KINDS.get(type(value))
    result = Bad("") if kind is None else coerce(Variable("item", kind), value, from_text=False)
    if isinstance(result, Bad):
        message = f"{_show(value)} can't be an item; items are strings, numbers, booleans or lists"
        raise ValueError(message)  # noqa: TRY004 - a value of the caller, not of ours
    return result


def _unicode(variable: Variable, text: str) -> Value | Bad:
    """Text, plain str even if a subclass came in; half of a surrogate pair can't be sent."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as cause:
            return Bad(f"not valid Unicode at character {cause.start + 1}; it must be {expected(variable)}")
    return text if type(text) is str else str.__str__(text)


def _within(variable: Variable, value: Value) -> Value | Bad:
    """The value, if bounds and choices allow it."""
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        return Bad("beyond 64 bits")
    if isinstance(value, (str, list)):
        size = len(value)
        if size < (variable.min_length or 0) or (
            variable.max_length is not None and size > variable.max_length
        ):
            unit = "items" if isinstance(value, list) else "characters"
            return Bad(f"{size} {unit}; it must be {expected(variable)}")
    elif not isinstance(value, dict) and not _between(variable, value):
        return _wrong(variable, value)
    return _chosen(variable, value) if variable.choices else value


def _between(variable: Variable, number: float) -> bool:
    return (variable.minimum is None or number >= variable.minimum) and (
        variable.maximum is None or number <= variable.maximum
    )


def _chosen(variable: Variable, value: Value) -> Value | Bad:
    """The value, or a list's items, as they stand among the choices."""
    if not isinstance(value, list):
        return value if value in variable.choices else _wrong(variable, value)
    by_text = {str(choice): choice for choice in variable.choices}
    chosen = [by_text.get(str(item)) for item in value]
    missing = next((item for item, found in zip(value, chosen, strict=True) if found is None), None)
    if missing is not None:
        return _wrong(variable, missing)
    return [item for item in chosen if item is not None]
