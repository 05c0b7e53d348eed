"""Files that appear whole or not at all."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO


class replacing:  # noqa: N801 - reads as a verb where it is used
    """A file beside `out` that takes its place when the block ends well."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._temporary: Path | None = None
        self._file: IO[bytes] | None = None

    def __enter__(self) -> IO[bytes]:
        if self._out.exists() and not self._out.is_file():
            self._file = self._out.open("wb")  # a pipe or /dev/stdout: nothing to replace
            return self._file
        number, self._temporary = _beside(self._out)
        self._file = os.fdopen(number, "wb")
        return self._file

    def __exit__(self, kind: object, *_: object) -> None:
        if self._file is None:
            return
        with self._file as file:  # its lock is kept until it has its name, or none
            try:
                file.flush()
                if self._temporary is not None:
                    os.fsync(file.fileno())
                if kind is None and self._temporary is not None:
                    self._temporary.chmod(_mode(self._out))
                    self._temporary.replace(self._out)
                    self._temporary = None
            finally:
                if self._temporary is not None:
                    self._temporary.unlink(missing_ok=True)


def _beside(out: Path) -> tuple[int, Path]:
    """A file for the new content: first what a killed process left of its own, so that such don't pile up."""
    path = out.with_name(f".{out.name}.promptkit")
    number = _alone(path)
    if number is not None:
        return number, path
    number, name = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
    return number, Path(name)


def _alone(path: Path) -> int | None:
    """Open a file, empty and for this process alone; None where it isn't to be had."""
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(path.stat(), os.fstat(number)):
            os.ftruncate(number, 0)
            return number
    except OSError:  # another process writes it, too, or has just put it in its place
        pass
    os.close(number)
    return None


def _mode(out: Path) -> int:
    """The mode that the file has, or a new one would get."""
    if out.exists():
        return out.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
