"""How the texts of options are read: pairs, amounts, ages, files of variables."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

from promptkit._util import toml
from promptkit.batch.binding import Matrix
from promptkit.errors import UsageError
from promptkit.types import Json


def read_deadline(text: str | None, zone: ZoneInfo) -> float | None:
    """The moment of `--deadline`, in seconds since the epoch.

    Raises:
        UsageError: no time, or one that is over.
    """
    from promptkit.batch.control import read_deadline

    return None if text is None else read_deadline(text, datetime.now(UTC), zone).timestamp()


def read_variables(pairs: Sequence[str] | None, file: Path | None) -> dict[str, object]:
    """The variables of `-v` and `--vars`.

    Raises:
        UsageError: a pair has no `=`, a file can't be read, or JSON is broken.
    """
    variables = {} if file is None else _read_file(file)
    for pair in pairs or ():
        name, value = _read_pair(pair)
        variables[name] = value
    return variables


def read_tags(pairs: Sequence[str] | None) -> dict[str, str]:
    """The tags of `--tag`.

    Raises:
        UsageError: a pair has no `=`.
    """
    return _read_pairs(pairs, "--tag", "K=V", "--tag client=barly")


def read_cache(cache: str | None, *, none: bool) -> str | None:
    """The age of `--cache` and `--no-cache`, as the library takes it.

    Raises:
        UsageError: both are given, or it is no age.
    """
    from promptkit.routing.reply_cache import read_age

    if none and cache is not None:
        raise UsageError("--cache and --no-cache exclude each other", remedy="Give one of them.")
    if cache is not None:
        read_age(cache)
    return "0" if none else cache


def read_cache_s(cache: str | None, *, none: bool) -> float | None:
    """The same, in seconds."""
    from promptkit.routing.reply_cache import read_age

    told = read_cache(cache, none=none)
    return None if told is None else read_age(told)


def read_mapping(pairs: Sequence[str] | None) -> dict[str, str]:
    """Variable to column, of `--map`.

    Raises:
        UsageError: a pair has no `=`.
    """
    return _read_pairs(pairs, "--map", "VAR=COLUMN", "--map product=Article")


def read_each(pairs: Sequence[str] | None) -> Matrix:
    """The values of `--each`.

    Raises:
        UsageError: a pair has no `=` or no value, JSON is no list, or a variable or value is there twice.
    """
    axes: dict[str, Sequence[Json]] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not (name.removesuffix(":") and equals):
            raise UsageError(
                f"--each {pair!r} is no VAR=A,B", remedy="For example --each angle=problem,proof"
            )
        if name.removesuffix(":") in axes:
            raise UsageError(f"--each {name} is there twice", remedy="Name all of its values in one.")
        if name.endswith(":"):
            axes[name[:-1]] = _list_of(name[:-1], value)
        else:
            axes[name] = [part.strip() for part in value.split(",") if part.strip()]
    return Matrix(axes)


def _list_of(name: str, text: str) -> list[Json]:
    try:
        value = json.loads(text)
    except ValueError as cause:
        raise UsageError(f"--each {name}:=...: not valid JSON: {cause}") from None
    if not isinstance(value, list):
        raise UsageError(f"--each {name}:=... is no list", remedy=f"""For example '{name}:=["a, b", "c"]'""")
    return cast("list[Json]", value)


def _read_pairs(pairs: Sequence[str] | None, option: str, form: str, example: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise UsageError(f"{option} {pair!r} is no {form}", remedy=f"For example {example}")
        found[name] = value
    return found


def read_pack(text: str) -> int:
    """The rows of `--pack`; 0 for `auto`.

    Raises:
        UsageError: neither a number that can be nor `auto`.
    """
    from promptkit.batch.options import pack_of

    return pack_of(int(text) if text.isdecimal() else text)


def read_cap(text: str | None) -> int | None:
    """The amount of `--budget`, in pico-USD.

    Raises:
        UsageError: no amount, or one that can't be a cap.
    """
    from promptkit.client.kit import cap_of

    amount = read_budget(text)
    return None if amount is None else cap_of(amount)


def read_budget(text: str | None) -> Decimal | None:
    """The amount of `--budget`, in USD.

    Raises:
        UsageError: no amount.
    """
    if text is None:
        return None
    try:
        return Decimal(text.removeprefix("$"))
    except InvalidOperation:
        raise UsageError(f"--budget {text!r} is no amount", remedy="For example --budget 2.50") from None


def read_text(text: str) -> str:
    """A text as it is said; `@FILE` is that of a file.

    Raises:
        UsageError: the file can't be read.
    """
    return _read_text(Path(text[1:])) if text.startswith("@") else text


def _read_pair(pair: str) -> tuple[str, object]:
    name, equals, value = pair.partition("=")
    if not (name.removesuffix(":") and equals):
        raise UsageError(f"-v {pair!r} is no K=V", remedy="K=TEXT, K=@FILE or K:=JSON")
    if name.endswith(":"):
        try:
            return name[:-1], json.loads(value)
        except ValueError as cause:
            raise UsageError(f"-v {name}=...: not valid JSON: {cause}") from None
    if value.startswith("@"):
        return name, _read_text(Path(value[1:]))
    return name, value


def _read_file(file: Path) -> dict[str, object]:
    text = _read_text(file)
    if file.suffix == ".toml":
        return dict(toml.parse(text, file=str(file), error=UsageError).data)
    try:
        value = json.loads(text)
    except ValueError as cause:
        raise UsageError(f"not valid JSON: {cause}", file=file) from None
    if not isinstance(value, dict):
        raise UsageError("must hold one JSON object", file=file)
    return dict(cast("Mapping[str, object]", value))


def _read_text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text("utf-8-sig")
    except OSError as cause:
        raise UsageError(f"can't be read: {cause.strerror}", file=file) from None
    except UnicodeDecodeError:
        raise UsageError("is no UTF-8 text", file=file) from None
