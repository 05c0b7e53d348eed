"""Checks on texts: words, length, language, patterns. Pure: a text and rules in, problems out.

They serve the `[checks]` of a skeleton and the `[tests.reply]` of its tests alike.
"""

from .language import LANGUAGES, language_of
from .packs import PACKS
from .reading import read_checks, read_rules
from .schema import check_json
from .text import Problem, check_text, rules_for

__all__ = [
    "LANGUAGES",
    "PACKS",
    "Problem",
    "check_json",
    "check_text",
    "language_of",
    "read_checks",
    "read_rules",
    "rules_for",
]
