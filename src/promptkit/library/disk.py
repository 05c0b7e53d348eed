"""Files as they are now: read anew when they have changed, and a record of what was looked at."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, TypeVar

from promptkit.errors import TemplateError

_T = TypeVar("_T")
Stamp: TypeAlias = tuple[int, int, int]


def stamp_of(path: Path) -> Stamp | None:
    """What changes when a file or folder does; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - asked for many paths in every call
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Disk:
    """What was read from files; whoever loads something learns which paths that stands on."""

    __slots__ = ("_files", "_seen")

    def __init__(self) -> None:
        self._files: dict[Path, tuple[Stamp, object]] = {}
        self._seen: dict[Path, Stamp | None] = {}

    def begin(self) -> None:
        """Forget what was looked at: something new is being loaded."""
        self._seen = {}

    def seen(self) -> tuple[tuple[Path, Stamp | None], ...]:
        """Each path that was looked at since, with its stamp."""
        return tuple(self._seen.items())

    def look(self, path: Path) -> Stamp | None:
        """A path's stamp, remembered: what is being loaded stands on it."""
        stamp = stamp_of(path)
        self._seen[path] = stamp
        return stamp

    def cached(self, path: Path, read: Callable[[], _T]) -> _T:
        """What was read from a file, read anew when the file has changed.

        Raises:
            TemplateError: there is no such file.
        """
        stamp = self.look(path)
        if stamp is None:
            raise TemplateError("can't be read: No such file or directory", file=path)
        held = self._files.get(path)
        if held is None or held[0] != stamp:
            held = (stamp, read())
            self._files[path] = held
        return held[1]  # pyright: ignore[reportReturnType] - what `read` gave for this path
