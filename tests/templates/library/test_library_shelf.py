"""The library: references to versions, seals, overlays, listing and publishing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from promptkit.authoring.publish import OwnTemplates, publish
from promptkit.errors import TemplateError, TemplateNotFound, UsageError
from promptkit.templates.folder import TemplateEntry
from promptkit.templates.library import Library
from promptkit.templates.reference import template_digest
from promptkit.types import TemplateRef

Write = Callable[[str, str], Path]

MESSAGE = '{% message "user" %}TEXT{% endmessage %}\n'


def text_of(library: Library, ref: str) -> str:
    return library.load(ref).render({}).messages[-1].content


def label(folder: Path, name: str, **labels: int) -> None:
    """Put labels on versions, as a person would write it."""
    file = folder / name / "versions.toml"
    lines = "".join(f'{{ label = "{key}", to = {version} }},\n' for key, version in labels.items())
    file.write_text(file.read_text().partition("\n[labels]")[0] + f"\n[labels]\nmoves = [\n{lines}]\n")


@pytest.fixture
def folder(templates: Path) -> Path:
    return templates


@pytest.fixture
def versions(folder: Path, write: Write) -> Library:
    """`a` with versions 1 and 2 and a newer draft."""
    library = Library([folder])
    for text in ("one", "two"):
        write("a/draft.jinja", MESSAGE.replace("TEXT", text))
        publish(OwnTemplates(library, [folder]), "a")
    write("a/draft.jinja", MESSAGE.replace("TEXT", "draft!"))
    return library


def test_newest(versions: Library) -> None:
    """A bare name means the newest published version, where no label says otherwise."""
    assert str(versions.load("a").ref) == "a@2"


def test_production(versions: Library, folder: Path) -> None:
    """A bare name means the production label, wherever it stands."""
    label(folder, "a", production=1, staging=2)
    assert text_of(versions, "a") == "one"
    assert text_of(versions, "a@staging") == "two"


@pytest.mark.parametrize(("ref", "text"), [("a@1", "one"), ("a@2", "two"), ("a@draft", "draft!")])
def test_exact(versions: Library, ref: str, text: str) -> None:
    """A version or the draft can be asked for."""
    assert text_of(versions, ref) == text
    assert str(versions.load(ref).ref) == ref


def test_by_digest(versions: Library) -> None:
    """The beginning of a digest finds its version, or the draft."""
    for ref in ("a@1", "a@draft"):
        digest = versions.load(ref).digest.split(":")[-1]
        assert str(versions.load(f"a@sha256:{digest[:8]}").ref) == ref
    with pytest.raises(TemplateNotFound):
        versions.load("a@sha256:00000000")


def test_ambiguous_digest(versions: Library, folder: Path) -> None:
    """A beginning that fits two versions is refused."""
    file = folder / "a" / "versions.toml"
    seal = versions.load("a@1").digest
    file.write_text(f'[seals]\nv1 = "{seal}"\nv2 = "{seal}"\n')
    with pytest.raises(UsageError, match="fits versions 1, 2"):
        versions.load(f"a@sha256:{seal.split(':')[-1][:8]}")


def test_draft_of_the_unpublished(folder: Path, write: Write) -> None:
    """Where nothing is published a bare name means the draft, if the caller allows it."""
    write("a/draft.jinja", MESSAGE)
    library = Library([folder])
    assert str(library.load("a").ref) == "a@draft"
    with pytest.raises(TemplateNotFound, match="nothing of a is published") as caught:
        library.load("a", allow_draft=False)
    assert "a@draft" in (caught.value.remedy or "")


MISSING = {
    "ugc/scrpt": "Did you mean ugc/script",
    "zzz": "Template folders:",
    "ugc": "Template folders:",
    "ugc/script@7": "ugc/script has: 1, production (= 1), draft",
    "ugc/script@producton": "Did you mean ugc/script@production",
    "ugc/script@staging": "ugc/script has",
}


@pytest.mark.parametrize(("ref", "remedy"), MISSING.items())
def test_missing(library: Library, folder: Path, ref: str, remedy: str) -> None:
    """What isn't there is named, with what is close or what there is."""
    label(folder, "ugc/script", production=1)
    with pytest.raises(TemplateNotFound) as caught:
        library.load(ref)
    assert remedy in (caught.value.remedy or "")


def test_no_draft(library: Library, folder: Path) -> None:
    """A draft that isn't there is missing, for loading and for publishing."""
    (folder / "ugc/script/draft.jinja").unlink()
    for run in (
        lambda: library.load("ugc/script@draft"),
        lambda: publish(OwnTemplates(library, [folder]), "ugc/script"),
    ):
        with pytest.raises(TemplateNotFound, match="no ugc/script@draft"):
            run()


def test_not_a_reference(library: Library) -> None:
    """A path that climbs out is refused before anything is read."""
    with pytest.raises(UsageError, match="climbs out"):
        library.load("../secrets")


def test_broken_seal(library: Library, folder: Path) -> None:
    """A published version that was changed is refused, naming the file and the way back."""
    file = folder / "ugc/script/v1.jinja"
    file.write_text(file.read_text() + "{# touched #}")
    with pytest.raises(TemplateError, match="changed after it was published") as caught:
        library.load("ugc/script")
    assert caught.value.file == str(file)
    assert f"git checkout -- {file}" in (caught.value.remedy or "")
    assert len(library.check_seals()) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{% message "user" %}a{% endmessage %}\nedit', 2),
        ('+++\nx = \n+++\n{% message "user" %}a{% endmessage %}', 2),
        ("{% if %}", 1),
    ],
)
def test_a_sealed_version_that_no_longer_loads_was_changed(
    library: Library, folder: Path, text: str, line: int
) -> None:
    """Nobody is told to mend a published file: it comes back from git, whatever is wrong with it now."""
    file = folder / "ugc/script/v1.jinja"
    file.write_text(text)
    with pytest.raises(
        TemplateError, match=r"changed after it was published \(now it doesn't load: "
    ) as caught:
        library.load("ugc/script")
    assert (caught.value.file, caught.value.line) == (str(file), line)
    assert f"git checkout -- {file}" in (caught.value.remedy or "")


def test_a_sealed_version_that_cannot_be_read_may_be_whole(library: Library, folder: Path) -> None:
    """What the system says against a file says nothing of its text."""
    file = folder / "ugc/script/v1.jinja"
    file.unlink()
    file.mkdir()
    with pytest.raises(TemplateError, match="can't be read"):
        library.load("ugc/script")


def test_seal_of_an_include(library: Library, folder: Path) -> None:
    """A changed partial breaks what includes it; it is told once."""
    (folder / "shared/voice/v1.jinja").write_text("Shout.")
    with pytest.raises(TemplateError, match="shared/voice@1 was changed"):
        library.load("ugc/script")
    assert len(library.check_seals()) == 1


def test_line_ends_keep_the_seal(library: Library, folder: Path) -> None:
    """A checkout with CRLF doesn't break a seal."""
    file = folder / "ugc/script/v1.jinja"
    digest = library.load("ugc/script").digest
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert library.load("ugc/script").digest == digest
    assert library.check_seals() == []


def test_unsealed(library: Library, write: Write) -> None:
    """A version file without a seal was never published."""
    write("ugc/script/v2.jinja", MESSAGE)
    assert str(library.load("ugc/script").ref) == "ugc/script@1"
    with pytest.raises(TemplateNotFound, match="no ugc/script@3"):
        library.load("ugc/script@3")
    with pytest.raises(TemplateError, match="no seal") as caught:
        library.load("ugc/script@2")
    assert "publish ugc/script" in (caught.value.remedy or "")
    assert len(library.check_seals()) == 1


def test_only_unsealed(folder: Path, write: Write) -> None:
    """A bare name can't mean a version that was never published."""
    write("a/v1.jinja", MESSAGE)
    with pytest.raises(TemplateError, match="no seal"):
        Library([folder]).load("a")


def test_sealed_without_a_file(library: Library, folder: Path) -> None:
    """A sealed version whose file is gone is told with its file."""
    (folder / "ugc/script/v1.jinja").unlink()
    with pytest.raises(TemplateError, match=r"ugc/script@1 has a seal but no file v1\.jinja") as caught:
        library.load("ugc/script")
    assert caught.value.where == f"{folder / 'ugc/script/versions.toml'}:5"
    assert "git checkout" in (caught.value.remedy or "")
    assert len(library.check_seals()) == 1


def test_seal_of_another_epoch(library: Library, folder: Path) -> None:
    """A seal made under an older epoch is checked under that epoch."""
    assert library.load("ugc/script").ref == TemplateRef("ugc/script", "1")
    text = (folder / "ugc/script/v1.jinja").read_text()
    voice = template_digest((folder / "shared/voice/v1.jinja").read_text(), {}, epoch=0)
    seal = template_digest(text, {"shared/voice@1": voice}, epoch=0)
    (folder / "ugc/script/versions.toml").write_text(f'[seals]\nv1 = "{seal}"\n')
    assert str(library.load("ugc/script").ref) == "ugc/script@1"


UNPINNED = {
    "shared/voice": 'Pin it: {% include "shared/voice@1" %}',
    "part@draft": "Pin it: publish part first",
}


@pytest.mark.parametrize(("written", "remedy"), UNPINNED.items())
def test_unpinned_by_hand(library: Library, write: Write, written: str, remedy: str) -> None:
    """A version that somebody made by hand is refused where it includes what moves."""
    write("part/draft.jinja", "part")
    file = write("ugc/script/v2.jinja", MESSAGE.replace("TEXT", f'\n{{% include "{written}" %}}'))
    with pytest.raises(TemplateError) as caught:
        library.load("ugc/script@2")
    assert (caught.value.where, remedy in (caught.value.remedy or "")) == (f"{file}:2", True)


def test_a_draft_that_leads_nowhere(library: Library, folder: Path) -> None:
    """A link to a file that is gone is told with its name."""
    draft = folder / "ugc/script/draft.jinja"
    draft.unlink()
    draft.symlink_to(folder / "gone")
    with pytest.raises(TemplateError, match="can't be read: No such file") as caught:
        library.load("ugc/script@draft")
    assert caught.value.file == str(draft)


BAD_INCLUDES = {
    "shared/voic@1": "include 'shared/voic@1': no template named shared/voic",
    "shared/voice@9": "include 'shared/voice@9': no shared/voice@9",
    "../../etc/passwd": "climbs out",
    "b": "includes itself",
}


@pytest.mark.parametrize(("written", "what"), BAD_INCLUDES.items())
def test_bad_include(library: Library, write: Write, written: str, what: str) -> None:
    """A missing include, one that climbs out and one that goes round are refused with file and line."""
    file = write(
        "b/draft.jinja", f'+++\n+++\n{{% message "user" %}}\n{{% include "{written}" %}}{{% endmessage %}}'
    )
    with pytest.raises(TemplateError) as caught:
        library.load("b")
    assert what in caught.value.message
    assert caught.value.where == f"{file}:4"
    assert caught.value.remedy


@pytest.mark.usefixtures("library")
def test_overlay(folder: Path, tmp_path: Path) -> None:
    """The first folder that has a template wins it whole; includes resolve over all folders."""
    own = tmp_path / "own"
    (own / "ugc/script").mkdir(parents=True)
    (own / "ugc/script/draft.jinja").write_text(
        '+++\n[variables.brand]\n+++\n{% message "user" %}{% include "shared/voice@1" %}{% endmessage %}'
    )
    over = Library([own, tmp_path / "missing", folder])
    assert str(over.load("ugc/script").ref) == "ugc/script@draft"
    assert over.load("ugc/script").render({"brand": "B"}).messages[0].content == "Speak like B."
    with pytest.raises(TemplateNotFound):
        over.load("ugc/script@1")
    assert {entry.name: entry.folder for entry in over.entries()} == {
        "shared/voice": folder,
        "ugc/script": own,
    }


def test_entries(library: Library, folder: Path, write: Write) -> None:
    """Every template is listed with what its bare name means; a broken one with its problem."""
    label(folder, "ugc/script", production=1)
    write("bad/draft.jinja", "+++\n")
    write("worse/v1.jinja", "")
    write("worse/versions.toml", "x = 1")
    write("notes/readme.txt", "no template")
    bad, voice, script, worse = library.entries()
    assert voice == TemplateEntry(
        "shared/voice",
        "",
        (1,),
        {},
        has_draft=True,
        default=TemplateRef("shared/voice", "1"),
        folder=folder,
        is_partial=True,
    )
    assert script == TemplateEntry(
        "ugc/script",
        "A script",
        (1,),
        {"production": 1},
        has_draft=True,
        default=TemplateRef("ugc/script", "1"),
        folder=folder,
        is_partial=False,
    )
    assert (bad.name, bad.default) == ("bad", None)
    assert "no end" in bad.problem
    assert "unknown key" in worse.problem
    assert any("unknown key" in problem for problem in library.check_seals())


def test_loaded_once(library: Library, folder: Path) -> None:
    """A template is compiled once in a process, and again when its file has changed."""
    first = library.load("ugc/script@draft")
    assert library.load("ugc/script@draft") is first
    file = folder / "ugc/script/draft.jinja"
    file.write_text(file.read_text().replace("Brand:", "Brand is"))
    assert library.load("ugc/script@draft") is not first
    assert library.load(TemplateRef("ugc/script", "1")) is library.load("ugc/script")


def test_changes_are_seen(library: Library, folder: Path, write: Write, tmp_path: Path) -> None:
    """A label, a version, an include or an overlay that comes later is seen by the next load."""
    over = Library([tmp_path / "own", folder])
    assert str(over.load("ugc/script").ref) == "ugc/script@1"
    write("ugc/script/draft.jinja", MESSAGE)
    publish(OwnTemplates(library, [folder]), "ugc/script")
    assert str(over.load("ugc/script").ref) == "ugc/script@2"
    label(folder, "ugc/script", production=1)
    assert str(over.load("ugc/script").ref) == "ugc/script@1"
    write("../own/ugc/script/draft.jinja", MESSAGE)
    assert str(over.load("ugc/script").ref) == "ugc/script@draft"
    assert str(over.load("ugc/script@draft").ref) == "ugc/script@draft"
    write("shared/voice/v1.jinja", "Shout.")
    with pytest.raises(TemplateError, match="was changed"):
        library.load("ugc/script")


def test_not_a_folder(tmp_path: Path) -> None:
    """A template folder that is a file has no templates."""
    (tmp_path / "file").write_text("")
    with pytest.raises(TemplateNotFound):
        Library([tmp_path / "file"]).load("a")


def test_unreadable(library: Library, folder: Path) -> None:
    """What the system won't read is told in its words, with the file."""
    with pytest.raises(TemplateError, match="can't be read: File name too long"):
        library.load("x" * 300)
    for name in ("draft.jinja", "versions.toml"):
        file = folder / "ugc/script" / name
        file.unlink()
        file.mkdir()
        with pytest.raises(TemplateError, match="can't be read: Is a directory") as caught:
            library.load("ugc/script@draft")
        assert caught.value.file == str(file)
        file.rmdir()


def test_versions_in_another_encoding(library: Library, folder: Path) -> None:
    """versions.toml that isn't UTF-8 is refused with its file."""
    (folder / "ugc/script/versions.toml").write_bytes(b"\xff")
    with pytest.raises(TemplateError, match="not UTF-8"):
        library.load("ugc/script")
