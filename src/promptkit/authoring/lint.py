"""Linting one template: every rule, less what its front matter switches off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from promptkit.authoring import lint_rules as names
from promptkit.authoring import lint_rules as output
from promptkit.authoring import lint_rules as prefix
from promptkit.authoring import lint_rules as targets
from promptkit.authoring import lint_rules as whitespace
from promptkit.errors import PromptKitError, closest
from promptkit.templates.template import Template

from .lint_subject import ERROR, WARNING, Finding, Rule, Spot, Subject, World


def lint(template: Template, world: World) -> tuple[Finding, ...]:
    """Hold a template against every rule.

    Args:
        template: a template or a partial.
        world: the route it would take, and what is known of its targets.

    Returns:
        The findings by line; none of a rule that `[lint]` switches off.
    """
    subject = Subject(template)
    found = {code: tuple(rule.check(subject, world)) for code, rule in RULES.items() if rule.check}
    switches = template.spec.lint
    findings = [
        _finding(RULES[code], spot, template)
        for code, spots in found.items()
        if code not in switches
        for spot in spots
    ]
    findings += [_finding(rule, spot, template) for rule, spot in _switches(subject, found)]
    return tuple(sorted(findings, key=lambda one: (one.file or "", one.line or 0, one.code)))


def _finding(rule: Rule, spot: Spot, template: Template) -> Finding:
    return Finding(
        rule.code, rule.name, rule.severity, spot.what, str(template.ref), spot.file, spot.line, spot.remedy
    )


def _switches(subject: Subject, found: dict[str, tuple[Spot, ...]]) -> Iterator[tuple[Rule, Spot]]:
    """What is wrong with the switches themselves."""
    for code in subject.spec.lint:
        line = subject.key_line("lint", code)
        if code not in found:
            what = f"{code} can't be switched off" if code in RULES else f"there is no rule {code}"
            yield RULES["PK702"], Spot(what, subject.file, line, closest(code, found))
        elif not found[code]:
            what = f"{code} is switched off and finds nothing here"
            yield RULES["PK701"], Spot(what, subject.file, line, "Take the line out.")


_BY_WORDS: Final[Mapping[str, str]] = {
    "unknown variable": "PK101",
    "unknown field": "PK101",
    "includes only pinned versions": "PK603",
    "after it was published": "PK602",
    "has no seal": "PK602",
    "conflict in git": "PK602",
    "not a seal": "PK602",
    "stands nowhere": "PK602",
    "stands on version": "PK602",
    "versions.toml": "PK602",
}
"""The library's errors that have a code of their own, by words of theirs; all others are PK601."""


def from_error(template: str, error: PromptKitError) -> Finding:
    """The finding of a template that can't be loaded.

    Args:
        template: its reference.
        error: what loading it raised.
    """
    told = f"{error.message} {error.file or ''}"
    code = next((code for words, code in _BY_WORDS.items() if words in told), "PK601")
    return Finding(
        code, RULES[code].name, ERROR, error.message, template, error.file, error.line, error.remedy or ""
    )


_ALL: Final = (
    Rule(
        "PK101",
        "undeclared-variable",
        ERROR,
        "A name that nothing declares or surely sets.",
        names.undeclared,
    ),
    Rule("PK102", "unused-variable", WARNING, "A variable that is declared and never read.", names.unused),
    Rule(
        "PK103", "shadowed-variable", WARNING, "A variable whose name gets another meaning.", names.shadowed
    ),
    Rule("PK104", "no-description", WARNING, "A template without a description.", names.undescribed),
    Rule(
        "PK105",
        "no-variable-description",
        WARNING,
        "A variable without a description.",
        names.undescribed_variable,
    ),
    Rule("PK201", "blank-lines", WARNING, "Two or more blank lines in a row.", whitespace.blank_lines),
    Rule("PK202", "trailing-blanks", WARNING, "Blanks at the end of a line.", whitespace.trailing_blanks),
    Rule(
        "PK203",
        "swallowed-newline",
        WARNING,
        "A tag that glues the next line to a line of text.",
        whitespace.swallowed_newline,
    ),
    Rule(
        "PK204",
        "single-braces",
        WARNING,
        "A variable written {so}, which is sent as it stands.",
        whitespace.braces,
    ),
    Rule(
        "PK301",
        "broken-prefix",
        WARNING,
        "A value in front of stable text, which then can't be cached.",
        prefix.broken_prefix,
    ),
    Rule("PK401", "no-output-limit", WARNING, "No output limit.", output.no_limit),
    Rule(
        "PK402",
        "limit-below-reasoning",
        WARNING,
        "An output limit that reasoning alone may use up.",
        output.eaten_by_reasoning,
    ),
    Rule(
        "PK403",
        "schema-not-taken",
        ERROR,
        "An output schema that a provider on the route doesn't take.",
        output.schema_not_taken,
    ),
    Rule("PK404", "parameter-left-out", WARNING, "A parameter that a target leaves out.", output.left_out),
    Rule("PK405", "call-refused", ERROR, "A parameter for which a target refuses the call.", output.refused),
    Rule("PK501", "model-gone", ERROR, "A model on the route that is gone.", targets.gone),
    Rule("PK502", "near-context-window", WARNING, "A prompt that may not fit a model.", targets.near_window),
    Rule("PK601", "not-loadable", ERROR, "A template that doesn't load."),
    Rule("PK602", "broken-seal", ERROR, "A seal or a line of versions.toml that doesn't hold."),
    Rule("PK603", "unpinned-include", ERROR, "A published version that includes what can change."),
    Rule("PK701", "unused-switch", WARNING, "A rule is switched off and finds nothing."),
    Rule("PK702", "unknown-switch", ERROR, "A switch of a rule that doesn't exist or can't be switched off."),
)


RULES: Final[Mapping[str, Rule]] = {rule.code: rule for rule in _ALL}
"""Every rule by its code."""
