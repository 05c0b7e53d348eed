"""The database file: created privately, in WAL mode, migrated; its errors explained with a remedy."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Executable, RowMapping, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, QueuePool

from promptkit.errors import LedgerError

_MAGIC = b"SQLite format 3\x00"


_FULL = ("the disk is full", "free some space and run the same command again")


_READ_ONLY = ("the database is read-only", "check the permissions of the file and of its folder")


_REFUSED = (
    "the disk refused a write",
    "see whether it is full, or a quota or a limit of file sizes is reached; then run the same command again",
)


_SQLITE_ERRORS = (
    ("SQLITE_FULL", *_FULL),
    (
        "SQLITE_BUSY",
        "the database is locked by another program",
        "close the program that has it open (a database browser, a backup) and try again",
    ),
    ("SQLITE_READONLY", *_READ_ONLY),
    (
        "SQLITE_CANTOPEN",
        "the database can't be opened",
        "check the permissions of the file and of its folder",
    ),
    (
        "SQLITE_NOTADB",
        "this is not a promptkit database",
        "name another file under `database` in promptkit.toml",
    ),
    (
        "SQLITE_CORRUPT",
        "the database is damaged",
        "restore a backup, or recover it with `sqlite3 FILE .recover`",
    ),
    ("SQLITE_IOERR_WRITE", *_REFUSED),
    ("SQLITE_IOERR_SHMSIZE", *_REFUSED),
    ("SQLITE_IOERR", "the disk failed while the database was in use", "check the disk and the system's log"),
)


_SYSTEM_ERRORS = {
    errno.ENOSPC: _FULL,
    errno.EROFS: _READ_ONLY,
    errno.EDQUOT: _REFUSED,
    errno.EFBIG: _REFUSED,
}
"""The same errors from the system, at a file beside the database such as a lock."""


def explain(error: BaseException, path: Path) -> LedgerError:
    """Return a database's or the system's error as one with a remedy."""
    error = _first(error)
    if isinstance(error, LedgerError):
        return LedgerError(error.message, file=error.file or path, remedy=error.remedy)
    cause: BaseException | None = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        name = str(getattr(cause, "sqlite_errorname", ""))
        for prefix, text, remedy in _SQLITE_ERRORS:
            if name.startswith(prefix):
                return LedgerError(text, file=path, remedy=remedy)
    if isinstance(cause, OSError):
        unknown = (f"the database can't be used: {cause.strerror or cause}", _READ_ONLY[1])
        text, remedy = _SYSTEM_ERRORS.get(cause.errno or 0, unknown)
        return LedgerError(text, file=path, remedy=remedy)
    return LedgerError(f"the database refused: {cause}", file=path, remedy="run `promptkit doctor`")


def _first(error: BaseException) -> BaseException:
    """Return the first error: on a full disk SQLite rolls back, and then the savepoint is missing."""
    while "no such savepoint" in str(error) and error.__context__ is not None:
        error = error.__context__
    return error


def prepare(path: Path) -> Path:
    """Create a database file if there is none, readable by its owner only; return its real path.

    Raises:
        LedgerError: the folder is missing, it is no file, it can't be written, or it is no database.
    """
    try:
        return _prepare(path)
    except OSError as error:
        raise explain(error, path) from error


def _prepare(path: Path) -> Path:
    real = path.resolve()  # two names of one database must share its locks
    if path.is_symlink() and not real.exists():
        raise LedgerError(
            f"a link to {real}, where there is no file",
            file=path,
            remedy="remove the link or create its target",
        )
    if not real.parent.is_dir():
        raise LedgerError(
            "the folder of the database does not exist",
            file=path,
            remedy=f"create it: mkdir -p {real.parent}",
        )
    try:
        # -wal and -shm take their permissions from this file.
        os.close(os.open(real, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        _check_existing(real)
    return real


def _check_existing(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):
        raise LedgerError(
            "this is not a file", file=path, remedy="name a file under `database` in promptkit.toml"
        )
    with path.open("rb") as file:
        head = file.read(len(_MAGIC))
    if head and head != _MAGIC:
        raise explain(_named("SQLITE_NOTADB"), path)


def check_writable(path: Path) -> None:
    """Refuse a database that can only be read.

    Raises:
        LedgerError: the file or its folder (where the -wal file goes) can't be written.
    """
    for entry in (path, path.parent):
        if not os.access(entry, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise LedgerError(
                f"{_READ_ONLY[0]}: {entry.name or entry} can't be written", file=path, remedy=_READ_ONLY[1]
            )


def _named(name: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(name)
    error.sqlite_errorname = name
    return error


def writing_engine(path: Path, *, busy_timeout_s: float, max_pages: int | None = None) -> Engine:
    """Return an engine whose transactions take the write lock at once. It has no pool."""
    creator = _connecting(path, busy_timeout_s)
    engine = create_engine("sqlite://", creator=creator, poolclass=NullPool, hide_parameters=True)

    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # no BEGIN of the driver's own
        _wal(connection, busy_timeout_s)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # erasing.rewrite does the rest
        if max_pages is not None:
            connection.execute(f"PRAGMA max_page_count = {max_pages:d}")

    def began(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", began)
    return engine


def reading_engine(path: Path, *, busy_timeout_s: float) -> Engine:
    """Return an engine that can only read; any thread may use its connections, one at a time."""
    engine = create_engine(
        "sqlite://",
        creator=_connecting(path, busy_timeout_s),
        poolclass=QueuePool,
        hide_parameters=True,
        pool_size=2,
        max_overflow=8,
    )

    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA query_only = ON")

    def began(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", began)
    return engine


def _connecting(path: Path, busy_timeout_s: float) -> Callable[[], sqlite3.Connection]:
    """Return the connector. It never creates a file: a file that is gone must not become an empty one."""
    return partial(
        sqlite3.connect,
        f"{path.as_uri()}?mode=rw",
        uri=True,
        timeout=busy_timeout_s,
        check_same_thread=False,
    )


class Reader:
    """Short read transactions on the database. They see what was committed.

    Args:
        engine: of `reading_engine`.
        path: the database, for messages.
        check_process: raises in a fork of the process that opened the ledger.
    """

    def __init__(self, engine: Engine, path: Path, check_process: Callable[[], None]) -> None:
        self._engine = engine
        self.path = path
        self._check_process = check_process

    @contextmanager
    def connect(self) -> Generator[Connection, None, None]:
        """Open a read transaction.

        Raises:
            LedgerError: the database can't be read.
        """
        self._check_process()
        try:
            with self._engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise explain(error, self.path) from error

    def all(self, query: Executable, parameters: Mapping[str, object] | None = None) -> Sequence[RowMapping]:
        """Return the rows of a query, in a transaction of its own."""
        with self.connect() as connection:
            return connection.execute(query, parameters).mappings().all()

    def first(self, query: Executable) -> RowMapping | None:
        """Return the first row of a query, in a transaction of its own; None if it has none."""
        with self.connect() as connection:
            return connection.execute(query).mappings().first()

    def scalars(self, query: Executable) -> tuple[Any, ...]:
        """Return the first column of a query, in a transaction of its own."""
        with self.connect() as connection:
            return tuple(connection.execute(query).scalars())


def identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of the file at a path; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _wal(connection: Any, timeout_s: float) -> None:
    """Switch to WAL, with retries: SQLite's busy wait doesn't cover the switch."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
            continue
        if mode != "wal":
            message = "this file system can't share memory, which the database needs (is it a network drive?)"
            raise LedgerError(message, remedy="put the database on a local disk")
        return


HEAD = "pk0001"
"""The newest revision."""


REVISIONS = (HEAD,)
"""All revisions, oldest first."""


MIGRATIONS = Path(__file__).parent / "migrations"


def revision(connection: Connection, path: Path) -> str | None:
    """Return the revision of a database; None for an empty one.

    Raises:
        LedgerError: its schema is newer, or it belongs to another program.
    """
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    problem: str | None = None
    if "alembic_version" in tables:
        problem = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if problem in REVISIONS:
        return problem
    if problem is not None and problem.startswith("pk"):
        raise LedgerError(
            f"a newer promptkit wrote this database (schema {problem}, this one knows {HEAD})",
            file=path,
            remedy="upgrade: pip install -U promptkit-router",
        )
    raise LedgerError(
        "this database belongs to another program",
        file=path,
        remedy="name another file under `database` in promptkit.toml",
    )


def upgrade(connection: Connection) -> None:
    """Run the missing migrations in the connection's transaction: all of them or none."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(MIGRATIONS))

    def steps(current: Any, _context: object) -> Any:
        return scripts._upgrade_revs(HEAD, current)  # noqa: SLF001 # what alembic's own `upgrade` calls  # pyright: ignore[reportPrivateUsage]

    with EnvironmentContext(Config(), scripts, fn=steps, destination_rev=HEAD) as environment:
        environment.configure(connection=connection, transaction_per_migration=False)
        environment.run_migrations()


_FIRST_AFFECTED = (3, 7, 0)


_FIXED = (3, 51, 3)


_BACKPORTS = ((3, 50, 7), (3, 44, 6))


def is_wal_reset_affected(version: tuple[int, int, int]) -> bool:
    """Return whether this SQLite has the WAL-reset bug: rare corruption with several writing connections.

    It came with 3.7.0 and was fixed in 3.51.3, and in 3.50.7 and 3.44.6 on their branches.
    """
    if not _FIRST_AFFECTED <= version < _FIXED:
        return False
    return not any(version[:2] == fixed[:2] and version >= fixed for fixed in _BACKPORTS)


def sqlite_version() -> tuple[int, int, int]:
    """Return the version of the SQLite library."""
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
        raise explain(error, database) from error
    return target


def quick_check(database: Path) -> tuple[str, ...]:
    """Return the damage that SQLite finds in the file; empty if it finds none.

    Raises:
        LedgerError: it can't be read at all.
    """
    try:
        with closing(_plain(database)) as connection:
            problem = [str(row[0]) for row in connection.execute("PRAGMA quick_check")]
    except sqlite3.Error as error:
        if error.sqlite_errorname.startswith("SQLITE_CORRUPT"):
            return (str(error),)
        raise explain(error, database) from error
    return () if problem == ["ok"] else tuple(problem)


def _plain(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.resolve().as_uri()}?mode=rw", uri=True, timeout=30)
