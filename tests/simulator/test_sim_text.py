"""The words of the simulated models: pure functions."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptkit.simulator.formats.base import PromptText, schema_problem
from promptkit.simulator.models import Models, SimModel, family_of
from promptkit.simulator.reply_text import (
    count_tokens,
    cut,
    digest,
    fitting_json,
    prose,
    replies_by_id,
    spoiled,
    stop_at,
)
from promptkit.validation.schema import check_json


@settings(max_examples=100, deadline=None)
@given(text=st.text(), limit=st.integers(0, 50))
def test_a_cut_text_never_passes_its_limit(text: str, limit: int) -> None:
    """What is kept is a head of the text, in whole characters, within the limit."""
    head, was_cut = cut(text, limit)
    assert text.startswith(head)
    assert count_tokens(head) <= limit
    assert was_cut == (head != text) or count_tokens(text) > limit


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(), prompt=st.text())
def test_prose_is_readable_and_bound_to_its_seed(seed: int, prompt: str) -> None:
    """The same seed and prompt say the same; it is sentences with a closing."""
    said = prose(Random(seed), prompt)
    assert said == prose(Random(seed), prompt)
    assert said.count(" ") > 10
    assert digest(1, "a", "b") != digest(1, "ab")


SCHEMAS: list[tuple[Any, Any]] = [
    ({"const": 4}, 4),
    ({"const": None}, None),
    ({"enum": ["a"]}, "a"),
    ({"type": "null"}, None),
    ({"type": ["integer", "null"], "minimum": 3, "maximum": 3}, 3),
    ({"type": "integer", "exclusiveMinimum": 4, "maximum": 5}, 5),
    ({"type": "integer", "exclusiveMaximum": 5, "minimum": 4}, 4),
    ({"type": "integer", "maximum": -7, "exclusiveMinimum": -8}, -7),
    ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
    ({"type": "number", "multipleOf": 0.25, "minimum": 0.3, "maximum": 0.6}, 0.5),
    ({"type": "integer", "description": "A score.\n\n{minimum: 4, exclusiveMaximum: 5}"}, 4),
    ({"type": "array", "items": {"const": 1}, "description": "{minItems: 3}"}, [1, 1, 1]),
    ({"type": "array", "items": {"const": 1}, "minItems": 1, "description": "{minItems: 3}"}, [1]),
    ({"anyOf": [{"const": 1}, {"const": 2}]}, 1),
    ({"type": "array", "items": {"const": 1}, "maxItems": 1}, [1]),
    ({"type": "array", "items": {"const": 1}, "minItems": 3, "maxItems": 4}, [1, 1, 1]),
    ({"properties": {"x": {"const": 1}}}, {"x": 1}),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"const": 7}}}, 7),
]


@pytest.mark.parametrize(("schema", "value"), SCHEMAS)
def test_values_fit_their_schema(schema: Any, value: Any) -> None:
    """Constants, choices, bounds, references and unions are honoured."""
    assert json.loads(fitting_json(Random(1), "a prompt", schema)) == value


@pytest.mark.parametrize(
    "form", ["date", "date-time", "time", "duration", "email", "hostname", "uri", "uuid", "ipv4", "ipv6"]
)
def test_texts_are_in_their_format(form: str) -> None:
    """Wherever the format is named, in the schema or at the end of its description."""
    for schema in ({"format": form}, {"description": f'When.\n\n{{format: "{form}"}}'}):
        said = json.loads(fitting_json(Random(1), "x", {"type": "string", **schema}))
        assert not check_json(said, {"format": form})


def test_a_length_in_a_description_is_heeded() -> None:
    """What a provider's dialect has no word for is still a wish."""
    said = json.loads(fitting_json(Random(1), "x", {"type": "string", "description": "{maxLength: 9}"}))
    assert len(said) <= 9


def test_a_schema_that_refers_to_itself_ends() -> None:
    """Recursion stops at a depth, in null."""
    schema: dict[str, Any] = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    assert "null" in fitting_json(Random(1), "x", schema)
    long = fitting_json(Random(1), "x", {"type": "string", "minLength": 300, "maxLength": 400})
    assert 300 <= len(json.loads(long)) <= 400


def test_structured_outputs_want_closed_objects() -> None:
    """Open objects are refused anywhere; optional fields where all are required."""
    closed: dict[str, Any] = {"type": "object", "properties": {"a": {}}, "additionalProperties": False}
    assert schema_problem(closed, all_required=False) is None
    assert "Missing 'a'" in str(schema_problem(closed, all_required=True))
    for nested in (
        {"$defs": {"x": {"type": "object"}}},
        {"type": "array", "items": {"type": "object"}},
        {"anyOf": [{"type": "object"}]},
    ):
        assert "additionalProperties" in str(schema_problem(nested, all_required=False))
    assert schema_problem("x", all_required=True) is None


def test_the_first_stop_sequence_ends_a_text() -> None:
    """Whichever comes first in the text wins; an empty one is none."""
    assert stop_at("one two three", ["three", "two", ""]) == ("one ", "two")
    assert stop_at("one", ["two"]) == ("one", None)


def test_prompts_are_read_in_the_order_of_the_model() -> None:
    """Text parts as they are, others as JSON, marks behind the block that they stand on."""
    prompt = PromptText()
    assert prompt.topic == ""
    prompt.content(
        [{"type": "text", "text": "é", "cache_control": {"type": "ephemeral"}}, {"type": "image", "n": 1}]
    )
    assert str(prompt) == 'é\n{"type":"image","n":1}'
    assert [(mark.size, mark.ttl_s) for mark in prompt.marks] == [(2, 300)]


def test_models_are_found_by_either_name() -> None:
    """A model answers to its name and its dated name; a scenario's own wins."""
    own = SimModel("gpt-6-luna", context_window=5)
    models = Models({("openai", "gpt-6-luna"): own})
    assert models.find("openai", "gpt-6-luna") is own
    found = Models().find("openai", "gpt-6-luna-2026-08-18")
    assert found is not None
    assert found.id == "gpt-6-luna"
    assert Models().find("groq", "") is None
    assert family_of("groq") == "openai"


BY_ID: dict[str, Any] = {
    "type": "object",
    "properties": {
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"id": {"enum": ["a", "b", "c"]}, "result": {"type": "string"}},
            },
        }
    },
}


def test_a_list_by_id_has_one_answer_an_id() -> None:
    """A list of objects whose id is out of a few has one for each, with a text as long as any other."""
    said = json.loads(fitting_json(Random(3), "a prompt about coffee", BY_ID))["results"]
    assert [one["id"] for one in said] == ["a", "b", "c"]
    assert len({one["result"] for one in said}) == 3
    assert all(len(one["result"]) > 100 for one in said)
    only = {
        "properties": {
            "r": {"items": {"properties": {"id": {"const": "x"}, "n": {"const": 4}}}, "type": "array"}
        }
    }
    assert json.loads(fitting_json(Random(3), "", only)) == {"r": [{"id": "x", "n": 4}]}


def test_a_list_by_id_can_be_spoiled() -> None:
    """Items that are missing, come twice, or were never asked for; no other schema is taken for such a list."""
    whole = fitting_json(Random(3), "a prompt about coffee", BY_ID)

    def ids(how: str) -> list[str]:
        return [one["id"] for one in json.loads(spoiled(whole, how))["results"]]

    assert ids("missing") == ["a", "c"]
    assert ids("repeated") == ["a", "b", "c", "a"]
    assert ids("extra") == ["a", "b", "c", "nobody"]
    assert replies_by_id(BY_ID)
    others: list[dict[str, Any]] = [
        {},
        {"properties": {"x": {}}},
        {"properties": {"x": {"items": {"properties": {"id": 1}}}}},
    ]
    assert not any(map(replies_by_id, others))
