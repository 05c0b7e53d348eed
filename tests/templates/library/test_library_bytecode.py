"""Compiled templates on disk."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from promptkit.errors import TemplateError
from promptkit.templates.jinja import bytecode as module
from promptkit.templates.jinja import compiler
from promptkit.templates.jinja.bytecode import Bytecode, compiler_digest
from promptkit.templates.jinja.compiler import Compiled, compile_source
from promptkit.templates.library import Library
from promptkit.templates.source import Source, read_source

SOURCE = read_source(
    '{% message "user" %}{% include "a@1" %}{{ x }}{% set y = 1 %}{% endmessage %}', file="t"
)


def never(source: Source) -> Compiled:
    pytest.fail(f"compiled {source.file} again")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "bytecode"


def test_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was compiled once is not compiled again by the next process; the folder is the user's own."""
    first = Bytecode(folder).compiled(SOURCE)
    monkeypatch.setattr(module, "compile_source", never)
    assert Bytecode(folder).compiled(SOURCE) == first == compile_source(SOURCE)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not list(folder.glob("*.tmp"))


def test_same_prompt(templates: Path, library: Library, folder: Path) -> None:
    """Code from disk renders the same prompt."""
    plain = library.load("ugc/script").render({"brand": "B"})
    for _ in range(2):
        assert Library([templates], bytecode=folder).load("ugc/script").render({"brand": "B"}) == plain


def spoil_nothing(_: Path) -> None:
    """The control: an untouched file is used."""


def spoil_end(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def spoil_magic(file: Path) -> None:
    file.write_bytes(b"x" + file.read_bytes())


def spoil_key(file: Path) -> None:
    elsewhere = file.parent.parent / "elsewhere"
    Bytecode(elsewhere).compiled(read_source("other", file="t"))
    (other,) = elsewhere.iterdir()
    other.replace(file)


def spoil_mode(file: Path) -> None:
    file.chmod(0o666)


def spoil_link(file: Path) -> None:
    target = file.with_name("elsewhere")
    file.replace(target)
    file.symlink_to(target)


def counting(monkeypatch: pytest.MonkeyPatch) -> list[Source]:
    compiled: list[Source] = []

    def counted(source: Source) -> Compiled:
        compiled.append(source)
        return compile_source(source)

    monkeypatch.setattr(module, "compile_source", counted)
    return compiled


@pytest.mark.parametrize(
    ("spoil", "anew"),
    [
        (spoil_nothing, 0),
        (spoil_end, 1),
        (spoil_magic, 1),
        (spoil_key, 1),
        (spoil_mode, 1),
        (spoil_link, 1),
    ],
)
def test_not_believed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], anew: int
) -> None:
    """A cut file, one of other versions, of another template, writable by others, or a link: compiled anew."""
    expected = Bytecode(folder).compiled(SOURCE)
    (file,) = folder.iterdir()
    spoil(file)
    compiled = counting(monkeypatch)
    assert Bytecode(folder).compiled(SOURCE) == expected
    assert len(compiled) == anew


def test_folder_of_others(folder: Path) -> None:
    """A folder that others can write is not used at all."""
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert Bytecode(folder).compiled(SOURCE) == compile_source(SOURCE)
    assert not list(folder.iterdir())


def test_folder_behind_a_link(folder: Path, tmp_path: Path) -> None:
    """Nor is one behind a link."""
    folder.parent.mkdir()
    folder.symlink_to(tmp_path)
    Bytecode(folder).compiled(SOURCE)
    assert not list(tmp_path.glob("*.bin"))


def test_no_folder(tmp_path: Path) -> None:
    """Where no folder can be made, templates are compiled each time."""
    (tmp_path / "file").write_text("")
    assert Bytecode(tmp_path / "file" / "x").compiled(SOURCE) == compile_source(SOURCE)


def test_broken_template(folder: Path) -> None:
    """What doesn't compile is not kept."""
    with pytest.raises(TemplateError):
        Bytecode(folder).compiled(read_source("{% if %}", file="t"))
    assert not list(folder.iterdir())


def test_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes nothing costs only time."""

    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_pack", full)
    assert Bytecode(folder).compiled(SOURCE) == compile_source(SOURCE)
    assert not list(folder.iterdir())


def test_another_compiler_s_code_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file begins with a digest of the compiler's own source; an installation without files has none."""
    Bytecode(tmp_path / "kept").compiled(SOURCE)
    (kept,) = (tmp_path / "kept").iterdir()
    assert compiler_digest().encode() in kept.read_bytes().partition(b"\n")[0]
    before, file = compiler_digest(), tmp_path / "compiler.py"
    file.write_text("changed")
    monkeypatch.setattr(compiler, "__file__", str(file))
    assert compiler_digest() not in {"", before}
    file.unlink()
    assert compiler_digest() == ""
