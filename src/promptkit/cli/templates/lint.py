"""`promptkit templates lint`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from promptkit.authoring.lint import LintFinding, Severity, from_error, lint
from promptkit.authoring.lint_context import LintContext
from promptkit.cli import options
from promptkit.cli.command import Cli
from promptkit.cli.output import to_json
from promptkit.errors import ExitCode, LedgerError, TemplateError, counted
from promptkit.providers.prices import Prices
from promptkit.templates.reference import DRAFT
from promptkit.types import Fault, Route, Target

if TYPE_CHECKING:
    from promptkit.engine.context import Session
    from promptkit.ledger.ledger import Ledger
    from promptkit.templates.library import Library


class Format(StrEnum):
    """How findings are written."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


OutFormat = Annotated[Format, Option("--format", metavar="text|json|github", help="The output's format.")]
Strict = Annotated[bool, Option("--strict", help="Fail on warnings, too.")]


def lint_templates(
    cli: Cli,
    refs: options.Refs = None,
    format_: OutFormat = Format.TEXT,
    strict: Strict = False,
    all_: options.AllTemplates = False,
    route: options.RouteName = None,
    target: options.Targets = None,
) -> int:
    """Find problems in templates before a call.

    Without REF, it checks the draft of each of your templates, or the default version of those
    without a draft. Unless REF names a version, it also checks the seals of all versions. Costs and
    limits are those of the route. The exit code is 3 if there is an error.

    Examples:
        promptkit templates lint
        promptkit templates lint ugc/script@draft --route longform --strict
        promptkit templates lint --format github
    """
    session = cli.session()
    wanted = list(refs) if refs else list(own_refs(session, all_=all_))
    world = world_of(cli, session, session.route(route, target))
    findings = [finding for ref in wanted for finding in _findings(session.library, ref, world)]
    whole = {name.partition("@")[0] for name in wanted if not refs or "@" not in name}
    findings = _unique([*findings, *_seal_findings(session.library, whole)])
    _write(cli, findings, Format.JSON if cli.as_json else format_)
    counts = Counter(finding.severity for finding in findings)
    errors, warnings = counts[Severity.ERROR], counts[Severity.WARNING]
    cli.notice(
        f"{counted(len(wanted), 'template')}: {counted(errors, 'error')}, {counted(warnings, 'warning')}"
    )
    return ExitCode.TEMPLATE if errors or (strict and warnings) else ExitCode.OK


def own_refs(session: Session, *, all_: bool = False) -> Iterator[str]:
    """Yield the draft, or else the name, of each template in the project's folders (`all_`: of all)."""
    own = set(session.settings.templates)
    for entry in session.library.entries():
        if all_ or entry.folder in own:
            yield f"{entry.name}@{DRAFT}" if entry.has_draft else entry.name


def world_of(cli: Cli, session: Session, route: Route) -> LintContext:
    """Return what templates are checked against; the ledger, if there is one, knows which models are gone."""
    gone = frozenset[Target]()
    if session.settings.database_path.exists():
        try:
            with cli.ledger(session.settings) as ledger:
                gone = frozenset(target for target in route.targets if _is_gone(ledger, target))
        except LedgerError as error:
            cli.notice(f"whether models are gone is unknown: {error.message}")
    return LintContext(session.settings.catalog, Prices(), route, datetime.now(UTC), gone)


def _is_gone(ledger: Ledger, target: Target) -> bool:
    """Return whether the last call to a target failed because the model does not exist."""
    from promptkit.ledger.records import LogFilter

    last = ledger.calls.search(1, LogFilter(target=str(target)))
    failed = ledger.calls.search(1, LogFilter(target=str(target), fault=Fault.MODEL_GONE))
    return bool(last and failed) and last[0].id == failed[0].id


def _findings(library: Library, ref: str, world: LintContext) -> Sequence[LintFinding]:
    """Return the problems of a template; a template that does not load is one."""
    try:
        template = library.load(ref)
    except TemplateError as error:
        return (from_error(ref, error),)
    return lint(template, world)


def _seal_findings(library: Library, names: set[str]) -> Iterator[LintFinding]:
    """Yield versions that do not load, and wrong seals and labels."""
    for name in sorted(names):
        try:
            problems = library.problems(name)
        except TemplateError:
            continue  # it did not load, which is a finding already
        for problem in problems:
            yield from_error(name, problem)


def _unique(findings: Sequence[LintFinding]) -> list[LintFinding]:
    """Return each finding once: one that does not load is found by its reference and by its template."""
    by_location = {
        (finding.code, finding.file, finding.line, finding.message): finding for finding in reversed(findings)
    }
    return list(by_location.values())[::-1]


# ----------------------------------------------------------------------------------- writing

_ESCAPES = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY_ESCAPES = _ESCAPES | {":": "%3A", ",": "%2C"}


def _write(cli: Cli, findings: Sequence[LintFinding], format_: Format) -> None:
    if format_ is Format.JSON:
        cli.print_json([to_json(finding, ("message",), what=finding.message) for finding in findings])
        return
    for finding in findings:
        cli.print(_workflow_command(finding) if format_ is Format.GITHUB else _text(finding))


def _text(finding: LintFinding) -> str:
    file = _from_here(finding.file)
    where = f"{file}:{finding.line}" if finding.line else file
    remedy = "".join(f"\n    {line}" for line in finding.remedy.splitlines())
    return f"{where or finding.template}: {finding.severity} {finding.code} {finding.message}{remedy}"


def _workflow_command(finding: LintFinding) -> str:
    """Return a finding as the command of a GitHub workflow, which shows it beside the line."""
    properties = {
        "file": _from_here(finding.file),
        "line": str(finding.line or ""),
        "title": f"{finding.code} {finding.rule}",
    }
    shown = ",".join(
        f"{key}={_escaped(value, _PROPERTY_ESCAPES)}" for key, value in properties.items() if value
    )
    text = f"{finding.message}\n{finding.remedy}".strip()
    return f"::{finding.severity} {shown}::{_escaped(text, _ESCAPES)}"


def _escaped(text: str, escapes: dict[str, str]) -> str:
    return "".join(escapes.get(character, character) for character in text)


def _from_here(file: str | None) -> str:
    """Return the path of a file relative to the working directory, if it is below it."""
    if file is None:
        return ""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
