"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, cast

import typer

from promptkit import toml
from promptkit.errors import UsageError

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
Budget = Annotated[str | None, typer.Option("--budget", metavar="USD", help="Hard cap of this call or job.")]


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
    tags: dict[str, str] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise UsageError(f"--tag {pair!r} is no K=V", remedy="For example --tag client=barly")
        tags[name] = value
    return tags


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
