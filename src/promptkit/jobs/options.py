"""What a user says of a job, and the name it goes by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from promptkit.batch import Format, Matrix, Wishes, constant_tags
from promptkit.batch.matrix import NO_ROWS
from promptkit.errors import UsageError
from promptkit.ledger import RowState
from promptkit.shapes import Shape
from promptkit.types import Json, OnMiss

AGAIN: Final = (RowState.FAILED, RowState.REFUSED, RowState.DEGRADED)
"""What `--retry-failed` does again."""
AUTO: Final = 0
"""`JobOptions.pack` where the size is to be chosen."""
PACK_AT_MOST: Final = 100
_STEMS: Final = {"-": "stdin", NO_ROWS: "rows"}


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How to run a job.

    `mapping`, `constants` and `tags` are as in `batch.Wishes`; `each` gives every row once for
    each combination of values; `out` is the output file, None for
    none; `limit` bounds how many rows are sent this time. `by_rules` is whether a rule may send
    rows over a route of its own, as where the user named none. `until_budget` runs until a hard
    cap stops it; without, a job whose worst case doesn't fit all caps doesn't begin.

    At `deadline_s` (seconds since the epoch) nothing more is sent; `on_miss` says what to do before,
    where it won't be met. The first `canary` rows go alone, and if more than `max_fail_rate` of
    them fail, the others stay; 0 is none, None what the job had before. `sample` rows, drawn by
    `seed`, are all that this run sends.
    """

    name: str | None = None
    key_column: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict[str, str])
    constants: Mapping[str, object] = field(default_factory=dict[str, object])
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    each: Matrix = field(default_factory=Matrix)
    strict: bool = False
    format: Format | None = None
    out: Path | None = None
    cap_pico: int | None = None
    concurrency: int = 16
    limit: int | None = None
    retry_failed: bool = False
    resend_unknown: bool = True
    by_rules: bool = False
    cache_s: float | None = None
    """How old a reply may be that serves a row (see `Work`); None: as the row's route says."""
    until_budget: bool = True
    deadline_s: float | None = None
    on_miss: OnMiss = OnMiss.WARN
    canary: int | None = None
    max_fail_rate: float | None = None
    sample: int | None = None
    seed: int = 0
    text_as: str | None = None
    """The name of the text's column in the output; None what the job had before, else `text`."""
    pack: int = 1
    """How many rows may share a request; 0: as many as pay off."""
    shape: Shape | None = None
    """What replies must be instead of the skeleton's `[output]`."""

    @property
    def read(self) -> Callable[[Json], object] | None:
        """What makes of a reply's JSON what the caller asked for."""
        return None if self.shape is None else self.shape.read

    @property
    def wishes(self) -> Wishes:
        """What is asked of the columns."""
        return Wishes(
            self.mapping, self.constants, self.tags, self.key_column, self.strict, tuple(self.each.axes)
        )

    @property
    def all_rows_tags(self) -> dict[str, str]:
        """The tags that every row has: those that come from no column."""
        return constant_tags(self.tags)


def job_name(said: str | None, template: str, source: str, out: Path | None, today: str) -> str:
    """The name of a job.

    Args:
        said: what the user calls it; `{date}` becomes the budget day, so that cron's command
            makes one job a night.
        template: the template's name, without version.
        source: the rows file, absolute, or what stands for it.
        out: the output file.
        today: the budget day, as an ISO date.

    Returns:
        The name as said, else one derived from template, rows file and output file: the same
        command goes on with the same job.
    """
    if said is not None:
        return said.replace("{date}", today)
    told = "\0".join((template, source, "" if out is None else str(out.absolute())))
    digest = hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    stem = _STEMS.get(source) or Path(source).stem
    return f"{template.rsplit('/', 1)[-1]}-{stem}-{digest}"


def pack_of(said: int | str) -> int:
    """How many rows a request, as `JobOptions` takes it, of what a user says: a number or `auto`.

    Raises:
        UsageError: neither.
    """
    if said == "auto":
        return AUTO
    if isinstance(said, int) and 1 <= said <= PACK_AT_MOST:
        return said
    raise UsageError(
        f"{said!r} is no number of rows a request",
        remedy=f"A number from 1 (each row alone) to {PACK_AT_MOST}, or auto.",
    )
