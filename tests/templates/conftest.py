"""Making templates out of text."""

from collections.abc import Callable, Mapping

import pytest

from promptkit.templates.jinja.compiler import compile_source
from promptkit.templates.reference import parse_ref
from promptkit.templates.source import read_source
from promptkit.templates.template import Part, Template

MakePart = Callable[..., Part]
MakeTemplate = Callable[..., Template]


@pytest.fixture
def make_part() -> MakePart:
    def make(text: str | bytes, *, ref: str = "t@1", includes: Mapping[str, Part] | None = None) -> Part:
        source = read_source(text, file="t.jinja")
        return Part.join(parse_ref(ref), source, compile_source(source), includes or {})

    return make


@pytest.fixture
def make_template(make_part: MakePart) -> MakeTemplate:
    def make(text: str | bytes, **options: object) -> Template:
        return Template(make_part(text, **options))

    return make
