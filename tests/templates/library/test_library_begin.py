"""Beginning a template."""

import fcntl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from promptkit._util.files import locked
from promptkit.authoring.new import CreatedDraft, create_draft
from promptkit.authoring.publish import OwnTemplates, publish
from promptkit.errors import OutputError, TemplateError, TemplateNotFound, UsageError
from promptkit.templates.library import Library
from promptkit.types import TemplateRef

Write = Callable[[str, str], Path]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "project" / "templates"


@pytest.fixture
def desk(library: Library, templates: Path, own: Path) -> OwnTemplates:
    """A project that has no template yet, before the shipped ones."""
    assert library.entries()
    return OwnTemplates(Library([own, templates]), [own])


def test_a_first_draft(desk: OwnTemplates, own: Path) -> None:
    """A new draft renders at once, with no variable given, and can be published as it is."""
    begun = create_draft(desk, "clips/opening")
    assert begun == CreatedDraft(own / "clips/opening/draft.jinja")
    template = desk.library.load("clips/opening")
    assert str(template.ref) == "clips/opening@draft"
    prompt = template.render(template.bind({}))
    assert [message.role for message in prompt.messages] == ["system", "user"]
    assert "#" not in "".join(message.content for message in prompt.messages)
    assert template.spec.description
    assert publish(desk, "clips/opening").ref.at == "1"


def test_a_version_to_go_on_from(desk: OwnTemplates, own: Path, templates: Path) -> None:
    """A draft can begin as another template's version, under a name of its own."""
    begun = create_draft(desk, "mine", source="ugc/script@1")
    assert begun == CreatedDraft(own / "mine/draft.jinja", TemplateRef("ugc/script", "1"))
    assert begun.file.read_bytes() == (templates / "ugc/script/v1.jinja").read_bytes()
    assert [path.name for path in begun.file.parent.iterdir()] == ["draft.jinja"]


def test_a_shipped_template_to_be_changed(
    desk: OwnTemplates, own: Path, templates: Path, write: Write
) -> None:
    """A shipped template comes into the project whole: versions, labels and tests, but not what lies below."""
    write("ugc/script/tests.toml", "# tests")
    write("ugc/script/snapshots/one.txt", "one")
    write("ugc/script/.hidden", "")
    write("ugc/script/long/draft.jinja", "another template")
    write("ugc/script/long/notes.txt", "of that one")
    begun = create_draft(desk, "ugc/script", source="ugc/script")
    assert begun == CreatedDraft(own / "ugc/script/draft.jinja", TemplateRef("ugc/script", "1"), (1,))
    copied = {path.relative_to(own).as_posix() for path in own.rglob("*") if path.is_file()}
    assert copied == {
        f"ugc/script/{name}"
        for name in ("draft.jinja", "v1.jinja", "versions.toml", "tests.toml", "snapshots/one.txt")
    }
    assert begun.file.read_bytes() == (templates / "ugc/script/v1.jinja").read_bytes()
    assert desk.library.load("ugc/script@1").file == str(own / "ugc/script/v1.jinja")
    begun.file.write_text(begun.file.read_text().replace("Brand:", "The brand:"))
    assert publish(desk, "ugc/script").ref.at == "2"
    assert desk.library.check_seals() == []


def test_a_draft_of_ones_own_version(desk: OwnTemplates) -> None:
    """Where the draft is gone, a version brings it back."""
    begun = create_draft(desk, "a")
    publish(desk, "a")
    begun.file.unlink()
    with pytest.raises(TemplateError, match=r"there is already a template a \(your own\)") as caught:
        create_draft(desk, "a")
    assert "templates new a --from a@1" in (caught.value.remedy or "")
    assert create_draft(desk, "a", source="a@1") == CreatedDraft(begun.file, TemplateRef("a", "1"))


def test_nothing_is_overwritten(desk: OwnTemplates, own: Path) -> None:
    """A draft that is there stays as it is; so does what is shipped under that name."""
    begun = create_draft(desk, "a")
    begun.file.write_text("mine")
    for source in (None, "a", "ugc/script"):
        with pytest.raises(TemplateError, match="already has a draft"):
            create_draft(desk, "a", source=source)
    assert begun.file.read_text() == "mine"
    with pytest.raises(TemplateError, match=r"ugc/script \(shipped\)") as caught:
        create_draft(desk, "ugc/script")
    assert "--from ugc/script@1" in (caught.value.remedy or "")
    assert not (own / "ugc").exists()


def test_a_draft_that_came_meanwhile(desk: OwnTemplates, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A draft that another process began while its lock was waited for stays as it is."""
    (own / "a").mkdir(parents=True)
    waits, flock = threading.Event(), fcntl.flock

    def announced(handle: int, operation: int) -> None:
        waits.set()
        flock(handle, operation)

    with ThreadPoolExecutor() as pool:
        with locked(own / "a"):
            monkeypatch.setattr(fcntl, "flock", announced)
            waiting = pool.submit(create_draft, desk, "a")
            assert waits.wait(60)
            (own / "a/draft.jinja").write_text("theirs")
            assert not waiting.done()
        with pytest.raises(TemplateError, match="already has a draft"):
            waiting.result(timeout=60)
    assert (own / "a/draft.jinja").read_text() == "theirs"


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    """A template's folder that can't be opened is told with its name."""
    with pytest.raises(OutputError, match="can't be opened: No such file"), locked(tmp_path / "gone"):
        pass


def test_not_a_name(desk: OwnTemplates) -> None:
    """A new template is named from the top of the folder, without a version."""
    with pytest.raises(UsageError, match="names a version"):
        create_draft(desk, "a@1")
    with pytest.raises(UsageError, match="climbs out"):
        create_draft(desk, "../a")
    with pytest.raises(TemplateNotFound, match="no template named nothing"):
        create_draft(desk, "a", source="nothing")


def test_nowhere_to_put_it(desk: OwnTemplates) -> None:
    """Without a folder of one's own there is nowhere to begin."""
    with pytest.raises(UsageError, match="no folder") as caught:
        create_draft(OwnTemplates(desk.library, []), "a")
    assert "promptkit init" in (caught.value.remedy or "")


def test_a_folder_that_cannot_be_made(desk: OwnTemplates, own: Path) -> None:
    """What the system says against it is told with the folder."""
    own.parent.mkdir()
    own.write_text("a file")
    with pytest.raises(OutputError, match="can't be created: Not a directory") as caught:
        create_draft(desk, "a")
    assert caught.value.file == str(own / "a")
