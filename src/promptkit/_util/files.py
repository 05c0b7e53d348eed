"""Files that appear whole or not at all."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from promptkit.errors import OutputError, TemplateError


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


def read_bytes(path: Path) -> bytes:
    """A file; what the system says against it is the template's error."""
    try:
        return path.read_bytes()
    except OSError as cause:
        raise TemplateError(f"can't be read: {cause.strerror}", file=path) from None


def read_text(path: Path) -> str:
    """The same, as text."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError:
        raise TemplateError("not UTF-8", file=path, remedy="Bring it back from git.") from None


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one move: after a crash it is the old one or the new one, whole.

    Called under the lock of its folder, so that what a killed process left is written over.

    Raises:
        OutputError: what the system says against it.
    """
    part = path.with_name(f".{path.name}.tmp")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as cause:
        part.unlink(missing_ok=True)
        raise OutputError(f"can't be written: {cause.strerror}", file=path) from None


def write_text(path: Path, text: str) -> None:
    """The same, of text with its line ends as they are."""
    write_bytes(path, text.encode())


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, where they are missing.

    Raises:
        OutputError: what the system says against it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise OutputError(f"can't be made: {cause.strerror}", file=path) from None


@contextmanager
def locked(folder: Path) -> Generator[None, None, None]:
    """Keep other processes from writing into a template's folder; a killed one's lock is gone.

    Raises:
        OutputError: what the system says against it.
    """
    # The folder itself is locked: no lock file is left lying in somebody's git.
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as cause:
        raise OutputError(f"can't be opened: {cause.strerror}", file=folder) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
