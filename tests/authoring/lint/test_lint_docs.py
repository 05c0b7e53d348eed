"""docs/lint.md: a section for each rule, whose examples do what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from lint_helpers import REFUSES, THINKS, world

from promptkit.authoring.lint import RULES, LintFinding, from_error, lint
from promptkit.authoring.lint_context import LintContext
from promptkit.authoring.publish import OwnTemplates, publish
from promptkit.errors import TemplateError
from promptkit.templates.library import Library
from promptkit.types import TemplateRef

PAGE: Final = Path(__file__).parents[3] / "docs" / "lint.md"
SECTION: Final = re.compile(
    r"^## (?P<code>PK\d+) (?P<name>\S+)\n\n(?P<text>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL
)
EXAMPLE: Final = re.compile(
    r"^(?P<kind>Bad|Good)[^\n]*:\n\n```(?P<language>\w+)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL
)
SECTIONS: Final = {one["code"]: one for one in SECTION.finditer(PAGE.read_text("utf-8"))}


def examples(code: str) -> dict[str, str]:
    return {one["kind"]: one["text"] for one in EXAMPLE.finditer(SECTIONS[code]["text"])}


def in_world(code: str, kind: str) -> LintContext:
    return world(REFUSES if code == "PK405" else THINKS, gone=code == "PK501" and kind == "Bad")


def linted(folder: Path, ref: TemplateRef, in_: LintContext) -> list[LintFinding]:
    try:
        template = Library([folder]).load(ref)
    except TemplateError as error:
        return [from_error(str(ref), error)]
    return list(lint(template, in_))


def set_up(folder: Path, code: str, text: str) -> TemplateRef:
    """Put an example where its rule looks."""
    for name, body in {"a/b": '{% message "user" %}x{% endmessage %}', "shared/voice": "Voice."}.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "draft.jinja").write_text(body)
        publish(OwnTemplates(Library([folder]), [folder]), name)
    home = folder / "a" / "b"
    if code == "PK602":
        file = home / "versions.toml"
        file.write_text(file.read_text("utf-8").partition("[labels]")[0] + text)
        return TemplateRef("a/b", "1")
    if code == "PK501":
        return TemplateRef("a/b", "1")
    text = text.replace("[1,500 tokens of rules]", "Speak plainly and show it. " * 250)
    (home / "draft.jinja").write_text(text)
    if code != "PK603":
        return TemplateRef("a/b", "draft")
    if "@" in text:
        return publish(OwnTemplates(Library([folder]), [folder]), "a/b").ref
    (home / "v1.jinja").write_text(text)
    return TemplateRef("a/b", "1")


def test_every_rule_has_its_section_in_order() -> None:
    """The page and the registry hold the same rules, with the same names and severities."""
    assert [(one["code"], one["name"]) for one in SECTIONS.values()] == [
        (rule.code, rule.name) for rule in RULES.values()
    ]
    for code, section in SECTIONS.items():
        assert f"**{RULES[code].severity}**" in section["text"].partition(".")[0], code


@pytest.mark.parametrize("code", RULES)
def test_the_bad_example_triggers_the_rule(code: str, tmp_path: Path) -> None:
    """What a section calls bad is found by its rule."""
    ref = set_up(tmp_path, code, examples(code)["Bad"])
    assert code in {one.code for one in linted(tmp_path, ref, in_world(code, "Bad"))}


@pytest.mark.parametrize("code", RULES)
def test_the_good_example_does_not(code: str, tmp_path: Path) -> None:
    """What a section calls good loads, and its rule is silent."""
    ref = set_up(tmp_path, code, examples(code)["Good"])
    findings = linted(tmp_path, ref, in_world(code, "Good"))
    assert not {code, "PK601", "PK602", "PK603"} & {one.code for one in findings}, findings


def test_the_page_tells_how_to_switch_off() -> None:
    """The page's own example of a switch is one that front matter takes."""
    text = PAGE.read_text("utf-8")
    assert '[lint]\nPK202 = "' in text
