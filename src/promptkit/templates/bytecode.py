"""Compiled templates on disk, so that a cold start needs no compiling.

Loading code is running code, so nothing is believed that another user could have written:
the folder and each file must belong to this user and be writable by nobody else.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import CodeType
from typing import Any, Final, TypeAlias

import jinja2

from .compiler import Compiled, body_key, compile_source
from .reference import EPOCH
from .source import Source

_LAYOUT: Final = 4


_MAGIC: Final = (
    f"promptkit {_LAYOUT} {EPOCH} jinja {jinja2.__version__} {sys.implementation.cache_tag}"
    f" {sys.hexversion:x}\n"
).encode()


_Fields: TypeAlias = tuple[
    str, CodeType, dict[str, int], bool, dict[str, int], frozenset[str], dict[tuple[str, ...], int]
]


_CHECKSUM_BYTES: Final = 32


_FOLDER_MODE: Final = 0o700


_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class Bytecode:
    """A folder of compiled templates, by the key of their body.

    Whatever is wrong with the folder, templates are compiled as if there were none.

    Args:
        folder: made with mode 0700 where it is missing.
    """

    __slots__ = ("_folder", "_usable")

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._usable: bool | None = None

    def compiled(self, source: Source) -> Compiled:
        """The code of a source: from the folder, else compiled and put there.

        Raises:
            TemplateError: it doesn't compile.
        """
        if not self._is_safe():
            return compile_source(source)
        key = body_key(source)
        found = self._read(key)
        if found is None:
            found = compile_source(source)
            self._write(found)
        return found

    def _is_safe(self) -> bool:
        """Whether the folder is this user's own and nobody else's; asked once."""
        if self._usable is None:
            try:
                self._folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
                found = self._folder.lstat()
            except OSError:
                self._usable = False
            else:
                self._usable = stat.S_ISDIR(found.st_mode) and _is_ours(found)
        return self._usable

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.{sys.implementation.cache_tag}.bin"

    def _read(self, key: str) -> Compiled | None:
        try:
            handle = os.open(self._path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        with os.fdopen(handle, "rb") as file:
            if not _is_ours(os.fstat(handle)):
                return None
            return _unpack(file.read(), key)

    def _write(self, compiled: Compiled) -> None:
        """Put it there in one move; a full or read-only disk only costs the next start its time."""
        with suppress(OSError):
            handle, name = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(_pack(compiled))
                Path(name).replace(self._path(compiled.key))
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise


def _is_ours(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE


def _pack(compiled: Compiled) -> bytes:
    body = marshal.dumps(
        (
            compiled.key,
            compiled.code,
            dict(compiled.includes),
            compiled.has_messages,
            dict(compiled.loads),
            compiled.stores,
            dict(compiled.paths),
        )
    )
    return _MAGIC + hashlib.sha256(body).digest() + body


def _unpack(data: bytes, key: str) -> Compiled | None:
    """What was packed, or None: of other versions, or not whole (marshal can crash on such bytes)."""
    if not data.startswith(_MAGIC):
        return None
    start = len(_MAGIC) + _CHECKSUM_BYTES
    body = data[start:]
    if hashlib.sha256(body).digest() != data[len(_MAGIC) : start]:
        return None
    fields: _Fields = _load(body)
    return Compiled(*fields) if fields[0] == key else None


def _load(body: bytes) -> Any:
    return marshal.loads(body)  # noqa: S302 - written by this user, whole, see the module's docstring
