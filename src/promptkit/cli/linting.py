"""The command `templates lint`: what is wrong with templates before they are ever sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from promptkit.authoring.lint import LintFinding, Severity, from_error, lint
from promptkit.authoring.lint_context import LintContext
from promptkit.cli import options
from promptkit.engine.context import Session
from promptkit.errors import ExitCode, LedgerError, TemplateError
from promptkit.providers.prices import Prices
from promptkit.templates.library import Library
from promptkit.templates.reference import DRAFT
from promptkit.types import Fault, Route, Target

from .face import Face

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger


class Format(StrEnum):
    """How findings are written."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


Refs = Annotated[
    list[str] | None,
    typer.Argument(metavar="REF", help="The templates. Without any: all of your own template folders."),
]


OutFormat = Annotated[
    Format, typer.Option("--format", metavar="text|json|github", help="How to write what is found.")
]


Strict = Annotated[bool, typer.Option("--strict", help="Warnings fail, too.")]


All = Annotated[bool, typer.Option("--all", help="The shipped templates, too.")]


_ESCAPES: Final = {"%": "%25", "\r": "%0D", "\n": "%0A"}


_PROPERTY_ESCAPES: Final = _ESCAPES | {":": "%3A", ",": "%2C"}


def lint_templates(
    face: Face,
    refs: Refs = None,
    format_: OutFormat = Format.TEXT,
    strict: Strict = False,
    all_: All = False,
    route: options.RouteName = None,
    target: options.Targets = None,
) -> int:
    """Find what is wrong with templates before they are sent.

    Without REF, the draft of each of your templates, or else what its name means. Where no version
    is named, the seals of all versions, too. Costs and limits are those of the route. Exit code 3
    where there is an error.

    Examples:
        promptkit templates lint
        promptkit templates lint ugc/script@draft --route longform --strict
        promptkit templates lint --format github
    """
    session = face.session()
    wanted = list(refs) if refs else list(own_refs(session, all_=all_))
    world = world_of(face, session, session.route(route, target))
    findings = [one for ref in wanted for one in findings_of(session.library, ref, world)]
    whole = {name.partition("@")[0] for name in wanted if not refs or "@" not in name}
    findings += seal_findings(session.library, whole)
    findings = _once(findings)
    _write(face, findings, Format.JSON if face.as_json else format_)
    counts = Counter(one.severity for one in findings)
    errors, warnings = counts[Severity.ERROR], counts[Severity.WARNING]
    face.say(f"{_count(len(wanted), 'template')}: {_count(errors, 'error')}, {_count(warnings, 'warning')}")
    return ExitCode.TEMPLATE if errors or (strict and warnings) else ExitCode.OK


def own_refs(session: Session, *, all_: bool = False) -> Iterator[str]:
    """The draft, or else the bare name, of each template of the project's folders (`all_`: of all)."""
    own = set(session.settings.templates)
    for entry in session.library.entries():
        if all_ or entry.folder in own:
            yield f"{entry.name}@{DRAFT}" if entry.has_draft else entry.name


def world_of(face: Face, session: Session, route: Route) -> LintContext:
    """What templates are held against; which models are gone is known from the ledger, where one is."""
    gone = frozenset[Target]()
    if session.settings.database_path.exists():
        try:
            with face.ledger(session.settings) as ledger:
                gone = frozenset(target for target in route.targets if _is_gone(ledger, target))
        except LedgerError as error:
            face.say(f"which models are gone isn't known: {error.what}")
    return LintContext(session.settings.catalog, Prices(), route, datetime.now(UTC), gone)


def _is_gone(ledger: Ledger, target: Target) -> bool:
    """Whether the last call that asked a target was told that there is no such model."""
    from promptkit.ledger.records import LogFilter

    asked = ledger.calls(1, LogFilter(target=str(target)))
    told = ledger.calls(1, LogFilter(target=str(target), fault=Fault.MODEL_GONE))
    return bool(asked and told) and asked[0].id == told[0].id


def findings_of(library: Library, ref: str, world: LintContext) -> Sequence[LintFinding]:
    """What is wrong with one template; that it doesn't load is a finding, too."""
    try:
        template = library.load(ref)
    except TemplateError as error:
        return (from_error(ref, error),)
    return lint(template, world)


def seal_findings(library: Library, names: set[str]) -> Iterator[LintFinding]:
    """Versions that don't load, seals and labels that don't hold."""
    for name in sorted(names):
        try:
            problems = library.problems(name)
        except TemplateError:
            continue  # told already: it didn't load
        for problem in problems:
            yield from_error(name, problem)


# --------------------------------------------------------------------------- writing
def _write(face: Face, findings: Sequence[LintFinding], format_: Format) -> None:
    match format_:
        case Format.JSON:
            face.print_json([_json(one) for one in findings])
        case Format.GITHUB:
            for one in findings:
                face.print(_workflow_command(one))
        case _:
            for one in findings:
                face.print(_text(one))


def _text(finding: LintFinding) -> str:
    place = _place(finding.file)
    where = f"{place}:{finding.line}" if finding.line else place
    remedy = "".join(f"\n    {line}" for line in finding.remedy.splitlines())
    return f"{where or finding.template}: {finding.severity} {finding.code} {finding.message}{remedy}"


def _json(finding: LintFinding) -> dict[str, object]:
    return {
        "code": finding.code,
        "rule": finding.rule,
        "severity": finding.severity,
        "template": finding.template,
        "file": finding.file,
        "line": finding.line,
        "what": finding.message,
        "remedy": finding.remedy,
    }


def _workflow_command(finding: LintFinding) -> str:
    """A finding as GitHub shows it beside the line."""
    properties = {"file": _place(finding.file), "line": str(finding.line or ""), "title": _title(finding)}
    given = ",".join(
        f"{key}={_escaped(value, _PROPERTY_ESCAPES)}" for key, value in properties.items() if value
    )
    text = f"{finding.message}\n{finding.remedy}".strip()
    return f"::{finding.severity} {given}::{_escaped(text, _ESCAPES)}"


def _once(findings: Sequence[LintFinding]) -> list[LintFinding]:
    """Each finding once: a version that doesn't load is told by its reference and by its template."""
    return list({(one.code, one.file, one.line, one.message): one for one in reversed(findings)}.values())[
        ::-1
    ]


def _title(finding: LintFinding) -> str:
    return f"{finding.code} {finding.rule}"


def _escaped(text: str, escapes: dict[str, str]) -> str:
    return "".join(escapes.get(character, character) for character in text)


def _place(file: str | None) -> str:
    """A file as seen from here, where it is below."""
    if file is None:
        return ""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
