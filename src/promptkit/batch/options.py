"""The options of a job, its name, and what it pins at its first start: template, routes, and how it runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from promptkit.errors import UsageError
from promptkit.ledger.records import JobRecord, RowState
from promptkit.routing.catalog import parse_target
from promptkit.templates.template import Template
from promptkit.types import Json, OnContent, OnMiss, Params, Route
from promptkit.validation.output_models import OutputModel

from .binding import NO_ROWS, Matrix, constant_tags
from .tables import Dialect, Format

if TYPE_CHECKING:
    from promptkit.engine.context import Session
    from promptkit.routing.flow import Plan

RETRIED_STATES = (RowState.FAILED, RowState.REFUSED, RowState.DEGRADED)
"""The states of rows that `--retry-failed` sends once more."""

AUTO = 0
"""`JobOptions.pack` if promptkit chooses the size of packs."""

MAX_PACK = 100


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How to run a job.

    Attributes:
        name: the job's name; None derives it from template, input and output.
        key_column: the column that identifies a row; None: the row's content does.
        mapping: variable (or field: `brand.name`) to column.
        constants: variable to value, for all rows.
        tags: name to value, or `@COLUMN` (`@@x` is the plain value `@x`).
        each: values of variables; each row is sent once per combination.
        strict: refuse invalid rows, and columns that fill nothing.
        format: the format of the input; None: its name or its content decides.
        out: the output file; None for none.
        cap_pico: the hard cap of the job, in pico-USD.
        concurrency: how many rows are in flight.
        limit: at most so many rows are sent by this run.
        retry_failed: send rows once more whose state is one of `RETRIED_STATES`.
        resend_unknown: whether a request may be sent once more if its outcome is unknown.
        by_rules: whether rules may choose another route for a row: if the user named no route.
        cache_s: the greatest age of a reply from the reply cache, see `CallRequest`; None: the route's.
        until_budget: run until a hard cap stops the job. Otherwise, a job whose worst case exceeds a
            cap does not start.
        deadline_s: when nothing more is sent, in seconds since the epoch.
        on_miss: what to do if the deadline can't be met.
        canary: so many rows are sent alone first; 0 for none, None: as the job did before.
        max_fail_rate: at most this share of the canary may fail.
        sample: send only so many rows, chosen at random.
        seed: chooses other rows for the sample.
        text_as: the name of the text's column in the output; None: as before, else `text`.
        pack: how many rows may share a request; `AUTO`: as many as pay off.
        output_model: what replies must be, instead of the template's `[output]`.
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
    until_budget: bool = True
    deadline_s: float | None = None
    on_miss: OnMiss = OnMiss.WARN
    canary: int | None = None
    max_fail_rate: float | None = None
    sample: int | None = None
    seed: int = 0
    text_as: str | None = None
    pack: int = 1
    output_model: OutputModel | None = None

    @property
    def read(self) -> Callable[[Json], object] | None:
        """What turns a reply's JSON into the caller's model; None for none."""
        return None if self.output_model is None else self.output_model.read

    @property
    def all_rows_tags(self) -> dict[str, str]:
        """The tags that are the same for all rows."""
        return constant_tags(self.tags)


_STEMS = {"-": "stdin", NO_ROWS: "rows"}


def job_name(name: str | None, template: str, source: str, out: Path | None, today: str) -> str:
    """Return the name of a job.

    Args:
        name: the user's; `{date}` becomes the budget day, so a command in cron starts one job per night.
        template: the template's name, without version.
        source: the input file, absolute, or the name of another source.
        out: the output file.
        today: the budget day, as an ISO date.

    Returns:
        The user's name, or one derived from template, input and output: the same command continues
        the same job.
    """
    if name is not None:
        return name.replace("{date}", today)
    parts = "\0".join((template, source, "" if out is None else str(out.absolute())))
    digest = hashlib.sha256(parts.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    stem = _STEMS.get(source) or Path(source).stem
    return f"{template.rsplit('/', 1)[-1]}-{stem}-{digest}"


def pack_of(rows: int | str) -> int:
    """Return the number of rows per request as `JobOptions.pack` takes it.

    Args:
        rows: a number, or `auto`.

    Raises:
        UsageError: it is neither.
    """
    if rows == "auto":
        return AUTO
    if isinstance(rows, int) and 1 <= rows <= MAX_PACK:
        return rows
    raise UsageError(
        f"{rows!r} is not a number of rows per request",
        remedy=f"A number from 1 (no packs) to {MAX_PACK}, or auto.",
    )


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a job runs, from its first start on.

    `rule_routes` are the routes that rules may choose for a row, by name. None if the user named a
    route: rules then only forbid targets.
    """

    template: Template
    route: Route
    rule_routes: Mapping[str, Route] | None = None

    def plan(
        self,
        session: Session,
        tags: Mapping[str, str],
        *,
        resend_unknown: bool = True,
        fastest: bool = False,
    ) -> tuple[Route, Plan]:
        """Return the route and the plan of rows with these tags.

        Args:
            session: settings and rules.
            tags: the tags of the rows.
            resend_unknown: whether an unknown outcome may be sent once more.
            fastest: whether the target with the lowest latency comes first, whatever the route's strategy.

        Raises:
            NoUsableKey: no target has a usable key.
            UsageError: the rules forbid every target.
        """
        settings, name, route = session.settings, self.template.ref.name, self.route
        if self.rule_routes is not None and settings.rules:
            ruled = settings.rules.ruling(name, tags).route or ""
            route = self.rule_routes.get(ruled) or settings.routes.get(ruled) or route
        if fastest:
            route = replace(route, strategy="fastest", weights=())
        return route, session.plan(route, template=name, tags=tags, resend_unknown=resend_unknown)


# The functions below turn what a job pins into JSON for the ledger, and back.


def stored_start(
    route: Route, rule_routes: Mapping[str, Route] | None, options: JobOptions
) -> dict[str, Json]:
    """Return what the ledger keeps of a job's first start."""
    rules: Json = None
    if rule_routes is not None:
        rules = {name: _route_json(route) for name, route in rule_routes.items()}
    return {"route": _route_json(route), "rule_routes": rules, **stored_options(options)}


def pinned_route(job: JobRecord) -> Route:
    """Return the route that a job began with."""
    return _route(cast("Mapping[str, Any]", job.options["route"]))


def pinned_rule_routes(job: JobRecord) -> Mapping[str, Route] | None:
    """Return the routes that rules could choose when the job began."""
    stored = cast("Mapping[str, Mapping[str, Any]] | None", job.options.get("rule_routes"))
    return None if stored is None else {name: _route(route) for name, route in stored.items()}


def _route_json(route: Route) -> dict[str, Json]:
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


def _route(stored: Mapping[str, Any]) -> Route:
    last = stored["last_resort"]
    return Route(
        name=stored["name"],
        targets=tuple(parse_target(text) for text in stored["targets"]),
        strategy=stored["strategy"],
        attempts=stored["attempts"],
        max_wait_s=stored["max_wait_s"],
        outage_s=stored["outage_s"],
        last_resort=None if last is None else parse_target(last),
        on_content=OnContent(stored["on_content"]),
        max_output_tokens=stored["max_output_tokens"],
        weights=tuple(stored.get("weights", ())),
        cache_s=stored.get("cache_s"),
    )


def stored_params(params: Params) -> dict[str, Json]:
    """Return the parameters that are set, as JSON."""
    stored: dict[str, Json] = {
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
    return {name: value for name, value in stored.items() if value is not None}


_STORED = (
    "concurrency",
    "cap_pico",
    "resend_unknown",
    "until_budget",
    "canary",
    "max_fail_rate",
    "pack",
    "text_as",
)


def stored_options(options: JobOptions) -> dict[str, Json]:
    """Return how a job runs, as JSON."""
    stored: dict[str, Json] = {name: getattr(options, name) for name in _STORED}
    # In the form of --tag: a value that begins with @ has two, because one would name a column.
    stored["tags"] = {
        name: f"@{value}" if value.startswith("@") else value
        for name, value in sorted(options.all_rows_tags.items())
    }
    return {"run": stored}


def pinned_options(job: JobRecord, **changed: Any) -> JobOptions:
    """Return how a job ran last, with changes; a change to None changes nothing."""
    stored = cast("Mapping[str, Any]", job.options["run"])
    options = JobOptions(tags=dict(stored["tags"]), **{name: stored[name] for name in _STORED})
    return replace(options, **{name: value for name, value in changed.items() if value is not None})


def with_pinned(options: JobOptions, job: JobRecord) -> JobOptions:
    """Return the options of a run, with the job's canary and text column where they say nothing else."""
    before = pinned_options(job)
    return replace(
        options,
        canary=before.canary if options.canary is None else options.canary,
        max_fail_rate=before.max_fail_rate if options.max_fail_rate is None else options.max_fail_rate,
        text_as=before.text_as if options.text_as is None else options.text_as,
    )


def stored_path(out: Path | None) -> str | None:
    """Return the path of the output as the ledger keeps it: absolute, for a resume from another folder."""
    return None if out is None else str(out.absolute())


def stored_output(format_: Format | None, like: Dialect) -> dict[str, Json]:
    """Return how the output is written, as JSON.

    Args:
        format_: the user's format; None for none.
        like: how the input is written, which the output follows.
    """
    stored: dict[str, Json] = {
        "format": None if format_ is None else format_.value,
        "like": like.format.value,
        "delimiter": like.delimiter,
        "mark": like.excel,
    }
    return {"output": stored}


def pinned_output(job: JobRecord) -> tuple[Format | None, Dialect]:
    """Return how the output was written last: the user's format, and how the input is written."""
    stored = cast("Mapping[str, Any] | None", job.options.get("output"))
    if stored is None:
        return None, Dialect(Format.CSV)  # the rows came from no file
    like = Dialect(Format(stored["like"]), delimiter=stored["delimiter"], excel=stored["mark"])
    return None if stored["format"] is None else Format(stored["format"]), like
