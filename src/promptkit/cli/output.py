"""How every command prints: tables, pages and JSON, money, times and durations, without secrets."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from io import StringIO
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

from promptkit._util.text import shortened as text_shortened
from promptkit.batch.columns import usd_text
from promptkit.types import dollars
from promptkit.types.ids import show_id

if TYPE_CHECKING:
    from rich.console import Console

    from promptkit.ledger.records import Money
    from promptkit.types import Json, Usage

UNCUT = 10_000
"""The width of a table that is not printed on a terminal, so that no cell is folded or cut."""

_STYLES = {
    "ok": "green",
    "yes": "green",
    "truncated": "yellow",
    "degraded": "yellow",
    "warn": "yellow",
    "unknown": "yellow",
    "open": "yellow",
    "refused": "red",
    "failed": "red",
    "fail": "red",
}
"""Cells that consist of a state, and their colors."""

# ------------------------------------------------------------------------------ pages, tables


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts under their column names.

    A column whose name begins with `>` is aligned to the right. One with `~` is folded if the
    terminal is too narrow.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str | None = None

    def text(self, *, color: bool) -> str:
        """Draw the table for stdout."""
        from rich import box
        from rich.cells import cell_len
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(
            box=box.SIMPLE_HEAD,
            title=self.title,
            title_justify="left",
            title_style="bold",
            header_style="bold",
            show_edge=False,
            pad_edge=False,
            collapse_padding=True,
            border_style="dim",
        )
        for number, column in enumerate(self.columns):
            folds = column.startswith("~")
            name = column.lstrip(">~")
            widest = max(cell_len(name), *(cell_len(row[number]) for row in self.rows), 0)
            table.add_column(
                name,
                justify="right" if column.startswith(">") else "left",
                overflow="fold",
                no_wrap=not folds,
                min_width=None if folds else widest,
            )
        for row in self.rows:
            # Text instead of markup: a reply that contains [bold] is shown as it is.
            table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
        drawing = Drawing(color=color)
        drawing.console.print(table)
        return drawing.text()


class Drawing:
    """A text that rich draws for stdout.

    It does not draw on stdout itself: rich would hide that a disk is full.
    """

    def __init__(self, *, color: bool) -> None:
        from rich.console import Console

        self._file = StringIO()
        self.console: Console = Console(
            file=self._file,
            width=None if sys.stdout.isatty() else UNCUT,
            force_terminal=color,
            no_color=not color,
            highlight=False,
        )

    def text(self) -> str:
        """Return what was drawn, without white space at the ends of lines."""
        return "\n".join(line.rstrip() for line in self._file.getvalue().split("\n")).rstrip("\n")


@dataclass(frozen=True, slots=True)
class Page:
    """A page about one thing: facts by name, then texts and tables, then what to do next.

    Facts without a text are left out.
    """

    facts: Mapping[str, str | None]
    blocks: Sequence[str | Table] = ()
    next_steps: Sequence[str] = ()

    def text(self, *, color: bool) -> str:
        """Draw the page for stdout; an empty line separates its parts."""
        parts = [facts_text(self.facts)]
        parts += [block.text(color=color) if isinstance(block, Table) else block for block in self.blocks]
        parts.append("\n".join(f"next: {step}" for step in self.next_steps))
        return "\n\n".join(part for part in parts if part)


def facts_text(facts: Mapping[str, str | None]) -> str:
    """Return facts as lines: their names in a column, then their texts; empty ones are left out."""
    known = {name: fact for name, fact in facts.items() if fact}
    width = max((len(name) for name in known), default=0)
    return "\n".join(f"{name:<{width}}  {fact}" for name, fact in known.items())


# --------------------------------------------------------------------------------------- JSON


def to_json(record: Any, skip: Collection[str] = (), /, **more: Json) -> dict[str, Json]:
    """Turn a dataclass into JSON, field by field.

    The end of a field's name decides how its value is written: `cost_pico` becomes `cost_usd`, a
    decimal string; `started_us` becomes `started`, ISO 8601 in UTC; `parent_id` becomes `parent`,
    as `promptkit show` takes it; `template_ref` becomes `template`. Unknown values are null.

    Args:
        record: the dataclass.
        skip: names of fields to leave out.
        **more: further members, or other values for members of those names.
    """
    members: dict[str, Json] = {}
    for field in fields(record):
        if field.name not in skip:
            name, value = _member(field.name, getattr(record, field.name))
            members[name] = value
    return members | more


def _member(name: str, value: Any) -> tuple[str, Json]:
    if name.endswith("_pico"):
        return f"{name.removesuffix('_pico')}_usd", usd_text(value)
    if name.endswith("_us"):
        return name.removesuffix("_us"), iso(value)
    if name == "id" or name.endswith("_id"):
        return name.removesuffix("_id"), value if isinstance(value, str) or value is None else show_id(value)
    return name.removesuffix("_ref"), plain(value)


def plain(value: Any) -> Json:  # noqa: PLR0911 - one return per kind of value
    """Turn any value of promptkit's records into JSON."""
    match value:
        case None | bool() | int() | float():
            return value
        case Enum():
            return str(value.value)
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case Mapping():
            pairs = cast("Mapping[object, object]", value)
            return {str(key): plain(item) for key, item in pairs.items()}
        case list() | tuple():
            return [plain(item) for item in cast("Sequence[object]", value)]
        case _ if is_dataclass(value) and type(value).__str__ is object.__str__:
            return to_json(value)
        case _:
            return str(value)


def usage_json(usage: Usage | None) -> dict[str, Json] | None:
    """Return token counts as JSON; None if they are unknown."""
    return None if usage is None else to_json(usage, ("cache_write_1h_tokens",))


def money_json(money: Money) -> dict[str, Json]:
    """Return a sum over attempts as JSON."""
    return {
        "cost_usd": usd_text(money.known_pico),
        "charged_usd": usd_text(money.charged_pico),
        "attempts": money.attempts,
        "unknown_attempts": money.unknown,
    }


def cost_json(money: Money) -> dict[str, Json]:
    """Return the cost of one call as JSON: null if the cost of an attempt is unknown."""
    return {
        "cost_usd": None if money.unknown else usd_text(money.known_pico),
        "charged_usd": usd_text(money.charged_pico),
        "attempts": money.attempts,
    }


# ----------------------------------------------------------------------- money, times, texts


def spent(money: Money) -> str:
    """Return a sum over attempts: `$1.20`, or `$1.20 + up to $0.04 unknown` with unknown outcomes."""
    if not money.unknown:
        return dollars(money.known_pico)
    if not money.at_most_unknown_pico:  # without a price there was no max cost either
        return f"{dollars(money.known_pico)} + {money.unknown:,} unpriced"
    return f"{dollars(money.known_pico)} + up to {dollars(money.at_most_unknown_pico)} unknown"


def local_time(us: int, zone: ZoneInfo) -> str:
    """Return microseconds since the epoch as a local time: `2026-11-21 22:04:05`."""
    return f"{datetime.fromtimestamp(us / 1e6, zone):%Y-%m-%d %H:%M:%S}"


def short_time(us: int, zone: ZoneInfo) -> str:
    """Return a local time without its year, for lists: `11-21 22:04:05`."""
    return local_time(us, zone)[len("2026-") :]


def iso(us: int | None) -> str | None:
    """Return microseconds since the epoch for programs: ISO 8601 in UTC."""
    if us is None:
        return None
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration(seconds: float) -> str:
    """Return a duration: `0.8 s`, `42 s`, `3 min`, `2 h 05 min`."""
    if seconds < 10:  # noqa: PLR2004 - below 10 s, tenths matter
        return f"{seconds:.1f} s"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.0f} s"
    if seconds < 3600:  # noqa: PLR2004 - an hour
        return f"{seconds / 60:.0f} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min"


def number_text(number: int | None) -> str:
    """Return a number with its thousands separated; the empty string if it is unknown."""
    return "" if number is None else f"{number:,}"


def shortened(text: str, length: int) -> str:
    """Return a text in one line of at most `length` characters."""
    return text_shortened(" ".join(text.split()), length)


def listed(parts: Iterable[str | None]) -> str:
    """Join the parts that are not empty with commas."""
    return ", ".join(part for part in parts if part)


# ------------------------------------------------------------------------------------ secrets

_SECRET_NAMES = re.compile(r"(^|_)(KEYS?|TOKENS?|SECRETS?|PASSWORD)(_|$)")

_SHORTEST_SECRET = 8
"""Shorter values appear in ordinary texts."""

_secrets: set[str] = set()


def remember_secrets(secrets: Iterable[str]) -> None:
    """Keep secrets out of every message from now on."""
    _secrets.update(secret for secret in secrets if len(secret) >= _SHORTEST_SECRET)


def remove_secrets(text: str) -> str:
    """Return a text without keys: those of the configuration, and those that the environment names so."""
    for secret in sorted({*_secrets, *_secrets_of_environment()}, key=len, reverse=True):
        text = text.replace(secret, "[key]")
    return text


def _secrets_of_environment() -> Iterator[str]:
    """Yield values of variables that are named like keys, for errors before the configuration is read."""
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and _SECRET_NAMES.search(name):
            yield value
