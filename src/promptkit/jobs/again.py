"""A job that goes on without its command line: all that it needs is in the ledger."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from promptkit.errors import JobConflict, UsageError, closest, counted
from promptkit.ledger import RowState
from promptkit.session import Session

from .job import Job
from .options import AGAIN, JobOptions
from .pinning import pinned_route
from .remembered import pinned_options

if TYPE_CHECKING:
    from promptkit.ledger import JobRecord, Ledger


class JobAgain(Job):
    """A job as the ledger has it: its input isn't read again, and may be gone.

    Args:
        session: what the process has open.
        record: the job.
        options: how to run it, as `pinned_options` gives it.
    """

    wakes = True

    def __init__(self, session: Session, record: JobRecord, options: JobOptions) -> None:
        route = pinned_route(record)
        own = replace(options, name=record.name, key_column=record.key_column)
        super().__init__(session, record.template_ref, (), route, own)

    async def _take_rows(self, ledger: Ledger) -> None:
        """See that its rows can be sent.

        Raises:
            JobConflict: its input was never read to its end, or is erased.
        """
        job = self.record
        again = (
            f"Run its batch command again, with --job {job.name}: it reads the input and pays nothing twice."
        )
        if job.ingested_us is None:
            raise JobConflict(f"the input of job {job.name!r} was never read to its end", remedy=again)
        again_states = AGAIN if self._options.retry_failed else ()
        erased = ledger.erased_rows(job.id, (RowState.PENDING, *again_states))
        if erased:
            raise JobConflict(
                f"job {job.name!r}: of {counted(erased, 'row')} to be sent, [storage] has erased the variables",
                remedy=again,
            )


def said_again(record: JobRecord, **said: Any) -> JobOptions:
    """The options that a job had, with those that are said anew; None is not said."""
    return replace(
        pinned_options(record), **{name: value for name, value in said.items() if value is not None}
    )


def job_named(ledger: Ledger, name: str, today: str) -> JobRecord:
    """The job of a name; `{date}` is the budget day, as in `--job`.

    Raises:
        UsageError: there is none; the closest names are told.
    """
    told = name.replace("{date}", today)
    job = ledger.job(told)
    if job is None:
        raise UsageError(f"there is no job {told!r}", remedy=closest(told, ledger.job_names()))
    return job
