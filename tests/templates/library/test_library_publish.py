"""Publishing: numbers, pins, gates, crashes, and many processes at once."""

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from promptkit.authoring.publish import OwnTemplates, Published, publish
from promptkit.errors import OutputError, TemplateError, TemplateNotFound, UsageError
from promptkit.templates.library import Library
from promptkit.templates.template import Template
from promptkit.templates.versions import LabelMove, read_versions, write_versions
from promptkit.types import TemplateRef

Write = Callable[[str, str], Path]

MESSAGE = '{% message "user" %}TEXT{% endmessage %}\n'


@pytest.fixture
def desk(library: Library, templates: Path) -> OwnTemplates:
    return OwnTemplates(library, [templates])


def edit(templates: Path, old: str, new: str) -> Path:
    draft = templates / "ugc/script/draft.jinja"
    draft.write_bytes(draft.read_bytes().replace(old.encode(), new.encode()))
    return draft


def test_publish(desk: OwnTemplates, templates: Path) -> None:
    """Publishing seals the draft as the next version, byte for byte: CRLF and BOM stay."""
    draft = edit(templates, "Brand:", "The brand:")
    draft.write_bytes(b"\xef\xbb\xbf" + draft.read_bytes().replace(b"\n", b"\r\n"))
    made = publish(desk, "ugc/script@draft")
    file = templates / "ugc/script/v2.jinja"
    assert made == Published(TemplateRef("ugc/script", "2"), file, is_new=True)
    assert file.read_bytes() == draft.read_bytes()
    assert desk.library.load("ugc/script").render({"brand": "B"}).messages[1].content == "The brand: B"
    assert desk.library.check_seals() == []
    assert sorted(path.name for path in file.parent.iterdir()) == [
        "draft.jinja",
        "v1.jinja",
        "v2.jinja",
        "versions.toml",
    ]


def test_publish_twice(desk: OwnTemplates, templates: Path) -> None:
    """Identical content is published once; other line ends are the same content."""
    draft = templates / "ugc/script/draft.jinja"
    draft.write_bytes(draft.read_bytes().replace(b"\n", b"\r\n"))
    made = publish(desk, "ugc/script")
    assert made == Published(TemplateRef("ugc/script", "1"), draft.with_name("v1.jinja"), is_new=False)
    assert not draft.with_name("v2.jinja").exists()


def test_publish_what_an_older_version_was(desk: OwnTemplates, templates: Path) -> None:
    """A draft gone back to an older text is a new version: bare names then mean it."""
    edit(templates, "Brand:", "The brand:")
    publish(desk, "ugc/script")
    edit(templates, "The brand:", "Brand:")
    assert publish(desk, "ugc/script").ref.at == "3"


def test_publish_nothing(desk: OwnTemplates, templates: Path) -> None:
    """Without a draft there is nothing to publish; a version is no draft."""
    with pytest.raises(UsageError, match="names a version"):
        publish(desk, "ugc/script@1")
    (templates / "ugc/script/draft.jinja").unlink()
    with pytest.raises(TemplateNotFound, match="no ugc/script@draft"):
        publish(desk, "ugc/script")
    with pytest.raises(TemplateNotFound, match="no template named x"):
        publish(desk, "x")


def test_pins(desk: OwnTemplates, templates: Path, write: Write) -> None:
    """Includes are pinned to what the draft was tried with: a label's version, else the newest."""
    write("shared/tone/draft.jinja", "calm")
    publish(desk, "shared/tone")
    write("shared/voice/draft.jinja", "Shout like {{ brand }}.")
    publish(desk, "shared/voice")
    versions = templates / "shared/voice/versions.toml"
    sealed = read_versions(versions.read_text(), file="")
    versions.write_text(write_versions(sealed.with_move(LabelMove("calm", 1))))
    text = (
        '+++\n[variables.brand]\n+++\n{% message "user" %}{# include "shared/voice" #}\n'
        "{% include 'shared/voice' %} {% include \"shared/voice@calm\" %} {%- include 'shared/tone@1' %}\n"
        "{% include 'shared/voice' %}{% endmessage %}\n"
    )
    draft = write("b/draft.jinja", text)
    tried = desk.library.load("b@draft").render({"brand": "B"})
    made = publish(desk, "b")
    assert made.pinned == {"shared/voice": "shared/voice@2", "shared/voice@calm": "shared/voice@1"}
    assert made.file.read_text() == text.replace("'shared/voice'", '"shared/voice@2"').replace("@calm", "@1")
    assert draft.read_text() == text
    assert desk.library.load("b").render({"brand": "B"}).messages == tried.messages
    assert not publish(desk, "b").is_new
    write("shared/voice/draft.jinja", "Whisper like {{ brand }}.")
    publish(desk, "shared/voice")
    assert publish(desk, "b").pinned["shared/voice"] == "shared/voice@3"
    assert desk.library.check_seals() == []


@pytest.mark.parametrize("written", ["part", "part@draft", "part@sha256:"])
def test_a_draft_inside(desk: OwnTemplates, write: Write, written: str) -> None:
    """What was never published can't be included by a published version."""
    write("part/draft.jinja", "part")
    if written.endswith(":"):
        written += desk.library.load("part").digest.rpartition(":")[2][:8]
    file = write("b/draft.jinja", MESSAGE.replace("TEXT", f'\n{{% include "{written}" %}}'))
    assert desk.library.load("b").render({}).messages[0].content == "part"
    with pytest.raises(TemplateError, match="means a draft") as caught:
        publish(desk, "b")
    assert caught.value.where == f"{file}:2"
    assert "templates publish part` first" in (caught.value.remedy or "")


def test_a_broken_draft(desk: OwnTemplates, write: Write) -> None:
    """A draft that can't be loaded isn't published."""
    write("b/draft.jinja", MESSAGE.replace("TEXT", "{{ brand }}"))
    with pytest.raises(TemplateError, match="unknown variable 'brand'"):
        publish(desk, "b")
    assert not desk.library.home("b").has(1)


def test_the_gate(desk: OwnTemplates, templates: Path) -> None:
    """The gate sees the version-to-be, with its pins; what it finds is told and nothing is written."""
    edit(templates, 'voice@1"', 'voice"')
    edit(templates, "Brand:", "The brand:")
    seen: list[Template] = []

    def gate(template: Template) -> list[str]:
        seen.append(template)
        return ["PK001 one", "PK002 two"]

    with pytest.raises(TemplateError, match="ugc/script isn't published") as caught:
        publish(desk, "ugc/script", check=gate)
    assert caught.value.message.splitlines()[1:] == ["  PK001 one", "  PK002 two"]
    assert caught.value.file == str(templates / "ugc/script/draft.jinja")
    assert (str(seen[0].ref), "shared/voice@1" in seen[0].text) == ("ugc/script@2", True)
    assert desk.library.home("ugc/script").versions.newest == 1
    assert not (templates / "ugc/script/v2.jinja").exists()


def test_a_crash_before_the_seal(desk: OwnTemplates, templates: Path) -> None:
    """A version file left without its seal can't be loaded, is explained, and is taken up again."""
    draft = edit(templates, "Brand:", "The brand:")
    left = draft.with_name("v2.jinja")
    left.write_bytes(draft.read_bytes())
    assert str(desk.library.load("ugc/script").ref) == "ugc/script@1"
    (problem,) = desk.library.check_seals()
    assert "its publishing never ended" in problem
    assert "promptkit templates publish ugc/script" in problem
    assert publish(desk, "ugc/script") == Published(TemplateRef("ugc/script", "2"), left, is_new=True)
    assert desk.library.check_seals() == []


def test_a_crash_and_another_draft(desk: OwnTemplates, templates: Path) -> None:
    """A left file of another text is somebody's: it stays, and the next number is taken."""
    draft = edit(templates, "Brand:", "The brand:")
    left = draft.with_name("v2.jinja")
    left.write_text("something else")
    assert publish(desk, "ugc/script").ref.at == "3"
    assert left.read_text() == "something else"
    assert len(desk.library.check_seals()) == 1


def test_folders_in_the_way(desk: OwnTemplates, templates: Path) -> None:
    """What the system says against reading is told with the file."""
    draft = edit(templates, "Brand:", "The brand:")
    draft.with_name("versions.toml").unlink()
    draft.with_name("versions.toml").mkdir()
    with pytest.raises(TemplateError, match="can't be read: Is a directory"):
        publish(desk, "ugc/script")
    draft.with_name("versions.toml").rmdir()
    blocker = draft.with_name("v2.jinja")
    blocker.mkdir()
    with pytest.raises(TemplateError, match="can't be read: Is a directory"):
        publish(desk, "ugc/script")


def test_shipped_templates_stay(library: Library, tmp_path: Path) -> None:
    """What isn't the project's own isn't published into."""
    with pytest.raises(TemplateError, match="can't be changed") as caught:
        publish(OwnTemplates(library, [tmp_path / "own"]), "ugc/script")
    assert "templates new ugc/script --from ugc/script" in (caught.value.remedy or "")


def test_a_read_only_folder(desk: OwnTemplates, templates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that can't be written to is told as an output that can't be written."""
    edit(templates, "Brand:", "The brand:")

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refused)  # root may write anywhere
    with pytest.raises(OutputError, match="can't be written: Permission denied") as caught:
        publish(desk, "ugc/script")
    assert caught.value.file == str(templates / "ugc/script/v2.jinja")
    assert not list(templates.rglob(".*.tmp"))


RACER = """
import sys
from pathlib import Path
from promptkit.authoring.publish import OwnTemplates, publish
from promptkit.templates.library import Library
folder, own = Path(sys.argv[1]), sys.argv[2]
desk = OwnTemplates(Library([folder]), [folder])
print("ready", flush=True)
sys.stdin.readline()
draft = folder / "a/draft.jinja"
for number in range(6):
    part = draft.with_name(f".{own}")
    part.write_text('{% message "user" %}' + own + str(number) + '{% endmessage %}')
    part.replace(draft)
    print(publish(desk, "a").ref, flush=True)
"""


def test_many_processes_at_once(templates: Path, write: Write) -> None:
    """Processes that publish at once never make the same version: every file has its own seal."""
    write("a/draft.jinja", MESSAGE)
    racers = [
        subprocess.Popen(  # noqa: S603 - this interpreter
            [sys.executable, "-c", RACER, str(templates), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "xyz"
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    made = [racer.communicate("go\n", timeout=60)[0].split() for racer in racers]
    assert all(racer.returncode == 0 for racer in racers)
    library = Library([templates])
    versions = library.home("a").versions
    assert library.check_seals() == []
    assert {f"a@{version}" for version in versions.seals} == {ref for each in made for ref in each}
    texts = [(templates / f"a/v{version}.jinja").read_text() for version in sorted(versions.seals)]
    assert all(one != other for one, other in pairwise(texts))
