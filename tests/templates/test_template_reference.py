"""References."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.errors import UsageError
from promptkit.templates.reference import is_pinned, parse_ref, version_of
from promptkit.types import TemplateRef

GOOD = {
    "ugc/script": TemplateRef("ugc/script"),
    " ugc/script ": TemplateRef("ugc/script"),
    "ugc/script@2": TemplateRef("ugc/script", "2"),
    "ugc/script@draft": TemplateRef("ugc/script", "draft"),
    "ugc/script@staging": TemplateRef("ugc/script", "staging"),
    "a/b-c/d_e@sha256:ab12": TemplateRef("a/b-c/d_e", "sha256:ab12"),
}
BAD = (
    "",
    "@2",
    "ugc/script@",
    "ugc/script@0",
    "ugc/script@02",
    "ugc/script@2.1",
    "ugc/script@sha256:ab",
    "ugc/script@sha256:XYZ1",
    "ugc//script",
    "ugc/script/",
    "ugc script",
    "ugc/script@a@b",
)
CLIMBING = ("../secrets", "ugc/../../etc/passwd", "/etc/passwd", "~/x", "..\\x", "C:/x", "ugc/..")


@pytest.mark.parametrize(("text", "ref"), GOOD.items())
def test_good(text: str, ref: TemplateRef) -> None:
    """A reference is a name and, behind an @, which of its versions."""
    assert parse_ref(text) == ref


@pytest.mark.parametrize("text", BAD)
def test_bad(text: str) -> None:
    """What is no reference is refused, with the form it should have."""
    with pytest.raises(UsageError, match="not a template reference") as caught:
        parse_ref(text)
    assert "ugc/script@2" in (caught.value.remedy or "")


@pytest.mark.parametrize("text", CLIMBING)
def test_climbing(text: str) -> None:
    """A path that climbs out of the template folders is refused."""
    with pytest.raises(UsageError, match="climbs out"):
        parse_ref(text)


def test_version_as_the_file_is_called() -> None:
    """@v2 is a slip of the hand: the remedy says @2."""
    with pytest.raises(UsageError) as caught:
        parse_ref("ugc/script@v2")
    assert caught.value.remedy == "Write ugc/script@2."


@pytest.mark.parametrize(
    ("text", "pinned", "version"),
    [
        ("a", False, None),
        ("a@production", False, None),
        ("a@draft", False, None),
        ("a@3", True, 3),
        ("a@sha256:abcd", True, None),
    ],
)
def test_pinned(text: str, pinned: bool, version: int | None) -> None:  # noqa: FBT001 - a table's column
    """Only a number or a digest always means the same text."""
    assert is_pinned(parse_ref(text)) is pinned
    assert version_of(parse_ref(text)) == version


@given(st.text(max_size=40))
def test_any_text(text: str) -> None:
    """Any text is a reference that reads back the same, or is refused."""
    try:
        ref = parse_ref(text)
    except UsageError:
        return
    assert parse_ref(str(ref)) == ref
    assert ".." not in ref.name
