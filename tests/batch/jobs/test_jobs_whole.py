"""Files that appear whole or not at all, and leave nothing beside them."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from promptkit._util.files import replacing

DYING = """
import os, signal, sys
from pathlib import Path
from promptkit._util.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"a longer text than the next one")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def beside(out: Path) -> list[str]:
    """What lies in the folder besides the file."""
    return sorted(path.name for path in out.parent.iterdir() if path != out)


def test_a_block_that_fails_leaves_what_stood_there(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("yesterday", encoding="utf-8")
    with pytest.raises(ZeroDivisionError), replacing(out) as file:
        file.writelines(b"half" * (1 // number) for number in (1, 0))
    assert (out.read_text("utf-8"), beside(out)) == ("yesterday", [])


def test_what_a_killed_process_left_is_taken_by_the_next(tmp_path: Path) -> None:
    """However often a process is killed while it writes, one file at most lies beside the output, and then none."""
    out = tmp_path / "out.csv"
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", DYING, out], check=False)  # noqa: S603 - our own
        assert killed.returncode == -signal.SIGKILL
        assert beside(out) == [".out.csv.promptkit"]
    with replacing(out) as file:
        file.write(b"whole")
    assert (out.read_bytes(), beside(out)) == (b"whole", [])
    mask = os.umask(0)
    os.umask(mask)
    assert out.stat().st_mode & 0o777 == 0o666 & ~mask


def test_two_processes_that_write_one_file_each_write_their_own(tmp_path: Path) -> None:
    """The last to end is what stands there, whole."""
    out = tmp_path / "out.csv"
    with replacing(out) as first:
        first.write(b"first")
        with replacing(out) as second:
            second.write(b"second")
        assert out.read_bytes() == b"second"
    assert (out.read_bytes(), beside(out)) == (b"first", [])


def test_a_file_that_takes_its_place_between_open_and_lock_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, lock = tmp_path / "out.csv", fcntl.flock

    def late(number: int, how: int) -> None:
        (tmp_path / ".out.csv.promptkit").rename(out)
        out.write_bytes(b"of another")
        lock(number, how)

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", late)
        writing = replacing(out)
        file = writing.__enter__()
    assert out.read_bytes() == b"of another"
    file.write(b"mine")
    writing.__exit__(None)
    assert (out.read_bytes(), beside(out)) == (b"mine", [])


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    out, other = tmp_path / "out.csv", tmp_path / "other"
    other.write_text("theirs", encoding="utf-8")
    (tmp_path / ".out.csv.promptkit").symlink_to(other)
    with replacing(out) as file:
        file.write(b"mine")
    assert (out.read_bytes(), other.read_text("utf-8")) == (b"mine", "theirs")
