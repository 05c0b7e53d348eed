"""A schema in each dialect: what every provider accepts, and what still means the same."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptkit.providers.schemas import DIALECTS, adapted, not_taken
from promptkit.providers.wire_formats import sent_schema
from promptkit.simulator.formats.base import schema_problem
from promptkit.types import Json, Provider
from promptkit.validation.schema import broken_schema, read_reply

FAMILIES = tuple(DIALECTS)
NAMES = st.sampled_from(["a", "b", "note", "größe"])


def _object(fields: dict[str, Any], needed: list[str], closed: bool) -> Any:  # noqa: FBT001 - drawn
    written: dict[str, Any] = {"type": "object", "properties": fields}
    if needed:
        written["required"] = needed
    return {**written, "additionalProperties": False} if closed else written


def objects(of: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def of_fields(fields: dict[str, Any]) -> st.SearchStrategy[Any]:
        needed = st.lists(st.sampled_from(sorted(fields)), unique=True)
        return st.builds(_object, st.just(fields), needed, st.booleans())

    return st.dictionaries(NAMES, of, min_size=1, max_size=3).flatmap(of_fields)


def _array(item: Any) -> Any:
    return {"type": "array", "items": item}


def _either(one: Any, other: Any) -> Any:
    return {"anyOf": [one, other]}


def _one_of(one: Any) -> Any:
    return {"oneOf": [one]}


def grown(of: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(objects(of), st.builds(_array, of), st.builds(_either, of, of), st.builds(_one_of, of))


def _whole(fields: dict[str, Any], needed: list[str]) -> Any:
    return {
        "type": "object",
        "properties": {**fields, "top": {"type": "string"}},
        "required": [name for name in needed if name in fields],
        "$defs": {"leaf": {"enum": ["l", "m"]}},
        "definitions": {
            "pair": {
                "type": "object",
                "properties": {"l": {"type": "string"}, "o": {"type": "integer"}},
                "required": ["l"],
            }
        },
    }


_LEAVES: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "string", "description": "words"},
    {"type": ["string", "null"], "title": "Maybe"},
    {"type": "integer"},
    {"type": "boolean"},
    {"type": "null"},
    {"enum": ["x", "y"]},
    {"enum": [1, "y"]},
    {"const": "x"},
    {"type": "string", "const": "x"},
    {"$ref": "#/$defs/leaf"},
    {"$ref": "#/$defs/leaf", "description": "one of them"},
    {"$ref": "#/definitions/pair"},
    {"$ref": "#/properties/top"},
    {
        "allOf": [
            {"$ref": "#/definitions/pair"},
            {"properties": {"r": {"type": "string"}}, "required": ["r"]},
        ]
    },
]
NODES: st.SearchStrategy[Any] = st.recursive(st.sampled_from(_LEAVES), grown, max_leaves=6)
SCHEMAS: st.SearchStrategy[Any] = st.builds(
    _whole, st.dictionaries(NAMES, NODES, max_size=3), st.lists(NAMES, unique=True)
)


def instance(rng: Random, node: Any, root: Any, depth: int = 0) -> Json:
    """A value that a written schema allows, whichever branch the dice take."""
    if "$ref" in node:
        return instance(rng, root["$defs"][node["$ref"].rpartition("/")[2]], root, depth + 1)
    if "anyOf" in node:
        return instance(rng, rng.choice(node["anyOf"]), root, depth + 1)
    if "const" in node or "enum" in node:
        return rng.choice(node.get("enum") or [node.get("const")])
    kinds: Any = node["type"]
    kind: str = kinds if isinstance(kinds, str) else rng.choice(kinds)
    if kind == "object":
        return {
            name: instance(rng, each, root, depth + 1)
            for name, each in node["properties"].items()
            if name in node["required"] or rng.random() < 0.5
        }
    if kind == "array":
        return [instance(rng, node["items"], root, depth + 1) for _ in range(rng.randint(0, 2))]
    return {"string": "s", "integer": 3, "boolean": False, "null": None}[kind]


@settings(max_examples=150, deadline=None)
@given(SCHEMAS, st.sampled_from(FAMILIES), st.randoms(use_true_random=False))
def test_what_fits_as_it_is_sent_fits_as_it_was_meant(
    schema: dict[str, Any], family: str, rng: Random
) -> None:
    """Whatever a provider that keeps to the written schema answers is taken, nulls for what is left out too."""
    form = adapted(schema, family)
    assert broken_schema(form.schema) is None
    assert form.whole
    text = json.dumps(instance(rng, form.schema, form.schema))
    value, problems = read_reply(text, schema)
    assert problems == (), text
    assert isinstance(value, dict)


@settings(max_examples=100, deadline=None)
@given(SCHEMAS)
def test_providers_take_what_is_written(schema: dict[str, Any]) -> None:
    """OpenAI's strict mode wants closed objects and all fields, Claude closed ones."""
    assert schema_problem(adapted(schema, "openai").schema, all_required=True) is None
    assert schema_problem(adapted(schema, "anthropic").schema, all_required=False) is None


BOUNDED: Any = {
    "type": "object",
    "properties": {
        "line": {"type": "string", "minLength": 3, "pattern": "^a", "format": "uri", "description": "A line"},
        "score": {"type": "number", "minimum": 0, "default": 1},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 5},
        "kind": {"const": "x"},
    },
    "required": ["line", "score", "tags", "kind"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("family", "line", "score", "tags", "kind"),
    [
        (
            "openai",
            {
                "type": "string",
                "pattern": "^a",
                "description": 'A line\n\n{format: "uri", minLength: 3}',
            },
            {"type": "number", "minimum": 0},
            {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 5},
            {"const": "x", "type": "string"},
        ),
        (
            "anthropic",
            {
                "type": "string",
                "format": "uri",
                "description": 'A line\n\n{minLength: 3, pattern: "^a"}',
            },
            {"type": "number", "description": "{minimum: 0}"},
            {"type": "array", "items": {"type": "string"}, "description": "{maxItems: 5, minItems: 2}"},
            {"const": "x", "type": "string"},
        ),
        (
            "gemini",
            {
                "type": "string",
                "format": "uri",
                "description": 'A line\n\n{minLength: 3, pattern: "^a"}',
            },
            {"type": "number", "minimum": 0},
            {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 5},
            {"enum": ["x"], "type": "string"},
        ),
    ],
)
def test_bounds_without_a_word_are_told(family: str, line: Json, score: Json, tags: Json, kind: Json) -> None:
    """What a dialect has no word for stands in the description; what it has stays; defaults go."""
    form = adapted(BOUNDED, family)
    assert form.schema["properties"] == {"line": line, "score": score, "tags": tags, "kind": kind}
    assert form.whole


OPEN: Any = {"type": "object", "additionalProperties": {"type": "string"}}


@pytest.mark.parametrize(
    ("schema", "families"),
    [
        (OPEN, ["gemini"]),
        ({"type": "object"}, ["gemini"]),
        ({"type": "object", "properties": {"a": True}}, ["gemini"]),
        ({"type": "object", "properties": {"a": {"type": "array"}}}, ["gemini"]),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": True},
            ["gemini"],
        ),
        ({"type": "array", "items": {"type": "string"}}, ["local", "gemini"]),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": []}, list(FAMILIES)),
        ({"$ref": "#"}, ["gemini"]),
        ({"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}}]}, list(FAMILIES)),
        ({"allOf": [{"$ref": "#"}], "type": "object", "properties": {"a": {"type": "string"}}}, []),
        (
            {"type": "object", "properties": {"a": {"properties": {"b": {"$ref": "#/properties/a"}}}}},
            [],
        ),
    ],
)
def test_what_a_dialect_has_no_structure_for(schema: Any, families: list[str]) -> None:
    """Open objects, values of any type and the like are whole only where the dialect can say them."""
    assert [family for family in FAMILIES if adapted(schema, family).whole] == families


def test_a_root_that_refers_is_what_it_refers_to() -> None:
    """Pydantic writes models that hold themselves so."""
    schema: Any = {
        "$ref": "#/$defs/Node",
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
                "required": ["next"],
            }
        },
    }
    form = adapted(schema, "openai")
    assert (form.whole, form.schema["type"]) == (True, "object")
    assert list(not_taken(schema, "openai")) == []
    assert list(not_taken(schema, "anthropic")) == ["the reference '#/$defs/Node' leads back to itself"]


def test_long_notes_are_cut_and_tuples_stay_with_gemini() -> None:
    """A description has room for people's words, too."""
    schema: Any = {
        "type": "object",
        "properties": {
            "a": {"type": "string", "not": {"enum": ["word"] * 200}},
            "b": {"prefixItems": [OPEN]},
        },
    }
    for family in FAMILIES:
        properties: Any = adapted(schema, family).schema["properties"]
        told = next(
            one for one in (properties["a"], *properties["a"].get("anyOf", [])) if "description" in one
        )
        assert len(told["description"]) == 300
    literal: Any = adapted({"enum": ["x", None]}, "gemini").schema
    assert literal == {"type": ["string", "null"], "description": '{enum: ["x", null]}'}
    gemini: Any = adapted({"type": "array", "prefixItems": [{"type": "string"}]}, "gemini").schema
    assert gemini["prefixItems"] == [{"type": "string"}]


def test_ceilings_count_the_longer_form() -> None:
    """What is sent may be longer than what was written, or shorter."""
    provider = Provider("x", "openai", "chat", "openai")
    assert sent_schema(None, provider) is None
    optional: Any = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert sent_schema(optional, provider) == adapted(optional, "openai").schema
    assert sent_schema(OPEN, Provider("x", "gemini", "generate", "google-genai")) is not None
