"""Looking after a database: backup, check, and what the doctor asks."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from promptkit.errors import LedgerError

_FIRST_AFFECTED: Final = (3, 7, 0)
_FIXED: Final = (3, 51, 3)
_BACKPORTS: Final = ((3, 50, 7), (3, 44, 6))


def is_wal_reset_affected(version: tuple[int, int, int]) -> bool:
    """Whether this SQLite has the WAL-reset bug: rare corruption with several writing connections.

    It came with 3.7.0 and was fixed in 3.51.3, and in 3.50.7 and 3.44.6 on their branches.
    """
    if not _FIRST_AFFECTED <= version < _FIXED:
        return False
    return not any(version[:2] == fixed[:2] and version >= fixed for fixed in _BACKPORTS)


def sqlite_version() -> tuple[int, int, int]:
    """The version of the SQLite library that runs here."""
    major, minor, patch = sqlite3.sqlite_version_info
    return major, minor, patch


def backup(database: Path, target: Path) -> Path:
    """Copy a database, whole and compact, into a new private file, also while others write.

    Raises:
        LedgerError: the target exists or can't be written, or the database can't be read.
    """
    try:
        # VACUUM INTO takes an empty file; made here, it is private from its first byte.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise LedgerError(
            "there is a file already", file=target, remedy="name a new file for the backup"
        ) from None
    except OSError as error:
        raise LedgerError(
            f"the backup can't be written: {error.strerror}", file=target, remedy="name another folder"
        ) from error
    try:
        with closing(_plain(database)) as connection:
            connection.execute("VACUUM INTO ?", (os.fspath(target),))
    except sqlite3.Error as error:
        target.unlink(missing_ok=True)
        raise _explain(error, database) from error
    return target


def quick_check(database: Path) -> tuple[str, ...]:
    """What SQLite finds wrong with the file; empty where it finds nothing.

    Raises:
        LedgerError: it can't be read at all.
    """
    try:
        with closing(_plain(database)) as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check")]
    except sqlite3.Error as error:
        if error.sqlite_errorname.startswith("SQLITE_CORRUPT"):
            return (str(error),)
        raise _explain(error, database) from error
    return () if found == ["ok"] else tuple(found)


def _plain(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.resolve().as_uri()}?mode=rw", uri=True, timeout=30)


def _explain(error: sqlite3.Error, path: Path) -> LedgerError:
    from .connect import explain

    return explain(error, path)
