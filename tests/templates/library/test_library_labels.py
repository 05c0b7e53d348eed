"""Labels: promoted, rolled back, and never without saying why."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from promptkit.authoring.labels import Signature, promote, rollback
from promptkit.authoring.publish import OwnTemplates, publish
from promptkit.errors import TemplateError, TemplateNotFound, UsageError
from promptkit.templates.library import Library
from promptkit.templates.template import Template

SIGNED = Signature(datetime(2026, 11, 22, 9, tzinfo=UTC), "Ana")


@pytest.fixture
def desk(library: Library, templates: Path) -> OwnTemplates:
    """`ugc/script` with versions 1, 2 and 3."""
    desk = OwnTemplates(library, [templates])
    draft = templates / "ugc/script/draft.jinja"
    for _ in range(2):
        draft.write_text(draft.read_text().replace("Brand:", "A Brand:"))
        publish(desk, "ugc/script")
    return desk


def bad(_template: Template) -> list[str]:
    return ["example 'barly': too long"]


def test_promote_and_roll_back(desk: OwnTemplates, templates: Path) -> None:
    """A label goes from version to version and back, and its history tells each move."""
    for version in (1, 2, 3):
        moved = promote(desk, f"ugc/script@{version}", "production", SIGNED)
        assert (moved.move.to, moved.move.origin) == (version, version - 1 or None)
        assert str(desk.library.load("ugc/script").ref) == f"ugc/script@{version}"
    for version in (2, 1):
        moved = rollback(desk, "ugc/script", "production", Signature(SIGNED.at, "Ben", "clients complain"))
        assert (moved.move.to, moved.move.origin, moved.move.rollback) == (version, version + 1, True)
        assert str(desk.library.load("ugc/script").ref) == f"ugc/script@{version}"
    with pytest.raises(TemplateError, match="had no version before 1"):
        rollback(desk, "ugc/script", "production", SIGNED)
    lines = (templates / "ugc/script/versions.toml").read_text().splitlines()
    assert lines[-2] == (
        '  { label = "production", from = 2, to = 1, at = 2026-11-22T09:00:00Z, by = "Ben",'
        ' why = "clients complain", rollback = true },'
    )
    assert len(desk.library.home("ugc/script").versions.moves) == 5


def test_promote_what_another_label_means(desk: OwnTemplates) -> None:
    """A label can be put where another one stands; putting it there again changes nothing."""
    promote(desk, "ugc/script@2", "staging", SIGNED)
    moved = promote(desk, "ugc/script@staging", "production", SIGNED)
    assert (moved.move.to, moved.is_new) == (2, True)
    again = promote(desk, "ugc/script@2", "production", SIGNED)
    assert (again.move, again.is_new) == (moved.move, False)
    assert len(desk.library.home("ugc/script").versions.moves) == 2


def test_the_gate(desk: OwnTemplates) -> None:
    """What the gate finds stops a promotion, unless it is forced with a reason, which is kept."""
    with pytest.raises(TemplateError, match=r"production isn't put on ugc/script@2:\n  example 'barly'"):
        promote(desk, "ugc/script@2", "production", SIGNED, check=bad)
    with pytest.raises(UsageError, match="--force needs a reason"):
        promote(desk, "ugc/script@2", "production", SIGNED, check=bad, force=True)
    assert desk.library.home("ugc/script").versions.moves == ()
    signed = Signature(SIGNED.at, "Ana", "launch today")
    moved = promote(desk, "ugc/script@2", "production", signed, check=bad, force=True)
    assert (moved.move.forced, moved.move.why, moved.overridden) == (True, "launch today", tuple(bad(...)))  # pyright: ignore[reportArgumentType] - it looks at nothing
    moved = promote(desk, "ugc/script@3", "production", signed, force=True)
    assert (moved.move.forced, moved.overridden) == (False, ())


def test_no_gate_stands_before_a_rollback(desk: OwnTemplates, templates: Path) -> None:
    """A rollback is the way out of trouble: only the seal of what it goes back to is checked."""
    promote(desk, "ugc/script@1", "production", SIGNED)
    promote(desk, "ugc/script@2", "production", SIGNED)
    file = templates / "ugc/script/v1.jinja"
    file.write_text(file.read_text() + "{# touched #}")
    with pytest.raises(TemplateError, match="changed after it was published"):
        rollback(desk, "ugc/script", "production", SIGNED)


USAGE = {
    "no version": ("ugc/script", "production", "doesn't name a version"),
    "draft": ("ugc/script@draft", "production", "a draft can't have a label"),
    "a label called draft": ("ugc/script@1", "draft", "can't be a label"),
    "a label like a number": ("ugc/script@1", "2", "can't be a label"),
    "a label like a file": ("ugc/script@1", "v2", "can't be a label"),
    "a label of two words": ("ugc/script@1", "in production", "can't be a label"),
    "a label like a digest": ("ugc/script@1", "sha256:abcd", "can't be a label"),
}


@pytest.mark.parametrize(("ref", "label", "what"), USAGE.values(), ids=USAGE)
def test_refused(desk: OwnTemplates, ref: str, label: str, what: str) -> None:
    """A promotion names a published version, and a label that a reference can name."""
    with pytest.raises(UsageError, match=what):
        promote(desk, ref, label, SIGNED)


def test_the_draft_by_its_digest(desk: OwnTemplates, templates: Path) -> None:
    """A draft takes no label, however it is named."""
    draft = templates / "ugc/script/draft.jinja"
    draft.write_text(draft.read_text() + "\n")
    digest = desk.library.load("ugc/script@draft").digest.rpartition(":")[2][:12]
    with pytest.raises(TemplateNotFound, match="no ugc/script@sha256"):
        promote(desk, f"ugc/script@sha256:{digest}", "production", SIGNED)


def test_unpublished(desk: OwnTemplates, templates: Path) -> None:
    """Where nothing is published, publishing comes first."""
    (templates / "b").mkdir()
    (templates / "b/draft.jinja").write_text('{% message "user" %}x{% endmessage %}')
    with pytest.raises(UsageError) as caught:
        promote(desk, "b", "production", SIGNED)
    assert caught.value.remedy == "Publish it first."


def test_roll_back_what_was_never_promoted(desk: OwnTemplates) -> None:
    """A label that isn't there, or never meant anything else, can't go back."""
    with pytest.raises(TemplateNotFound, match="no label production") as caught:
        rollback(desk, "ugc/script", "production", SIGNED)
    assert caught.value.remedy == "Its labels: none."
    with pytest.raises(UsageError, match="finds the version itself"):
        rollback(desk, "ugc/script@1", "production", SIGNED)
    with pytest.raises(TemplateNotFound, match="no template named x"):
        rollback(desk, "x", "production", SIGNED)


def test_shipped_templates_stay(desk: OwnTemplates, tmp_path: Path) -> None:
    """No label is put on what isn't the project's own."""
    with pytest.raises(TemplateError, match="can't be changed"):
        promote(OwnTemplates(desk.library, [tmp_path]), "ugc/script@1", "production", SIGNED)
