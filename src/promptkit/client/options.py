"""The options of calls and batches, and how they become a job's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from promptkit.engine.context import checked_tags
from promptkit.errors import UsageError, closest
from promptkit.routing.budgets import pico_of_usd
from promptkit.routing.reply_cache import read_age
from promptkit.types import Json, OnMiss

if TYPE_CHECKING:
    from promptkit.engine.context import Session


class RouteOptions(TypedDict, total=False):
    """Options of every call. An option that is None is as if you left it out.

    Attributes:
        route: the route's name; by default the one that a rule names, else `default`.
        targets: `provider/model`, in order, instead of a route.
        tags: what the call belongs to (`client`, `deliverable`, ...). In a batch, a value `@COLUMN`
            is each row's own value in that column.
        budget_usd: hard cap of the call or of the whole job, in USD.
    """

    route: str | None
    targets: Sequence[str] | None
    tags: Mapping[str, str] | None
    budget_usd: Decimal | None


class CallOptions(RouteOptions, total=False):
    """Options of a single call, besides `RouteOptions`.

    Attributes:
        parent_id: the id of the call that this one revises.
        cache: maximum age of a stored reply that may be reused for an identical call (`7d`, `12h`); `0`
            reuses none, but stores this one. By default as the route says.
    """

    parent_id: int | str | None
    cache: str | None


class RunOptions(TypedDict, total=False):
    """Options of one run of a job, named as the command's. An option that is None is as if you left it out.

    Attributes:
        budget_usd: hard cap of the whole job, in USD.
        concurrency: how many rows are in flight at once (16).
        until_budget: run until a hard cap stops the job (True). With False, `BudgetStop` is raised before
            the first call if the max cost of the remaining rows does not fit under every cap.
        out: the output file, written in the input's order when the iteration ends, however it
            ends; with columns in braces, one file per row.
        failed: a file for the rows that have no text, with the reasons.
        limit: the number of rows to send at most this time.
        canary: the number of rows to send first, alone; 0 for none.
        max_fail_rate: the share of the canary that may fail (0.2); otherwise the job stops.
        deadline: when to stop sending: `06:30` in the configured time zone, `2026-11-23T06:30`,
            or an aware time.
        on_miss: what to do if the job will miss the deadline.
        retry_failed: send failed, refused and degraded rows again.
    """

    budget_usd: Decimal | None
    concurrency: int | None
    until_budget: bool | None
    out: str | Path | None
    failed: str | Path | None
    limit: int | None
    canary: int | None
    max_fail_rate: float | None
    deadline: str | datetime | None
    on_miss: Literal["warn", "stop", "faster", "fastest"]
    retry_failed: bool


class BatchOptions(RouteOptions, RunOptions, total=False):
    """Options of a batch, besides `RouteOptions` and `RunOptions`.

    Attributes:
        job: the job's name; with the same name it continues where it stopped. By default the name is
            derived from template and input file; rows that are mappings need a name.
        key: the column that identifies a row; by default its content does.
        each: variables and their values: every row is done once for each combination.
        cache: see `CallOptions`.
        mapping: variable to column, if their names differ.
        strict: an invalid row or an unused column is an error before the first call.
        sample: the number of rows to send, chosen at random.
        seed: another number chooses other rows.
        on_unknown: whether to send a row again whose request got no reply, or to fail it.
        text_as: the name of the text's column in `out`.
        pack: how many short rows share a request at most; `auto`: as many as save money.
    """

    job: str | None
    key: str | None
    each: Mapping[str, Sequence[Json]] | None
    cache: str | None
    mapping: Mapping[str, str]
    strict: bool
    sample: int | None
    seed: int
    on_unknown: Literal["send", "fail"]
    text_as: str | None
    pack: int | Literal["auto"]


def check_names(options: Mapping[str, object], kind: type[Any]) -> None:
    """Check the names of options.

    Args:
        options: as the caller gave them.
        kind: the typed dict that has them.

    Raises:
        UsageError: there is no option of that name.
    """
    known = kind.__optional_keys__
    for name in options.keys() - known:
        raise UsageError(f"there is no option {name!r}", remedy=closest(name, known))


_LEAST = {"limit": 1, "sample": 1, "canary": 0, "concurrency": 1}

_RENAMED = {"job": "name", "key": "key_column"}

_NOT_OF_A_JOB = frozenset({"route", "targets", "failed"})


def job_fields(options: Mapping[str, Any], session: Session) -> dict[str, Any]:
    """Convert options to fields of `JobOptions`; those that are None or not given are left out.

    Args:
        options: of a batch or a run.
        session: its clock and time zone decide when a deadline is.

    Raises:
        UsageError: an option has an impossible value.
    """
    from promptkit.batch.binding import Matrix
    from promptkit.batch.options import pack_of

    given = {
        name: value for name, value in options.items() if value is not None and name not in _NOT_OF_A_JOB
    }
    for name, least in _LEAST.items():
        if name in given and given[name] < least:
            raise UsageError(f"{name} is {given[name]!r}; it must be at least {least}")
    if not 0 <= given.get("max_fail_rate", 0) <= 1:
        raise UsageError(f"max_fail_rate is {given['max_fail_rate']!r}; it is a share, from 0 to 1")
    readers: dict[str, tuple[str, Callable[[Any], object]]] = {
        "each": ("each", Matrix),
        "tags": ("tags", checked_tags),
        "budget_usd": ("cap_pico", cap_of),
        "cache": ("cache_s", read_age),
        "out": ("out", Path),
        "pack": ("pack", pack_of),
        "deadline": ("deadline_s", partial(_deadline_s, session)),
        "on_miss": ("on_miss", partial(_choice, "on_miss", {each.value: each for each in OnMiss})),
        "on_unknown": ("resend_unknown", partial(_choice, "on_unknown", {"send": True, "fail": False})),
    }
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if name in readers:
            field, read = readers[name]
            fields[field] = read(value)
        else:
            fields[_RENAMED.get(name, name)] = value
    return fields


def _deadline_s(session: Session, deadline: str | datetime) -> float:
    from promptkit.batch.control import read_deadline

    if isinstance(deadline, str):
        now = datetime.fromtimestamp(session.now(), UTC)
        return read_deadline(deadline, now, session.settings.timezone).timestamp()
    if deadline.tzinfo is None:
        raise UsageError(
            f"the deadline {deadline} has no time zone", remedy="Give an aware time, or a string."
        )
    return deadline.timestamp()


def _choice(name: str, choices: Mapping[str, Any], value: str) -> Any:
    if value not in choices:
        raise UsageError(f"{name} can't be {value!r}", remedy=closest(str(value), choices))
    return choices[value]


def cap_of(budget_usd: Decimal | float | str) -> int:
    """Convert a budget to pico-USD.

    Raises:
        UsageError: it is negative, not a number, or finer than a pico-dollar.
    """
    try:
        return pico_of_usd(Decimal(str(budget_usd)))
    except (ValueError, ArithmeticError) as cause:
        raise UsageError(f"the budget {budget_usd} is not possible: {cause}") from None
