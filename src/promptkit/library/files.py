"""Files of templates: read and written whole, under a lock where several processes may write."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from promptkit.errors import OutputError, TemplateError


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
