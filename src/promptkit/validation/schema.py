"""Structured replies: the JSON in a text, and its validation against a JSON Schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from fractions import Fraction
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address
from math import isfinite
from typing import Any, NoReturn
from uuid import UUID

from promptkit.types import Json

from .text import Problem

_SHOWN = 120
_MOST = 20
_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)


class NotJson(str):
    """A reply that is no JSON, and why."""

    __slots__ = ()

    @property
    def why(self) -> str:
        """In words."""
        return f"the reply is not JSON: {self}"


def read_json(text: str) -> Json | NotJson:
    """Read a reply as JSON, without a Markdown fence around it."""
    fenced = _FENCED.fullmatch(text)
    try:
        return json.loads(fenced[1] if fenced else text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as cause:
        return NotJson(cause)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(number: str) -> float:
    value = float(number)
    return value if isfinite(value) else _refuse(number)


def read_reply(text: str, schema: Mapping[str, Json]) -> tuple[Json, tuple[Problem, ...]]:
    """Return the value of a structured reply, and everything in it that its schema doesn't allow.

    Some providers say every field, and null where there is nothing to say: a null in a field that
    is optional and takes none counts as left out, and is.

    Args:
        text: the reply.
        schema: as the template has it.

    Returns:
        The value, None where it is no JSON; at most 20 problems.
    """
    value = read_json(text)
    if isinstance(value, NotJson):
        return None, (Problem("schema", value.why),)
    problems = check_json(value, schema)
    if not problems or "null" not in text or broken_schema(schema) is not None:
        return value, problems
    try:
        without = _without_nulls(value, schema, schema)
    except RecursionError:  # a schema that only refers to itself
        return value, problems
    return without, check_json(without, schema)


def check_json(value: Json, schema: Mapping[str, Json]) -> tuple[Problem, ...]:
    """Return everything in a value that its schema doesn't allow, at most 20 problems.

    Args:
        value: a reply, read as JSON.
        schema: a JSON Schema (draft 2020-12 where it names none). Nothing is fetched: a reference
            that leads outside is a problem.
    """
    # Imported here: 55 ms that only structured replies need.
    from jsonschema.exceptions import SchemaError
    from referencing.exceptions import Unresolvable

    try:
        errors = sorted(_validator(_plain(schema)).iter_errors(value), key=lambda error: error.json_path)
    except SchemaError as cause:
        return (Problem("schema", f"the schema itself is broken: {_short(cause.message)}"),)
    except (Unresolvable, RecursionError) as cause:
        return (Problem("schema", f"the schema can't be followed: {_short(str(cause))}"),)
    return tuple(Problem("schema", f"{error.json_path}: {_short(error.message)}") for error in errors[:_MOST])


def broken_schema(schema: Mapping[str, Json]) -> str | None:
    """Why nothing can be held against a schema: it is none, or a reference in it leads nowhere; else None."""
    return _broken(_plain(schema))


@lru_cache(maxsize=128)
def _broken(plain: str) -> str | None:
    from jsonschema.exceptions import SchemaError

    try:
        _validator(plain)
    except SchemaError as cause:
        return _short(cause.message)
    schema = json.loads(plain)
    lost = next((ref for ref in references(schema) if follow(ref, schema) is None), None)
    return None if lost is None else f"the reference {lost!r} leads nowhere in it"


def references(node: Json | Mapping[str, Json]) -> Iterator[str]:
    """Yield every `$ref` below a node."""
    if isinstance(node, Mapping):
        ref = node.get("$ref")
        if isinstance(ref, str):
            yield ref
    members = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
    for member in members:
        yield from references(member)


def follow(ref: str, root: Mapping[str, Json]) -> Mapping[str, Json] | None:
    """Resolve a reference (a JSON pointer after `#`); None if it leads nowhere, or outside."""
    if not ref.startswith("#"):
        return None
    node: Json | Mapping[str, Json] = root
    for part in ref[1:].split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, Mapping):
            node = node.get(name)
        elif isinstance(node, list) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
        else:
            return None
    return node if isinstance(node, Mapping) else None


def _plain(schema: Mapping[str, Json]) -> str:
    return json.dumps(schema, ensure_ascii=False)


@lru_cache(maxsize=128)
def _validator(schema: str) -> Any:
    """Make the validator of a schema, once: checking the schema alone takes a millisecond."""
    from jsonschema import validators
    from referencing import Registry

    factory: Any = validators  # its functions have no types
    plain = json.loads(schema)
    kind = factory.validator_for(plain, default=validators.Draft202012Validator)
    kind.check_schema(plain)
    return factory.extend(kind, {"multipleOf": _multiples})(
        plain, registry=Registry[Json](), format_checker=_formats()
    )


def _multiples(_: object, step: float, value: Json, __: object) -> Iterator[Any]:
    """Check `multipleOf` in decimals: in binary fractions 19.99 is no multiple of 0.01."""
    from jsonschema.exceptions import ValidationError

    if isinstance(value, int | float) and not isinstance(value, bool) and _exact(value) % _exact(step):
        yield ValidationError(f"{value!r} is not a multiple of {step}")


def _exact(number: float) -> Fraction:
    """Return a number as it was written."""
    return Fraction(number if isinstance(number, int) else repr(number))


@lru_cache(maxsize=1)
def _formats() -> Any:
    from jsonschema import FormatChecker

    checker = FormatChecker(formats=())
    for name, read in READERS.items():
        checker.checkers[name] = (partial(_reads, read), ValueError)
    return checker


def _reads(read: Reader, value: object) -> bool:
    """Return whether a value is in a format; only texts have one."""
    if isinstance(value, str):
        read(value)
    return True


def _without_nulls(value: Json, node: Json | Mapping[str, Json], root: Mapping[str, Json]) -> Json:
    """Return the value without nulls in optional fields that don't take one."""
    if not isinstance(node, Mapping):
        return value
    ref = node.get("$ref")
    if isinstance(ref, str):
        value = _without_nulls(value, follow(ref, root), root)
    for part in _members(node, "allOf"):
        value = _without_nulls(value, part, root)
    if isinstance(value, list):
        items = node.get("items")
        value = [_without_nulls(item, items, root) for item in value]
    elif isinstance(value, dict):
        value = _fields_without_nulls(value, node, root)
    branches = [*_members(node, "anyOf"), *_members(node, "oneOf")]
    candidates = ((_without_nulls(value, branch, root), branch) for branch in branches)
    fitting = (candidate for candidate, branch in candidates if _fits(candidate, branch, root))
    return next(fitting, value)


def _fields_without_nulls(
    value: dict[str, Json], node: Mapping[str, Json], root: Mapping[str, Json]
) -> dict[str, Json]:
    properties = node.get("properties")
    if not isinstance(properties, dict):
        return value
    required = node.get("required")
    kept = set(required) if isinstance(required, list) else set[Json]()
    return {
        name: _without_nulls(member, properties.get(name), root)
        for name, member in value.items()
        if member is not None or name not in properties or name in kept or _fits(None, properties[name], root)
    }


def _members(node: Mapping[str, Json], key: str) -> list[Json]:
    members = node.get(key)
    return members if isinstance(members, list) else []


def _fits(value: Json, node: Json, root: Mapping[str, Json]) -> bool:
    """Return whether a value fits a part of a schema."""
    return bool(_validator(_plain(root)).evolve(schema=node).is_valid(value))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


Reader = Callable[[str], object]


_DATE = r"\d{4}-\d\d-\d\d"
_TIME = r"\d\d:\d\d.*"
_DURATION = r"P(?=.)(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?)?)"


def _shaped(pattern: str, read: Reader = str) -> Reader:
    """Return a reader of texts that match a pattern."""
    compiled = re.compile(pattern)

    def reader(text: str) -> object:
        if not compiled.fullmatch(text):
            raise ValueError(text)
        return read(text)

    return reader


READERS: Mapping[str, Reader] = {
    "date": _shaped(_DATE, date.fromisoformat),
    "date-time": _shaped(rf"{_DATE}[Tt ]{_TIME}", lambda text: datetime.fromisoformat(text.upper())),
    "time": _shaped(_TIME, lambda text: time.fromisoformat(text.upper())),
    "duration": _shaped(_DURATION),
    "email": _shaped(r"[^@\s]+@[^@\s]+"),
    "hostname": _shaped(r"[^\s/:@]+"),
    "uri": _shaped(r"[A-Za-z][A-Za-z0-9+.-]*:\S+"),
    "uuid": _shaped(r"[0-9A-Fa-f-]{36}", UUID),
    "ipv4": IPv4Address,
    "ipv6": IPv6Address,
}
"""What reads a text of each format; a ValueError says that it is none."""
