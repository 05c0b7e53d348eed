"""Backup, checks, and what the doctor asks."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from ledger_making import DIGEST, SOURCE, one_call

from promptkit.errors import LedgerError
from promptkit.ledger.database import backup, is_wal_reset_affected, quick_check, sqlite_version
from promptkit.ledger.ledger import Ledger


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((4, 0, 0), False),
    ],
)
def test_the_wal_reset_bug(version: tuple[int, int, int], affected: bool) -> None:  # noqa: FBT001
    """SQLite 3.7.0 to 3.51.2 has it, but for the backports 3.44.6 and 3.50.7."""
    assert is_wal_reset_affected(version) is affected


def test_the_version_is_the_librarys() -> None:
    """The version asked about is the one that runs."""
    assert ".".join(map(str, sqlite_version())) == sqlite3.sqlite_version


async def test_a_backup_is_whole_and_private_while_others_write(ledger: Ledger, database: Path) -> None:
    """A backup made while calls are written opens as a ledger, and only its owner can read it."""
    target = database.with_name("backup.db")
    await asyncio.gather(asyncio.to_thread(ledger.backup, target), *(one_call(ledger) for _ in range(100)))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with Ledger.open(target) as copy:
        assert copy.calls.stored_source(DIGEST) == SOURCE
        assert copy.quick_check() == ()


def test_a_backup_overwrites_nothing(ledger: Ledger, database: Path) -> None:
    """A file that is there stays, a folder that isn't is said, a link is not followed."""
    target = database.with_name("kept.txt")
    target.write_text("mine")
    with pytest.raises(LedgerError, match="there is a file already"):
        ledger.backup(target)
    assert target.read_text() == "mine"
    with pytest.raises(LedgerError, match="can't be written"):
        ledger.backup(database.with_name("none") / "backup.db")


def test_what_is_no_database_has_no_backup(tmp_path: Path) -> None:
    """A backup that fails leaves no empty file behind."""
    broken, target = tmp_path / "broken.db", tmp_path / "backup.db"
    broken.write_text("no database " * 100)
    with pytest.raises(LedgerError, match="not a promptkit database"):
        backup(broken, target)
    assert not target.exists()
    with pytest.raises(LedgerError, match="not a promptkit database"):
        quick_check(broken)


async def test_damage_is_found(database: Path) -> None:
    """The quick check tells what is wrong."""
    with Ledger.open(database) as ledger:
        await ledger.calls.store_templates([SOURCE])
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET rootpage = 3 WHERE name = 'replies'")
        connection.commit()
    assert quick_check(database) != ()
