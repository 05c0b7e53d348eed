"""Pinning includes in a source, character for character."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import TemplateSyntaxError

from promptkit.templates.jinja.compiler import compile_source
from promptkit.templates.jinja.syntax import pin, tokens_of
from promptkit.templates.source import read_source

PINS = {"shared/voice": "shared/voice@3"}

CASES = {
    "plain": ('{% include "shared/voice" %}', '{% include "shared/voice@3" %}'),
    "single quotes": ("{% include 'shared/voice' %}", '{% include "shared/voice@3" %}'),
    "no space": ('{%include"shared/voice"%}', '{%include"shared/voice@3"%}'),
    "signs": ('a \n{%- include "shared/voice" -%}\n b', 'a \n{%- include "shared/voice@3" -%}\n b'),
    "plus": ('  {%+ include "shared/voice" +%}\n', '  {%+ include "shared/voice@3" +%}\n'),
    "two strings": ("{% include \"shared/\" 'voice' %}", '{% include "shared/voice@3" %}'),
    "brackets": ('{% include ("shared/voice") %}', '{% include ("shared/voice@3") %}'),
    "an escape": ('{% include "shared/\\x76oice" %}', '{% include "shared/voice@3" %}'),
    "over lines": ('{% include\n  "shared/voice"\n%}', '{% include\n  "shared/voice@3"\n%}'),
    "with context": (
        '{% include "shared/voice" with context %}',
        '{% include "shared/voice@3" with context %}',
    ),
    "pinned": ('{% include "shared/voice@1" %}', '{% include "shared/voice@1" %}'),
    "another": ('{% include "shared/tone" %}', '{% include "shared/tone" %}'),
    "twice": ('{% include "shared/voice" %}' * 2, '{% include "shared/voice@3" %}' * 2),
    "a comment": ('{# {% include "shared/voice" %} #}', '{# {% include "shared/voice" %} #}'),
    "raw": (
        '{% raw %}{% include "shared/voice" %}{% endraw %}',
        '{% raw %}{% include "shared/voice" %}{% endraw %}',
    ),
    "a value": ('{{ "include" ~ "shared/voice" }}', '{{ "include" ~ "shared/voice" }}'),
    "another tag": ('{% set include = "shared/voice" %}', '{% set include = "shared/voice" %}'),
    "text": ('include "shared/voice" é😀', 'include "shared/voice" é😀'),
    "after wide text": ('é😀\n{% include "shared/voice" %}', 'é😀\n{% include "shared/voice@3" %}'),
}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize(("body", "pinned"), CASES.values(), ids=CASES)
def test_pin(body: str, pinned: str, end: str) -> None:
    """Only the name of an include is exchanged; comments, values, signs and line ends stay."""
    head = "+++\ndescription = \"{% include 'shared/voice' %}\"\n+++\n"
    text = (head + body).replace("\n", end)
    assert pin(text, len(head), PINS) == (head + pinned).replace("\n", end)


PIECES = st.sampled_from(
    [
        '{% include "a" %}',
        "{%- include 'b' -%}",
        '{% include "a" "b" %}',
        '{# {% include "a" %} #}',
        "{% if x %}",
        "{% endif %}",
        "{{ x }}",
        "{%- set y = 'a' -%}",
        "\n",
        "  ",
        "\r\n",
        "é text",
        '{% raw %} {% include "a" %} {%- endraw %}',
    ]
)


@given(st.lists(PIECES, max_size=8).map("".join))
def test_pin_agrees_with_the_compiler(body: str) -> None:
    """What is pinned is exactly what the compiler takes for an include, and nothing else changes."""
    balanced = (
        body if body.count("{% if") == body.count("{% endif") else re.sub("{% (if x|endif) %}", "", body)
    )
    names = {"a": "a@1", "b": "b@2", "ab": "ab@33"}
    try:
        before = compile_source(read_source(balanced, file="x"))
    except Exception:  # noqa: BLE001 - an endif before its if
        return
    text = pin(balanced, 0, names)
    assert compile_source(read_source(text, file="x")).includes.keys() == {names[n] for n in before.includes}
    assert pin(balanced, 0, {}) == balanced
    assert pin(text, 0, {new: old for old, new in names.items()}) == pin(balanced, 0, {n: n for n in names})


@given(st.lists(PIECES, max_size=8).map("".join))
def test_places(body: str) -> None:
    """Every token stands where it says, and nothing but white space lies between two."""
    text = body.replace("\r\n", "\n")
    try:
        tokens = list(tokens_of(text))
    except TemplateSyntaxError:
        return
    end = 0
    for token in tokens:
        assert text[token.start : token.end] == token.text
        assert not text[end : token.start].strip()
        end = token.end
    assert not text[end:].strip()
