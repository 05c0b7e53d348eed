"""Typed variables: objects, lists of objects, formats, patterns; in templates and from callers."""

from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest

from promptkit.errors import TemplateError, VariableError
from promptkit.templates.template import Template
from promptkit.templates.variables import expected, fits
from promptkit.types import Format, Value, Variable

MakeTemplate = Callable[..., Template]

FRONT = """+++
[variables.brand]
type = "object"
description = "The brand"
[variables.brand.fields.name]
max_length = 20
[variables.brand.fields.url]
format = "url"
default = "https://example.com"
[variables.brand.fields.home.fields.city]
default = "Lyon"
[variables.products]
min_length = 1
[variables.products.items.fields.name]
[variables.products.items.fields.price]
type = "number"
minimum = 0
[variables.products.items.fields.tags]
default = []
[variables.links]
default = []
[variables.links.items]
format = "url"
[variables.until]
format = "date"
default = 2026-12-24
[variables.sku]
pattern = "[A-Z]{2}-\\\\d+"
default = "AB-1"
+++
"""
BODY = (
    '{% message "user" %}{{ brand.name }} {{ brand.url }} {{ brand.home.city }} {{ until }} {{ sku }}'
    "{% for p in products %}|{{ p.name }} {{ p.price }} {{ p.tags|length }}{% endfor %}"
    "{% for l in links %}|{{ l }}{% endfor %}{% endmessage %}"
)
GOOD: dict[str, Value] = {"brand": {"name": "Barly", "home": {}}, "products": [{"name": "Oat", "price": 2.5}]}


def test_objects(make_template: MakeTemplate) -> None:
    """Objects and lists of objects are read with a dot; defaults of fields are added when rendering."""
    template = make_template(FRONT + BODY)
    bound = template.bind(GOOD)
    assert bound == GOOD
    assert template.render(bound).messages[0].content == (
        "Barly https://example.com Lyon 2026-12-24 AB-1|Oat 2.5 0"
    )


def test_objects_from_text(make_template: MakeTemplate) -> None:
    """Text is JSON for an object and for a list of objects; plain items may stand between semicolons."""
    bound = make_template(FRONT + BODY).bind(
        {
            "brand": '{"home": {"city": "Brest"}, "name": "B"}',
            "products": '[{"price": "3", "name": "x", "tags": "a;b"}]',
            "links": "http://a.example; https://b.example/x?y=z",
            "until": date(2027, 1, 2),
        }
    )
    assert bound == {
        "brand": {"name": "B", "home": {"city": "Brest"}},
        "products": [{"name": "x", "price": 3, "tags": ["a", "b"]}],
        "links": ["http://a.example", "https://b.example/x?y=z"],
        "until": "2027-01-02",
    }
    assert list(bound["brand"]) == ["name", "home"]  # pyright: ignore[reportArgumentType] - a mapping, as just seen


def test_every_problem_has_its_place(make_template: MakeTemplate) -> None:
    """All problems are told at once, each with the way to the member that doesn't fit."""
    with pytest.raises(VariableError) as caught:
        make_template(FRONT + BODY).bind(
            {
                "brand": {"name": "x" * 21, "url": "example.com", "nmae": 1, "zzz\n": 1},
                "products": [{"price": -1}, 3],
                "links": [1],
                "until": datetime(2026, 1, 1, tzinfo=UTC),
                "sku": "ab-1",
            }
        )
    assert caught.value.message.split("\n  ")[1:] == [
        "brand.name: 21 characters; it must be a string, at most 20 characters",
        'brand.url: "example.com" is not an address like https://example.com/page',
        "brand.home: missing; it must be an object with city",
        "brand.nmae: unknown; did you mean name?",
        "brand.zzz\\n: unknown; it has name, url, home",
        "products[0].name: missing; it must be a string",
        "products[0].price: -1; it must be a number, at least 0",
        "products[1]: 3 is not an object with name, price, tags",
        "links[0]: 1 is not an address like https://example.com/page",
        "until: datetime.datetime(2026, 1, 1, 0, 0, tzi… is not a date like 2026-11-21",
        'sku: "ab-1" is not a string, matching [A-Z]{2}-\\d+',
    ]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("brand", "Barly", '"Barly" is not JSON; it must be an object with name, url, home (The brand)'),
        ("brand", "[1]", "is not an object"),
        ("products", "a;b", '[0]: "a" is not JSON'),
        (
            "products",
            [],
            "0 items; it must be a list, each an object with name, price, tags, at least 1 item",
        ),
        ("products", [dict[str, int]()] * 100, "missing"),
    ],
)
def test_not_an_object(make_template: MakeTemplate, name: str, text: object, why: str) -> None:
    """What is no object is refused in words; of many problems the first twenty are told."""
    with pytest.raises(VariableError) as caught:
        make_template(FRONT + BODY).bind({**GOOD, name: text})
    assert why in caught.value.message
    assert caught.value.message.count("\n") <= 21


WRONG_BODY = {
    "direct": ("\n{{ brand.nme }}", 2, "unknown field 'nme' in brand.nme"),
    "deep": ("{{ brand.home['town'] }}", 1, "unknown field 'town' in brand.home.town"),
    "of an item": ("{{ products[0].nme }}", 1, "unknown field 'nme' in products.*.nme"),
    "in a loop": ("\n\n{% for p in products %}{{ p.nme }}{% endfor %}", 3, "no attribute 'nme'"),
    "by another name": ("{% set b = brand %}\n{{ b.nme }}", 2, "no attribute 'nme'"),
    "where the name is set": ("{% set brand = {} %}{{ brand.nme }}", 1, "no attribute 'nme'"),
    "printed whole": ("{{ brand }}", 1, "a mapping can't be printed"),
}


@pytest.mark.parametrize(("body", "line", "what"), WRONG_BODY.values(), ids=WRONG_BODY)
def test_unknown_fields(make_template: MakeTemplate, body: str, line: int, what: str) -> None:
    """A field that isn't declared is refused when loading where it can be seen, else when rendering."""
    with pytest.raises(TemplateError) as caught:
        make_template(FRONT + '{% message "user" %}' + body + "{% endmessage %}").render(GOOD)
    assert what in caught.value.message
    assert caught.value.line == FRONT.count("\n") + line


WRONG_FRONT = {
    "object without fields": ('type = "object"', 3, "an object declares its fields"),
    "fields of a string": ('type = "string"\n[variables.v.fields.a]', 4, "fields does not apply to a string"),
    "items of a number": ("default = 1\n[variables.v.items]", 4, "items does not apply to a integer"),
    "a field called as a method": ("[variables.v.fields.items]\n", 3, "a field can't be called 'items'"),
    "a field called wrongly": ("[variables.v.fields.a-b]\n", 3, "can't be called 'a-b'"),
    "unknown key of a field": ("[variables.v.fields.a]\nmaxlength = 3", 4, "unknown key"),
    "format of a number": ('type = "number"\nformat = "url"', 4, "format does not apply to a number"),
    "unknown format": ('format = "uri"', 3, "can't be 'uri'"),
    "pattern of a list": ('default = []\npattern = "a"', 4, "pattern does not apply to a list"),
    "pattern that can't be bounded": (r'pattern = "(a)\\1"', 3, "isn't available"),
    "untrusted object": ("untrusted = true\n[variables.v.fields.a]\n", 3, "untrusted does not apply to a object"),
    "choices of an object": ("choices = [1]\ntype = 'list'\n[variables.v.items]\n", 3, "choices are for plain values"),
    "default against a format": ('format = "date"\ndefault = "2026-02-30"', 4, "is not a date"),
    "default without a field": ("default = {}\n[variables.v.fields.a]\n", 3, "missing"),
    "nested too deep": ("[variables.v" + ".items" * 9 + "]\n", 3, "nest deeper than 8"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line", "what"), WRONG_FRONT.values(), ids=WRONG_FRONT)
def test_wrong_declarations(make_template: MakeTemplate, text: str, line: int, what: str) -> None:
    """A declaration that contradicts itself is refused with its line."""
    with pytest.raises(TemplateError) as caught:
        make_template(f'+++\n[variables.v]\n{text}\n+++\n{{% message "user" %}}x{{% endmessage %}}')
    assert what in caught.value.message
    assert caught.value.line == line


def test_default_of_an_object(make_template: MakeTemplate) -> None:
    """A whole object may have a default, and its fields theirs."""
    head = '+++\n[variables.b]\ndefault = { n = "N" }\n[variables.b.fields.n]\n[variables.b.fields.m]\ndefault = 1\n+++\n'
    template = make_template(head + '{% message "user" %}{{ b.n }}{{ b.m }}{% endmessage %}')
    assert template.render({}).messages[0].content == "N1"


FORMATS = {
    Format.DATE: (
        ["2026-11-21", "2024-02-29"],
        ["2026-02-29", "20261121", "2026-1-2", "21/11/2026", "2026-11-21T00:00", ""],
    ),
    Format.URL: (
        ["https://example.com", "http://localhost:8080/a?b=c#d", "https://user@example.com/%20", "http://[::1]/"],
        ["example.com", "ftp://example.com", "https://", "https:///x", "https://a b.example", "https://a:99999/",
         "https://a:0/", "http://[::1", "javascript:alert(1)", "https://a.example/<x>", "https://a/" + "x" * 2048, ""],
    ),
    Format.EMAIL: (
        ["a@b.example", "first.last+tag@sub.domain.example", "x@localhost"],
        ["a", "@b", "a@", "a b@c.example", "a@b..c", "a@-b.example", "a@b.example\n", "x" * 65 + "@b", "a@" + "b." * 130 + "c"],
    ),
    Format.LANGUAGE: (
        ["fr", "pt-BR", "zh-Hant-TW", "es-419", "de-CH-1996", "sl-rozaj-biske", "en-a-bbb-x-a", "x-whatever", "EN-gb"],
        ["", "f", "english-language-name-x", "fr_FR", "fr-", "-fr", "fr--FR", "français", "123", "fr-x", "a-" * 100],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", Format)
def test_formats(kind: Format) -> None:
    """Each format takes what is of it and refuses what isn't."""
    good, bad = FORMATS[kind]
    assert [text for text in good if not fits(kind, text)] == []
    assert [text for text in bad if fits(kind, text)] == []


def test_expected_of_formats() -> None:
    """What a format, a pattern and items want is said in words."""
    assert expected(Variable("v", format=Format.DATE)) == "a date like 2026-11-21"
    assert (
        expected(Variable("v", pattern="a+", max_length=3)) == "a string, at most 3 characters, matching a+"
    )
