"""A sample of a job's rows: drawn by lot, and the same ones whenever it is drawn again. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from heapq import nsmallest

Name = tuple[int, str, int]
"""A row's id, key and ordinal."""


def sample(rows: Iterable[Name], count: int, seed: int) -> frozenset[int]:
    """The ids of so many rows; all of them where there are fewer.

    Each row's lot comes from its key and the seed alone, so that the order of the input plays no
    part, and a row that is added or taken away changes the sample by at most one.
    """
    return frozenset(row_id for row_id, _, _ in nsmallest(count, rows, key=lambda row: _lot(row, seed)))


def _lot(row: Name, seed: int) -> bytes:
    _, key, ordinal = row
    return blake2b(f"{seed}\0{key}\0{ordinal}".encode("utf-8", "surrogatepass"), digest_size=12).digest()
