"""What the demonstration prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from promptkit.batch.columns import usd_text
from promptkit.errors import counted
from promptkit.types import Json, RowResult
from promptkit.types.ids import show_id

from .face import Face
from .money import spent

if TYPE_CHECKING:
    from promptkit.batch.job import JobReport
    from promptkit.config.settings import Settings


def print_demo(face: Face, results: Sequence[RowResult], report: JobReport, settings: Settings) -> None:
    """Print rows and texts, what they took, and where to look next."""
    ordered = sorted(results, key=lambda result: result.number)
    face.table(
        ("brand", "~what the model wrote", ">tokens", "call"),
        [_row(result) for result in ordered],
    )
    read, written = _tokens(results)
    face.print(
        f"\n{counted(report.total, 'row')}, {counted(report.money.attempts, 'call')}, {read:,} tokens read and {written:,} written, "
        f"{spent(report.money)}\n"
        f"ledger: {_short(settings.database_path)}"
    )
    first = next((show_id(result.call) for result in ordered if result.call is not None), "ID")
    command = _command()
    face.say(
        "look at what was recorded:\n"
        f"  {command} log\n"
        f"  {command} show {first}\n"
        "and begin your own:\n"
        f"  {command} init my-project"
    )


def demo_json(results: Sequence[RowResult], report: JobReport, settings: Settings) -> dict[str, Json]:
    """The same as JSON."""
    read, written = _tokens(results)
    return {
        "job": report.name,
        "ledger": str(settings.database_path),
        "calls": report.money.attempts,
        "input_tokens": read,
        "output_tokens": written,
        "cost_usd": usd_text(report.money.known_pico),
        "rows": [
            {
                **dict(result.cells),
                "text": result.text,
                "status": result.status.value,
                "error": result.error,
                "call": None if result.call is None else show_id(result.call),
            }
            for result in sorted(results, key=lambda result: result.number)
        ],
    }


def _row(result: RowResult) -> tuple[str, ...]:
    usage = result.usage
    return (
        str(result.cells["brand"]),
        (result.text or result.error or "").strip(),
        "" if usage is None else f"{usage.input_tokens} + {usage.output_tokens}",
        "" if result.call is None else show_id(result.call),
    )


def _tokens(results: Sequence[RowResult]) -> tuple[int, int]:
    usages = [result.usage for result in results if result.usage is not None]
    return sum(usage.input_tokens for usage in usages), sum(usage.output_tokens for usage in usages)


def _command() -> str:
    """What to type for this very command: its path, where the shell doesn't find it by its name."""
    here = Path(sys.argv[0])
    if here.name != "promptkit" or which("promptkit") is not None:
        return "promptkit"
    return str(here.relative_to(Path.cwd())) if here.is_relative_to(Path.cwd()) else str(here)


def _short(path: Path) -> str:
    """A path as people write it, from their home on."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
