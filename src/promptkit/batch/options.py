"""What a user says of a job, and the name it goes by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, cast

from promptkit.errors import UsageError
from promptkit.ledger.records import JobRecord, RowState
from promptkit.routing.catalog import parse_target
from promptkit.templates.template import Template
from promptkit.types import Json, OnContent, OnMiss, Params, Route
from promptkit.validation.output_models import OutputModel

from .binding import NO_ROWS, Matrix, Wishes, constant_tags
from .tables import Dialect, Format

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
    """How old a reply may be that serves a row (see `CallRequest`); None: as the row's route says."""
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
    shape: OutputModel | None = None
    """What replies must be instead of the template's `[output]`."""

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


@dataclass(frozen=True, slots=True)
class Pinned:
    """A job and what it runs, from its first start on.

    `detours` are the routes over which rules may send single rows, by name; None where the user
    named a route: then rules only forbid.
    """

    job: JobRecord
    template: Template
    route: Route
    detours: Mapping[str, Route] | None = None


def plain_route(route: Route) -> dict[str, Json]:
    """A route as JSON."""
    return {
        "name": route.name,
        "targets": [str(target) for target in route.targets],
        "strategy": route.strategy,
        "attempts": route.attempts,
        "max_wait_s": route.max_wait_s,
        "outage_s": route.outage_s,
        "last_resort": None if route.last_resort is None else str(route.last_resort),
        "on_content": route.on_content.value,
        "max_output_tokens": route.max_output_tokens,
        "weights": list(route.weights),
        "cache_s": route.cache_s,
    }


def plain_detours(detours: Mapping[str, Route] | None) -> Json:
    """The routes of the rules as JSON, None for none."""
    return None if detours is None else {name: plain_route(route) for name, route in detours.items()}


def pinned_route(job: JobRecord) -> Route:
    """The route that a job began with."""
    return _route(cast("Mapping[str, Any]", job.options["route"]))


def pinned_detours(job: JobRecord) -> Mapping[str, Route] | None:
    """The routes that rules named when it began."""
    told = cast("Mapping[str, Mapping[str, Any]] | None", job.options.get("detours"))
    return None if told is None else {name: _route(route) for name, route in told.items()}


def _route(told: Mapping[str, Any]) -> Route:
    last = told["last_resort"]
    return Route(
        name=told["name"],
        targets=tuple(parse_target(text) for text in told["targets"]),
        strategy=told["strategy"],
        attempts=told["attempts"],
        max_wait_s=told["max_wait_s"],
        outage_s=told["outage_s"],
        last_resort=None if last is None else parse_target(last),
        on_content=OnContent(told["on_content"]),
        max_output_tokens=told["max_output_tokens"],
        weights=tuple(told.get("weights", ())),
        cache_s=told.get("cache_s"),
    )


def plain_params(params: Params) -> dict[str, Json]:
    """The parameters that are set, as JSON."""
    told: dict[str, Json] = {
        "max_output_tokens": params.max_output_tokens,
        "reasoning": None if params.reasoning is None else params.reasoning.value,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k,
        "frequency_penalty": params.frequency_penalty,
        "presence_penalty": params.presence_penalty,
        "seed": params.seed,
        "stop": list(params.stop) or None,
    }
    return {name: value for name, value in told.items() if value is not None}


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
