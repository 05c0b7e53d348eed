"""Lint: run every rule on one template, minus the rules that its front matter switches off."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from promptkit.authoring import lint_rules as rules
from promptkit.authoring.lint_context import LintContext, LintedTemplate, Violation
from promptkit.errors import PromptKitError, closest
from promptkit.templates.template import Template


class Severity(StrEnum):
    """How bad a finding is: an error fails the run, a warning only with `--strict`."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class LintFinding:
    """A violation with its rule and its template."""

    code: str
    rule: str
    severity: Severity
    message: str
    template: str
    file: str | None = None
    line: int | None = None
    remedy: str = ""


def lint(template: Template, context: LintContext) -> tuple[LintFinding, ...]:
    """Run every rule on a template.

    Args:
        template: a template or a partial.
        context: the route that its calls take, and facts about the targets.

    Returns:
        The findings by line; none of a rule that `[lint]` switches off.
    """
    linted = LintedTemplate(template)
    violations = {code: tuple(rule.check(linted, context)) for code, rule in RULES.items() if rule.check}
    active = [
        (RULES[code], violation)
        for code, of_rule in violations.items()
        if code not in template.spec.lint
        for violation in of_rule
    ]
    findings = [
        LintFinding(
            rule.code,
            rule.name,
            rule.severity,
            violation.message,
            str(template.ref),
            violation.file,
            violation.line,
            violation.remedy,
        )
        for rule, violation in (*active, *_check_switches(linted, violations))
    ]
    return tuple(sorted(findings, key=lambda finding: (finding.file or "", finding.line or 0, finding.code)))


def _check_switches(
    linted: LintedTemplate, violations: Mapping[str, tuple[Violation, ...]]
) -> Iterator[tuple[LintRule, Violation]]:
    """Yield the violations of the switches themselves."""
    for code in linted.spec.lint:
        line = linted.key_line("lint", code)
        if code not in violations:
            message = f"{code} can't be switched off" if code in RULES else f"there is no rule {code}"
            yield RULES["PK702"], Violation(message, linted.file, line, closest(code, violations))
        elif not violations[code]:
            message = f"{code} is switched off and finds nothing here"
            yield RULES["PK701"], Violation(message, linted.file, line, "Remove the line.")


def from_error(template: str, error: PromptKitError) -> LintFinding:
    """Return the finding of a template that can't be loaded.

    Args:
        template: its reference.
        error: the error of loading it.
    """
    text = f"{error.message} {error.file or ''}"
    code = next((code for words, code in _CODES_OF_ERRORS.items() if words in text), "PK601")
    return LintFinding(
        code,
        RULES[code].name,
        Severity.ERROR,
        error.message,
        template,
        error.file,
        error.line,
        error.remedy or "",
    )


_CODES_OF_ERRORS = {
    "unknown variable": "PK101",
    "unknown field": "PK101",
    "includes only pinned versions": "PK603",
    "after it was published": "PK602",
    "has no seal": "PK602",
    "versions.toml": "PK602",
}
"""The errors of loading that have their own code, by a part of the message or the file; others are PK601."""
_Check = Callable[[LintedTemplate, LintContext], Iterable[Violation]]


@dataclass(frozen=True, slots=True)
class LintRule:
    """A rule: its code, its name, its severity, and a sentence about what it finds.

    A rule without `check` reports an error of loading or a bad switch, and can't be switched off.
    """

    code: str
    name: str
    severity: Severity
    summary: str
    check: _Check | None = None


def _error(code: str, name: str, summary: str, check: _Check | None = None) -> LintRule:
    return LintRule(code, name, Severity.ERROR, summary, check)


def _warning(code: str, name: str, summary: str, check: _Check | None = None) -> LintRule:
    return LintRule(code, name, Severity.WARNING, summary, check)


_ALL = (
    _error(
        "PK101", "undeclared-variable", "A name that is neither declared nor always set.", rules.undeclared
    ),
    _warning("PK102", "unused-variable", "A variable that is declared but never read.", rules.unused),
    _warning("PK103", "shadowed-variable", "A variable whose name is reused.", rules.shadowed),
    _warning("PK104", "no-description", "A template without a description.", rules.no_description),
    _warning(
        "PK105",
        "no-variable-description",
        "A variable without a description.",
        rules.no_variable_description,
    ),
    _warning("PK201", "blank-lines", "Two or more consecutive blank lines.", rules.blank_lines),
    _warning("PK202", "trailing-blanks", "Blanks at the end of a line.", rules.trailing_blanks),
    _warning(
        "PK203",
        "swallowed-newline",
        "A tag at the end of a line, which joins that line and the next.",
        rules.swallowed_newline,
    ),
    _warning(
        "PK204",
        "single-braces",
        "A variable in single braces, which is sent as plain text.",
        rules.single_braces,
    ),
    _warning(
        "PK301",
        "broken-prefix",
        "A value before stable text, which then can't be cached.",
        rules.broken_prefix,
    ),
    _warning("PK401", "no-output-limit", "No output limit.", rules.no_output_limit),
    _warning(
        "PK402",
        "limit-below-reasoning",
        "An output limit that reasoning alone may use up.",
        rules.limit_below_reasoning,
    ),
    _error(
        "PK403",
        "schema-not-taken",
        "An output schema that a provider of the route doesn't accept.",
        rules.schema_not_taken,
    ),
    _warning(
        "PK404", "parameter-left-out", "A parameter that a target leaves out.", rules.parameter_left_out
    ),
    _error("PK405", "call-refused", "A parameter for which a target refuses the call.", rules.call_refused),
    _error("PK501", "model-gone", "A model of the route that no longer exists.", rules.model_gone),
    _warning("PK502", "near-context-window", "A prompt that may not fit a model.", rules.near_context_window),
    _error("PK601", "not-loadable", "A template that doesn't load."),
    _error("PK602", "broken-seal", "A broken seal, or an invalid line of versions.toml."),
    _error("PK603", "unpinned-include", "A published version with an include that can change."),
    _warning("PK701", "unused-switch", "A rule is switched off and finds nothing."),
    _error("PK702", "unknown-switch", "A switch for a rule that doesn't exist or can't be switched off."),
)
RULES = {rule.code: rule for rule in _ALL}
"""Every rule by its code."""
