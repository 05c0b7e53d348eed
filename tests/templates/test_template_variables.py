"""Variables: what callers give, coerced and checked."""

import json
import string
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.errors import VariableError
from promptkit.templates.template import Template
from promptkit.templates.variables import Invalid, bind, coerce, expected
from promptkit.types import Kind, Value, Variable

TEXT = Variable("v")
INTEGER = Variable("v", Kind.INTEGER)
NUMBER = Variable("v", Kind.NUMBER)
BOOLEAN = Variable("v", Kind.BOOLEAN)
LIST = Variable("v", Kind.LIST)

FITTING: list[tuple[Variable, object, Value]] = [
    (TEXT, "x", "x"),
    (TEXT, "", ""),
    (TEXT, " é\r\n", " é\r\n"),
    (INTEGER, " 3 ", 3),
    (INTEGER, "-3", -3),
    (INTEGER, 3, 3),
    (INTEGER, 3.0, 3),
    (NUMBER, "3", 3),
    (NUMBER, "3.5", 3.5),
    (NUMBER, ".5e1", 5.0),
    (NUMBER, 3, 3),
    (NUMBER, Decimal("3.5"), 3.5),
    (BOOLEAN, True, True),
    (BOOLEAN, "Yes", True),
    (BOOLEAN, " 1", True),
    (BOOLEAN, "true", True),
    (BOOLEAN, "FALSE", False),
    (BOOLEAN, "no", False),
    (BOOLEAN, "0", False),
    (LIST, "a; b;;c ", ["a", "b", "c"]),
    (LIST, "", []),
    (LIST, '["a;b", 1, 2.5, true, ["x"]]', ["a;b", 1, 2.5, True, ["x"]]),
    (LIST, ("a", "é"), ["a", "é"]),
    (Variable("v", Kind.LIST, choices=(1, 2)), "1;2", [1, 2]),
    (Variable("v", choices=("a", "b")), "b", "b"),
    (Variable("v", min_length=1, max_length=2), "ab", "ab"),
    (Variable("v", Kind.INTEGER, minimum=1, maximum=3), "3", 3),
]


@pytest.mark.parametrize(("variable", "given_value", "value"), FITTING)
def test_fitting(variable: Variable, given_value: object, value: Value) -> None:
    """Text is read as the declared kind; a value of the kind stays as it is."""
    result = coerce(variable, given_value)
    assert result == value
    assert type(result) is type(value)


class Name(str):
    """A str that isn't quite one, as pandas or an ORM may hand it out."""

    __slots__ = ()


def test_subclass_of_str() -> None:
    """A subclass of str becomes plain text: it could answer otherwise inside a template."""
    assert type(coerce(TEXT, Name("é"))) is str
    assert type(coerce(TEXT, Name("e"))) is str


BAD: list[tuple[Variable, object, str]] = [
    (TEXT, None, "None; leave it out"),
    (TEXT, 3, "3 is not a string"),
    (TEXT, "\ud800x", "not valid Unicode at character 1"),
    (INTEGER, "3.5", '"3.5" is not an integer'),
    (INTEGER, "3,5", "is not an integer"),
    (INTEGER, "", '"" is not an integer'),
    (INTEGER, True, "True is not an integer"),
    (INTEGER, 3.5, "3.5 is not an integer"),
    (INTEGER, 2**63, "beyond 64 bits"),
    (INTEGER, "9" * 19, "beyond 64 bits"),
    (INTEGER, "9" * 5000, "is not an integer"),
    (NUMBER, "nan", "is not a number"),
    (NUMBER, "1e999", "is not a number"),
    (NUMBER, float("inf"), "is not a number"),
    (NUMBER, Decimal("nan"), "is not a number"),
    (BOOLEAN, "maybe", "true or false"),
    (BOOLEAN, 1, "1 is not a boolean"),
    (LIST, 3, "3 is not a list"),
    (LIST, "[1,", "not valid JSON"),
    (LIST, "[" * 100_000, "not valid JSON"),
    (LIST, "[null]", "can't be an item"),
    (LIST, [{}], "can't be an item"),
    (LIST, ["\ud800"], "can't be an item"),
    (LIST, [[[[[[[[["x"]]]]]]]]], "nest deeper"),
    (Variable("v", Kind.LIST, choices=("a",)), "a;b", '"b" is not a list of: "a"'),
    (Variable("v", choices=("a",)), "b", '"b" is not one of: "a"'),
    (Variable("v", min_length=2), "a", "1 character; it must be a string, at least 2 characters"),
    (Variable("v", max_length=2), "abc", "at most 2 characters"),
    (Variable("v", Kind.LIST, max_length=1), "a;b", "2 items; it must be a list, at most 1 item"),
    (Variable("v", Kind.INTEGER, minimum=2), 1, "at least 2"),
    (Variable("v", Kind.NUMBER, maximum=2.5), 3, "at most 2.5"),
    (TEXT, list(range(100)), "…"),
]


@pytest.mark.parametrize(("variable", "given_value", "why"), BAD)
def test_not_fitting(variable: Variable, given_value: object, why: str) -> None:
    """What doesn't fit is refused in words that say what is expected."""
    result = coerce(variable, given_value)
    assert isinstance(result, Invalid)
    assert why in result.why


def test_text_is_not_read_where_it_may_not_be() -> None:
    """A default in the front matter has a type of its own."""
    assert isinstance(coerce(INTEGER, "3", from_text=False), Invalid)


def test_expected() -> None:
    """A variable's wishes in words."""
    variable = Variable("v", Kind.INTEGER, "How long", minimum=5, maximum=90)
    assert expected(variable) == "an integer, at least 5, at most 90 (How long)"


def test_all_problems_at_once(make_template: Callable[..., Template]) -> None:
    """Every problem is told at once: missing, unknown with its close match, None, type and bounds."""
    template = make_template(
        '+++\n[variables.brand]\ndescription = "Brand name"\n[variables.seconds]\ntype = "integer"\n[variables.angle]\n'
        'default = "proof"\n+++\n{% message "user" %}{{ brand }}{% endmessage %}'
    )
    with pytest.raises(VariableError) as caught:
        template.bind({"angel": "x", "seconds": "long", "angle": None, "zzz": 1})
    assert str(caught.value) == (
        "t.jinja: t@1: 5 variables don't fit:\n"
        "  brand: missing; it must be a string (Brand name)\n"
        '  seconds: "long" is not an integer\n'
        "  angle: None; leave it out, or give a string\n"
        "  angel: unknown; did you mean angle?\n"
        "  zzz: unknown; it takes brand, seconds, angle\n"
        "  See what it takes: promptkit templates show t@1"
    )


def test_one_problem(make_template: Callable[..., Template]) -> None:
    """One problem is one line."""
    template = make_template('{% message "user" %}x{% endmessage %}')
    with pytest.raises(VariableError) as caught:
        template.bind({"a": 1})
    assert caught.value.message == "t@1: a: unknown; this template takes no variables"


def test_bound_before_defaults(make_template: Callable[..., Template]) -> None:
    """Binding keeps the declared order and leaves defaults out: row keys stand on it."""
    template = make_template(
        '+++\n[variables.a]\n[variables.b]\ndefault = "B"\n[variables.c]\n+++\n'
        '{% message "user" %}{{ a }}{{ b }}{{ c }}{% endmessage %}'
    )
    bound = template.bind({"c": "C", "a": "A"})
    assert list(bound.items()) == [("a", "A"), ("c", "C")]
    assert template.render(bound).messages[0].content == "ABC"


VALUES: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.STRING: st.text(st.characters(exclude_categories=("Cs",))),
    Kind.INTEGER: st.integers(-(2**63), 2**63 - 1),
    Kind.NUMBER: st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
    Kind.BOOLEAN: st.booleans(),
    Kind.LIST: st.lists(
        st.text(string.printable) | st.integers(-9, 9) | st.booleans() | st.lists(st.text(max_size=3))
    ),
}


@given(st.sampled_from(sorted(VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), VALUES[kind])))
def test_round_trip(case: tuple[Kind, Value]) -> None:
    """A value that was bound binds again to itself, as it is and as text."""
    kind, value = case
    variables = {"v": Variable("v", kind)}
    bound, problems = bind(variables, {"v": value})
    assert problems == []
    assert bind(variables, bound) == (bound, [])
    text = value if isinstance(value, str) else json.dumps(value)
    assert bind(variables, {"v": text}) == (bound, [])


@given(
    st.sampled_from(list(Kind)),
    st.text(max_size=30) | st.none() | st.floats() | st.lists(st.floats() | st.none()),
)
def test_anything(kind: Kind, value: object) -> None:
    """Whatever is given, it fits and is JSON, or there is a problem: never an exception."""
    bound, problems = bind({"v": Variable("v", kind)}, {"v": value})
    assert bool(bound) != bool(problems)
    json.dumps(bound, allow_nan=False)
