"""docs/templates.md is held against the code: keys, kinds, formats, filters, limits and examples."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from promptkit.errors import TemplateError
from promptkit.templates.jinja.compiler import GLOBALS
from promptkit.templates.jinja.filters import FILTERS, TESTS
from promptkit.templates.jinja.sandbox import MAX_CHARACTERS, MAX_DEPTH, MAX_STEPS
from promptkit.templates.source import MAX_SOURCE_BYTES, read_source
from promptkit.templates.template import Template
from promptkit.templates.untrusted import block
from promptkit.types import Format, Kind

PAGE = (Path(__file__).parents[2] / "docs/templates.md").read_text("utf-8")


def column(heading: str) -> set[str]:
    """The names in the first column of the table with that heading."""
    rows = PAGE.split(f"\n| {heading} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`([^`]*)`", row.split("|")[1])}


def part(name: str) -> str:
    found = re.search(rf"<!-- {name} --> (.*?) <!-- end -->", PAGE)
    assert found
    return found[1]


def known(front: str) -> set[str]:
    """The keys that the reader itself names where one is unknown."""
    with pytest.raises(TemplateError) as caught:
        read_source(f"+++\n{front}qqqqqqqq = 1\n+++\n", file="t")
    remedy = caught.value.remedy or ""
    return set(remedy.removeprefix("Known here: ").removesuffix(".").split(", "))


def test_keys() -> None:
    """Every key of the front matter stands in the page, and no other."""
    keys = [set(re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", text, re.MULTILINE)) for text in sections()]
    top, params, variable = ({key for cell in cells for key in re.findall(r"\w+", cell)} for cells in keys)
    assert top == known("")
    assert params == known("[params]\n")
    assert variable == known("[variables.x]\n")


def sections() -> Iterable[str]:
    """The three tables of keys."""
    for heading in ("## Front matter", "### `[params]`", "## Variables"):
        yield PAGE.split(f"{heading}\n", 1)[1].split("| key | what it is |", 1)[1].split("\n\n", 1)[0]


def test_kinds_and_formats() -> None:
    """Every kind and every format stands in the page, and no other."""
    assert column("`type` | value") == set(Kind)
    assert column("`format` | takes") == set(Format)


@pytest.mark.parametrize(("name", "there"), [("filters", FILTERS), ("tests", TESTS), ("functions", GLOBALS)])
def test_names(name: str, there: Iterable[str]) -> None:
    """Every filter, test and function stands in the page, and no other."""
    assert part(name) == ", ".join(f"`{each}`" for each in sorted(there))


def test_limits() -> None:
    """The limits are those of the code."""
    assert part("steps") == f"{MAX_STEPS:,}"
    assert part("characters") == f"{MAX_CHARACTERS:,}"
    assert part("depth") == f"{MAX_DEPTH}"
    assert part("bytes") == f"{MAX_SOURCE_BYTES:,}"


VALUES = {
    "brand": '{"name": "Barly"}',
    "products": '[{"name": "Oat", "price": 2}]',
    "product": "Oat",
    "examples": '[{"ask": "a", "answer": "b"}]',
    "history": '[{"role": "user", "content": "hello"}]',
    "question": "why?",
    "review": "great\nstuff",
}


@pytest.mark.parametrize("text", re.findall(r"```jinja\n(.*?)```", PAGE, re.DOTALL))
def test_examples(make_template: Callable[..., Template], text: str) -> None:
    """Every example loads and renders; a partial is included."""
    template = make_template(text)
    if template.is_partial:
        user = '{% message "user" %}{% include "shared/voice@1" %}{% endmessage %}'
        template = make_template(user, includes={"shared/voice@1": template.part})
    given = {name: VALUES[name] for name in template.spec.variables if name in VALUES}
    assert template.render(template.bind(given)).messages


def test_block() -> None:
    """The block in the page is the one that is printed."""
    assert f"```\n{block(VALUES['review'])}\n```" in PAGE
