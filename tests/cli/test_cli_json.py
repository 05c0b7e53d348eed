"""`to_json`, `Page` and the readers of option texts, without a command around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path

import pytest

from promptkit.cli.output import (
    Page,
    Table,
    cost_json,
    facts_text,
    listed,
    money_json,
    shortened,
    to_json,
    usage_json,
)
from promptkit.cli.values import read_budget, read_each, read_list, read_mapping, read_tags, read_variables
from promptkit.errors import UsageError
from promptkit.ledger.records import Money
from promptkit.types import Json, Target, Usage
from promptkit.types.ids import show_id


class State(StrEnum):
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Record:
    id: int = 1
    parent_id: int | None = 2
    template_ref: str = "ugc/hooks@1"
    cost_pico: int | None = 1_500_000_000_000
    started_us: int | None = 0
    state: State = State.OPEN
    target: Target = field(default_factory=lambda: Target("openai", "m"))
    tags: Mapping[str, str] = field(default_factory=lambda: {"client": "barly"})
    usage: Usage | None = None
    numbers: tuple[float | None, ...] = (1, 0.5, None)
    at: datetime | None = None


@pytest.mark.parametrize(
    ("record", "name", "value"),
    [
        (Record(), "id", show_id(1)),
        (Record(), "parent", show_id(2)),
        (Record(parent_id=None), "parent", None),
        (Record(), "template", "ugc/hooks@1"),
        (Record(), "cost_usd", "1.5"),
        (Record(cost_pico=None), "cost_usd", None),
        (Record(), "started", "1970-01-01T00:00:00.000Z"),
        (Record(started_us=None), "started", None),
        (Record(), "state", "open"),
        (Record(), "target", "openai/m"),
        (Record(), "tags", {"client": "barly"}),
        (Record(), "numbers", [1, 0.5, None]),
        (Record(at=datetime(2026, 11, 21, tzinfo=UTC)), "at", "2026-11-21T00:00:00Z"),
        (Record(usage=Usage(3, 2)), "usage", to_json(Usage(3, 2))),
    ],
)
def test_the_end_of_a_fields_name_decides_how_it_is_written(record: Record, name: str, value: Json) -> None:
    """Amounts, times, ids and references by their suffix; the rest by the type of the value."""
    assert to_json(record)[name] == value


def test_fields_are_left_out_and_members_added() -> None:
    """`skip` names fields, further members replace those of the same name."""
    members = to_json(Record(), ("usage", "numbers", "at", "tags", "target"), state="closed", more=1)
    assert list(members) == ["id", "parent", "template", "cost_usd", "started", "state", "more"]
    assert members["state"] == "closed"


def test_any_other_value_is_its_text() -> None:
    """A path and a date are what `str` makes of them."""

    @dataclass
    class Other:
        file: Path
        day: date

    assert to_json(Other(Path("a/b"), date(2026, 11, 21))) == {"file": "a/b", "day": "2026-11-21"}


def test_usage_is_five_numbers() -> None:
    """Tokens by what they are; None stays null."""
    assert usage_json(Usage(3, 2, reasoning_tokens=1)) == {
        "input_tokens": 3,
        "output_tokens": 2,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "reasoning_tokens": 1,
    }
    assert usage_json(None) is None


def test_unknown_costs_are_null_for_a_call_and_counted_for_a_sum() -> None:
    """A call with an unknown attempt has no cost; a sum has the known part and the number of unknown ones."""
    money = Money(10**12, 2 * 10**12, 1, 3)
    assert cost_json(money) == {"cost_usd": None, "charged_usd": "2", "attempts": 3}
    assert cost_json(Money(10**12, 10**12, 0, 1))["cost_usd"] == "1"
    assert money_json(money) == {"cost_usd": "1", "charged_usd": "2", "attempts": 3, "unknown_attempts": 1}


def test_a_page_is_facts_blocks_and_next_steps() -> None:
    """An empty line separates the parts; empty facts and parts are left out."""
    page = Page({"job": "night", "ended": None, "state": "open"}, ["text", Table(("a",), [("b",)])], ["go"])
    assert page.text(color=False) == "job    night\nstate  open\n\ntext\n\na\n─\nb\n\nnext: go"
    assert Page({"a": "b"}).text(color=False) == "a  b"
    assert not facts_text({"a": ""})


def test_texts_are_shortened_and_listed() -> None:
    """A long text ends with an ellipsis, in one line; a list has no empty parts."""
    assert shortened("a\n b", 3) == "a b"
    assert shortened("abcdef", 4) == "abc…"
    assert listed(("a", "", None, "b")) == "a, b"


def test_options_are_read(tmp_path: Path) -> None:
    """Pairs, files, JSON, lists and amounts."""
    file = tmp_path / "vars.json"
    file.write_text('{"a": 1, "b": 2}', encoding="utf-8")
    note = tmp_path / "note.txt"
    note.write_text("hello", encoding="utf-8")
    assert read_variables(["b=x", "c:=[1]", f"d=@{note}"], file) == {"a": 1, "b": "x", "c": [1], "d": "hello"}
    assert read_tags(["a=b=c"]) == {"a": "b=c"}
    assert read_mapping(None) == {}
    assert read_list(["a, b", "c,"]) == ("a", "b", "c")
    assert read_each(["x=1, 2", "y:=[3]"]) == {"x": ["1", "2"], "y": [3]}
    assert str(read_budget("$2.50")) == "2.50"
    assert read_budget(None) is None


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: read_variables(["x"], None), "-v 'x' is not a variable, such as brand=Barly"),
        (lambda: read_tags(["=x"]), "--tag '=x' is not a tag, such as client=barly"),
        (lambda: read_each(["x"]), "--each 'x' is not a variable with its values"),
        (lambda: read_each(["x=1", "x=2"]), "--each x is given twice"),
        (lambda: read_each(["x:=1"]), "--each x:=... is not a list"),
        (lambda: read_budget("much"), "--budget 'much' is not an amount in USD, such as 2.50"),
    ],
)
def test_a_text_of_another_form_is_refused_with_an_example(read: object, message: str) -> None:
    """The message names the option, the text, and an example."""
    assert callable(read)
    with pytest.raises(UsageError, match=message.replace("(", r"\(").replace("$", r"\$")):
        read()
