"""Reading the rules of checks from TOML."""

from __future__ import annotations

import re
from collections.abc import Collection

from promptkit._util.toml import Table
from promptkit.errors import closest
from promptkit.types import Checks, OnFailure, Rules

from .text import LANGUAGES, PACKS


def read_rules(table: Table) -> Rules:
    """Read the keys of `Rules` from a table, and leave others to the caller.

    Raises:
        PromptKitError: of the document's class; an unknown pack or language, a broken pattern,
            bounds that nothing can meet.
    """
    rules = Rules(
        banned=_words(table, "banned"),
        required=_words(table, "required"),
        min_words=table.integer("min_words", None, least=0),
        max_words=table.integer("max_words", None, least=0),
        min_characters=table.integer("min_characters", None, least=0),
        max_characters=table.integer("max_characters", None, least=0),
        language=_known(table, "language", table.text("language", None), LANGUAGES),
        matches=_patterns(table, "matches"),
        not_matches=_patterns(table, "not_matches"),
        packs=table.texts("packs", ()),
    )
    for pack in rules.packs:
        _known(table, "packs", pack, PACKS)
    for unit, least, most in (
        ("words", rules.min_words, rules.max_words),
        ("characters", rules.min_characters, rules.max_characters),
    ):
        if least is not None and most is not None and least > most:
            raise table.fail(f"min_{unit} is above max_{unit}: no text fits", f"min_{unit}")
    return rules


def read_checks(table: Table) -> Checks:
    """Read the `[checks]` of a front matter.

    The variables that it names are checked when the template is put together: an include may declare them.

    Raises:
        PromptKitError: of the document's class.
    """
    checks = Checks(
        rules=read_rules(table),
        on_failure=table.choice("on_failure", OnFailure, OnFailure.FLAG),
        banned_from=table.texts("banned_from", ()),
        required_from=table.texts("required_from", ()),
        language_from=table.text("language_from", None),
    )
    table.finish()
    return checks


def _words(table: Table, key: str) -> tuple[str, ...]:
    words = table.texts(key, ())
    if any(not word.strip(" *") for word in words):
        raise table.fail(f"an empty word in {key}", key, remedy="Name a word or phrase; * only ends one.")
    return words


def _patterns(table: Table, key: str) -> tuple[str, ...]:
    patterns = table.texts(key, ())
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as cause:
            raise table.fail(f"{key}: {pattern!r} is not a regular expression: {cause}", key) from None
    return patterns


def _known(table: Table, key: str, word: str | None, known: Collection[str]) -> str | None:
    if word is not None and word not in known:
        raise table.fail(f"{key}: {word!r} is not known", key, remedy=closest(word, known))
    return word
