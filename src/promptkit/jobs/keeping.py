"""Texts that the settings keep out of the ledger, which a job has all the same until it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from promptkit.config import Keep, Storage
from promptkit.ledger import JobRecord, Ledger

_PAGE: Final = 500


async def erase_kept_out(
    ledger: Ledger, job_id: int, storage: Storage, delivered: Path | None = None
) -> None:
    """Erase what `storage` keeps out, row by row: it may differ by client. Cut off, it can be done again.

    Args:
        ledger: where the rows are.
        job_id: the job; every row that it ever had counts, edited and removed ones, too.
        storage: the settings.
        delivered: the file that has all the texts.
    """
    if _keeps_all(storage):
        return
    if delivered is not None:
        told = _delivered(ledger, job_id, delivered)
        await ledger.remember_run(job_id, {"delivered": {**told}}, told["path"])
    after = 0
    while page := ledger.row_tags(job_id, after, _PAGE):
        after = page[-1][0]
        kept = [(row_id, storage.of(tags)) for row_id, tags in page]
        await ledger.erase_texts(
            job_id,
            replies_of=[row_id for row_id, keep in kept if keep.replies is not Keep.FULL],
            inputs_of=[row_id for row_id, keep in kept if keep.variables is not Keep.FULL],
        )


def has_all(ledger: Ledger, job: JobRecord, out: Path) -> bool:
    """Whether a file was written with all the texts that the job has now, or had before they were erased."""
    return job.options.get("delivered") == _delivered(ledger, job.id, out)


def _delivered(ledger: Ledger, job_id: int, out: Path) -> dict[str, str]:
    return {"path": str(out.absolute()), "answers": ledger.answers(job_id)}


def _keeps_all(storage: Storage) -> bool:
    every = (storage, *storage.clients.values())
    return all(kept.replies is Keep.FULL and kept.variables is Keep.FULL for kept in every)
