"""A comparison as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from promptkit.cli.output import (
    Drawing,
    Table,
    cost_json,
    duration,
    plain,
    shortened,
    spent,
    to_json,
    usage_json,
    usd_text,
)
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

_LETTERS = 26
_FACT_LENGTH = 60
_FACTS = 4
_INDENT = 3


def letter(number: int) -> str:
    """Return the short name of a column, counted from 0: A, B, ... Z, 27."""
    return chr(ord("A") + number) if number < _LETTERS else str(number + 1)


def cell_facts(cell: Cell, side: ComparisonColumn) -> list[str]:
    """Return the facts of a cell: its state unless ok, target if there are several, cost, tokens, duration."""
    usage = cell.usage
    reasoning = f" ({usage.reasoning_tokens:,} reasoning)" if usage and usage.reasoning_tokens else ""
    facts = (
        "" if cell.status is Status.OK else _state(cell),
        cell.target if len(side.targets) > 1 else "",
        spent(cell.money) if cell.money.attempts else "",
        f"{cell.money.attempts} attempts" if cell.money.attempts > 1 else "",
        "" if usage is None else f"{usage.input_tokens:,} in, {usage.output_tokens:,} out{reasoning}",
        "" if cell.latency_s is None else duration(cell.latency_s),
    )
    return [fact for fact in facts if fact]


def _state(cell: Cell) -> str:
    return "pending" if cell.status is None else cell.status.value


def best_columns(figures: Sequence[ColumnFigures]) -> Mapping[str, int | None]:
    """Return which column is the cheapest per text, and which the fastest; None for a tie."""
    return {
        "per_text": best(figures, lambda column: column.per_text_pico),
        "latency": best(figures, lambda column: column.latency_s),
    }


# -------------------------------------------------------------------------------------- text


def comparison_text(comparison: Comparison, *, with_texts: bool, color: bool) -> str:
    """Return the texts of each row one below the other, then the figures of each column."""
    figures = _figures_table(comparison).text(color=color)
    return f"{_texts(comparison, color=color)}\n{figures}" if with_texts else figures


def _texts(comparison: Comparison, *, color: bool) -> str:
    """Return the texts, row by row, wrapped to the width of a terminal; elsewhere lines are not wrapped."""
    from rich.padding import Padding
    from rich.text import Text

    drawing = Drawing(color=color)
    console = drawing.console
    for line in comparison.rows:
        console.print(Text(_heading(line), style="bold"))
        for number, (side, cell) in enumerate(zip(comparison.columns, line.cells, strict=True)):
            head = Text(f"{letter(number)}  ", style="bold cyan")
            head.append(side.label, style="cyan")
            head.append("".join(f" · {fact}" for fact in cell_facts(cell, side)), style="dim not bold")
            console.print(head)
            for text, style in _body(cell):
                console.print(Padding(Text(printable(text), style=style), (0, 0, 0, _INDENT), expand=False))
        console.print()
    return drawing.text()


def _heading(line: ComparisonRow) -> str:
    """Return `row 2  brand: Barly · angle: proof`."""
    facts = [f"{name}: {shortened(text, _FACT_LENGTH)}" for name, text in list(line.facts.items())[:_FACTS]]
    return printable(f"row {line.number}  {' · '.join(facts)}".rstrip())


def _body(cell: Cell) -> Iterator[tuple[str, str]]:
    """Yield the texts below the head of a cell, each with its style."""
    if cell.text is not None:
        yield cell.text, ""
    if cell.why:
        yield cell.why, "red" if cell.status is not None and not cell.has_reply else "yellow"
    for problem in cell.problems:
        yield f"check: {problem}", "yellow"


def _figures_table(comparison: Comparison) -> Table:
    """Return a row for each column; a star marks the cheapest and the fastest, unless there is a tie."""
    figures = comparison.figures
    has_checks = any(column.checks_failed is not None for column in figures)
    stars = best_columns(figures)
    checks = [">checks"] if has_checks else []
    return Table(
        ["", "~column", ">texts", ">failed", *checks, ">cost", ">per 1,000", ">p50"],
        [
            (
                letter(number),
                side.label,
                f"{column.texts:,} of {column.rows:,}" if column.pending else f"{column.texts:,}",
                f"{column.failed:,}",
                *(
                    ["-" if column.checks_failed is None else f"{column.checks_failed:,}"]
                    if has_checks
                    else []
                ),
                spent(column.money),
                ("* " if number == stars["per_text"] else "")
                + ("-" if column.per_thousand_pico is None else dollars(column.per_thousand_pico)),
                ("* " if number == stars["latency"] else "")
                + ("-" if column.latency_s is None else duration(column.latency_s)),
            )
            for number, (side, column) in enumerate(zip(comparison.columns, figures, strict=True))
        ],
    )


# -------------------------------------------------------------------------------------- JSON


def comparison_json(comparison: Comparison, out: Path | None) -> dict[str, Json]:
    """Return a comparison as JSON."""
    columns = zip(comparison.columns, comparison.figures, strict=True)
    return {
        "compare": comparison.name,
        "template": comparison.template,
        "rows_file": comparison.table,
        "output": None if out is None else str(out),
        "columns": [_column_json(side, figures) for side, figures in columns],
        "rows": [
            {
                "row": line.number,
                "input": plain(line.facts),
                "cells": [_cell_json(cell) for cell in line.cells],
            }
            for line in comparison.rows
        ],
    }


def _column_json(side: ComparisonColumn, figures: ColumnFigures) -> dict[str, Json]:
    return {
        **to_json(side, ("has_checks",)),
        "texts": figures.texts,
        "failed": figures.failed,
        "waiting": figures.pending,
        "checks_failed": figures.checks_failed,
        **cost_json(figures.money),
        "cost_per_text_usd": usd_text(figures.per_text_pico),
        "cost_per_thousand_usd": usd_text(figures.per_thousand_pico),
        "median_latency_s": figures.latency_s,
        "median_input_tokens": figures.input_tokens,
        "median_output_tokens": figures.output_tokens,
        "median_reasoning_tokens": figures.reasoning_tokens,
    }


def _cell_json(cell: Cell) -> dict[str, Json]:
    return to_json(
        cell,
        ("why", "money"),
        status="waiting" if cell.status is None else cell.status.value,
        error=cell.why or None,
        target=cell.target or None,
        call=cell.call or None,
        usage=usage_json(cell.usage),
        **cost_json(cell.money),
    )
