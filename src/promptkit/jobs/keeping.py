"""Texts that the settings keep out of the ledger, which a job has all the same until it is done."""

from __future__ import annotations

from typing import Final

from promptkit.config import Keep, Storage
from promptkit.ledger import Ledger

_PAGE: Final = 500


async def erase_kept_out(ledger: Ledger, job_id: int, storage: Storage) -> None:
    """Erase what `storage` keeps out, row by row: it may differ by client.

    Args:
        ledger: where the rows are.
        job_id: the job; every row that it ever had counts, edited and removed ones, too.
        storage: the settings.
    """
    if _keeps_all(storage):
        return
    after = 0
    while page := ledger.row_tags(job_id, after, _PAGE):
        after = page[-1][0]
        kept = [(row_id, storage.of(tags)) for row_id, tags in page]
        await ledger.erase_texts(
            job_id,
            replies_of=[row_id for row_id, keep in kept if keep.replies is not Keep.FULL],
            inputs_of=[row_id for row_id, keep in kept if keep.variables is not Keep.FULL],
        )


def _keeps_all(storage: Storage) -> bool:
    every = (storage, *storage.clients.values())
    return all(kept.replies is Keep.FULL and kept.variables is Keep.FULL for kept in every)
