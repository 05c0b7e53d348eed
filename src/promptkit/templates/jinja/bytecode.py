"""Compiled templates on disk, so that a cold start needs no compiling.

Loading code is running code, so files that another user could have written are not used:
the folder and each file must belong to this user, and no other user may write to them.
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
from typing import Any, TypeAlias

import jinja2

from promptkit.templates.reference import EPOCH
from promptkit.templates.source import Source

from . import compiler
from .compiler import Compiled, body_key, compile_source

_LAYOUT = 5


def compiler_digest() -> str:
    """Return a digest of the compiler's own file: another version of it may write other code.

    The version of promptkit would not change during development, and takes 20 ms to look up.
    """
    try:
        return hashlib.sha256(Path(compiler.__file__).read_bytes()).hexdigest()[:16]
    except OSError:  # an installation without files
        return ""


_MAGIC = (
    f"promptkit {_LAYOUT} {EPOCH} {compiler_digest()} jinja {jinja2.__version__} {sys.implementation.cache_tag}"
    f" {sys.hexversion:x}\n"
).encode()


_Fields: TypeAlias = tuple[
    str, CodeType, dict[str, int], bool, dict[str, int], frozenset[str], dict[tuple[str, ...], int]
]


_CHECKSUM_BYTES = 32
_FOLDER_MODE = 0o700
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


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
        """Return the code of a source, from the folder if it is there; else compile it and store it.

        Raises:
            TemplateError: it doesn't compile.
        """
        if not self._is_safe():
            return compile_source(source)
        key = body_key(source)
        compiled = self._read(key)
        if compiled is None:
            compiled = compile_source(source)
            self._write(compiled)
        return compiled

    def _is_safe(self) -> bool:
        """Return whether the folder belongs to this user alone; it is checked once."""
        if self._usable is None:
            try:
                self._folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
                status = self._folder.lstat()
            except OSError:
                self._usable = False
            else:
                self._usable = stat.S_ISDIR(status.st_mode) and _is_ours(status)
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


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_WRITE


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
    """Read what was packed; None if it is of other versions or incomplete, because marshal can crash on such bytes."""
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
