"""Front matter: a TOML table into a `TemplateSpec`."""

from __future__ import annotations

from decimal import Decimal
from typing import cast

from promptkit.checks import read_checks
from promptkit.errors import PromptKitError
from promptkit.toml import Table
from promptkit.types import Json, Params, Reasoning, TemplateSpec

from .declarations import read_variables


def read_spec(table: Table) -> TemplateSpec:
    """Read the front matter.

    Raises:
        TemplateError: an unknown key, a wrong type, or a default outside its own bounds.
    """
    variables = read_variables(table.table("variables"))
    checks = table.table("checks")
    spec = TemplateSpec(
        description=table.text("description", ""),
        variables=variables,
        params=_params(table.table("params")),
        output=_output(table),
        checks=read_checks(checks, variables) if "checks" in table else None,
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
