"""A summarize at a template says what loading it says, or leaves it to loading."""

from pathlib import Path

import pytest
from work_counting import TWICE, counted

from promptkit.config.paths import shipped
from promptkit.templates.folder import TemplateEntry, summarize
from promptkit.templates.library import Library

BODY = '{% message "user" %}x{% endmessage %}\n'
HEAD = '+++\ndescription = "A script"\n[variables.x]\n+++\n'

SOURCES = {
    "plain": (HEAD + BODY, True),
    "no front matter": (BODY, True),
    "front matter without a description": ("+++\n\n[variables.x]\ndescription = 'no'\n+++\n" + BODY, True),
    "a partial": ("Some text.\n", True),
    "a partial that talks of messages": ("{# {% message %} #}Some {{ message }}.\n", True),
    "a history": ('+++\n[variables.h]\ntype = "messages"\n+++\n{%- messages h %}', True),
    "white space control": (HEAD + '{%-message "user" %}x{% endmessage %}', True),
    "an include with messages": ("{% include 'plain' %}", False),
    "a message in raw text": ("{% raw %}{% message %}{% endraw %}", False),
    "another way to write a description": ("+++\ndescription = 'A script'\n+++\n" + BODY, False),
    "an escape": ('+++\ndescription = "A \\"script\\""\n+++\n' + BODY, False),
    "a long description": ('+++\ndescription = """\ndescription = "A"\n"""\n+++\n' + BODY, False),
    "CRLF": ((HEAD + BODY).replace("\n", "\r\n"), False),
    "a byte order mark": ("\ufeff" + HEAD + BODY, False),
    "no end": ("+++\n" + BODY, False),
    "not UTF-8": (b"caf\xe9", False),
    "a syntax error in the front matter": ("+++\ndescription = \n+++\n" + BODY, False),
}


def written(folder: Path, name: str, text: str | bytes) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "draft.jinja").write_bytes(text if isinstance(text, bytes) else text.encode())


def everything(library: Library, name: str, folder: Path) -> TemplateEntry:
    return library._loaded_entry(name, folder)  # pyright: ignore[reportPrivateUsage] - the long way


@pytest.mark.parametrize(("text", "at_a_glance"), SOURCES.values(), ids=SOURCES)
def test_sources(tmp_path: Path, text: str | bytes, at_a_glance: bool) -> None:  # noqa: FBT001 - a table's column
    """What is seen at a summarize is what loading finds; the unusual is loaded."""
    written(tmp_path, "plain", HEAD + BODY)
    written(tmp_path, "t", text)
    library = Library([tmp_path])
    assert (summarize(tmp_path / "t", ["draft.jinja"]) is not None) is at_a_glance
    assert library.entries()[1] == everything(library, "t", tmp_path)


SEAL = "1:sha256:" + "0" * 64
VERSIONS = {
    "a label": f'# x\n\n[seals]\nv1 = "{SEAL}"\nv2 = "{SEAL}"\n\n[labels]\nmoves = [\n'
    '  { label = "production", to = 1, by = "Ana" },\n  { label = "staging", from = 1, to = 2 },\n]\n',
    "a label that has no seal": '[seals]\n\n[labels]\nmoves = [\n  { label = "production", to = 1 },\n]\n',
    "the same seal twice": f'[seals]\nv1 = "{SEAL}"\nv1 = "{SEAL}"\n\n[labels]\nmoves = [\n]\n',
    "a conflict": f'[seals]\n<<<<<<< a\nv1 = "{SEAL}"\n=======\n>>>>>>> b\n\n[labels]\nmoves = [\n]\n',
    "unknown": "x = 1\n",
}


@pytest.mark.parametrize(("text", "labels"), [(text, {"production": 1, "staging": 2} if name == "a label" else None) for name, text in VERSIONS.items()], ids=VERSIONS)  # fmt: skip
def test_versions(tmp_path: Path, text: str, labels: dict[str, int] | None) -> None:
    """Versions and labels are read at a summarize as they are written; what is wrong with them is left to loading."""
    written(tmp_path, "t", HEAD + BODY)
    (tmp_path / "t/v1.jinja").write_text(HEAD + BODY)
    (tmp_path / "t/versions.toml").write_text(text)
    seen = summarize(tmp_path / "t", ["draft.jinja", "v1.jinja", "versions.toml"])
    assert (None if seen is None else seen.labels) == labels
    if seen is not None:
        assert (seen.at, seen.versions, seen.description) == ("1", (1, 2), "A script")


def test_without_its_file(tmp_path: Path) -> None:
    """A label on a version whose file is gone is left to loading."""
    written(tmp_path, "t", BODY)
    (tmp_path / "t/versions.toml").write_text(VERSIONS["a label"])
    assert summarize(tmp_path / "t", ["draft.jinja", "versions.toml"]) is None


def test_shipped() -> None:
    """All that is shipped is listed at a summarize as it is when loaded."""
    folder = shipped("templates")
    library = Library([folder])
    for entry in library.entries():
        assert entry == everything(library, entry.name, folder)


GLANCE = 170
"""Twice the calls that a summarize takes; to load a template takes about 600."""


def test_a_thousand(tmp_path: Path) -> None:
    """A thousand templates are listed at a summarize each: none of them is loaded."""
    listed: list[int] = []
    for count in (500, 1_000):
        folder = tmp_path / str(count)
        for number in range(count):
            written(folder, f"group{number % 10}/t{number}", HEAD + BODY)
        with counted() as work:
            assert len(Library([folder]).entries()) == count
        listed.append(work.calls)
    assert listed[1] <= TWICE * listed[0]
    assert listed[1] <= GLANCE * 1_000
