"""Front matter: a TOML table into a `TemplateSpec`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final, cast

from promptkit.checks import read_checks
from promptkit.errors import PromptKitError
from promptkit.toml import Table
from promptkit.types import Json, Kind, Params, Reasoning, TemplateSpec, Value, Variable

from .variables import Bad, coerce

RESERVED: Final = frozenset(
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
_SIZED: Final = frozenset({Kind.STRING, Kind.LIST})
_NUMERIC: Final = frozenset({Kind.INTEGER, Kind.NUMBER})


def read_spec(table: Table) -> TemplateSpec:
    """Read the front matter.

    Raises:
        TemplateError: an unknown key, a wrong type, or a default outside its own bounds.
    """
    variables = {name: _variable(name, entry) for name, entry in _named(table, "variables")}
    spec = TemplateSpec(
        description=table.text("description", ""),
        variables=variables,
        params=_params(table.table("params")),
        output=_output(table),
        checks=read_checks(table.table("checks"), variables) if "checks" in table else None,
        lint=_switches(table.table("lint")),
    )
    table.finish()
    return spec


def _switches(table: Table) -> dict[str, str]:
    """Lint rules that are off; a reason must be given."""
    reasons = {code: table.text(code) for code in table.keys()}  # noqa: SIM118 - a Table, no dict
    for code, reason in reasons.items():
        if not reason.strip():
            raise table.fail(
                f"lint.{code} gives no reason",
                code,
                remedy=f'Say why the rule is off here: {code} = "because ...".',
            )
    return reasons


def _named(table: Table, key: str) -> list[tuple[str, Table]]:
    return list(table.table(key).items_tables())


def _variable(name: str, entry: Table) -> Variable:
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise entry.fail(
            f"a variable can't be called {name!r}",
            remedy="Use letters, digits and _; not a word of the template language.",
        )
    default = _plain(entry.raw("default", None))
    choices = _choices(entry)
    kind = entry.choice("type", Kind, _inferred(default, choices))
    bare = Variable(
        name,
        kind,
        description=entry.text("description", ""),
        min_length=entry.integer("min_length", None, least=0),
        max_length=entry.integer("max_length", None, least=0),
        minimum=_float(entry.number("minimum", None)),
        maximum=_float(entry.number("maximum", None)),
    )
    entry.finish()
    _check_bounds(bare, entry)
    scalar = Variable(name, Kind.STRING if kind is Kind.LIST else kind)
    allowed = tuple(
        item if kind is Kind.LIST else _fitting(scalar, item, entry, "choices") for item in choices
    )
    variable = _with(bare, choices=allowed, default=None)
    if default is None:
        return variable
    return _with(bare, choices=allowed, default=_fitting(variable, default, entry, "default"))


def _with(bare: Variable, *, choices: tuple[Value, ...], default: Value | None) -> Variable:
    return Variable(
        bare.name,
        bare.kind,
        bare.description,
        default,
        choices,
        bare.min_length,
        bare.max_length,
        bare.minimum,
        bare.maximum,
    )


def _choices(entry: Table) -> tuple[Value, ...]:
    given: object = _plain(entry.raw("choices", []))
    if not isinstance(given, list) or any(isinstance(item, list) for item in cast("list[Value]", given)):
        raise entry.fail("choices must be a list of plain values", "choices")
    if "choices" in entry and not given:
        raise entry.fail("choices is empty", "choices", remedy="List the values allowed, or leave it out.")
    return tuple(cast("list[Value]", given))


def _inferred(default: Value | None, choices: tuple[Value, ...]) -> Kind:
    """The kind of the default, else of the choices, else string."""
    example: Value = default if default is not None else choices[0] if choices else ""
    if isinstance(example, bool):
        return Kind.BOOLEAN
    if isinstance(example, int):
        return Kind.INTEGER
    if isinstance(example, float):
        return Kind.NUMBER
    return Kind.LIST if isinstance(example, list) else Kind.STRING


def _check_bounds(variable: Variable, entry: Table) -> None:
    """Refuse bounds that say nothing about this kind, or that nothing can meet."""
    pairs = (
        (_SIZED, "min_length", variable.min_length, "max_length", variable.max_length),
        (_NUMERIC, "minimum", variable.minimum, "maximum", variable.maximum),
    )
    for kinds, low_key, low, high_key, high in pairs:
        for key, bound in ((low_key, low), (high_key, high)):
            if bound is not None and variable.kind not in kinds:
                raise entry.fail(f"{key} says nothing about a {variable.kind}", key)
        if low is not None and high is not None and low > high:
            raise entry.fail(f"{low_key} is above {high_key}: no value fits", low_key)


def _fitting(variable: Variable, value: Value, entry: Table, key: str) -> Value:
    """A value of the front matter itself, which must fit the declaration without any reading of text."""
    result = coerce(variable, value, from_text=False)
    if isinstance(result, Bad):
        raise entry.fail(f"{key} of {variable.name}: {result.why}", key)
    return result


def _plain(value: object) -> Value | None:
    """A TOML value with its Decimals as floats; a date or a table as text that no kind accepts."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        return [cast("Value", _plain(item)) for item in cast("list[object]", value)]
    return cast("Value | None", value)


def _float(number: Decimal | None) -> float | None:
    return None if number is None else float(number)


def _params(table: Table) -> Params:
    params = Params(
        max_output_tokens=table.integer("max_output_tokens", None, least=1),
        reasoning=table.choice("reasoning", Reasoning, None),
        temperature=_float(table.number("temperature", None, least=0)),
        top_p=_float(table.number("top_p", None, least=0)),
        top_k=table.integer("top_k", None, least=1),
        frequency_penalty=_float(table.number("frequency_penalty", None)),
        presence_penalty=_float(table.number("presence_penalty", None)),
        seed=table.integer("seed", None),
        stop=table.texts("stop", ()),
    )
    table.finish()
    return params


def _output(table: Table) -> dict[str, Json] | None:
    """The JSON Schema of a structured reply, as plain JSON."""
    if "output" not in table:
        return None
    schema = table.table("output")
    if not schema.keys():
        return None
    return {key: _json(schema.raw(key), schema, key) for key in schema.keys()}  # noqa: SIM118 - a Table, no dict


def _json(value: object, table: Table, key: str) -> Json:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        return [_json(item, table, key) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {name: _json(item, table, key) for name, item in cast("dict[str, object]", value).items()}
    if isinstance(value, (str, int, bool)):
        return value
    error: PromptKitError = table.fail(f"{key} holds a value that JSON can't say: {value}", key)
    raise error
