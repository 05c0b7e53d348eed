"""`promptkit templates list`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from typer import Option

from promptkit.cli.command import Cli
from promptkit.cli.output import to_json

if TYPE_CHECKING:
    from promptkit.templates.folder import TemplateEntry
    from promptkit.types import Json

All = Annotated[
    bool, Option("--all", help="Include partials, which other templates include and which can't be run.")
]


def list_templates(cli: Cli, all_: All = False) -> None:
    """List all templates with their versions.

    Templates in your own folders take precedence over the shipped ones.

    Examples:
        promptkit templates list
        promptkit templates list --all --json
    """
    entries = [entry for entry in cli.session().library.entries() if all_ or not entry.is_partial]
    if cli.as_json:
        cli.print_json([entry_json(entry) for entry in entries])
    else:
        cli.print_table(("template", "versions", "~what it makes"), [_table_row(entry) for entry in entries])
    for entry in entries:
        if entry.problem:
            cli.notice(entry.problem)


def _table_row(entry: TemplateEntry) -> tuple[str, str, str]:
    prefix = "(partial) " if entry.is_partial else ""
    return entry.name, versions_text(entry), "(broken)" if entry.problem else prefix + entry.description


def versions_text(entry: TemplateEntry) -> str:
    """Return versions, labels and the draft: `1, 2 production, draft`."""
    labels: dict[int, list[str]] = {}
    for label, version in sorted(entry.labels.items()):
        labels.setdefault(version, []).append(label)
    versions = [" ".join([str(version), *labels.get(version, [])]) for version in entry.versions]
    return ", ".join([*versions, *(["draft"] if entry.has_draft else [])])


def entry_json(entry: TemplateEntry) -> dict[str, Json]:
    """Return a template of the list as JSON."""
    return to_json(
        entry,
        ("has_draft", "is_partial"),
        draft=entry.has_draft,
        partial=entry.is_partial,
        problem=entry.problem or None,
    )
