"""The checker: what a template needs of its caller, held against rendering itself."""

import re
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, cast

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jinja2 import StrictUndefined

from promptkit.errors import TemplateError
from promptkit.templates.jinja.compiler import compile_source
from promptkit.templates.names import Location, check
from promptkit.templates.reference import parse_ref
from promptkit.templates.source import read_source
from promptkit.templates.template import Part, Template
from promptkit.types import Value

MakePart = Callable[..., Part]


def a_part(text: str, includes: Mapping[str, Part] | None = None, file: str = "t.jinja") -> Part:
    source = read_source(text, file=file)
    return Part.join(parse_ref("t@1"), source, compile_source(source), includes or {})


def needs(body: str) -> tuple[str, str]:
    """The names that a body uses, and those of them that it uses always."""
    found = check(a_part('{% message "user" %}' + body + "{% endmessage %}"))
    return " ".join(sorted(found.used)), " ".join(sorted(found.always))


NEEDS = {
    "printed": ("{{ x }}", "x", "x"),
    "set before": ("{% set x = 1 %}{{ x }}", "", ""),
    "set after": ("{{ x }}{% set x = 1 %}", "x", "x"),
    "set from itself": ("{% set x = x|trim %}{{ x }}", "x", "x"),
    "set in each branch": ("{% if c %}{% set x = 1 %}{% else %}{% set x = 2 %}{% endif %}{{ x }}", "c", "c"),
    "set in each of three": (
        "{% if c %}{% set x = 1 %}{% elif d %}{% set x = 2 %}{% else %}{% set x = 3 %}{% endif %}{{ x }}",
        "c d",
        "c",
    ),
    "set in one branch": ("{% if c %}{% set x = 1 %}{% endif %}{{ x }}", "c x", "c"),
    "set in a loop": ("{% for i in y %}{% set x = 1 %}{% endfor %}{{ x }}", "x y", "x y"),
    "set in a block": ("{% set x %}{{ y }}{% endset %}{{ x }}", "y", "y"),
    "set in a with": ("{% with x = y %}{{ x }}{% endwith %}{{ x }}", "x y", "x y"),
    "read in a branch": ("{% if c %}{{ x }}{% endif %}", "c x", "c"),
    "read in an expression's branch": ("{{ x if c else y }}{{ 1 if c }}", "c x y", "c"),
    "read behind and": ("{% if c and x or y %}{% endif %}", "c x y", "c"),
    "read in a comparison": ("{% if 1 < c < x %}{% endif %}", "c x", "c"),
    "loop": ("{% for i in x if i != y %}{{ i }}{{ loop.index }}{{ z }}{% else %}{{ w }}{% endfor %}", "w x y z", "x"),
    "loop over pairs": ("{% for a, b in x.items() %}{{ a }}{{ b }}{% endfor %}", "x", "x"),
    "asked whether it is there": ("{% if x is defined %}{% endif %}{{ y|default(z) }}", "x y z", "z"),
    "namespace": ("{% set ns = namespace(a=x) %}{% set ns.a = y %}{{ ns.a }}{% set m.a = 1 %}", "m x y", "m x y"),
    "range": ("{% for i in range(n) %}{{ i }}{% endfor %}", "n", "n"),
    "macro never called": ("{% macro f() %}{{ x }}{% endmacro %}", "", ""),
    "macro": ("{% macro f(a, b=y) %}{{ a }}{{ b }}{{ x }}{% endmacro %}{{ f(z) }}", "x y z", "x z"),
    "macro called later": ("{% macro f() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ f() }}", "", ""),
    "macro passed on": ("{% macro f() %}{{ x }}{% endmacro %}{% set g = f %}{{ g() }}", "x", ""),
    "macro of a branch": ("{% if c %}{% macro f() %}{{ x }}{% endmacro %}{% endif %}{{ f() }}", "c f x", "c"),
    "macro that calls itself": ("{% macro f(n) %}{{ x }}{{ f(n) }}{% endmacro %}{{ f(1) }}", "x", "x"),
    "call": ("{% macro f() %}{{ caller(1) }}{% endmacro %}{% call(a, b=z) f() %}{{ a }}{{ x }}{% endcall %}", "x z", ""),
    "filter block": ("{% filter replace(x, y) %}{{ z }}{% endfilter %}", "x y z", "x y z"),
    "deep": ("{{ x.a['b'][0].c }}{{ (x ~ y).z }}{{ x[y] }}", "x y", "x y"),
    "slices": ("{{ x[y:z] }}", "x y z", "x y z"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "used", "always"), NEEDS.values(), ids=NEEDS)
def test_needs(body: str, used: str, always: str) -> None:
    """What may come from the caller is told, and what every rendering reads."""
    assert needs(body) == (used, always)


def test_includes() -> None:
    """An include sees what is set around it; what it sets stays in it; its lines are its own."""
    inner = a_part("+++\n+++\n\n{{ x }}{{ y }}{% set z = 1 %}", file="inner.jinja")
    text = '{% message "user" %}{% set x = 1 %}{% include "inner@1" %}{{ z }}{% include "inner@1" %}{% endmessage %}'
    found = check(Template(a_part("+++\n[variables.y]\n[variables.z]\n+++\n" + text, {"inner@1": inner})))
    assert found.used == {"y": Location("inner.jinja", 4), "z": Location("t.jinja", 5)}
    assert found.always == {"y", "z"}
    assert str(found.used["y"]) == "inner.jinja:4"


def test_findings() -> None:
    """Unused, shadowed and undeclared names are told with their first line, conditional ones apart."""
    head = "+++\n[variables.a]\n[variables.b]\n[variables.c]\n[variables.d]\n+++\n"
    found = check(
        a_part(
            head + '{% message "user" %}{{ a }}\n{% for b in a %}{{ e }}{% endfor %}\n'
            "{% if c %}{{ c }}{% endif %}{% endmessage %}"
        )
    )
    assert found.unused == ("b", "d")
    assert found.shadowed == {"b": Location("t.jinja", 8)}
    assert found.undeclared == {"e": Location("t.jinja", 8)}
    assert found.conditional == {"e"}
    assert found.always == {"a", "c"}


FIELDS = """+++
[variables.brand]
type = "object"
[variables.brand.fields.name]
[variables.brand.fields.home]
type = "object"
[variables.brand.fields.home.fields.url]
[variables.products]
type = "list"
[variables.products.items]
type = "object"
[variables.products.items.fields.name]
[variables.rows]
type = "list"
+++
"""


@pytest.mark.parametrize(
    ("body", "unknown"),
    [
        ("{{ brand.name }}{{ brand['home'].url }}{{ rows[0].x }}", ""),
        ("{% for p in products %}{{ p.name }}{% endfor %}{{ products[0].name }}", ""),
        ("{% for p in products %}{{ p.nme }}{% endfor %}", "products.*.nme"),
        ("{% for k in brand.home %}{% endfor %}{{ products[1].nme }}", "products.*.nme"),
        ("{% set b = brand %}{% with h = b.home %}{{ h.ulr }}{% endwith %}", "brand.home.ulr"),
        ("{% set b = brand %}{% if rows %}{% set b = rows %}{% endif %}{{ b.x }}", ""),
        ("{{ brand.name.upper() }}{{ brand.items() }}{% set brand = {} %}{{ brand.x }}", ""),
    ],
)
def test_fields(body: str, unknown: str) -> None:
    """A field that a declared object doesn't have is found, also through a loop, `set` and `with`."""
    found = check(a_part(FIELDS + '{% message "user" %}' + body + "{% endmessage %}"))
    assert " ".join(".".join(path) for path in found.unknown_fields) == unknown


# --------------------------------------------------------------- against rendering itself

NAMES = ("p", "q", "r")
MAX_CONDITIONS = 4
PICK = st.sampled_from(NAMES)


def _join(*parts: Any) -> st.SearchStrategy[str]:
    """Texts and strategies of texts, one after the other."""
    return st.tuples(*(st.just(part) if isinstance(part, str) else part for part in parts)).map("".join)


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(inner, min_size=2, max_size=3).map("".join),
        _join("{% if § %}", inner, "{% endif %}"),
        _join("{% if § %}", inner, "{% else %}", inner, "{% endif %}"),
        _join("{% if § %}", inner, "{% elif § %}", inner, "{% else %}", inner, "{% endif %}"),
        _join("{% for ", PICK, " in [1] if § %}", inner, "{% else %}", inner, "{% endfor %}"),
        _join("{% with ", PICK, " = ", PICK, " ~ '' %}", inner, "{% endwith %}"),
        _join("{% set ", PICK, " %}", inner, "{% endset %}"),
        _join("{% filter trim %}", inner, "{% endfilter %}"),
        _join("{% macro f(", PICK, ") %}", inner, "{% endmacro %}", inner, "{{ f(1) }}"),
        _join("{% macro g() %}.{{ caller() if § }}{% endmacro %}{% call g() %}", inner, "{% endcall %}"),
    )


BODIES = st.recursive(
    st.one_of(
        _join("{{ ", PICK, " }}"),
        _join("{% set ", PICK, " = 1 %}"),
        _join("{% set ", PICK, " = ", PICK, " ~ '' %}"),
        _join("{{ ", PICK, " if § else ", PICK, " }}"),
        st.just("{% include 'inner' %}"),
    ),
    _grown,
    max_leaves=7,
)

_MISSING = re.compile(r"'(\w)' is undefined")


def missed(template: Template, name: str, values: Mapping[str, Value]) -> str:
    """The name that a rendering misses when `name` isn't there; empty if none."""
    try:
        template.render({**values, name: cast("Value", StrictUndefined(name=name))})
    except TemplateError as cause:
        found = _MISSING.search(cause.message)
        return found[1] if found else cause.message
    return ""


@settings(max_examples=150)
@given(BODIES, BODIES)
def test_agrees_with_rendering(body: str, inner: str) -> None:
    """Not needed: no rendering misses it. Needed: some does. Always: every one does."""
    inner = inner.replace("{% include 'inner' %}", "{{ q }}")
    count = (body + inner).count("§")
    assume(count <= MAX_CONDITIONS)
    numbers = iter(range(count))
    body, inner = (re.sub("§", lambda _: f"c{next(numbers)}", text) for text in (body, inner))
    head = "".join(f"[variables.{name}]\n" for name in NAMES)
    head += "".join(f'[variables.c{number}]\ntype = "boolean"\n' for number in range(count))
    part = a_part(
        f'+++\n{head}+++\n{{% message "user" %}}.{body}{{% endmessage %}}', {"inner": a_part(inner)}
    )
    template, found = Template(part), check(part)
    for name in NAMES:
        misses: list[str] = []
        for truths in product([True, False], repeat=count):
            values: dict[str, Value] = dict.fromkeys(NAMES, "v")
            misses.append(
                missed(template, name, values | {f"c{index}": truth for index, truth in enumerate(truths)})
            )
        assert set(misses) <= {"", name}
        assert (name in found.used) is (name in misses)
        assert name not in found.always or set(misses) == {name}
