"""Files that are written completely or not at all."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from promptkit.errors import OutputError, TemplateError


class replacing:  # noqa: N801 - reads as a verb in a `with` statement
    """A file beside `out` that replaces it when the block ends without an error."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._temporary: Path | None = None
        self._file: IO[bytes] | None = None

    def __enter__(self) -> IO[bytes]:
        if self._out.exists() and not self._out.is_file():
            self._file = self._out.open("wb")  # a pipe or /dev/stdout can't be replaced
            return self._file
        number, self._temporary = _create_beside(self._out)
        self._file = os.fdopen(number, "wb")
        return self._file

    def __exit__(self, kind: object, *_: object) -> None:
        if self._file is None:
            return
        with self._file as file:  # keeps its lock until the file is renamed or removed
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


def _create_beside(out: Path) -> tuple[int, Path]:
    """Create a temporary file; reuse the one of a killed process, so that they don't accumulate."""
    path = out.with_name(f".{out.name}.promptkit")
    number = _open_alone(path)
    if number is not None:
        return number, path
    number, name = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
    return number, Path(name)


def _open_alone(path: Path) -> int | None:
    """Open a file, empty and for this process alone; return None if that is impossible."""
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(path.stat(), os.fstat(number)):
            os.ftruncate(number, 0)
            return number
    except OSError:  # another process writes it, or has just renamed it
        pass
    os.close(number)
    return None


def _mode(out: Path) -> int:
    """Return the mode of the file, or of a new one."""
    if out.exists():
        return out.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file: after a crash it has the old content or the new one, complete.

    Raises:
        OutputError: the system refuses it.
    """
    try:
        with replacing(path) as file:
            file.write(content)
    except OSError as cause:
        raise OutputError(f"can't be written: {cause.strerror}", file=path) from None


def write_text(path: Path, text: str) -> None:
    """Write a file as UTF-8, with the line ends of the text.

    Raises:
        OutputError: the system refuses it.
    """
    write_bytes(path, text.encode())


def read_bytes(path: Path) -> bytes:
    """Read a file of a template.

    Raises:
        TemplateError: the system refuses it.
    """
    try:
        return path.read_bytes()
    except OSError as cause:
        raise TemplateError(f"can't be read: {cause.strerror}", file=path) from None


def read_text(path: Path) -> str:
    """Read a file of a template as UTF-8.

    Raises:
        TemplateError: the system refuses it, or it is not UTF-8.
    """
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError:
        raise TemplateError("not UTF-8", file=path, remedy="Restore it from git.") from None


def make_folder(path: Path) -> None:
    """Create a folder, and those above it, if they are missing.

    Raises:
        OutputError: the system refuses it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise OutputError(f"can't be created: {cause.strerror}", file=path) from None


@contextmanager
def locked(folder: Path) -> Generator[None, None, None]:
    """Keep other processes from writing into a template's folder; a killed process leaves no lock.

    Raises:
        OutputError: the system refuses it.
    """
    # The folder itself is locked, so no lock file appears in the user's repository.
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as cause:
        raise OutputError(f"can't be opened: {cause.strerror}", file=folder) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
