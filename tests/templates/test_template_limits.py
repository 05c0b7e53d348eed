"""A rendering is bounded in steps and characters, whatever a template asks for."""

import resource

import pytest
from work_counting import counted

from promptkit.errors import TemplateError
from promptkit.templates.jinja.compiler import compile_source
from promptkit.templates.jinja.sandbox import MAX_STEPS
from promptkit.templates.reference import parse_ref
from promptkit.templates.source import read_source
from promptkit.templates.template import Part, Template

FRONT = '+++\n[variables.x]\ndefault = "x"\n[variables.xs]\ndefault = ["a", "b"]\n+++\n'
CALLS = 8 * MAX_STEPS
"""A step makes at most so many calls, of Python's functions and of C's; all else is little beside them."""
BYTES = 100_000_000

DOUBLE_TEXT = (
    "{% set n = namespace(s='abcdefgh') %}{% for i in range(60) %}{% set n.s = OP %}{% endfor %}{{ n.s }}"
)
DOUBLE_LIST = (
    "{% set n = namespace(s=[1, 2]) %}{% for i in range(60) %}{% set n.s = OP %}{% endfor %}{{ n.s|length }}"
)

BOMBS = {
    # loops
    "range": "{% for i in range(10**9) %}x{% endfor %}",
    "range, huge": "{% for i in range(10**30) %}x{% endfor %}",
    "range, backwards": "{% for i in range(10**12, 0, -1) %}x{% endfor %}",
    "nested": "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}",
    "nested, with loop": "{% for i in range(9999) %}{% for j in range(9999) %}{{ loop.last }}{% endfor %}{% endfor %}",
    "nested, filtered": "{% for i in range(9999) %}{% for j in range(9999) if j < 0 %}x{% endfor %}{% endfor %}",
    "over text": "{% for a in 'x' * 9999999 %}x{% endfor %}",
    "data in a loop": "{% for i in range(90000) %}" + "x" * 5000 + "{% endfor %}",
    "set blocks in a loop": "{% set n = namespace(l=[]) %}{% for i in range(9999) %}"
    "{% set b %}" + "x" * 5000 + "{% endset %}{% set n.l = n.l + [b] %}{% endfor %}",
    "recursive loop": "{% for i in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
    "recursive loop, wide": "{% for i in range(99) recursive %}{{ loop(range(99)) }}{% endfor %}",
    "macro, endless": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "macro, exponential": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(35) }}",
    "call block": "{% macro f(n) %}{% if n %}{{ caller() }}{{ caller() }}{% call f(n - 1) %}x{% endcall %}"
    "{% call f(n - 1) %}x{% endcall %}{% endif %}{% endmacro %}{% call f(35) %}x{% endcall %}",
    # operators
    "*": "{{ 'x' * 10**9 }}",
    "* swapped": "{{ 10**9 * 'x' }}",
    "* of lists": "{{ ([1] * 10**9)|length }}",
    "* of numbers": "{% set n = namespace(v=3) %}{% for i in range(60) %}{% set n.v = n.v * n.v %}{% endfor %}",
    "**": "{{ 10**10**10 }}",
    "** again": "{{ 2**100000000 }}",
    "+ doubling text": DOUBLE_TEXT.replace("OP", "n.s + n.s"),
    "~ doubling text": DOUBLE_TEXT.replace("OP", "n.s ~ n.s"),
    "+ doubling lists": DOUBLE_LIST.replace("OP", "n.s + n.s"),
    "+ doubling numbers": "{% set n = namespace(v=1) %}{% for i in range(500) %}{% set n.v = n.v + n.v %}{% endfor %}",
    "% width": "{{ '%1000000000s' % 1 }}",
    "% precision": "{{ '%.1000000000f' % 1.5 }}",
    "% star": "{{ '%*s' % (1000000000, 1) }}",
    "% many": "{{ '%999s' * 9999 % (1,) }}",
    "slices": "{% set n = namespace(l=[]) %}{% set t = 'x' * 4999999 %}"
    "{% for i in range(9999) %}{% set n.l = n.l + [t[1:]] %}{% endfor %}",
    # filters
    "|format width": '{{ "%1000000000s"|format(1) }}',
    "|format by name": '{{ "%(a)1000000000s"|format(a=1) }}',
    "|center": "{{ 'a'|center(200000000) }}",
    "|indent": "{{ 'a\nb'|indent(1000000000) }}",
    "|indent text": "{{ ('a\n' * 9999)|indent('x' * 99999) }}",
    "|join": "{{ range(9999)|join('x' * 99999) }}",
    "|join of same": "{{ (['x' * 99999] * 9999)|join }}",
    "|replace": "{{ ('a' * 9999)|replace('a', 'x' * 99999) }}",
    "|replace nothing": "{{ ('a' * 9999)|replace('', 'x' * 99999) }}",
    "|wordwrap": "{{ ('a b ' * 999999)|wordwrap(1) }}",
    "|wordwrap string": "{{ ('a b ' * 4999)|wordwrap(1, wrapstring='x' * 99999) }}",
    "|list": "{{ range(10**9)|list|length }}",
    "|list of text": "{{ ('x' * 9999999)|list|length }}",
    "|batch fill": "{{ [1]|batch(10**9, 'x')|first|length }}",
    "|slice": "{{ [1]|slice(10**9)|list|length }}",
    "|slice fill": "{{ [1]|slice(10**9, 'x')|list|length }}",
    "|round": "{{ 5|round(-1000000000) }}",
    "|round ceil": "{{ 5.5|round(1000000000, 'ceil') }}",
    "|int of hex": "{{ ('f' * 999999)|int(0, 16) }}",
    "|sum of lists": "{{ ([[1, 2, 3]] * 9999)|sum(start=[]) }}",
    "|map": "{% for i in range(9999) %}{{ range(9999)|map('string')|list|length }}{% endfor %}",
    "|map growing": "{{ range(9999)|map('center', 99999)|list|length }}",
    "|select": "{% for i in range(9999) %}{{ range(9999)|select('even')|list|length }}{% endfor %}",
    "|tojson indent": "{{ [1]|tojson(indent=1000000000) }}",
    "|tojson of same": "{{ (['x' * 99999] * 9999)|tojson }}",
    "|truncate end": "{% for i in range(9999) %}{{ 'xxxxxxxx'|truncate(1, true, '', 0) ~ 'x' * 9999 }}{% endfor %}",
    "|wordcount": "{% for i in range(9999) %}{{ ('a ' * 4999)|wordcount }}{% endfor %}",
    "|title": "{{ ('a ' * 4999999)|title }}",
    "|upper": "{% for i in range(9999) %}{{ ('a' * 4999)|upper }}{% endfor %}",
    "|upper of one": "{% set t = 'a' * 4999 %}{% for i in range(9999) %}{{ t|upper }}{% endfor %}",
    "text of numbers": "{% set t = 2 ** 120 %}{% for i in range(90000) %}{{ [t, t, t, t, t]|join }}{% endfor %}",
    # methods
    "ljust": "{{ 'x'.ljust(10**9) }}",
    "rjust": "{{ 'x'.rjust(10**9) }}",
    "center": "{{ 'x'.center(10**9) }}",
    "zfill": "{{ 'x'.zfill(10**9) }}",
    "join": "{{ ('x' * 99999).join(['a'] * 9999) }}",
    "join text": "{{ ('x' * 99999).join('a' * 9999) }}",
    "replace": "{{ ('a' * 9999).replace('a', 'x' * 99999) }}",
    "split": "{{ ('a,' * 4999999).split(',')|length }}",
    "split blanks": "{{ ('a ' * 4999999).split()|length }}",
    "splitlines": "{{ ('a\n' * 4999999).splitlines()|length }}",
    "by subscript": "{{ 'x'['ljust'](10**9) }}",
    "upper": "{% for i in range(9999) %}{{ ('a' * 4999).upper() }}{% endfor %}",
    # containers that share members: short to make, endless to walk
    "laughs, list": DOUBLE_LIST.replace("OP", "[n.s, n.s]").replace("|length", "|tojson"),
    "laughs, tuple": DOUBLE_LIST.replace("OP", "(n.s, n.s)").replace("|length", "|tojson"),
    "laughs, mapping": DOUBLE_LIST.replace("OP", "{'a': n.s, 'b': n.s}").replace("|length", "|tojson"),
    "laughs, compared": "{% set n = namespace(a=[0], b=[0]) %}{% for i in range(60) %}"
    "{% set n.a = [n.a, n.a] %}{% set n.b = [n.b, n.b] %}{% endfor %}{{ n.a == n.b }}",
    "laughs, batch": DOUBLE_LIST.replace("OP", "(n.s + n.s)|batch(2)|list"),
    "laughs, macro": "{% macro f(a, n) %}{% if n %}{{ f([a, a], n - 1) }}{% else %}{{ a|tojson }}{% endif %}"
    "{% endmacro %}{{ f([0], 38) }}",
    "sought in": "{% set l = range(99999)|list %}{% for i in range(99999) %}{{ -1 in l }}{% endfor %}",
}

REFUSED = {
    "an undeclared name": "{{ y|default(1) }}",
    "str.format": "{{ '{0:1000000000}'.format(1) }}",
    "str.format_map": "{{ '{a:1000000000}'.format_map({'a': 1}) }}",
    "str.format through |attr": "{{ 'x'|attr('format') }}",
    "str.encode": "{{ 'x'.encode('utf-32') }}",
    "str.translate": "{{ 'x'.translate({120: 'y' * 10}) }}",
    "str.expandtabs": "{{ '\t'.expandtabs(10**9) }}",
    "int.to_bytes": "{{ (5).to_bytes(10**9, 'big') }}",
    "list.append": "{{ xs.append(1) }}",
    "dict.fromkeys": "{{ {}.fromkeys(range(10**9)) }}",
    "dict.update": "{{ {}.update({}) }}",
    "class": "{{ ''.__class__.__mro__ }}",
    "class by subscript": "{{ ''['__class__'] }}",
    "class through map": "{{ xs|map(attribute='__class__')|list }}",
    "macro's inside": "{% macro f() %}{% endmacro %}{{ f.name }}",
    "varargs": "{% macro f() %}{{ varargs }}{% endmacro %}{{ f(1) }}",
    "kwargs": "{% macro f() %}{{ kwargs }}{% endmacro %}{{ f(a=1) }}",
    "self": "{{ self }}",
    "random": "{{ xs|random }}",
    "lipsum": "{{ lipsum() }}",
    "cycler": "{{ cycler(1, 2) }}",
    "dict": "{{ dict(a=1) }}",
    "pprint": "{{ xs|pprint }}",
    "autoescape": "{% autoescape true %}{{ x }}{% endautoescape %}",
    "import": "{% import 'a' as a %}",
    "from import": "{% from 'a' import a %}",
    "extends": "{% extends 'a' %}",
    "block": "{% block a %}{% endblock %}",
    "twenty loops in one another": "{% for a in xs %}" * 25 + "{% endfor %}" * 25,
    "brackets": "{{ " + "(" * 9000 + "1" + ")" * 9000 + " }}",
    "a number of 5,000 digits": "{{ " + "9" * 5000 + " }}",
    "range, called on": "{{ range.count(1) }}",
    "a call of text": "{{ x() }}",
    "namespace's inside": "{{ namespace(a=1).__class__ }}",
}


def template(body: str) -> Template:
    source = read_source(FRONT + '{% message "user" %}.' + body + "{% endmessage %}", file="t.jinja")
    return Template(Part.join(parse_ref("t@1"), source, compile_source(source), {}))


def peak() -> int:
    """The most memory that this process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("body", BOMBS.values(), ids=BOMBS)
def test_bomb(body: str) -> None:
    """What would loop or grow without end is refused, after few calls, in little memory, with file and line."""
    explosive = template(body)
    before = peak()
    with counted() as work, pytest.raises(TemplateError) as caught:
        explosive.render({})
    assert caught.value.where.startswith("t.jinja:")
    assert work.calls <= CALLS
    assert peak() - before < BYTES


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_not_available(body: str) -> None:
    """What isn't on the list of filters, methods and names doesn't exist."""
    with pytest.raises(TemplateError) as caught:
        template(body).render({})
    assert caught.value.file == "t.jinja"
    assert caught.value.remedy
