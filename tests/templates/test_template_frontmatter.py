"""Front matter."""

import pytest

from promptkit.errors import TemplateError
from promptkit.templates.source import read_source
from promptkit.types import Kind, Params, Reasoning, TemplateSpec, Variable

WHOLE = """\
+++
description = "A script"
[variables.brand]
description = "Brand name"
min_length = 1
max_length = 80
[variables.seconds]
default = 30
minimum = 5
maximum = 90.5
[variables.price]
type = "number"
minimum = 0
[variables.loud]
default = false
[variables.ratio]
default = 1.5
[variables.points]
default = ["a", "b"]
max_length = 9
[variables.angle]
choices = ["problem", "proof"]
default = "proof"
[variables.size]
choices = [15, 30]
[variables.tags]
type = "list"
choices = ["x", "y"]
[params]
max_output_tokens = 600
reasoning = "low"
temperature = 0.7
top_p = 1
top_k = 40
frequency_penalty = -0.5
presence_penalty = 0.5
seed = 7
stop = ["END"]
[output]
type = "object"
required = ["hook"]
[output.properties.hook]
type = "string"
maxLength = 10
x = [1.5, true]
+++
body
"""


def test_whole() -> None:
    """Everything that front matter can say is read; a type is that of the default or the choices, else string."""
    source = read_source(WHOLE, file="t")
    assert source.body == "body\n"
    assert source.offset == WHOLE.count("\n") - 1
    assert source.spec == TemplateSpec(
        "A script",
        {
            "brand": Variable("brand", Kind.STRING, "Brand name", min_length=1, max_length=80),
            "seconds": Variable("seconds", Kind.INTEGER, default=30, minimum=5.0, maximum=90.5),
            "price": Variable("price", Kind.NUMBER, minimum=0.0),
            "loud": Variable("loud", Kind.BOOLEAN, default=False),
            "ratio": Variable("ratio", Kind.NUMBER, default=1.5),
            "points": Variable("points", Kind.LIST, default=["a", "b"], max_length=9),
            "angle": Variable("angle", Kind.STRING, default="proof", choices=("problem", "proof")),
            "size": Variable("size", Kind.INTEGER, choices=(15, 30)),
            "tags": Variable("tags", Kind.LIST, choices=("x", "y")),
        },
        Params(600, Reasoning.LOW, 0.7, 1.0, 40, -0.5, 0.5, 7, ("END",)),
        {
            "type": "object",
            "required": ["hook"],
            "properties": {"hook": {"type": "string", "maxLength": 10, "x": [1.5, True]}},
        },
    )


@pytest.mark.parametrize("text", ["no front matter", "", "++ +\n", "+++x\n+++\n"])
def test_none(text: str) -> None:
    """Front matter may be left out."""
    source = read_source(text, file="t")
    assert (source.body, source.offset, source.spec) == (text, 0, TemplateSpec())


@pytest.mark.parametrize("text", ["+++\n+++\nbody", "+++  \n+++\t\nbody", "\ufeff+++\r\n+++\r\nbody"])
def test_empty(text: str) -> None:
    """Front matter may be empty; spaces behind a fence, a byte order mark and CRLF are harmless."""
    source = read_source(text, file="t")
    assert (source.body, source.offset, source.spec) == ("body", 2, TemplateSpec())


def test_no_schema() -> None:
    """An empty [output] is plain text."""
    assert read_source("+++\n[output]\n+++\n", file="t").spec.output is None


BROKEN = {
    "no end": ("+++\nx = 1\n", 1, "no end", "+++"),
    "not TOML": ("+++\n\nx = = 1\n+++\n", 3, "not valid TOML", None),
    "unknown key": ('+++\ndescription = "x"\ndescripton = "y"\n+++\n', 3, "unknown key", "description"),
    "unknown key of a variable": (
        "+++\n[variables.a]\nmax_lenght = 3\n+++\n",
        3,
        "unknown key",
        "max_length",
    ),
    "unknown key of params": ("+++\n[params]\nmax_tokens = 3\n+++\n", 3, "unknown key", "max_output_tokens"),
    "a variable that is no table": ('+++\n[variables]\na = "x"\n+++\n', 3, "must be a table", None),
    "bad type": ('+++\n[variables.a]\ntype = "strin"\n+++\n', 3, "can't be 'strin'", "string"),
    "bad name": ("+++\n[variables.a-b]\n+++\n", 2, "can't be called", "letters"),
    "reserved name": ("+++\n[variables.loop]\n+++\n", 2, "can't be called", None),
    "default against bounds": (
        '+++\n[variables.a]\nmax_length = 1\ndefault = "xx"\n+++\n',
        4,
        "default of a: 2 characters",
        None,
    ),
    "default of another type": (
        '+++\n[variables.a]\ntype = "integer"\ndefault = "3"\n+++\n',
        4,
        "default of a",
        None,
    ),
    "default that is no choice": (
        '+++\n[variables.a]\nchoices = ["x"]\ndefault = "y"\n+++\n',
        4,
        "one of",
        None,
    ),
    "default that is a date": ("+++\n[variables.a]\ndefault = 2026-01-01\n+++\n", 3, "default of a", None),
    "choices that are none": ("+++\n[variables.a]\nchoices = []\n+++\n", 3, "choices is empty", None),
    "choices in lists": ('+++\n[variables.a]\nchoices = [["x"]]\n+++\n', 3, "list of plain values", None),
    "choices that aren't a list": (
        '+++\n[variables.a]\nchoices = "x"\n+++\n',
        3,
        "list of plain values",
        None,
    ),
    "a choice of another type": ('+++\n[variables.a]\nchoices = ["x", 1]\n+++\n', 3, "choices of a", None),
    "bounds upside down": (
        "+++\n[variables.a]\nmin_length = 3\nmax_length = 2\n+++\n",
        3,
        "no value fits",
        None,
    ),
    "length of a number": (
        "+++\n[variables.a]\ndefault = 1\nmin_length = 1\n+++\n",
        4,
        "does not apply to",
        None,
    ),
    "minimum of text": ("+++\n[variables.a]\nmaximum = 1\n+++\n", 3, "does not apply to", None),
    "bad parameter": ("+++\n[params]\nmax_output_tokens = 0\n+++\n", 3, "at least 1", None),
    "bad reasoning": ('+++\n[params]\nreasoning = "hihg"\n+++\n', 3, "can't be", "high"),
    "a schema with a date": ("+++\n[output]\nx = 2026-01-01\n+++\n", 3, "JSON does not support", None),
    "not UTF-8": (b"+++\n+++\ncaf\xe9\n", 3, "not UTF-8: byte 0xe9", "UTF-8"),
    "too large": (b"x" * 1_000_001, None, "1,000,001 bytes", None),
}


@pytest.mark.parametrize(("text", "line", "what", "remedy"), BROKEN.values(), ids=BROKEN)
def test_broken(text: str | bytes, line: int | None, what: str, remedy: str | None) -> None:
    """Broken or unknown front matter is refused with file, line and, where there is one, the close match."""
    with pytest.raises(TemplateError) as caught:
        read_source(text, file="t.jinja")
    assert what in caught.value.message
    assert (caught.value.file, caught.value.line) == ("t.jinja", line)
    assert remedy is None or remedy in (caught.value.remedy or "")
