"""What is written of jobs: their rows taken in, where they stand, and which process runs one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from promptkit.types import Json

from . import job_books, jobs, search
from .locks import JobLock, LockFolder
from .records import Ingested, InputRead, JobRecord, JobStart, JobState, RowEnd, RowStart, RowState
from .sharing import Sharing


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
