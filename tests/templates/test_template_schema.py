"""The JSON Schema of variables: a schema, and one that agrees with binding."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from promptkit.templates.declarations import variables_schema
from promptkit.templates.source import read_source
from promptkit.templates.variables import bind
from promptkit.types import Kind, TemplateSpec, Variable

WHOLE = """+++
description = "A script"
[variables.name]
description = "Brand name"
min_length = 1
max_length = 80
pattern = "^[A-Z]\\\\w*$"
[variables.n]
default = 3
minimum = 1
maximum = 9
[variables.angle]
choices = ["a", "b"]
[variables.tags]
type = "list"
choices = ["x", "y"]
min_length = 1
[variables.any]
default = []
[variables.brand.fields.url]
format = "url"
[variables.brand.fields.about]
untrusted = true
default = ""
[variables.products.items.fields.price]
type = "number"
[variables.history]
type = "messages"
max_length = 2
default = []
+++
"""


def test_whole() -> None:
    """Everything that a declaration says is in the schema."""
    spec = read_source(WHOLE, file="t").spec
    assert variables_schema(spec, "ugc/script@2") == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ugc/script@2",
        "description": "A script",
        "type": "object",
        "properties": {
            "name": {
                "type": "string",
                "description": "Brand name",
                "minLength": 1,
                "maxLength": 80,
                "pattern": "^(?:[A-Z]\\w*)$",
            },
            "n": {"type": "integer", "default": 3, "minimum": 1.0, "maximum": 9.0},
            "angle": {"type": "string", "enum": ["a", "b"]},
            "tags": {"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 1},
            "any": {
                "type": "array",
                "items": {"type": ["string", "number", "boolean", "array"]},
                "default": [],
            },
            "brand": {
                "type": "object",
                "properties": {
                    "url": {"type": "string", "format": "uri"},
                    "about": {"type": "string", "default": "", "x-untrusted": True},
                },
                "required": ["url"],
                "additionalProperties": False,
            },
            "products": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"price": {"type": "number"}},
                    "required": ["price"],
                    "additionalProperties": False,
                },
            },
            "history": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "role": {"enum": ["user", "assistant"]},
                        "content": {"type": "string", "minLength": 1},
                    },
                    "required": ["role", "content"],
                    "additionalProperties": False,
                },
                "default": [],
                "maxItems": 2,
            },
        },
        "required": ["name", "angle", "tags", "brand", "products"],
        "additionalProperties": False,
    }


def test_nothing() -> None:
    """A template without variables takes an empty object."""
    assert variables_schema(TemplateSpec()) == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }


SIZES = st.none() | st.integers(0, 2)
PLAIN = st.one_of(
    st.builds(Variable, st.just("v"), min_length=SIZES, max_length=SIZES),
    st.builds(Variable, st.just("v"), pattern=st.sampled_from(["a+", "^a|b$", r"\$"])),
    st.builds(Variable, st.just("v"), choices=st.just(("a", "b"))),
    st.builds(Variable, st.just("v"), st.just(Kind.INTEGER), minimum=SIZES, maximum=SIZES),
    st.builds(Variable, st.just("v"), st.just(Kind.NUMBER), minimum=SIZES, default=st.none() | st.just(2.0)),
    st.builds(Variable, st.sampled_from(["v"]), st.sampled_from([Kind.BOOLEAN, Kind.MESSAGES])),
    st.builds(Variable, st.just("v"), st.just(Kind.LIST), min_length=SIZES, max_length=SIZES),
)
VARIABLES = st.recursive(
    PLAIN,
    lambda inner: (
        inner.map(lambda item: Variable("v", Kind.LIST, items=item))
        | st.dictionaries(st.sampled_from("ab"), inner, min_size=1).map(
            lambda fields: Variable("v", Kind.OBJECT, fields=fields)
        )
    ),
    max_leaves=3,
)
LEAVES = st.sampled_from(["", "a", "aa", "b", "$", 0, 1, 2, 3, 1.5, True, False, None])
TURNS = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": st.sampled_from(["", "x"])}
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner | TURNS, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(VARIABLES, VALUES)
def test_agrees_with_binding(variable: Variable, value: Any) -> None:
    """What the schema takes binds; what is bound, the schema takes."""
    declared = {"v": variable}
    schema = variables_schema(TemplateSpec(variables=declared))
    Draft202012Validator.check_schema(schema)
    validator: Any = Draft202012Validator(schema)
    valid = validator.is_valid({"v": value})
    bound, problems = bind(declared, {"v": value})
    if valid:
        assert problems == []
    if not problems:
        assert validator.is_valid(bound)
