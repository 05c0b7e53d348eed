"""Declarations of variables in the front matter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import TypeAlias, cast

from jinja2 import nodes

from promptkit._util.toml import Table
from promptkit.types import Format, Json, Kind, TemplateSpec, Value, Variable

from .jinja.sandbox import ATTRIBUTES
from .patterns import compiled
from .variables import SPEAKERS, Invalid, coerce

MAX_NESTING = 8
"""How deep objects and lists may be declared in one another."""


RESERVED = frozenset(
    [
        "and",
        "as",
        "block",
        "break",
        "call",
        "caller",
        "continue",
        "elif",
        "else",
        "endif",
        "endfor",
        "extends",
        "false",
        "filter",
        "for",
        "from",
        "if",
        "import",
        "in",
        "include",
        "is",
        "kwargs",
        "loop",
        "macro",
        "message",
        "namespace",
        "none",
        "not",
        "or",
        "range",
        "recursive",
        "self",
        "set",
        "super",
        "true",
        "varargs",
        "with",
        "False",
        "None",
        "True",
    ]
)
"""Words that Jinja or promptkit keeps for itself."""


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SIZED = frozenset({Kind.STRING, Kind.LIST, Kind.MESSAGES})
_NUMERIC = frozenset({Kind.INTEGER, Kind.NUMBER})


def read_variables(table: Table) -> dict[str, Variable]:
    """Read the table of variables, in order.

    Raises:
        TemplateError: an unknown key, a wrong type, or a declaration that contradicts itself.
    """
    return {name: _variable(name, entry, 1) for name, entry in table.items_tables()}


def _variable(name: str, entry: Table, depth: int) -> Variable:
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise entry.fail(
            f"a variable can't be called {name!r}",
            remedy="Use letters, digits and _; not a word of the template language.",
        )
    if depth > MAX_NESTING:
        raise entry.fail(f"objects and lists nest deeper than {MAX_NESTING}", remedy="Nest less.")
    default = _plain(entry.raw("default", None))
    choices = _choices(entry)
    items = entry.table("items")
    kind = entry.choice("type", Kind, _inferred(entry, default, choices))
    bare = Variable(
        name,
        kind,
        description=entry.text("description", ""),
        min_length=entry.integer("min_length", None, least=0),
        max_length=entry.integer("max_length", None, least=0),
        minimum=_float(entry.number("minimum", None)),
        maximum=_float(entry.number("maximum", None)),
        format=entry.choice("format", Format, None),
        pattern=entry.text("pattern", None),
        untrusted=entry.flag("untrusted", default=False),
        fields=_fields(entry, depth),
        items=_variable("item", items, depth + 1) if "items" in entry else None,
    )
    entry.finish()
    _check_kind(bare, entry)
    if choices and (kind in {Kind.OBJECT, Kind.MESSAGES} or bare.items is not None):
        raise entry.fail("choices are for plain values", "choices", remedy="Put them on the items or fields.")
    _check_bounds(bare, entry)
    scalar = replace(bare, kind=Kind.STRING) if kind is Kind.LIST else bare
    allowed = tuple(
        item if kind is Kind.LIST else _fitting(scalar, item, entry, "choices") for item in choices
    )
    variable = replace(bare, choices=allowed)
    if default is None:
        return variable
    return replace(variable, default=_fitting(variable, default, entry, "default"))


def _fields(entry: Table, depth: int) -> dict[str, Variable]:
    """Read the fields of an object. No field may have the name of a mapping's method."""
    table = entry.table("fields")
    for name in table.keys():  # noqa: SIM118 - a Table, no dict
        if name in ATTRIBUTES["dict"]:
            raise table.fail(
                f"a field can't be called {name!r}: in a template that is a method",
                name,
                remedy="Choose another name.",
            )
    return {name: _variable(name, inner, depth + 1) for name, inner in table.items_tables()}


def _check_kind(variable: Variable, entry: Table) -> None:
    """Refuse a key that does not apply to this kind, and a pattern that isn't one."""
    kind = variable.kind
    for key, given, wanted in (
        ("format", variable.format is not None, Kind.STRING),
        ("pattern", variable.pattern is not None, Kind.STRING),
        ("untrusted", variable.untrusted, Kind.STRING),
        ("fields", bool(variable.fields), Kind.OBJECT),
        ("items", variable.items is not None, Kind.LIST),
    ):
        if given and kind is not wanted:
            hint = {Kind.LIST: "Put it under items.", Kind.OBJECT: "Put it on its fields."}.get(kind)
            raise entry.fail(f"{key} does not apply to a {kind}", key, remedy=hint)
    if kind is Kind.OBJECT and not variable.fields:
        raise entry.fail(
            "an object declares its fields",
            "type",
            remedy=f"E.g. [variables.{variable.name}.fields.name], with a line of its own for each.",
        )
    if variable.pattern is not None:
        try:
            compiled(variable.pattern)
        except ValueError as cause:
            raise entry.fail(
                f"pattern {variable.pattern!r}: {cause}",
                "pattern",
                remedy="Patterns have characters, [classes], \\d \\w \\s, groups, | and repetitions.",
            ) from None


def _choices(entry: Table) -> tuple[Value, ...]:
    given: object = _plain(entry.raw("choices", []))
    if not isinstance(given, list) or any(isinstance(item, list) for item in cast("list[Value]", given)):
        raise entry.fail("choices must be a list of plain values", "choices")
    if "choices" in entry and not given:
        raise entry.fail("choices is empty", "choices", remedy="List the values allowed, or leave it out.")
    return tuple(cast("list[Value]", given))


def _inferred(entry: Table, default: Value | None, choices: tuple[Value, ...]) -> Kind:
    """Return the kind of the default, else of the choices, else the one that fields or items imply, else string."""
    example: Value = default if default is not None else choices[0] if choices else ""
    if isinstance(example, bool):
        return Kind.BOOLEAN
    if isinstance(example, int):
        return Kind.INTEGER
    if isinstance(example, float):
        return Kind.NUMBER
    if isinstance(example, dict) or "fields" in entry:
        return Kind.OBJECT
    return Kind.LIST if isinstance(example, list) or "items" in entry else Kind.STRING


def _check_bounds(variable: Variable, entry: Table) -> None:
    """Refuse bounds that say nothing about this kind, or that nothing can meet."""
    pairs = (
        (_SIZED, "min_length", variable.min_length, "max_length", variable.max_length),
        (_NUMERIC, "minimum", variable.minimum, "maximum", variable.maximum),
    )
    for kinds, low_key, low, high_key, high in pairs:
        for key, bound in ((low_key, low), (high_key, high)):
            if bound is not None and variable.kind not in kinds:
                raise entry.fail(f"{key} does not apply to a {variable.kind}", key)
        if low is not None and high is not None and low > high:
            raise entry.fail(f"{low_key} is above {high_key}: no value fits", low_key)


def _fitting(variable: Variable, value: Value, entry: Table, key: str) -> Value:
    """Check a value of the front matter against the declaration, without reading text as other kinds."""
    result = coerce(variable, value, from_text=False)
    if isinstance(result, Invalid):
        raise entry.fail(f"{key} of {variable.name}: {result.why}", key)
    return result


def _plain(value: object) -> Value | None:
    """Return a TOML value with its Decimals as floats."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        return [cast("Value", _plain(item)) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        return {name: cast("Value", _plain(member)) for name, member in members.items()}
    return cast("Value | None", value)


def _float(number: Decimal | None) -> float | None:
    return None if number is None else float(number)


Path: TypeAlias = tuple[str, ...]
"""A path into a variable: `("brand", "name")`; `*` is each item of a list."""


EACH = "*"


def path_of(node: nodes.Node) -> Path | None:
    """Return the path that an expression is, made of names and constant keys; None for any other."""
    match node:
        case nodes.Name():
            return (node.name,)
        case nodes.Getattr():
            inner, key = path_of(node.node), node.attr
        case nodes.Getitem(arg=nodes.Const(value=str() as key)):
            inner = path_of(node.node)
        case nodes.Getitem(arg=nodes.Const(value=int())):
            inner, key = path_of(node.node), EACH
        case _:
            return None
    return None if inner is None else (*inner, key)


def unknown_field(variables: Mapping[str, Variable], path: Path) -> str | None:
    """Return the first part of a path that is not a field of a declared object, or None."""
    variable = variables.get(path[0])
    for part in path[1:]:
        if variable is None:
            return None
        if part == EACH:
            variable = variable.items
        elif variable.kind is not Kind.OBJECT or part in ATTRIBUTES["dict"]:
            return None
        elif part not in variable.fields:
            return part
        else:
            variable = variable.fields[part]
    return None


DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TYPES: Mapping[Kind, str] = {
    Kind.STRING: "string",
    Kind.INTEGER: "integer",
    Kind.NUMBER: "number",
    Kind.BOOLEAN: "boolean",
    Kind.LIST: "array",
    Kind.OBJECT: "object",
    Kind.MESSAGES: "array",
}


_FORMATS: Mapping[Format, str] = {
    Format.DATE: "date",
    Format.URL: "uri",
    Format.EMAIL: "email",
    Format.LANGUAGE: "language",  # no name of the standard's own: validators take it for a remark
}


_ITEM: dict[str, Json] = {"type": ["string", "number", "boolean", "array"]}
_MESSAGE: dict[str, Json] = {
    "type": "object",
    "properties": {
        "role": {"enum": list(SPEAKERS)},
        "content": {"type": "string", "minLength": 1},
    },
    "required": ["role", "content"],
    "additionalProperties": False,
}


def variables_schema(spec: TemplateSpec, title: str = "") -> dict[str, Json]:
    """Return the schema (draft 2020-12) of an object with a template's variables.

    Args:
        spec: its front matter.
        title: what to call it, e.g. its reference.

    What it takes, `Template.bind` takes too; that reads text as other kinds besides.
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
    """Return the schema of one variable."""
    schema: dict[str, Json] = {"type": _TYPES[variable.kind]}
    if variable.kind is Kind.OBJECT:
        schema = _object(variable.fields)
    elif variable.kind is Kind.LIST:
        schema["items"] = _items(variable)
    elif variable.kind is Kind.MESSAGES:
        schema["items"] = dict(_MESSAGE)
    elif variable.choices:
        schema["enum"] = _schema_choices(variable)
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
    return schema | {key: member for key, member in members.items() if member is not None}


def _items(variable: Variable) -> dict[str, Json]:
    if variable.items is not None:
        return _schema(variable.items)
    return {"enum": _schema_choices(variable)} if variable.choices else dict(_ITEM)


def _schema_choices(variable: Variable) -> list[Json]:
    return cast("list[Json]", list(variable.choices))


def _bare(pattern: str) -> str:
    """Return a pattern without the anchors that it doesn't need."""
    text = pattern.removeprefix("^")
    slashes = len(text[:-1]) - len(text[:-1].rstrip("\\"))
    return text[:-1] if text.endswith("$") and slashes % 2 == 0 else text
