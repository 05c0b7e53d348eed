"""Readers of option texts: variables, tags, amounts, times, ages, and the options of a job."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

from promptkit._util import toml
from promptkit._util.durations import read_duration_s
from promptkit.errors import UsageError
from promptkit.types import Json

if TYPE_CHECKING:
    from promptkit.batch.options import JobOptions
    from promptkit.engine.context import Session

# ---------------------------------------------------------------------------------- variables


def read_variables(pairs: Sequence[str] | None, file: Path | None) -> dict[str, object]:
    """Read the variables of `-v` and `--vars`.

    Raises:
        UsageError: a pair has no `=`, a file is not readable, or JSON is broken.
    """
    variables = {} if file is None else _read_variables_file(file)
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not (name.removesuffix(":") and equals):
            raise UsageError(
                f"-v {pair!r} is not a variable, such as brand=Barly",
                remedy="Write K=TEXT, K=@FILE or K:=JSON.",
            )
        if name.endswith(":"):
            variables[name[:-1]] = _read_json(value, f"-v {name}=...")
        else:
            variables[name] = read_text(value)
    return variables


def _read_variables_file(file: Path) -> dict[str, object]:
    text = _read_file(file)
    if file.suffix == ".toml":
        return dict(toml.parse(text, file=str(file), error=UsageError).data)
    try:
        value = json.loads(text)
    except ValueError as cause:
        raise UsageError(f"not valid JSON: {cause}", file=file) from None
    if not isinstance(value, dict):
        raise UsageError("must contain one JSON object", file=file)
    return dict(cast("Mapping[str, object]", value))


def _read_json(text: str, option: str) -> Json:
    try:
        return json.loads(text)
    except ValueError as cause:
        raise UsageError(f"{option}: not valid JSON: {cause}") from None


def read_text(text: str) -> str:
    """Return a text as it is given, or for `@FILE` the text of the file.

    Raises:
        UsageError: the file is not readable.
    """
    return _read_file(Path(text[1:])) if text.startswith("@") else text


def _read_file(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text("utf-8-sig")
    except OSError as cause:
        raise UsageError(f"not readable: {cause.strerror}", file=file) from None
    except UnicodeDecodeError:
        raise UsageError("not a UTF-8 text", file=file) from None


# -------------------------------------------------------------------------- tags, maps, lists


def read_tags(pairs: Sequence[str] | None) -> dict[str, str]:
    """Read the tags of `--tag`.

    Raises:
        UsageError: a pair has no `=`.
    """
    return _read_pairs(pairs, "--tag", "a tag", "client=barly")


def read_mapping(pairs: Sequence[str] | None) -> dict[str, str]:
    """Read the columns of variables of `--map`.

    Raises:
        UsageError: a pair has no `=`.
    """
    return _read_pairs(pairs, "--map", "a variable and its column", "product=Article")


def _read_pairs(pairs: Sequence[str] | None, option: str, kind: str, example: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise UsageError(f"{option} {pair!r} is not {kind}, such as {example}")
        values[name] = value
    return values


def read_list(texts: Sequence[str] | None) -> tuple[str, ...]:
    """Read a repeatable option whose values may be separated by commas."""
    return tuple(part for text in texts or () for item in text.split(",") if (part := item.strip()))


def read_each(pairs: Sequence[str] | None) -> dict[str, Sequence[Json]]:
    """Read the values of `--each`.

    Raises:
        UsageError: a pair has no `=`, JSON is not a list, or a variable is repeated.
    """
    axes: dict[str, Sequence[Json]] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not (name.removesuffix(":") and equals):
            raise UsageError(
                f"--each {pair!r} is not a variable with its values, such as angle=problem,proof"
            )
        if name.removesuffix(":") in axes:
            raise UsageError(f"--each {name} is given twice", remedy="Give all of its values in one --each.")
        if name.endswith(":"):
            axes[name[:-1]] = _read_json_list(name[:-1], value)
        else:
            axes[name] = [part.strip() for part in value.split(",") if part.strip()]
    return axes


def _read_json_list(name: str, text: str) -> list[Json]:
    value = _read_json(text, f"--each {name}:=...")
    if not isinstance(value, list):
        raise UsageError(
            f"--each {name}:=... is not a list", remedy=f"""For example '{name}:=["a, b", "c"]'"""
        )
    return value


# ----------------------------------------------------------------------- amounts, ages, times


def read_budget(text: str | None) -> Decimal | None:
    """Read the amount of `--budget`, in USD.

    Raises:
        UsageError: it is not an amount.
    """
    if text is None:
        return None
    try:
        return Decimal(text.removeprefix("$"))
    except InvalidOperation:
        raise UsageError(f"--budget {text!r} is not an amount in USD, such as 2.50") from None


def read_cap(text: str | None) -> int | None:
    """Read the amount of `--budget`, in pico-USD.

    Raises:
        UsageError: it is not an amount, or an amount that no cap can have.
    """
    from promptkit.client.options import cap_of

    amount = read_budget(text)
    return None if amount is None else cap_of(amount)


def read_cache(cache: str | None, *, none: bool) -> str | None:
    """Read the age of `--cache` and `--no-cache`, as the library takes it.

    Raises:
        UsageError: both are given, or it is not an age.
    """
    from promptkit.routing.reply_cache import read_age

    if none and cache is not None:
        raise UsageError("--cache and --no-cache exclude each other", remedy="Give only one of them.")
    if cache is not None:
        read_age(cache)
    return "0" if none else cache


def read_time(
    text: str, now: datetime, zone: ZoneInfo, *, option: str, starts_at: time = time(), ends: bool = False
) -> datetime:
    """Read a time: `2h`, `3d`, `today`, `2026-11-21`, `2026-11-21T22:00`.

    Args:
        text: as the user writes it.
        now: an aware time.
        zone: the time zone of days and hours.
        option: its name, for messages.
        starts_at: when a day begins.
        ends: whether a day stands for its end instead of its beginning.

    Raises:
        UsageError: it is not a time.
    """
    from promptkit.routing.budgets import day_begins

    age_s = read_duration_s(text)
    try:
        if age_s is not None:
            return now - timedelta(seconds=age_s)
        day = _read_day(text, now, zone, starts_at)
        if day is not None:
            return day_begins(day + timedelta(days=int(ends)), zone, starts_at)
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option} {text!r} is not a time",
            remedy="For example 2h, 3d, today, yesterday, 2026-11-21 or 2026-11-21T22:00",
        ) from None
    return at if at.tzinfo is not None else at.replace(tzinfo=zone)


def _read_day(text: str, now: datetime, zone: ZoneInfo, starts_at: time) -> date | None:
    from promptkit.routing.budgets import day_of

    if text in {"today", "yesterday"}:
        return day_of(now, zone, starts_at) - timedelta(days=int(text == "yesterday"))
    return date.fromisoformat(text) if len(text) == len("2026-11-21") else None


# ------------------------------------------------------------------------------ a job's options


def read_job_options(
    session: Session,
    *,
    map_: Sequence[str] | None,
    each: Sequence[str] | None,
    var: Sequence[str] | None,
    vars_: Path | None,
    tag: Sequence[str] | None,
    pack: str,
    budget: str | None,
    route: str | None,
    target: Sequence[str] | None,
    limit: int | None,
    **options: Any,
) -> JobOptions:
    """Read the options of `batch` and `plan`.

    Args:
        session: its clock and time zone decide when a deadline is.
        map_: `--map`.
        each: `--each`.
        var: `-v`.
        vars_: `--vars`.
        tag: `--tag`.
        pack: `--pack`.
        budget: `--budget`.
        route: `--route`; without it and `target`, rules may choose the route of each row.
        target: `--target`.
        limit: `--limit`; 0 sends nothing, which the library does not allow.
        **options: further options of `BatchOptions`, as the library takes them.

    Raises:
        UsageError: a text does not have the form of its option.
    """
    from promptkit.batch.options import JobOptions
    from promptkit.client.options import job_fields

    options |= {
        "mapping": read_mapping(map_),
        "each": read_each(each),
        "tags": read_tags(tag),
        "pack": int(pack) if pack.isdecimal() else pack,
        "budget_usd": read_budget(budget),
    }
    return JobOptions(
        constants=read_variables(var, vars_),
        limit=limit,
        by_rules=route is None and not target,
        **job_fields(options, session),
    )
