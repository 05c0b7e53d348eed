"""All rules by code. The hundreds group them: names, text, cost, output, models, versions, lint itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from . import names, output, prefix, targets, whitespace
from .findings import ERROR, WARNING, Rule

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
