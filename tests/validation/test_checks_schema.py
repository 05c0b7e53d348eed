"""Structured replies: read, held against their schema, and freed of nulls that only say nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.types import Json
from promptkit.validation.schema import broken_schema, check_json, follow, read_json, read_reply, references
from promptkit.validation.text import text_of

WORD: dict[str, Json] = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "tone": {"type": "string"}},
}
HOOK: dict[str, Json] = {
    "type": "object",
    "required": ["line"],
    "properties": {
        "line": {"type": "string"},
        "angle": {"type": "string"},
        "note": {"type": ["string", "null"]},
        "words": {"type": "array", "items": {"$ref": "#/$defs/word"}},
    },
    "$defs": {"word": WORD},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [('{"a": 1}', {"a": 1}), ('```json\n{"a": 1}\n```', {"a": 1}), (" ```\n[]\n ``` ", []), ("3", 3)],
)
def test_a_reply_is_read(text: str, value: Json) -> None:
    """JSON, with or without a fence of Markdown around it."""
    assert read_json(text) == value


@pytest.mark.parametrize("text", ["", "Sure! {}", '{"a": NaN}', "[" * 100_000])
def test_what_is_no_json_says_why(text: str) -> None:
    """Text around it, NaN and bottomless nesting are no JSON; the reply then has no value."""
    value, problems = read_reply(text, HOOK)
    assert value is None
    assert problems[0].message.startswith("the reply is not JSON: ")


@pytest.mark.parametrize(
    ("text", "value", "problems"),
    [
        ('{"line": "Go", "angle": null}', {"line": "Go"}, 0),
        ('{"line": "Go", "note": null}', {"line": "Go", "note": None}, 0),
        ('{"line": null}', {"line": None}, 1),
        ('{"line": "Go", "more": null}', {"line": "Go", "more": None}, 0),
        (
            '{"line": "Go", "words": [{"text": "Go", "tone": null}]}',
            {"line": "Go", "words": [{"text": "Go"}]},
            0,
        ),
        ('{"line": 3, "angle": null}', {"line": 3}, 1),
        ('{"line": 3}', {"line": 3}, 1),
    ],
)
def test_a_null_that_says_nothing_is_left_out(text: str, value: Json, problems: int) -> None:
    """Only in an optional field that takes no null, however deep; what is required keeps its null, and is wrong."""
    read, found = read_reply(text, HOOK)
    assert read == value
    assert len(found) == problems


@pytest.mark.parametrize("union", ["anyOf", "oneOf"])
def test_nulls_below_branches(union: str) -> None:
    """The branch that fits without its nulls is the one that is meant."""
    schema: dict[str, Json] = {
        "allOf": [{"properties": {"top": {"type": "string"}}}],
        "properties": {
            "what": {
                union: [
                    {"type": "object", "required": ["x"], "properties": {"x": {"type": "integer"}}},
                    {
                        "type": "object",
                        "required": ["y"],
                        "properties": {"y": {"const": 1}, "z": {"type": "string"}},
                    },
                ]
            }
        },
    }
    value, problems = read_reply('{"top": null, "what": {"y": 1, "z": null}}', schema)
    assert (value, problems) == ({"what": {"y": 1}}, ())
    value, problems = read_reply('{"what": {"z": null}}', schema)
    assert value == {"what": {"z": None}}
    assert problems


def test_schemas_that_say_little() -> None:
    """`true`, odd members and references that go round are followed as far as they lead."""
    assert read_reply("[null]", {"type": "array", "items": {"type": "string"}})[0] == [None]
    odd: dict[str, Json] = {"type": "object", "properties": {"a": {"type": "string"}}, "required": "a"}
    assert read_reply('{"a": null}', odd)[1][0].message.startswith("the schema itself is broken")
    open_: dict[str, Json] = {"type": "object", "additionalProperties": {"type": "string"}}
    assert read_reply('{"a": null}', open_)[0] == {"a": None}
    round_: dict[str, Json] = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
    value, problems = read_reply("null", round_)
    assert value is None
    assert "can't be followed" in problems[0].message
    anything: dict[str, Json] = {"properties": {"a": True, "b": {"type": "string"}}}
    assert read_reply('{"a": null, "b": null}', anything) == ({"a": None}, ())


@pytest.mark.parametrize(
    ("ref", "found"),
    [
        ("#/$defs/word", WORD),
        ("#", HOOK),
        ("#/nowhere/at/all", None),
        ("#/required/0", None),
        ("https://example.org/x", None),
    ],
)
def test_a_reference_is_followed(ref: str, found: Any) -> None:
    """Within the schema alone."""
    assert follow(ref, HOOK) == found


def test_a_reference_goes_through_lists_and_escapes() -> None:
    """JSON pointers: indexes, `~1` and `~0`."""
    schema: dict[str, Json] = {"anyOf": [{"a/b": {"~": {"type": "string"}}}]}
    assert follow("#/anyOf/0/a~1b/~0", schema) == {"type": "string"}
    assert follow("#/anyOf/7", schema) is None
    assert list(references({"a": [{"$ref": "#/x"}], "$ref": "#/y", "b": {"$ref": 3}})) == ["#/y", "#/x"]


def test_a_broken_schema_is_told() -> None:
    """Nothing can be held against what is no schema, or leads nowhere."""
    assert broken_schema(HOOK) is None
    assert "is not valid" in (broken_schema({"type": "text"}) or "")
    assert broken_schema({"$ref": "#/$defs/gone"}) == "the reference '#/$defs/gone' leads nowhere in it"


def test_long_messages_are_cut_and_many_left_out() -> None:
    """A problem is a line, and twenty are enough."""
    problems = check_json(list[Json](["x" * 500] * 30), {"items": {"type": "integer"}})
    assert len(problems) == 20
    assert all(len(problem.message) < 200 for problem in problems)


@given(
    st.recursive(
        st.text("abc", min_size=1) | st.none() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_the_texts_of_a_value(value: Any) -> None:
    """Every text in it, and nothing else, is what its checks are about."""

    def texts(node: Json) -> list[str]:
        if isinstance(node, str):
            return [node]
        members = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
        return [text for member in members for text in texts(member)]

    assert text_of(value) == "\n".join(texts(value))
