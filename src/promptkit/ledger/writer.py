"""The one thread of a process that writes: it commits the whole queue at once."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Delete, Engine, Insert, Update
from sqlalchemy.exc import DBAPIError, IntegrityError

from promptkit._util.locks import CommitLock
from promptkit.errors import LedgerError

from .database import explain, identity
from .group import Group, Op, State, Task

T = TypeVar("T")


GROUP_AT_MOST = 1_000


QUEUE_AT_MOST = 4_000


class _Ask:
    """An operation, and the future of the caller that waits for it."""

    __slots__ = ("future", "loop", "op", "result")

    def __init__(self, op: Op[Any], loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
        self.op = op
        self.loop = loop
        self.future = future
        self.result: object = None


class Writer:
    """A thread that runs operations in group commits.

    Args:
        engine: of `writing_engine`: its transactions take the write lock at once.
        lock: separates the commits of all processes.
        state: what this process has open; only the thread changes it.
        path: the database, for messages.
        busy_timeout_s: how long to wait for another process before giving up.
    """

    def __init__(
        self, engine: Engine, lock: CommitLock, state: State, path: Path, *, busy_timeout_s: float
    ) -> None:
        self._engine = engine
        self._lock = lock
        self._state = state
        self._path = path
        self._identity = identity(path)
        self._timeout_s = busy_timeout_s
        self._connection: Connection | None = None
        self._wake = threading.Condition()
        self._queue: deque[_Ask] = deque()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._freed: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._closing = False
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._main, name="promptkit-ledger", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------- for the loops

    async def ask(self, op: Op[T], *, wait_for_space: bool = True) -> T:
        """Queue an operation; return its result once it is on disk.

        Args:
            op: the operation.
            wait_for_space: whether it waits while the queue is full. One that doesn't wait is
                queued, and so carried out, even if its caller is cancelled at once.

        Raises:
            LedgerError: it couldn't be written, or the ledger is closed.
        """
        while wait_for_space and len(self._queue) >= QUEUE_AT_MOST:
            await self._wait_for_space()
        return await self.submit(op)

    async def run(self, task: Callable[[Connection], T]) -> T:
        """Run a function in a savepoint of the next commit; return its result once it is on disk."""
        return await self.ask(Task(task))

    async def execute(self, statement: Insert | Update | Delete) -> int:
        """Run a statement in the next commit; return how many rows it changed, once it is on disk."""
        return await self.run(lambda connection: connection.execute(statement).rowcount)

    def submit(self, op: Op[T]) -> asyncio.Future[T]:
        """Queue an operation at once; return the future of its result."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self.check_process()
        with self._wake:
            if self._closing:
                raise LedgerError("the ledger is closed", file=self._path, remedy="open it again")
            self._queue.append(_Ask(op, loop, future))
            if len(self._queue) == 1:
                self._wake.notify()
        return future

    async def _wait_for_space(self) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._wake:
            if len(self._queue) < QUEUE_AT_MOST or self._closing:
                return
            self._waiters.append((loop, future))
        await future

    async def wait_for_release(self, timeout_s: float, releases: int | None) -> bool:
        """Wait until this process releases a reservation; return False after `timeout_s`."""
        self.check_process()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._wake:
            if releases is not None and self._state.releases > releases:
                return True
            waiter = (loop, future)
            self._freed.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        else:
            return True
        finally:
            with self._wake, suppress(ValueError):
                self._freed.remove(waiter)

    def check_process(self) -> None:
        """Refuse a fork of the process that opened it: the fork has no such thread.

        Raises:
            LedgerError: this is another process.
        """
        if os.getpid() != self._pid:
            raise LedgerError(
                "the ledger was opened before this process was forked",
                file=self._path,
                remedy="open a PromptKit in each process, after the fork",
            )

    def close(self, last: Callable[[Connection], object]) -> None:
        """Write the whole queue, run `last` if attempts are still open, and end the thread."""
        if os.getpid() != self._pid:
            return
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        with suppress(LedgerError, DBAPIError, sqlite3.Error):  # else the next process sweeps
            if self._state.open:
                self._alone(last)
        self._disconnect()
        self._lock.close()

    def _alone(self, run: Callable[[Connection], object]) -> None:
        self._lock.take(self._timeout_s)
        try:
            with self._connected().begin() as transaction:
                run(transaction.connection)
        finally:
            self._lock.release()

    # ------------------------------------------------------------------- on the thread

    def _main(self) -> None:
        while asks := self._take():
            self._serve(asks)

    def _take(self) -> list[_Ask]:
        with self._wake:
            while not self._queue and not self._closing:
                self._wake.wait()
            count = min(len(self._queue), GROUP_AT_MOST)
            asks = [self._queue.popleft() for _ in range(count)]
            waiting, self._waiters = self._waiters, []
        _wake_all(waiting)
        return asks

    def _serve(self, asks: list[_Ask]) -> None:
        """Commit operations together; if one of them fails the group, commit each on its own."""
        released = 0
        try:
            released = self._commit(asks)
        except (IntegrityError, sqlite3.IntegrityError, ValueError, OverflowError, TypeError) as error:
            if len(asks) == 1:
                asks[0].result = self._explained(error)
            else:
                for ask in asks:
                    self._serve([ask])
                return
        except Exception as error:  # noqa: BLE001 - whatever it is, it reaches every caller, and the thread lives
            self._disconnect()
            for ask in asks:
                ask.result = self._explained(error)
        self._resolve_all(asks, released=released > 0)

    def _explained(self, error: Exception) -> Exception:
        explained = explain(error, self._path)
        explained.__cause__ = error
        return explained

    def _commit(self, asks: list[_Ask]) -> int:
        self._lock.take(self._timeout_s)
        try:
            connection = self._connected()
            with connection.begin():
                group = Group(connection, self._state, [ask.op for ask in asks])
                results = group.run()
        finally:
            self._lock.release()
        with self._wake:  # `freed` compares the count of releases under it
            released = group.keep()
        for ask, result in zip(asks, results, strict=True):
            ask.result = result
        return released

    def _connected(self) -> Connection:
        """Return the connection to the file that was opened: writes to a file that is gone are lost.

        Raises:
            LedgerError: the file was moved, removed or replaced.
        """
        if identity(self._path) != self._identity:
            raise LedgerError(
                "the database was moved or replaced while it was in use",
                file=self._path,
                remedy="put it back where it was and run the same command again",
            )
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(DBAPIError):
                connection.close()

    def _resolve_all(self, asks: list[_Ask], *, released: bool) -> None:
        """Resolve the futures, with one wake-up per loop."""
        loops: dict[asyncio.AbstractEventLoop, list[_Ask]] = {}
        for ask in asks:
            loops.setdefault(ask.loop, []).append(ask)
        for loop, mine in loops.items():
            _call(loop, _resolve, mine)
        if released:
            with self._wake:
                waiting, self._freed = self._freed, []
            _wake_all(waiting)


def _resolve(asks: list[_Ask]) -> None:
    for ask in asks:
        if ask.future.done():
            continue
        if isinstance(ask.result, Exception):
            ask.future.set_exception(ask.result)
        else:
            ask.future.set_result(ask.result)


def _wake_all(waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]]) -> None:
    loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for loop, future in waiting:
        loops.setdefault(loop, []).append(future)
    for loop, futures in loops.items():
        _call(loop, _wake, futures)


def _wake(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[T], None], value: T) -> None:
    with suppress(RuntimeError):  # the loop is closed, and its callers with it
        loop.call_soon_threadsafe(function, value)
