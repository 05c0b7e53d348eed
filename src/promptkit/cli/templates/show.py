"""`promptkit templates show`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

from typer import Option

from promptkit.cli import options
from promptkit.cli.command import Cli
from promptkit.cli.output import Page, Table, to_json
from promptkit.cli.views.labels import history_json, history_table
from promptkit.types import Json, Kind, Params, Variable

from .list import entry_json, versions_text

if TYPE_CHECKING:
    from promptkit.templates.folder import TemplateEntry
    from promptkit.templates.template import Template
    from promptkit.templates.versions import Versions

Schema = Annotated[bool, Option("--schema", help="Print only the JSON Schema of its variables.")]
Source = Annotated[bool, Option("--source", help="Print only the source.")]

_UNITS = {Kind.LIST: "item", Kind.MESSAGES: "message"}


def show_template(cli: Cli, ref: options.Ref, source: Source = False, schema: Schema = False) -> None:
    """Show one template in full.

    Its description, variables, parameters, versions and labels.

    Examples:
        promptkit templates show ugc/hooks
        promptkit templates show ugc/script@1 --source
        promptkit templates show ugc/script --schema > script.schema.json
    """
    from promptkit.templates.declarations import variables_schema

    library = cli.session().library
    template = library.load(ref)
    if source:
        cli.print(template.sources()[0].text)
        return
    if schema:
        cli.print_json(variables_schema(template.spec, str(template.ref)))
        return
    entry = next(entry for entry in library.entries() if entry.name == template.ref.name)
    versions = library.home(entry.name).versions
    if cli.as_json:
        cli.print_json(template_json(template, entry) | {"history": history_json(versions)})
    else:
        cli.print_page(_page(template, entry, versions))


def _page(template: Template, entry: TemplateEntry, versions: Versions) -> Page:
    params = _params_json(template.spec.params)
    facts = {
        "template": str(template.ref),
        "makes": template.spec.description,
        "versions": versions_text(entry),
        "params": ", ".join(f"{name} {value}" for name, value in params.items()),
        "output": "JSON that matches its schema" if template.spec.output is not None else "",
        "file": template.file,
        "digest": template.digest,
    }
    blocks: list[str | Table] = ["It takes no variables."]
    if variables := sorted(template.spec.variables.values(), key=lambda variable: not variable.required):
        inherited = template.inherited
        columns = ("variable", "~what it is", "~takes", "default", *(("from",) if inherited else ()))
        rows = [
            (
                variable.name,
                variable.description,
                takes(variable),
                _default_text(variable),
                *((_origin(template, variable) or "",) if inherited else ()),
            )
            for variable in variables
        ]
        blocks = [Table(columns, rows)]
    if versions.moves:
        blocks.append(history_table(versions))
    return Page(facts, blocks)


def _origin(template: Template, variable: Variable) -> str | None:
    """Return the partial that declares a variable; None if the template does."""
    declaration = template.inherited.get(variable.name)
    return None if declaration is None else str(declaration.ref)


def _default_text(variable: Variable) -> str:
    if variable.required:
        return "(required)"
    default = variable.default
    return default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)


def takes(variable: Variable) -> str:  # noqa: PLR0911 - one return per kind
    """Return the values of a variable in few words: `tu, vous`, `1 to 20`, `up to 80 characters`."""
    if variable.choices:
        return ", ".join(map(str, variable.choices))
    if variable.kind is Kind.BOOLEAN:
        return "true, false"
    if variable.kind in {Kind.INTEGER, Kind.NUMBER}:
        return _range_text(variable.minimum, variable.maximum) or variable.kind.value
    if variable.kind is Kind.OBJECT:
        return f"object: {', '.join(variable.fields)}"
    if variable.items is not None:
        return f"list, each {takes(variable.items)}"
    if form := variable.format or variable.pattern:
        return str(form)
    unit = _UNITS.get(variable.kind, "character")
    bounds = _range_text(variable.min_length, variable.max_length)
    last = variable.min_length if variable.max_length is None else variable.max_length
    return f"{bounds} {unit if last == 1 else f'{unit}s'}" if bounds else variable.kind.value


def _range_text(least: float | None, most: float | None) -> str:
    match least, most:
        case None, None:
            return ""
        case None, _:
            return f"up to {most:,.15g}"
        case _, None:
            return f"at least {least:,.15g}"
        case _:
            return f"{least:,.15g} to {most:,.15g}"


def template_json(template: Template, entry: TemplateEntry) -> dict[str, Json]:
    """Return a template in full as JSON."""
    spec = template.spec
    return {
        **entry_json(entry),
        "ref": str(template.ref),
        "digest": template.digest,
        "file": template.file,
        "description": spec.description,
        "variables": [
            to_json(
                variable,
                ("format", "pattern", "untrusted", "fields", "items"),
                required=variable.required,
                **{"from": _origin(template, variable)},
            )
            for variable in spec.variables.values()
        ],
        "params": _params_json(spec.params),
        "output": None if spec.output is None else dict(spec.output),
    }


def _params_json(params: Params) -> dict[str, Json]:
    """Return the parameters that are set."""
    return {name: value for name, value in to_json(params).items() if value not in (None, [])}
