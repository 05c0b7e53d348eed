"""Reading rules: the `[checks]` of a front matter."""

from __future__ import annotations

import pytest

from promptkit.errors import TemplateError
from promptkit.templates.jinja.compiler import compile_source
from promptkit.templates.reference import parse_ref
from promptkit.templates.source import read_source
from promptkit.templates.template import Part, Template
from promptkit.types import Checks, OnFailure, Rules

WHOLE = """
banned = ["cheap", "diet*"]
required = ["Barly"]
min_words = 5
max_words = 50
min_characters = 10
max_characters = 400
language = "en"
matches = ["^1"]
not_matches = ["#"]
packs = ["family-safe"]
on_failure = "retry"
banned_from = ["avoid"]
required_from = ["brand"]
language_from = "lang"
"""


def read(checks: str) -> Checks | None:
    front = f"[variables.avoid]\n[variables.brand]\n[variables.lang]\n{checks}"
    source = read_source(f"+++\n{front}\n+++\nx", file="t.jinja")
    return Template(Part.join(parse_ref("t@1"), source, compile_source(source), {})).spec.checks


def test_every_key() -> None:
    """All keys arrive where they belong."""
    assert read(f"[checks]{WHOLE}") == Checks(
        Rules(
            banned=("cheap", "diet*"),
            required=("Barly",),
            min_words=5,
            max_words=50,
            min_characters=10,
            max_characters=400,
            language="en",
            matches=("^1",),
            not_matches=("#",),
            packs=("family-safe",),
        ),
        on_failure=OnFailure.RETRY,
        banned_from=("avoid",),
        required_from=("brand",),
        language_from="lang",
    )


def test_none_and_empty() -> None:
    """Without the section there are no checks; an empty one only flags."""
    assert read("") is None
    assert read("[checks]") == Checks(Rules(), OnFailure.FLAG)


@pytest.mark.parametrize(
    ("checks", "why"),
    [
        ('packs = ["familysafe"]', "packs: 'familysafe' is not known"),
        ('language = "xx"', "language: 'xx' is not known"),
        ('matches = ["("]', r"matches: '\(' is not a regular expression"),
        ('not_matches = ["["]', r"not_matches: '\[' is not a regular expression"),
        ("min_words = 5\nmax_words = 4", "min_words is above max_words"),
        ("min_characters = 5\nmax_characters = 4", "min_characters is above max_characters"),
        ('banned = ["a", " * "]', "an empty word in banned"),
        ('required = [""]', "an empty word in required"),
        ('banned_from = ["avoids"]', "banned_from: 'avoids' is not known"),
        ('language_from = "language"', "language_from: 'language' is not known"),
        ('on_failure = "stop"', "checks.on_failure can't be 'stop'"),
        ("max_word = 3", "unknown key checks.max_word"),
    ],
)
def test_what_cannot_stand(checks: str, why: str) -> None:
    """Each mistake is refused with file and line."""
    with pytest.raises(TemplateError, match=why) as caught:
        read(f"[checks]\n{checks}")
    assert caught.value.file == "t.jinja"
    assert caught.value.line in (6, 7)
