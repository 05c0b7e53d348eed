"""A comparison on the terminal and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Final

from promptkit.batch.columns import usd_text
from promptkit.reports.comparison import (
    Cell,
    ColumnFigures,
    Comparison,
    ComparisonColumn,
    ComparisonRow,
    best,
    printable,
)
from promptkit.types import Json, Status, dollars

from .face import Face
from .making import usage_json
from .money import spent
from .times import lasting

_LETTERS: Final = 26


_FACT: Final = 60


_FACTS: Final = 4


_INDENT: Final = 3


_UNCUT: Final = 10_000


def letter(place: int) -> str:
    """What a column is called for short: A, B, ... Z, 27."""
    return chr(ord("A") + place) if place < _LETTERS else str(place + 1)


def cell_facts(cell: Cell, side: ComparisonColumn) -> list[str]:
    """What a cell took, in a few words: status where it isn't ok, target where it isn't clear, cost, tokens, time."""
    usage = cell.usage
    reasoning = f" ({usage.reasoning_tokens:,} reasoning)" if usage and usage.reasoning_tokens else ""
    told = (
        "waiting" if cell.status is None else "" if cell.status is Status.OK else cell.status.value,
        cell.target if len(side.targets) > 1 else "",
        spent(cell.money) if cell.money.attempts else "",
        f"{cell.money.attempts} attempts" if cell.money.attempts > 1 else "",
        "" if usage is None else f"{usage.input_tokens:,} in, {usage.output_tokens:,} out{reasoning}",
        "" if cell.latency_s is None else lasting(cell.latency_s),
    )
    return [one for one in told if one]


# ------------------------------------------------------------------------------- for people
def print_comparison(face: Face, found: Comparison, *, whole: bool) -> None:
    """Print it: the texts of each row one below the other, then the figures of each column.

    Args:
        face: where to.
        found: the comparison.
        whole: whether the texts are wanted, too.
    """
    if whole:
        face.print(_texts(face, found))
    _print_figures(face, found)


def _texts(face: Face, found: Comparison) -> str:
    """The texts, row by row, wrapped to a terminal's width; elsewhere their lines stay as they are."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    drawing = StringIO()
    width = None if sys.stdout.isatty() else _UNCUT
    console = Console(
        file=drawing, width=width, force_terminal=face.color, no_color=not face.color, highlight=False
    )
    for line in found.rows:
        console.print(Text(_heading(line), style="bold"))
        for place, (side, cell) in enumerate(zip(found.columns, line.cells, strict=True)):
            head = Text(f"{letter(place)}  ", style="bold cyan")
            head.append(side.label, style="cyan")
            head.append("".join(f" · {fact}" for fact in cell_facts(cell, side)), style="dim not bold")
            console.print(head)
            for text, style in _body(cell):
                console.print(Padding(Text(printable(text), style=style), (0, 0, 0, _INDENT), expand=False))
        console.print()
    return "\n".join(row.rstrip() for row in drawing.getvalue().split("\n")).rstrip("\n")


def _heading(line: ComparisonRow) -> str:
    """`row 2  brand: Barly · angle: proof`."""
    facts = [f"{name}: {_short(text)}" for name, text in list(line.facts.items())[:_FACTS]]
    return printable(f"row {line.number}  {' · '.join(facts)}".rstrip())


def _short(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= _FACT else f"{one_line[: _FACT - 1]}…"


def _body(cell: Cell) -> Iterator[tuple[str, str]]:
    """What stands below a cell's head, each with its style."""
    if cell.text is not None:
        yield cell.text, ""
    if cell.why:
        yield cell.why, "red" if cell.status is not None and not cell.has_reply else "yellow"
    for problem in cell.problems:
        yield f"check: {problem}", "yellow"


def _print_figures(face: Face, found: Comparison) -> None:
    """One line a column; the cheapest and the fastest, where it is one alone, with a star."""
    figures = found.figures
    checks = any(one.checks_failed is not None for one in figures)
    stars = starred(figures)
    head = [
        "",
        "~column",
        ">texts",
        ">failed",
        *([">checks"] if checks else []),
        ">cost",
        ">per 1,000",
        ">p50",
    ]
    face.table(
        head,
        [
            (
                letter(place),
                side.label,
                f"{one.texts:,} of {one.rows:,}" if one.pending else f"{one.texts:,}",
                f"{one.failed:,}",
                *([_maybe(one.checks_failed)] if checks else []),
                spent(one.money),
                _star(_dollars(one.per_thousand_pico), on=place == stars["per_text"]),
                _star("-" if one.latency_s is None else lasting(one.latency_s), on=place == stars["latency"]),
            )
            for place, (side, one) in enumerate(zip(found.columns, figures, strict=True))
        ],
    )


def starred(figures: Sequence[ColumnFigures]) -> Mapping[str, int | None]:
    """Which column is the cheapest a text, and which the fastest."""
    return {
        "per_text": best(figures, lambda one: one.per_text_pico),
        "latency": best(figures, lambda one: one.latency_s),
    }


def _star(text: str, *, on: bool) -> str:
    return f"* {text}" if on else text


def _maybe(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _dollars(pico: int | None) -> str:
    return "-" if pico is None else dollars(pico)


# ----------------------------------------------------------------------------- for programs
def comparison_json(found: Comparison, out: Path | None) -> dict[str, Json]:
    """A comparison as JSON."""
    return {
        "compare": found.name,
        "template": found.template,
        "rows_file": found.table,
        "output": None if out is None else str(out),
        "columns": [_column_json(side, one) for side, one in zip(found.columns, found.figures, strict=True)],
        "rows": [
            {
                "row": line.number,
                "input": dict(line.facts),
                "cells": [_cell_json(cell) for cell in line.cells],
            }
            for line in found.rows
        ],
    }


def _column_json(side: ComparisonColumn, one: ColumnFigures) -> dict[str, Json]:
    return {
        "label": side.label,
        "template": side.template,
        "template_digest": side.template_digest,
        "targets": list(side.targets),
        "job": side.job,
        "texts": one.texts,
        "failed": one.failed,
        "waiting": one.pending,
        "checks_failed": one.checks_failed,
        "cost_usd": None if one.money.unknown else usd_text(one.money.known_pico),
        "charged_usd": usd_text(one.money.charged_pico),
        "cost_per_text_usd": usd_text(one.per_text_pico),
        "cost_per_thousand_usd": usd_text(one.per_thousand_pico),
        "median_latency_s": one.latency_s,
        "median_input_tokens": one.input_tokens,
        "median_output_tokens": one.output_tokens,
        "median_reasoning_tokens": one.reasoning_tokens,
    }


def _cell_json(cell: Cell) -> dict[str, Json]:
    return {
        "status": "waiting" if cell.status is None else cell.status.value,
        "text": cell.text,
        "error": cell.why or None,
        "problems": list(cell.problems),
        "target": cell.target or None,
        "call": cell.call or None,
        "usage": usage_json(cell.usage),
        "latency_s": cell.latency_s,
        "attempts": cell.money.attempts,
        "cost_usd": None if cell.money.unknown else usd_text(cell.money.known_pico),
        "charged_usd": usd_text(cell.money.charged_pico),
    }
