"""The commands about templates: `templates list` and `templates show`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, cast

import typer

from promptkit.cli import options
from promptkit.templates.declarations import variables_schema
from promptkit.templates.folder import TemplateEntry
from promptkit.templates.template import Template
from promptkit.types import Json, Kind, Params, Variable

from .face import Face
from .versions import history_json, print_history

All = Annotated[
    bool, typer.Option("--all", help="Partials too: they are included by others and can't be run.")
]


Schema = Annotated[
    bool, typer.Option("--schema", help="Print the JSON Schema of its variables, and nothing else.")
]


Source = Annotated[bool, typer.Option("--source", help="Print the source, and nothing else.")]


_UNITS = {Kind.LIST: "item", Kind.MESSAGES: "message"}


def list_templates(face: Face, all_: All = False) -> None:
    """List all templates with their versions.

    Those of your own folders stand in front of the shipped kit.

    Examples:
        promptkit templates list
        promptkit templates list --all --json
    """
    entries = [entry for entry in face.session().library.entries() if all_ or not entry.is_partial]
    if face.as_json:
        face.print_json([entry_json(entry) for entry in entries])
    else:
        face.table(("template", "versions", "~what it makes"), [_row(entry) for entry in entries])
    for entry in entries:
        if entry.problem:
            face.say(entry.problem)


def show_template(face: Face, ref: options.Ref, source: Source = False, schema: Schema = False) -> None:
    """Show one template in full.

    What it makes, the variables it takes, its parameters, its versions and labels.

    Examples:
        promptkit templates show ugc/hooks
        promptkit templates show ugc/script@1 --source
        promptkit templates show ugc/script --schema > script.schema.json
    """
    library = face.session().library
    template = library.load(ref)
    if source:
        face.print(template.sources()[0].text)
        return
    if schema:
        face.print_json(variables_schema(template.spec, str(template.ref)))
        return
    entry = next(entry for entry in library.entries() if entry.name == template.ref.name)
    moves = library.home(entry.name).versions
    if face.as_json:
        face.print_json(template_json(template, entry) | {"history": history_json(moves)})
    else:
        _print(face, template, entry)
        print_history(face, moves)


def _row(entry: TemplateEntry) -> tuple[str, str, str]:
    told = "(partial) " if entry.is_partial else ""
    return entry.name, versions_of(entry), "(broken)" if entry.problem else told + entry.description


def versions_of(entry: TemplateEntry) -> str:
    """Versions, labels and whether there is a draft: `1, 2 production, draft`."""
    labels: dict[int, list[str]] = {}
    for label, version in sorted(entry.labels.items()):
        labels.setdefault(version, []).append(label)
    told = [" ".join([str(version), *labels.get(version, [])]) for version in entry.versions]
    return ", ".join([*told, *(["draft"] if entry.has_draft else [])])


def _print(face: Face, template: Template, entry: TemplateEntry) -> None:
    facts = {
        "template": str(template.ref),
        "makes": template.spec.description,
        "versions": versions_of(entry),
        "params": _params(template.spec.params),
        "output": "JSON, by its schema" if template.spec.output is not None else "",
        "file": template.file,
        "digest": template.digest,
    }
    face.print("\n".join(f"{name:<9} {fact}" for name, fact in facts.items() if fact))
    face.print("")
    ordered = sorted(template.spec.variables.values(), key=lambda variable: not variable.required)
    if ordered:
        face.table(
            ("variable", "~what it is", "~takes", "default"), [_variable(variable) for variable in ordered]
        )
    else:
        face.print("It takes no variables.")


def _variable(variable: Variable) -> tuple[str, str, str, str]:
    return variable.name, variable.description, takes(variable), _default(variable)


def _default(variable: Variable) -> str:
    if variable.required:
        return "(required)"
    default = variable.default
    return default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)


def takes(variable: Variable) -> str:  # noqa: PLR0911 - one return a kind
    """What a variable accepts, in few words: `tu, vous`, `1 to 20`, `up to 80 characters`."""
    if variable.choices:
        return ", ".join(map(str, variable.choices))
    if variable.kind is Kind.BOOLEAN:
        return "true, false"
    if variable.kind in {Kind.INTEGER, Kind.NUMBER}:
        return _between(variable.minimum, variable.maximum) or variable.kind.value
    if variable.kind is Kind.OBJECT:
        return f"object: {', '.join(variable.fields)}"
    if variable.items is not None:
        return f"list, each {takes(variable.items)}"
    if wanted := variable.format or variable.pattern:
        return str(wanted)
    unit = _UNITS.get(variable.kind, "character")
    bounds = _between(variable.min_length, variable.max_length)
    last = variable.min_length if variable.max_length is None else variable.max_length
    return f"{bounds} {unit if last == 1 else f'{unit}s'}" if bounds else variable.kind.value


def _between(least: float | None, most: float | None) -> str:
    match least, most:
        case None, None:
            return ""
        case None, _:
            return f"up to {most:,.15g}"
        case _, None:
            return f"at least {least:,.15g}"
        case _:
            return f"{least:,.15g} to {most:,.15g}"


def _params(params: Params) -> str:
    return ", ".join(f"{name} {value}" for name, value in _plain(params).items())


def _plain(params: Params) -> dict[str, Json]:
    """The parameters that are set."""
    told: dict[str, Json] = {**asdict(params)}
    told["stop"] = [*params.stop] or None
    return {name: value for name, value in told.items() if value is not None}


def entry_json(entry: TemplateEntry) -> dict[str, Json]:
    """A template as JSON."""
    return {
        "name": entry.name,
        "description": entry.description,
        "versions": list(entry.versions),
        "labels": dict(entry.labels),
        "draft": entry.has_draft,
        "default": None if entry.default is None else str(entry.default),
        "partial": entry.is_partial,
        "folder": str(entry.folder),
        "problem": entry.problem or None,
    }


def template_json(template: Template, entry: TemplateEntry) -> dict[str, Json]:
    """A template in full as JSON."""
    spec = template.spec
    return {
        **entry_json(entry),
        "ref": str(template.ref),
        "digest": template.digest,
        "file": template.file,
        "description": spec.description,
        "variables": [_variable_json(variable) for variable in spec.variables.values()],
        "params": _plain(spec.params),
        "output": None if spec.output is None else dict(spec.output),
    }


def _variable_json(variable: Variable) -> dict[str, Json]:
    return {
        "name": variable.name,
        "kind": variable.kind.value,
        "description": variable.description,
        "required": variable.required,
        "default": cast("Json", variable.default),
        "choices": cast("list[Json]", list(variable.choices)),
        "min_length": variable.min_length,
        "max_length": variable.max_length,
        "minimum": variable.minimum,
        "maximum": variable.maximum,
    }
