"""Databases that can't be used: each a LedgerError with file and remedy, and the thread lives on."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from ledger_making import SOURCE, attempt_end, attempt_start, call_end, call_start, one_call
from sqlalchemy.exc import OperationalError

from promptkit.errors import LedgerError
from promptkit.ledger import database as connecting
from promptkit.ledger.ledger import Ledger


def _text(path: Path) -> Path:
    path.write_text("brand,angle\n" * 100)
    return path


def _empty_folder(path: Path) -> Path:
    path.mkdir()
    return path


def _other_program(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (id)")
        connection.commit()
    return path


def _newer(path: Path) -> Path:
    Ledger.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'pk9999'")
        connection.commit()
    return path


def _damaged(path: Path) -> Path:
    Ledger.open(path).close()
    content = bytearray(path.read_bytes())
    content[100:4096] = os.urandom(3996)
    path.write_bytes(content)
    return path


def _dangling(path: Path) -> Path:
    path.symlink_to(path.with_name("elsewhere.db"))
    return path


def _no_folder(path: Path) -> Path:
    return path / "no" / "such.db"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_text, "not a promptkit database"),
        (_empty_folder, "not a file"),
        (_other_program, "another program"),
        (_newer, "newer promptkit"),
        (_damaged, "damaged"),
        (_dangling, "link to"),
        (_no_folder, "folder of the database does not exist"),
    ],
)
def test_what_is_no_usable_database_is_said(database: Path, make: Callable[[Path], Path], says: str) -> None:
    """A file that is no ledger, or a newer one, is refused with its name and a remedy, and left alone."""
    path = make(database)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(LedgerError, match=says) as caught:
        Ledger.open(path, busy_timeout_s=0.1)
    assert caught.value.file is not None
    assert caught.value.remedy
    assert before is None or path.read_bytes() == before
    assert not database.with_name("elsewhere.db").exists()


def test_a_link_and_its_target_are_one_database(database: Path) -> None:
    """A link to a database shares its locks with it."""
    Ledger.open(database).close()
    link = database.with_name("link.db")
    link.symlink_to(database)
    with Ledger.open(link) as ledger:
        assert ledger.path == database


@contextmanager
def nobody() -> Generator[None, None, None]:
    """Without root's right to write everywhere."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize(("file_mode", "folder_mode"), [(0o444, 0o777), (0o666, 0o555)])
def test_a_read_only_database_is_said(file_mode: int, folder_mode: int) -> None:
    """A file or a folder that can't be written is refused when it is opened."""
    with tempfile.TemporaryDirectory(prefix="promptkit-") as name:  # pytest's own folders are root's
        folder = Path(name)
        database = folder / "promptkit.db"
        Ledger.open(database).close()
        database.chmod(file_mode)
        folder.chmod(folder_mode)
        with nobody(), pytest.raises(LedgerError, match="read-only") as caught:
            Ledger.open(database)
        folder.chmod(0o700)
    assert caught.value.file == str(database)
    assert caught.value.remedy


def test_a_system_error_is_said(database: Path) -> None:
    """A file name that the system refuses becomes a LedgerError."""
    with pytest.raises(LedgerError, match="can't be used"):
        Ledger.open(database.with_name("x" * 300))


@pytest.mark.parametrize("mode", ["EXCLUSIVE", "IMMEDIATE"])
async def test_a_locked_database_is_said_and_served_again(database: Path, mode: str) -> None:
    """Locked by another program: every waiting caller is told, and writing goes on when it lets go."""
    with Ledger.open(database, busy_timeout_s=0.1) as ledger:
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute(f"BEGIN {mode}")
            tries = [ledger.calls.store_templates([SOURCE]) for _ in range(3)]
            answers = await asyncio.gather(*tries, return_exceptions=True)
            assert [type(answer) for answer in answers] == [LedgerError] * 3
            assert "locked by another program" in str(answers[0])
            other.execute("ROLLBACK")
        await ledger.calls.store_templates([SOURCE])
        await one_call(ledger)


def test_a_database_locked_at_the_start_is_said(database: Path) -> None:
    """A new file that another program has locked is refused after the wait."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerError, match="locked by another program"):
            Ledger.open(database, busy_timeout_s=0.1)


async def test_a_full_disk_is_said_and_nothing_is_half_written(database: Path) -> None:
    """On a full disk every caller is told; what was committed stands; with room again writing goes on."""
    Ledger.open(database).close()
    with closing(sqlite3.connect(database)) as plain:
        pages = plain.execute("PRAGMA page_count").fetchone()[0] + 6
    with Ledger.open(database, max_pages=pages) as ledger:
        await ledger.calls.store_templates([SOURCE])
        call = call_start()
        attempt = attempt_start(call.id)
        await ledger.calls.begin(attempt, (), call)
        tries = [ledger.calls.finish(attempt_end(attempt), call_end(call, "x" * 100_000))]
        tries += [ledger.calls.finish(attempt_end(attempt), call_end(call, "y" * 100_000))]
        answers = await asyncio.gather(*tries, return_exceptions=True)
        assert [type(answer) for answer in answers] == [LedgerError] * 2
        told = answers[0]
        assert isinstance(told, LedgerError)
        assert (told.message, told.file) == ("the disk is full", str(database))
        await ledger.calls.finish(attempt_end(attempt), call_end(call, "short"))
        found = ledger.calls.get(call.id)
    assert found is not None
    assert found.text == "short"


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_database_that_is_moved_away_is_said_and_served_again(
    database: Path, *, replaced: bool
) -> None:
    """What would be written to a file that nobody will find is refused; no other is made in its place."""
    with Ledger.open(database) as ledger:
        call = call_start()
        attempt = attempt_start(call.id)
        await ledger.calls.store_templates([SOURCE])
        await ledger.calls.begin(attempt, (), call)
        away = os.fspath(database.with_name("away.db"))
        os.rename(database, away)  # noqa: PTH104 - a moment
        if replaced:
            shutil.copyfile(away, database)
        with pytest.raises(LedgerError, match="moved or replaced") as caught:
            await ledger.calls.finish(attempt_end(attempt), call_end(call, "text"))
        assert caught.value.file == str(database)
        assert connecting.identity(database) is None or replaced
        os.rename(away, database)  # noqa: PTH104 - a moment
        await ledger.calls.finish(attempt_end(attempt), call_end(call, "text"))
        found = ledger.calls.get(call.id)
    assert found is not None
    assert found.text == "text"


def test_no_connection_makes_a_database(database: Path) -> None:
    """A file that has gone is not taken for a new one."""
    for make in (connecting.reading_engine, connecting.writing_engine):
        engine = make(database, busy_timeout_s=0.1)
        with pytest.raises(OperationalError, match="unable to open"):
            engine.connect()
        engine.dispose()
    assert not database.exists()


def test_a_new_database_on_a_full_disk_leaves_no_half_schema(database: Path) -> None:
    """A migration that the disk can't hold is undone whole."""
    with pytest.raises(LedgerError, match="disk is full"):
        Ledger.open(database, max_pages=5)
    with Ledger.open(database) as ledger:
        assert ledger.calls.search() == ()


async def test_a_read_fails_with_the_file_named(ledger: Ledger, database: Path) -> None:
    """A question that the database can't answer becomes a LedgerError too."""
    await one_call(ledger)
    with closing(sqlite3.connect(database)) as other:
        other.execute("PRAGMA foreign_keys = OFF")
        other.execute("DROP TABLE replies")
        other.commit()
    with pytest.raises(LedgerError, match="no such table") as caught:
        ledger.calls.get(1)
    assert caught.value.file == str(database)
    assert "doctor" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("SQLITE_IOERR_FSYNC", "disk failed"),
        ("SQLITE_IOERR_WRITE", "refused a write"),
        ("SQLITE_IOERR_SHMSIZE", "refused a write"),
        ("SQLITE_READONLY_DBMOVED", "read-only"),
        ("SQLITE_CANTOPEN", "can't be opened"),
    ],
)
def test_errors_that_a_test_cannot_bring_about_are_told_apart(name: str, says: str) -> None:
    """SQLite's other errors have their sentences as well."""
    error = sqlite3.OperationalError("x")
    error.sqlite_errorname = name
    assert says in connecting.explain(error, Path("promptkit.db")).message


def test_troubles_of_the_files_beside_it_are_told_as_its_own() -> None:
    """A lock's file that the system refuses says what the database's own would."""
    said = {
        number: connecting.explain(OSError(number, "x"), Path("x.db")).message for number in (28, 27, 30, 5)
    }
    assert said == {
        28: "the disk is full",
        27: "the disk refused a write",
        30: "the database is read-only",
        5: "the database can't be used: x",
    }
