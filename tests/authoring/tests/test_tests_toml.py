"""tests.toml: what it says, and what it can't."""

from __future__ import annotations

import pytest

from promptkit.authoring.reply_expectations import JsonExpectation, ReplyExpectation
from promptkit.authoring.template_tests import TemplateTest, TextExpectation, parse_tests, slug
from promptkit.errors import TemplateError
from promptkit.types import Role, Rules

WHOLE = """
[[tests]]
name = "Tout, en français"
snapshot = true
max_tokens = 100
contains = ["a"]
not_contains = ["b"]
[tests.variables]
brand = "Barly"
price = 2.5
when = 2026-11-22
shots = [{ place = "kitchen", at = [1, 2.5] }]
[tests.system]
contains = ["c"]
[tests.assistant]
not_contains = ["d"]
[tests.reply]
max_words = 5
schema = { type = "object", properties = { a = { maximum = 1.5 } } }
function = "tools.checks:short"
json = [{ path = "$.a", equals = 1 }, { path = "b[*]", matches = "x", min_items = 1, max_items = 2 }]
"""


def test_every_key() -> None:
    """All keys arrive, TOML's own kinds as a caller would give them."""
    (case,) = parse_tests(WHOLE, file="t")
    assert case == TemplateTest(
        name="Tout, en français",
        variables={
            "brand": "Barly",
            "price": 2.5,
            "when": "2026-11-22",
            "shots": [{"place": "kitchen", "at": [1, 2.5]}],
        },
        file="t",
        line=3,
        texts={
            None: TextExpectation(("a",), ("b",)),
            Role.SYSTEM: TextExpectation(("c",)),
            Role.ASSISTANT: TextExpectation((), ("d",)),
        },
        max_tokens=100,
        snapshot=True,
        reply=ReplyExpectation(
            Rules(max_words=5),
            {"type": "object", "properties": {"a": {"maximum": 1.5}}},
            (JsonExpectation("$.a", 1), JsonExpectation("b[*]", None, "x", 1, 2)),
            "tools.checks:short",
        ),
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Tout, en français", "tout-en-francais"),
        ("  A/B: 2 ²  ", "a-b-2-2"),
        ("日本", "日本"),
        ("?!", ""),
    ],
)
def test_names_as_files(name: str, expected: str) -> None:
    """A name becomes that of a file on any system."""
    assert slug(name) == expected


@pytest.mark.parametrize(
    ("text", "why", "line"),
    [
        ("[[test]]", "unknown key test", 1),
        ("[[tests]]\nsnapshot = true", "tests.name is missing", 1),
        ('[[tests]]\nname = "?!"\nsnapshot = true', "needs a letter", 2),
        ('[[tests]]\nname = "a"', "the test 'a' expects nothing", 1),
        ('[[tests]]\nname = "a"\nerror = "x"\nmax_tokens = 3', "expects an error and a prompt", 3),
        ('[[tests]]\nname = "a"\nerror = "x"\n[tests.reply]', "expects an error and a prompt", 3),
        (
            '[[tests]]\nname = "a b"\nerror = "x"\n[[tests]]\nname = "A-b"\nerror = "y"',
            "two tests have the name",
            5,
        ),
        ('[[tests]]\nname = "a"\nsnapshot = 1', "snapshot must be true, or the text", 3),
        ('[[tests]]\nname = "a"\nmax_tokens = 0', "max_tokens must be at least 1", 3),
        ('[[tests]]\nname = "a"\n[tests.user]\ncontain = ["x"]', "unknown key tests.user.contain", 4),
        ('[[tests]]\nname = "a"\n[tests.reply]\nschema = "x"', "schema must be true", 4),
        ('[[tests]]\nname = "a"\n[tests.reply]\nfunction = "x"', "'x' is not module:function", 4),
        ('[[tests]]\nname = "a"\n[tests.reply]\njson = [{ path = "a..b" }]', "'a..b' is not a path", 4),
        ('[[tests]]\nname = "a"\n[tests.reply]\njson = [{ path = "a", matches = "(" }]', "not a regular", 4),
        ('[[tests]]\nname = "a"\n[tests.reply]\nmax_word = 1', "unknown key tests.reply.max_word", 4),
    ],
)
def test_what_cannot_stand(text: str, why: str, line: int | None) -> None:
    """Each mistake is refused with file and line."""
    with pytest.raises(TemplateError, match=why) as caught:
        parse_tests(text, file="t")
    assert (caught.value.file, caught.value.line) == ("t", line)


def test_an_empty_file_has_no_tests() -> None:
    """No tests, no complaint."""
    assert parse_tests("", file="t") == ()
