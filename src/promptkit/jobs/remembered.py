"""How a job runs and writes, as the ledger keeps it for whoever goes on with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from promptkit.batch import Dialect, Format
from promptkit.ledger import JobRecord
from promptkit.types import Json

from .options import JobOptions

_KEPT: Final = (
    "concurrency",
    "cap_pico",
    "resend_unknown",
    "until_budget",
    "canary",
    "max_fail_rate",
    "pack",
    "text_as",
)


@dataclass(frozen=True, slots=True)
class Manner:
    """How the input is written, which the output follows; `mark` begins CSV with one, for Excel."""

    like: Dialect
    mark: bool


_PLAIN: Final = Manner(Dialect(Format.CSV), mark=False)
"""Of rows that came from no file."""


def plain_options(options: JobOptions) -> dict[str, Json]:
    """How a job runs, beside what it pins."""
    kept: dict[str, Json] = {name: getattr(options, name) for name in _KEPT}
    # As --tag says them: a value that begins with @ is doubled, else it would name a column.
    tags = {name: f"@{value}" if value.startswith("@") else value for name, value in _tags(options)}
    return {"run": kept | {"tags": cast("Json", tags)}}


def pinned_options(job: JobRecord) -> JobOptions:
    """How a job ran last."""
    told = cast("Mapping[str, Any]", job.options["run"])
    return JobOptions(tags=dict(told["tags"]), **{name: told[name] for name in _KEPT})


def carried_on(options: JobOptions, job: JobRecord) -> JobOptions:
    """The options of this run, with the canary and the text's column that the job had where nothing else is said."""
    before = pinned_options(job)
    return replace(
        options,
        canary=before.canary if options.canary is None else options.canary,
        max_fail_rate=before.max_fail_rate if options.max_fail_rate is None else options.max_fail_rate,
        text_as=before.text_as if options.text_as is None else options.text_as,
    )


def plain_path(out: Path | None) -> str | None:
    """Where a job's output goes, for whoever goes on with it from another folder."""
    return None if out is None else str(out.absolute())


def plain_output(format_: Format | None, manner: Manner) -> dict[str, Json]:
    """How a job's output is written: the format that was asked for, and what it follows else."""
    told: dict[str, Json] = {
        "format": None if format_ is None else format_.value,
        "like": manner.like.format.value,
        "delimiter": manner.like.delimiter,
        "mark": manner.mark,
    }
    return {"output": told}


def pinned_output(job: JobRecord) -> tuple[Format | None, Manner]:
    """How its output was written last."""
    told = cast("Mapping[str, Any] | None", job.options.get("output"))
    if told is None:
        return None, _PLAIN
    said = told["format"]
    like = Dialect(Format(told["like"]), delimiter=told["delimiter"])
    return None if said is None else Format(said), Manner(like, told["mark"])


def _tags(options: JobOptions) -> list[tuple[str, str]]:
    return sorted(options.all_rows_tags.items())
