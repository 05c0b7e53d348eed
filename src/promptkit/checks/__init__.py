"""Checks on texts: words, length, language, patterns. Pure: a text and rules in, problems out.

They serve the `[checks]` of a skeleton and the `[tests.reply]` of its tests alike.
"""

from .language import LANGUAGES, language_of
from .packs import PACKS
from .reading import read_checks, read_rules
from .schema import NotJson, broken_schema, check_json, follow, read_json, read_reply, references
from .text import Problem, check_text, rules_for, text_of

__all__ = [
    "LANGUAGES",
    "PACKS",
    "NotJson",
    "Problem",
    "broken_schema",
    "check_json",
    "check_text",
    "follow",
    "language_of",
    "read_checks",
    "read_json",
    "read_reply",
    "read_rules",
    "references",
    "rules_for",
    "text_of",
]
