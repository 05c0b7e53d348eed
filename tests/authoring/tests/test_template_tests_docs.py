"""docs/template-tests.md: its examples are read as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from promptkit.authoring.template_tests import parse_tests
from promptkit.templates.source import read_source
from promptkit.validation.text import check_text, rules_for

PAGE: Final = (Path(__file__).parents[3] / "docs" / "template-tests.md").read_text("utf-8")
PROMPT, REPLY, CHECKS = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
KEYS: Final = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?`) \|", PAGE, re.MULTILINE))))


def test_the_examples_are_tests() -> None:
    """Both examples of a tests.toml are one, and so is the function that they name."""
    everything, needed = parse_tests(PROMPT, file="t")
    assert everything.snapshot is True
    assert needed.error == "brand: missing"
    (case,) = parse_tests(f'[[tests]]\nname = "a"\n{REPLY}', file="t")
    assert case.reply is not None
    assert case.reply.function == "checks:three_lines"
    assert len(case.reply.json) == 2


def test_every_key_is_told() -> None:
    """The tables name all keys that are read, and no others."""
    reply = (
        "banned required min_words max_words min_characters max_characters language matches not_matches packs"
    )
    assert {
        *["name", "variables", "snapshot", "contains", "not_contains", "max_tokens", "error"],
        *reply.split(),
        *["schema", "json", "function"],
    } == KEYS


def test_the_checks_are_checks() -> None:
    """The front matter of the page is one, and serves as the page says."""
    front = f"[variables.avoid]\n[variables.brand]\n[variables.language]\n{CHECKS}"
    checks = read_source(f"+++\n{front}\n+++\nx", file="t").spec.checks
    assert checks is not None
    rules = rules_for(checks, {"avoid": ["cheap"], "brand": "Barly", "language": "fr"})
    assert [one.rule for one in check_text("So cheap, and it is for you and all of them.", rules)] == [
        "banned",
        "required",
        "language",
    ]
