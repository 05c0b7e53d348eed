"""Digests, the epoch, and rebuilding from stored sources."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.errors import TemplateError
from promptkit.templates.jinja.compiler import GLOBALS, SETTINGS
from promptkit.templates.jinja.filters import FILTERS, TESTS
from promptkit.templates.reference import EPOCH, epoch_of, prompt_digest, template_digest
from promptkit.templates.source import read_source
from promptkit.templates.template import Part, StoredSource, Template
from promptkit.types import Message, Role

MakePart = Callable[..., Part]
MakeTemplate = Callable[..., Template]

TEXTS = st.text(st.characters(exclude_categories=("Cs",)))


def test_epoch() -> None:
    """What could change a rendering changes the epoch: where this fails, raise EPOCH and put the new print here."""
    rules = {
        "settings": dict(SETTINGS),
        "filters": sorted(FILTERS),
        "tests": sorted(TESTS),
        "globals": sorted(GLOBALS),
        "jinja": version("jinja2").rpartition(".")[0],
    }
    found = hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()[:12]
    assert (EPOCH, found) == (1, "38a31b68ed19")


@given(st.lists(st.sampled_from(["a", "é", "\n", "+++\n", "x = 1\n"])).map("".join))
def test_line_ends(text: str) -> None:
    """CRLF, CR or a byte order mark don't change a digest: git may have put them there."""
    plain = "\n" + text
    forms = [plain, plain.replace("\n", "\r\n"), plain.replace("\n", "\r"), "\ufeff" + plain]
    digests = {template_digest(read_source(form, file="t").text, {}) for form in forms}
    digests |= {template_digest(read_source(form.encode(), file="t").text, {}) for form in forms}
    assert len(digests) == 1


@given(TEXTS, TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=2), st.dictionaries(TEXTS, TEXTS, max_size=2))
def test_template_digests_differ(
    one: str, two: str, some: Mapping[str, str], others: Mapping[str, str]
) -> None:
    """Another text, another include or another epoch is another digest."""
    same = one == two and some == others
    assert (template_digest(one, some) == template_digest(two, others)) is same
    assert template_digest(one, some, epoch=2) != template_digest(one, some, epoch=1)


MESSAGES = st.lists(st.builds(Message, st.sampled_from(list(Role)), st.text(max_size=5)), max_size=3)


@given(MESSAGES, MESSAGES)
def test_prompt_digests_differ(one: list[Message], two: list[Message]) -> None:
    """Two prompts have one digest only if roles and text are the same."""
    assert (prompt_digest(one) == prompt_digest(two)) is (one == two)


def test_known_digests() -> None:
    """Digests don't change from one release to the next: ledgers and seals stand on them."""
    assert (
        template_digest("x", {"a@1": "1:sha256:00"})
        == "1:sha256:eab4d01826a9c0534961b9ef4104c327bce8c06c8528fd7a92e952355157b513"
    )
    assert (
        prompt_digest([Message(Role.USER, "é")])
        == "sha256:bd6c0afc0cda909e4260050493c0e9e80486b7bfa78f14019bd2c947993dfbf3"
    )


@pytest.mark.parametrize(
    ("digest", "epoch"), [("1:sha256:ab", 1), ("12:sha256:ab", 12), ("sha256:ab", None), ("x", None)]
)
def test_epoch_of(digest: str, epoch: int | None) -> None:
    """A digest tells the epoch that it was made under."""
    assert epoch_of(digest) == epoch


def a_template(make_part: MakePart, make_template: MakeTemplate) -> Template:
    voice = make_part("voice of {{ x }}", ref="voice@1")
    return make_template(
        '+++\n[variables.x]\n+++\n{% message "user" %}{% include "voice@1" %}{% endmessage %}',
        ref="ugc/script@draft",
        includes={"voice@1": voice},
    )


def test_rebuild(make_part: MakePart, make_template: MakeTemplate) -> None:
    """From its stored sources a template is rebuilt, to the same prompt and the same digests."""
    template = a_template(make_part, make_template)
    stored = {source.digest: source for source in template.sources()}
    again = Template.rebuild(template.digest, stored.get)
    assert again.render({"x": "é"}) == template.render({"x": "é"})
    assert (again.ref, again.digest) == (template.ref, template.digest)


def test_rebuild_without_a_source(make_part: MakePart, make_template: MakeTemplate) -> None:
    """A source that isn't stored is named."""
    template = a_template(make_part, make_template)
    stored = {source.digest: source for source in template.sources()}
    del stored[next(source.digest for source in stored.values() if source.ref == "voice@1")]
    with pytest.raises(TemplateError, match="isn't stored"):
        Template.rebuild(template.digest, stored.get)


def test_rebuild_of_changed_sources(make_part: MakePart, make_template: MakeTemplate) -> None:
    """A stored source that isn't what its digest says is refused."""
    template = a_template(make_part, make_template)
    stored: dict[str, StoredSource] = {
        source.digest: replace(source, text=source.text.replace("voice of", "lies of"))
        for source in template.sources()
    }
    with pytest.raises(TemplateError, match="isn't what its digest says"):
        Template.rebuild(template.digest, stored.get)
