"""The ledger's face: what the engine writes through, what the faces read through."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DBAPIError

from promptkit._util.locks import CommitLock, JobLock, LockFile, LockFolder
from promptkit.errors import LedgerError
from promptkit.ledger import database as care
from promptkit.ledger import database as schema
from promptkit.ledger import erasing, jobs, search
from promptkit.ledger import queries as job_books
from promptkit.ledger import shared as leases
from promptkit.ledger import shared as owners
from promptkit.ledger import tables as t
from promptkit.routing.health import Changes, CircuitKey, Lanes
from promptkit.routing.limits import Ask
from promptkit.templates.template import StoredSource
from promptkit.types import Json, Scope
from promptkit.types.ids import IdMaker

from .database import check_writable, explain, prepare, reading_engine, writing_engine
from .erasing import Erase
from .group import Begin, EndCall, Finish, Op, State, Task, Withdraw, store_templates
from .queries import JobBooks
from .records import (
    Admitted,
    AttemptEnd,
    AttemptStart,
    CallEnd,
    CallStart,
    Ingested,
    InputRead,
    JobRecord,
    JobStart,
    JobState,
    MemberEnd,
    Refused,
    RowEnd,
    RowStart,
    RowState,
    Settled,
)
from .shared import claim, learn, load_health, reset
from .writer import Writer

_SWEEP_EVERY_S: Final = 1.0


_MIGRATION_S: Final = 60.0


_ERASING_S: Final = 15.0


def _now_us() -> int:
    return time.time_ns() // 1000


class Sharing(JobBooks):
    """The part of `Ledger` that is shared state, and no books; and how all of its parts write."""

    _writer: Writer
    _state: State

    def lanes(self) -> Lanes:
        """The lanes of all providers as they stand; a read of a fraction of a millisecond."""
        with self._read() as connection:
            return load_health(connection)

    def learn(self, changed: Changes, now_s: float) -> asyncio.Future[object]:
        """Bring in what this process learned of the targets' health.

        It is queued at once: with the attempt that is finished next, it goes into one commit.

        Args:
            changed: what became of which lanes.
            now_s: seconds since the epoch.

        Returns:
            What is done when it is on disk.
        """
        return self._soon(partial(learn, changed=changed, now_s=now_s))

    async def claim_probe(self, keys: tuple[CircuitKey, ...], now_s: float, until_s: float) -> bool:
        """Claim to be the one that tries half-open lanes; False where another does, or has closed one."""
        owner_id = self._state.owner_id
        run = partial(claim, keys=keys, now_s=now_s, until_s=until_s, owner_id=owner_id)
        return bool(await self._soon(run))

    async def reset_lanes(self, provider: str, *, terminal_of: str | None = None) -> int:
        """Open the lanes of a provider by hand: all, or the terminal ones of an account; returns how many."""
        opened = await self._soon(partial(reset, provider=provider, terminal_of=terminal_of))
        assert isinstance(opened, int)  # noqa: S101 - what the task gives
        return opened

    async def lease(
        self, place: leases.Place, asks: Sequence[Ask], today: leases.Today | None, now_s: float
    ) -> leases.Leased:
        """Lease the next units of a target's rates, and requests of its day."""
        result = await self._soon(partial(leases.take, place=place, asks=asks, today=today, now_s=now_s))
        assert isinstance(result, leases.Leased)  # noqa: S101 - what the task gives
        return result

    def join(self, place: leases.Place, now_s: float) -> asyncio.Future[object]:
        """Take part in a provider's slots for a few seconds; the result is how many processes do."""
        owner_id = self._state.owner_id
        return self._soon(partial(leases.join, place=place, owner_id=owner_id, now_s=now_s))

    def _soon(self, run: Callable[[Connection], object]) -> asyncio.Future[object]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        self._writer.put(Task(run), loop, future)
        return future

    async def _ask_task(self, run: Callable[[Connection], object]) -> object:
        op: Op = Task(run)
        return await self._writer.ask(op)

    async def _do(self, run: Callable[[Connection], None]) -> None:
        await self._ask_task(run)

    async def _count(self, run: Callable[[Connection], int]) -> int:
        result = await self._ask_task(run)
        assert isinstance(result, int)  # noqa: S101 - what the task gives
        return result


class JobWrites(Sharing):
    """The part of `Ledger` that writes of jobs as a whole; their calls are written as any others."""

    _folder: LockFolder

    async def create_or_get_job(self, start: JobStart) -> JobRecord:
        """The job of that name; made if there is none (then its id is `start.id`)."""
        result = await self._ask_task(partial(jobs.create_or_get, start=start))
        assert isinstance(result, JobRecord)  # noqa: S101 - what the task gives
        return result

    async def take_back_job(self, job_id: int) -> None:
        """Remove a job that this process made, locked, and has asked nothing for."""
        await self._do(partial(jobs.take_back, job_id=job_id))

    async def ingest_rows(
        self,
        job_id: int,
        rows: Iterable[RowStart],
        read: Callable[[], InputRead] = InputRead,
    ) -> Ingested:
        """Take in a reading of the job's input, in chunks; the rows needn't fit in memory.

        Rows that it no longer holds are neither pending nor written out. Until the end is
        reached the job's `ingested_us` is None, and the input is to be read again.

        Args:
            job_id: the job.
            rows: its input.
            read: asked when `rows` has ended: only then are columns and digest known.

        Raises:
            InputError: two rows have the same key and ordinal.
        """
        number = await self._count(partial(jobs.begin_ingest, job_id=job_id))
        total = Ingested()
        for chunk in jobs.chunks(rows):
            part = await self._ask_task(partial(jobs.ingest, job_id=job_id, number=number, rows=chunk))
            assert isinstance(part, Ingested)  # noqa: S101 - what the task gives
            total = total + part
        now_us = self._state.now_us()
        await self._do(partial(jobs.end_ingest, job_id=job_id, now_us=now_us, read=read()))
        return total

    async def set_job_state(self, job_id: int, state: JobState, note: str | None = None) -> None:
        """Say where a job stands; one that isn't open gets its end time."""
        ended_us = None if state is JobState.OPEN else self._state.now_us()
        await self._do(partial(jobs.set_state, job_id=job_id, state=state, ended_us=ended_us, note=note))

    async def cancel_job(self, job_id: int) -> bool:
        """Ask whoever runs the job to stop, and keep it stopped; False where it is no longer open."""
        return bool(await self._ask_task(partial(jobs.cancel, job_id=job_id, now_us=self._state.now_us())))

    async def remember_run(self, job_id: int, options: Mapping[str, Json], output_path: str | None) -> None:
        """Keep how a job runs now: these options join, or replace, what its record has."""
        await self._do(partial(jobs.remember_run, job_id=job_id, options=options, output_path=output_path))

    async def mark_canary(self, row_ids: Sequence[int]) -> None:
        """Make these rows the canary of their job."""
        await self._do(partial(job_books.mark_canary, row_ids=row_ids))

    async def reset_rows(self, job_id: int, states: Sequence[RowState]) -> int:
        """Make rows pending again (`--retry-failed`); returns how many."""
        return await self._count(partial(jobs.reset_rows, job_id=job_id, states=states))

    async def end_row(self, row: RowEnd) -> None:
        """End a row that no call is made for."""
        await self._do(partial(jobs.end_row, row=row))

    async def erase_texts(
        self, job_id: int, *, replies_of: Sequence[int] = (), inputs_of: Sequence[int] = ()
    ) -> None:
        """Erase texts that the settings keep out, now that a job is done with them.

        Args:
            job_id: the job.
            replies_of: rows whose replies go; at most some hundreds at once.
            inputs_of: rows whose variables and cells go; the next start reads the input again.
        """
        await self._do(partial(jobs.erase_texts, job_id=job_id, replies_of=replies_of, inputs_of=inputs_of))
        search.drop(self._path)

    def lock_job(self, job: JobRecord) -> JobLock:
        """Lock a job for this process; a SIGKILL releases it.

        Raises:
            LockHeld: another process runs it.
        """
        self._writer.check_process()
        return self._folder.job(job.id, job.name)

    def job_runner(self, job: JobRecord) -> int | None:
        """The process that runs a job; None where none does."""
        return self._folder.job_runner(job.id)


class Ledger(JobWrites):
    """The books, on one SQLite file: every attempt, token and cent. Made by `Ledger.open`.

    The coroutines return when what they wrote is on disk; many waiting ones share a commit.
    What reads (see `Queries`) is synchronous and sees what was committed.
    """

    def __init__(
        self,
        path: Path,
        folder: LockFolder,
        owner: LockFile,
        writer: Writer,
        state: State,
        reading: Engine,
    ) -> None:
        super().__init__(reading, path, writer.check_process)
        self.path = path
        self._folder = folder
        self._owner = owner
        self._writer = writer
        self._state = state
        self._reading = reading
        self._remembered: set[str] = set()
        self._swept_at = time.monotonic()
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
        """Open a database, made if there is none and migrated if it is behind.

        Args:
            path: the file.
            clock: microseconds since the epoch.
            busy_timeout_s: how long a write waits for other processes.
            max_pages: SQLite's page limit, to try out a full disk.

        Raises:
            LedgerError: it is locked, read-only, full, newer, or no promptkit database; its
                folder is missing. The error names the file and the remedy.
        """
        real = prepare(path)
        check_writable(real)
        folder = LockFolder(real)
        with _explained(real):
            folder.make()
            lock = folder.commit_lock()
            writing = writing_engine(real, busy_timeout_s=busy_timeout_s, max_pages=max_pages)
            reading = reading_engine(real, busy_timeout_s=busy_timeout_s)
            _bring_up(reading, writing, lock, real)
            owner_id = IdMaker(lambda: clock() // 1000, secrets.randbits)()
            _sweep_at_open(reading, writing, lock, folder, clock, busy_timeout_s)
            owner = folder.owner(owner_id)
            owner.try_lock()
        state = State(owner_id, clock)
        writer = Writer(writing, lock, state, real, busy_timeout_s=busy_timeout_s)
        return cls(real, folder, owner, writer, state, reading)

    # ------------------------------------------------------------------- calls

    async def begin(
        self,
        attempt: AttemptStart,
        scopes: tuple[Scope, ...] = (),
        call: CallStart | None = None,
        members: Sequence[CallStart] = (),
    ) -> Admitted | Refused:
        """Open an attempt and hold its ceiling in all scopes, or in none.

        Args:
            attempt: what is about to be sent.
            scopes: what it counts in.
            call: given with the call's first attempt; kept only if that is admitted.
            members: of a pack, the calls of its rows; given with the call.

        Raises:
            LedgerError: it couldn't be written: nothing may be sent.
        """
        try:
            result = await self._writer.ask(Begin(attempt, scopes, call, members))
        except asyncio.CancelledError:
            self._withdraw(attempt.id)
            raise
        assert isinstance(result, Admitted | Refused)  # noqa: S101 - what `Begin` gives
        return result

    def _withdraw(self, attempt_id: int) -> None:
        """Take back what may have been admitted to a caller that was cancelled meanwhile."""
        loop = asyncio.get_running_loop()
        with suppress(LedgerError):  # closed: then all that is open was settled
            self._writer.put(Withdraw(attempt_id, self._state.now_us()), loop, loop.create_future())

    async def finish(
        self,
        attempt: AttemptEnd,
        call: CallEnd | None = None,
        row: RowEnd | None = None,
        members: Sequence[MemberEnd] = (),
    ) -> Settled:
        """Close an attempt with its settlement, and with what it ends: its call, its row, those of its pack.

        Raises:
            LedgerError: it couldn't be written; the attempt stays open and can be finished again.
        """
        # Never lost to a full queue and a caller who goes: its reply is paid.
        result = await self._writer.ask(Finish(attempt, call, row, members), waits=False)
        assert isinstance(result, Settled)  # noqa: S101 - what `Finish` gives
        return result

    async def end_call(
        self,
        end: CallEnd,
        row: RowEnd | None = None,
        call: CallStart | None = None,
        members: Sequence[MemberEnd] = (),
    ) -> None:
        """End a call that has no attempt open, and the members of its pack; `call` where it never had one."""
        await self._writer.ask(EndCall(end, row, call, members))

    async def freed(self, timeout_s: float, releases: int | None = None) -> bool:
        """Wait until this process releases a hold; False after `timeout_s`.

        Args:
            timeout_s: seconds; other processes' releases are seen only by asking again.
            releases: of the `Refused` that made the caller wait, so that none is missed.
        """
        if time.monotonic() - self._swept_at > _SWEEP_EVERY_S:
            self._swept_at = time.monotonic()
            if await self.sweep():
                return True
        return await self._writer.freed(timeout_s, releases)

    async def sweep(self) -> int:
        """Settle attempts whose process died, at their ceilings; returns how many."""
        if not self.foreign_owners(self._state.owner_id):
            return 0
        return await self._count(
            partial(
                owners.sweep,
                folder=self._folder,
                owner_id=self._state.owner_id,
                now_us=self._state.now_us(),
            )
        )

    async def rate(self, call_ids: Sequence[int], verdict: str | None, note: str | None = None) -> int:
        """Say of calls that their reply was accepted or rejected (None takes it back); returns how many."""
        run = partial(jobs.rate, call_ids=call_ids, verdict=verdict, note=note, now_us=self._state.now_us())
        return await self._count(run)

    async def remember_template(self, sources: Sequence[StoredSource]) -> None:
        """Keep the sources that a call's `template_digest` stands for; once in a process."""
        new = [source for source in sources if source.digest not in self._remembered]
        if new:
            await self._do(partial(store_templates, sources=new, now_us=self._state.now_us()))
            self._remembered.update(source.digest for source in new)

    # -------------------------------------------------------------------- care

    async def erase(self, what: Erase) -> bool:
        """Erase texts for good, also while a batch writes; what they cost stays.

        Returns:
            Whether nothing of them is left on disk; a reader may have kept the log of the database.
        """
        now_us = self._state.now_us()
        for ids in self._erased_calls(what):
            await self._count(partial(erasing.erase_calls, ids=ids, now_us=now_us))
        while await self._count(partial(erasing.erase_rows, what=what)):
            pass
        search.drop(self.path)
        return await asyncio.to_thread(self._write_anew)

    def _erased_calls(self, what: Erase) -> list[list[int]]:
        with self._read() as connection:
            return list(erasing.call_ids(connection, what))

    def _write_anew(self) -> bool:
        lock = self._folder.commit_lock()
        try:
            with _locked(lock, _MIGRATION_S):
                return erasing.write_anew(self.path, _ERASING_S)
        finally:
            lock.close()

    def backup(self, target: Path) -> Path:
        """Copy the database into a new private file, also while a batch writes.

        Raises:
            LedgerError: there is a file already, or it can't be written.
        """
        return care.backup(self.path, target)

    def quick_check(self) -> tuple[str, ...]:
        """What SQLite finds wrong with the file; empty where it finds nothing."""
        return care.quick_check(self.path)

    def close(self) -> None:
        """Write all that waits and let go. What is still open then is settled as unknown."""
        if self._closed:
            return
        self._closed = True
        self._writer.close(self._settle_own)
        self._reading.dispose()
        self._owner.release()

    def _settle_own(self, connection: Connection) -> int:
        return owners.settle_owners(connection, [self._state.owner_id], self._state.now_us())

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
        raise explain(error, path) from error


def _bring_up(reading: Engine, writing: Engine, lock: CommitLock, path: Path) -> None:
    with reading.connect() as connection:
        if schema.revision(connection, path) == schema.HEAD:
            return
    with _locked(lock, _MIGRATION_S), writing.begin() as connection:
        if schema.revision(connection, path) != schema.HEAD:  # another process may have been first
            schema.upgrade(connection)


def _sweep_at_open(
    reading: Engine,
    writing: Engine,
    lock: CommitLock,
    folder: LockFolder,
    clock: Callable[[], int],
    timeout_s: float,
) -> None:
    with reading.connect() as connection:
        if connection.execute(select(t.HOLDS.c.owner_id).limit(1)).first() is None:
            return
    with _locked(lock, timeout_s), writing.begin() as connection:
        owners.sweep(connection, folder, 0, clock())


@contextmanager
def _locked(lock: CommitLock, timeout_s: float) -> Generator[None, None, None]:
    lock.take(timeout_s)
    try:
        yield
    finally:
        lock.release()
