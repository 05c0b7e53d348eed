"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast
from zoneinfo import ZoneInfo

import typer

from promptkit import toml
from promptkit.batch import Format, Matrix
from promptkit.errors import UsageError
from promptkit.types import Json, OnMiss


class Resend(StrEnum):
    """What to do with a request that was sent and never answered."""

    SEND = "send"
    FAIL = "fail"


Ref = Annotated[
    str,
    typer.Argument(
        metavar="REF", help="The skeleton: ugc/script, ugc/script@2, @LABEL, @draft, @sha256:PREFIX."
    ),
]
Vars = Annotated[
    list[str] | None,
    typer.Option(
        "-v", "--var", metavar="K=V", help="A variable: K=TEXT, K=@FILE (its text), K:=JSON. Repeatable."
    ),
]
VarsFile = Annotated[
    Path | None,
    typer.Option("--vars", metavar="FILE", help="Variables from a JSON or TOML file; -v wins over it."),
]
RouteName = Annotated[
    str | None, typer.Option("--route", metavar="NAME", help="The route, from promptkit.toml.")
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="PROVIDER/MODEL",
        help="Where it may go, in order, instead of a route. Repeatable.",
    ),
]
Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag", metavar="K=V", help="What it belongs to: client, deliverable, campaign ... Repeatable."
    ),
]
Cache = Annotated[
    str | None,
    typer.Option(
        "--cache",
        metavar="AGE",
        help="A reply to this very call that is no older serves it, at no cost: 7d, 12h, 30m. Else as the route says.",
    ),
]
NoCache = Annotated[
    bool,
    typer.Option("--no-cache", help="Ask anew, whatever the route says; the reply is kept for later calls."),
]
Budget = Annotated[str | None, typer.Option("--budget", metavar="USD", help="Hard cap of this call or job.")]
Stream = Annotated[
    bool, typer.Option("--stream", help="Print the text as it comes. Not with --json, which is one document.")
]
Failed = Annotated[
    Path | None,
    typer.Option(
        "--failed",
        metavar="FILE",
        help="The rows that failed, with reasons: correct them, and it is an input itself.",
    ),
]
Summary = Annotated[
    Path | None,
    typer.Option("--summary", metavar="FILE", help="How it ended: JSON in a FILE.json, else text."),
]
PingUrl = Annotated[
    str | None,
    typer.Option(
        "--ping", metavar="URL", help="A monitor: URL/start, then URL, or URL/CODE with the exit code."
    ),
]
UntilBudget = Annotated[
    bool,
    typer.Option(
        "--until-budget", help="Run until a cap stops it, where the worst case doesn't fit every hard cap."
    ),
]

Rows = Annotated[
    str, typer.Argument(metavar="ROWS", help="The table: CSV, TSV, JSONL or JSON; - reads standard input.")
]
MaybeRows = Annotated[
    str | None,
    typer.Argument(
        metavar="ROWS",
        help="The table: CSV, TSV, JSONL or JSON; - reads standard input. Without one, -v and --each make the rows.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--out",
        metavar="FILE",
        help="The output, whole and in the input's order; columns in braces ('out/{sku}.txt') make one file a row. "
        "Else stdout, as they finish.",
    ),
]
OutFormat = Annotated[
    Format | None,
    typer.Option(
        "--format",
        metavar="csv|tsv|jsonl|json",
        help="The output's format. Else by FILE's name, else the input's.",
    ),
]
JobName = Annotated[
    str | None,
    typer.Option(
        "--job", metavar="NAME", help="The job's name; {date} expands. Else derived from REF, ROWS and FILE."
    ),
]
Key = Annotated[
    str | None, typer.Option("--key", metavar="COLUMN", help="What identifies a row. Else its content does.")
]
Concurrency = Annotated[
    int, typer.Option("--concurrency", metavar="N", min=1, max=1000, help="Rows under way at once.")
]
Limit = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=0, help="Send at most N rows this time.")
]
Sample = Annotated[
    int | None,
    typer.Option("--sample", metavar="N", min=1, help="Send only N rows, drawn by lot; the rest waits."),
]
Seed = Annotated[
    int, typer.Option("--seed", metavar="S", help="Which sample: the same S draws the same rows.")
]
Canary = Annotated[
    int | None,
    typer.Option(
        "--canary",
        metavar="N",
        min=0,
        help="Send the first N rows alone, the rest only if they do well; 0: none after all.",
    ),
]
MaxFailRate = Annotated[
    float | None,
    typer.Option(
        "--max-fail-rate",
        metavar="R",
        min=0.0,
        max=1.0,
        help="The share of canary rows that may fail; 0.2 unless said otherwise.",
    ),
]
Pack = Annotated[
    str,
    typer.Option(
        "--pack",
        metavar="N|auto",
        help="Send up to N short rows in one request, or as many as pay off (auto); see docs/batches.md.",
    ),
]
Deadline = Annotated[
    str | None,
    typer.Option(
        "--deadline",
        metavar="HH:MM",
        help="When to send nothing more: the next such time on the configured clock, or a date and time.",
    ),
]
OnMissing = Annotated[
    OnMiss,
    typer.Option(
        "--on-miss",
        metavar="warn|stop|faster|fastest",
        help="Where the deadline won't be met: warn; stop at once; more rows at once; the fastest target first.",
    ),
]
TextAs = Annotated[
    str | None,
    typer.Option("--text-as", metavar="NAME", help="The name of the text's column in the output. Else text."),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Do rows again that failed, were refused or are degraded.")
]
OnUnknown = Annotated[
    Resend,
    typer.Option(
        "--on-unknown",
        metavar="send|fail",
        help="A request that was sent and never answered: send it again, or fail its row.",
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse columns that the skeleton doesn't use, and invalid rows.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Read, check and price the rows as `promptkit plan` does; send nothing."),
]
Map = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="VAR=COLUMN", help="The column that fills a variable. Repeatable."),
]
Each = Annotated[
    list[str] | None,
    typer.Option(
        "--each",
        metavar="VAR=A,B",
        help="Every row once with each value (VAR:=JSON for a list of any). Repeatable: all combinations.",
    ),
]
RowTags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag", metavar="K=V", help="What it belongs to; K=@COLUMN takes a row's own value. Repeatable."
    ),
]


def read_deadline(text: str | None, zone: ZoneInfo) -> float | None:
    """The moment of `--deadline`, in seconds since the epoch.

    Raises:
        UsageError: no time, or one that is over.
    """
    from promptkit.jobs.deadline import read_deadline

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
    from promptkit.jobs.options import pack_of

    return pack_of(int(text) if text.isdecimal() else text)


def read_cap(text: str | None) -> int | None:
    """The amount of `--budget`, in pico-USD.

    Raises:
        UsageError: no amount, or one that can't be a cap.
    """
    from promptkit.client import cap_of

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
