"""The ledger: one database file with every call, attempt, token and cent."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DBAPIError

from promptkit._util.locks import CommitLock, LockFile, LockFolder
from promptkit.errors import LedgerError
from promptkit.ledger import database, erasing, search
from promptkit.ledger import tables as t
from promptkit.types.ids import IdMaker

from .calls import Calls
from .database import Reader
from .erasing import Erasable, Erase
from .group import State
from .jobs import Jobs
from .reports import Reports
from .shared import Shared, settle_owners, sweep
from .writer import Writer

_MIGRATION_S = 60.0
_ERASE_S = 15.0


def _now_us() -> int:
    return time.time_ns() // 1000


class Ledger:
    """The ledger, in one SQLite file. Create it with `Ledger.open`.

    Attributes:
        path: the real path of the database.
        calls: calls and their attempts.
        jobs: jobs and their rows.
        reports: sums of money and reports.
        shared: circuits, rate limits and owners, shared by all processes.
    """

    def __init__(
        self,
        folder: LockFolder,
        owner: LockFile,
        writer: Writer,
        state: State,
        reading: Engine,
        path: Path,
    ) -> None:
        reader = Reader(reading, path, writer.check_process)
        self.path = path
        self.shared = Shared(reader, writer, state, folder)
        self.calls = Calls(reader, writer, state, self.shared.sweep)
        self.jobs = Jobs(reader, writer, state, folder)
        self.reports = Reports(reader)
        self._folder = folder
        self._owner = owner
        self._writer = writer
        self._state = state
        self._reading = reading
        self._reader = reader
        self._closed = False

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        clock: Callable[[], int] = _now_us,
        busy_timeout_s: float = 15.0,
        max_pages: int | None = None,
    ) -> Self:
        """Open a database; create it if there is none, and migrate it if it is behind.

        Args:
            path: the file.
            clock: microseconds since the epoch.
            busy_timeout_s: how long a write waits for other processes.
            max_pages: SQLite's page limit, to test a full disk.

        Raises:
            LedgerError: it is locked, read-only, full, newer, or no promptkit database; its
                folder is missing. The error names the file and the remedy.
        """
        real = database.prepare(path)
        database.check_writable(real)
        folder = LockFolder(real)
        with _explained(real):
            folder.make()
            lock = folder.commit_lock()
            writing = database.writing_engine(real, busy_timeout_s=busy_timeout_s, max_pages=max_pages)
            reading = database.reading_engine(real, busy_timeout_s=busy_timeout_s)
            _migrate(reading, writing, lock, real)
            owner_id = IdMaker(lambda: clock() // 1000, secrets.randbits)()
            _sweep_at_open(reading, writing, lock, folder, clock, busy_timeout_s)
            owner = folder.owner(owner_id)
            owner.try_lock()
        state = State(owner_id, clock)
        writer = Writer(writing, lock, state, real, busy_timeout_s=busy_timeout_s)
        return cls(folder, owner, writer, state, reading, real)

    def erasable(self, selection: Erase) -> Erasable:
        """Return how much `erase` would erase."""
        with self._reader.connect() as connection:
            return erasing.erasable(connection, selection)

    async def erase(self, selection: Erase) -> bool:
        """Erase texts for good, also while a batch writes; their costs stay.

        Returns:
            Whether nothing of them is left on disk; a reader may have kept the log of the database.
        """
        with self._reader.connect() as connection:
            pages = list(erasing.call_ids(connection, selection))
        now_us = self._state.now_us()
        for ids in pages:
            await self._writer.run(partial(erasing.erase_calls, ids=ids, now_us=now_us))
        while await self._writer.run(partial(erasing.erase_rows, selection=selection)):
            pass
        search.drop(self.path)
        return await asyncio.to_thread(self._rewrite)

    def _rewrite(self) -> bool:
        lock = self._folder.commit_lock()
        try:
            with _locked(lock, _MIGRATION_S):
                return erasing.rewrite(self.path, _ERASE_S)
        finally:
            lock.close()

    def backup(self, target: Path) -> Path:
        """Copy the database into a new private file, also while a batch writes.

        Raises:
            LedgerError: there is a file already, or it can't be written.
        """
        return database.backup(self.path, target)

    def quick_check(self) -> tuple[str, ...]:
        """Return the damage that SQLite finds in the file; empty if it finds none."""
        return database.quick_check(self.path)

    def close(self) -> None:
        """Write the whole queue and close the database. Attempts that are still open are settled as unknown."""
        if self._closed:
            return
        self._closed = True
        self._writer.close(self._settle_own)
        self._reading.dispose()
        self._owner.release()

    def _settle_own(self, connection: Connection) -> int:
        return settle_owners(connection, [self._state.owner_id], self._state.now_us())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _explained(path: Path) -> Generator[None, None, None]:
    try:
        yield
    except (DBAPIError, OSError, LedgerError) as error:
        raise database.explain(error, path) from error


def _migrate(reading: Engine, writing: Engine, lock: CommitLock, path: Path) -> None:
    with reading.connect() as connection:
        if database.revision(connection, path) == database.HEAD:
            return
    with _locked(lock, _MIGRATION_S), writing.begin() as connection:
        if database.revision(connection, path) != database.HEAD:  # another process may have been first
            database.upgrade(connection)


def _sweep_at_open(
    reading: Engine,
    writing: Engine,
    lock: CommitLock,
    folder: LockFolder,
    clock: Callable[[], int],
    timeout_s: float,
) -> None:
    with reading.connect() as connection:
        if connection.execute(select(t.RESERVATIONS.c.owner_id).limit(1)).first() is None:
            return
    with _locked(lock, timeout_s), writing.begin() as connection:
        sweep(connection, folder, 0, clock())


@contextmanager
def _locked(lock: CommitLock, timeout_s: float) -> Generator[None, None, None]:
    lock.take(timeout_s)
    try:
        yield
    finally:
        lock.release()
