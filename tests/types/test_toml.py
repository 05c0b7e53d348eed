"""The TOML reader: every complaint names the file, the line and the fix."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit._util import toml
from promptkit.errors import ConfigError, TemplateError

DOCUMENT = """\
database = "x.db"
budegts = 3
share = 0.1
on = true
since = 2026-11-21
at = 2026-11-21T10:00:00
names = ["a", "b"]
"quoted key" = 1
[routes.default]
targets = ["a", 1]
max_wait_s = inf
[[models]]
id = "a"
[models.price]
input = 1
[[models]]
id = "b"
[models.price]
inptu = 1.25
"""


class Word(StrEnum):
    LEFT = "left"
    RIGHT = "right"


def table() -> toml.Table:
    return toml.parse(DOCUMENT, file="promptkit.toml")


def test_values_come_back_in_their_types() -> None:
    """A number with a point is exact, a date is a date, a list of strings a tuple."""
    doc = table()
    assert doc.text("database") == "x.db"
    assert doc.integer("budegts", least=3) == 3
    assert doc.number("share") == Decimal("0.1")
    assert doc.number("budegts") == Decimal(3)
    assert doc.flag("on") is True
    assert doc.date("since") == date(2026, 11, 21)
    assert doc.texts("names") == ("a", "b")
    assert doc.raw("quoted key") == 1
    assert "database" in doc
    assert doc.keys()[:2] == ["database", "budegts"]
    assert doc.data["on"] is True


def test_an_absent_key_gives_its_default() -> None:
    """A default of another type, None for example, comes back as it is."""
    doc = table()
    assert doc.text("absent", None) is None
    assert doc.integer("absent", 7, least=9) == 7
    assert doc.number("absent", None) is None
    assert doc.flag("absent", default=False) is False
    assert doc.date("absent", None) is None
    assert doc.texts("absent", ()) == ()
    assert doc.choice("absent", Word, Word.LEFT) is Word.LEFT
    assert doc.tables("absent") == []
    assert doc.table("absent").keys() == []


WRONG: list[tuple[Callable[[toml.Table], object], int | None, str]] = [
    (lambda doc: doc.text("nowhere"), None, "nowhere is missing"),
    (lambda doc: doc.text("budegts"), 2, "budegts must be a string"),
    (lambda doc: doc.integer("on"), 4, "on must be a whole number"),
    (lambda doc: doc.integer("budegts", least=4), 2, "budegts must be at least 4"),
    (lambda doc: doc.number("database"), 1, "database must be a number"),
    (lambda doc: doc.number("share", least=0.5), 3, "share must be at least 0.5"),
    (lambda doc: doc.flag("budegts"), 2, "budegts must be true or false"),
    (lambda doc: doc.date("database"), 1, "database must be a date like"),
    (lambda doc: doc.date("at"), 6, "at must be a date without a time"),
    (lambda doc: doc.texts("database"), 1, "database must be a list of strings"),
    (lambda doc: doc.table("database"), 1, "database must be a table"),
    (lambda doc: doc.tables("database"), 1, "database must be an array of tables"),
    (lambda doc: doc.tables("names"), 7, "names must be an array of tables"),
    (lambda doc: doc.raw("quoted"), None, "quoted is missing"),
    (
        lambda doc: doc.table("routes").table("default").texts("targets"),
        10,
        "routes.default.targets must be a list of strings",
    ),
    (
        lambda doc: doc.table("routes").table("default").number("max_wait_s"),
        11,
        "routes.default.max_wait_s must be a finite number",
    ),
]


@pytest.mark.parametrize(("read", "line", "says"), WRONG)
def test_a_wrong_value_is_refused_with_its_line(
    read: Callable[[toml.Table], object], line: int | None, says: str
) -> None:
    """The message names file, line and key."""
    with pytest.raises(ConfigError) as caught:
        read(table())
    assert caught.value.file == "promptkit.toml"
    assert caught.value.line == line
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\n[brand.fields.name]\n[brand.fields.site]", 2),
        ("[brand.fields.name]\n[brand]\nx = 1", 2),
        ("[brand.fields]\nname.x = 1\n[brands]", 1),
        ("[brands]\n[brand.fields.name]", 2),
    ],
)
def test_a_table_without_a_header_stands_where_it_is_first_named(text: str, line: int) -> None:
    """`[brand.fields.name]` declares `brand`, too; a header of its own comes first."""
    caught = toml.parse(text, file="f").fail("odd", "brand")
    assert caught.line == line


def test_a_wrong_choice_names_the_close_one() -> None:
    """`lfet` is told about `left`; a far one hears all of them."""
    doc = toml.parse('a = "lfet"\nb = "up"', file="f.toml")
    with pytest.raises(ConfigError, match="Did you mean 'left'"):
        doc.choice("a", Word)
    with pytest.raises(ConfigError, match="Known here: left, right"):
        doc.choice("b", Word)
    assert toml.parse('a = "right"', file="f").choice("a", Word) is Word.RIGHT


def test_a_key_that_nobody_read_is_refused() -> None:
    """An unknown key is named with its line and the closest known one."""
    price = table().tables("models")[1].table("price")
    price.number("input", None)
    with pytest.raises(ConfigError) as caught:
        price.finish()
    assert caught.value.line == 19
    assert "unknown key models.price.inptu\n  Did you mean 'input'?" in str(caught.value)


def test_nothing_may_stand_in_a_table_without_keys() -> None:
    """Where no key is known, the remedy says so; a table that was read whole is fine."""
    with pytest.raises(ConfigError, match="None is known here"):
        toml.parse("a = 1", file="f").finish()
    doc = toml.parse("a = 1", file="f")
    doc.integer("a")
    doc.finish()


def test_every_member_can_be_a_table() -> None:
    """`items_tables` yields name and table."""
    doc = toml.parse("[a]\nx = 1\n[b.c]\ny = 2\n[[b.d]]\n[[b.d]]\nz = 1\n[b.d.e]\nw = 1", file="f")
    assert [(name, inner.keys()) for name, inner in doc.items_tables()] == [("a", ["x"]), ("b", ["c", "d"])]
    with pytest.raises(ConfigError) as caught:
        doc.table("b").tables("d")[1].table("e").text("w")
    assert caught.value.line == 9


@pytest.mark.parametrize(
    ("text", "line"), [("a = 1\nb = \n", 6), ('a = "never closed', 5), ("a = 1\na = 2", 6)]
)
def test_broken_syntax_is_refused_with_its_line(text: str, line: int) -> None:
    """Lines are counted in the file, not in the piece of it that is TOML."""
    with pytest.raises(TemplateError, match="not valid TOML") as caught:
        toml.parse(text, file="v1.jinja", error=TemplateError, line_offset=4)
    assert caught.value.line == line


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes the reader fail in another way, and every key can be complained about."""
    try:
        doc = toml.parse(text, file="f")
    except ConfigError:
        return
    for key in list(doc.data):
        assert isinstance(doc.fail("odd", key), ConfigError)
