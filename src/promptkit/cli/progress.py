"""Progress on stderr: a bar on a terminal, a line now and then elsewhere, nothing with --quiet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from promptkit.errors import counted
from promptkit.types import RowResult

from .face import Face
from .pace import Pace

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

_EVERY_S: Final = 10.0
_EVERY_SHARE: Final = 0.1
_LEAST_S: Final = 2.0
"""A line comes every ten seconds, or every tenth of the rows, but not in every blink of a quick job."""

Note = Callable[[RowResult], None]
"""Told of each row as it finishes."""


@contextmanager
def following(face: Face, pace: Pace, *, rows_on_terminal: bool) -> Generator[Note, None, None]:
    """Show how a job gets on while the block runs.

    Args:
        face: whether to be quiet, and whether colours are wanted.
        pace: counts the rows.
        rows_on_terminal: the rows themselves are printed there: a bar would tear them apart.
    """
    if face.quiet or rows_on_terminal or not pace.to_do:
        yield pace.add
    elif sys.stderr.isatty():
        with _bar(pace, color=face.may_color) as note:
            yield note
    else:
        yield _lines(face, pace)


def _lines(face: Face, pace: Pace) -> Note:
    began = told_at = monotonic()
    told = 0

    def note(result: RowResult) -> None:
        nonlocal told, told_at
        pace.add(result)
        now = monotonic()
        waited_s = now - told_at
        share = (pace.made - told) / pace.to_do
        due = waited_s >= _EVERY_S or (share >= _EVERY_SHARE and waited_s >= _LEAST_S)
        if due and pace.made < pace.to_do:
            told, told_at = pace.made, now
            face.say(pace.line(now - began))

    return note


@contextmanager
def _bar(pace: Pace, *, color: bool) -> Generator[Note, None, None]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    from .times import lasting

    began = monotonic()
    columns: list[ProgressColumn] = [
        BarColumn(bar_width=28),
        TextColumn("{task.fields[rows]}"),
        TextColumn("[red]{task.fields[troubles]}"),
        TextColumn("[dim]{task.fields[speed]}"),
        TextColumn("{task.fields[left]}"),
        TextColumn("[green]{task.fields[cost]}"),
    ]
    console = Console(stderr=True, no_color=not color, highlight=False)

    def fields() -> dict[str, Any]:
        elapsed_s = monotonic() - began
        left = pace.left_s(elapsed_s)
        return {
            "rows": f"{pace.finished:,}/{counted(pace.total, 'row')}",
            "troubles": pace.troubles(),
            "speed": pace.speed(elapsed_s),
            "left": "" if not left else f"{lasting(left)} left",
            "cost": pace.cost(),
        }

    # Transient: the summary that follows says the same, and for good.
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("rows", total=pace.total, completed=pace.done, **fields())

        def note(result: RowResult) -> None:
            pace.add(result)
            progress.update(task, completed=pace.finished, **fields())

        yield note


@contextmanager
def fetching(face: Face, what: str) -> Generator[Callable[[int, int], None], None, None]:
    """Show how a download gets on; the block is given what to tell bytes and total."""
    if face.quiet:
        yield lambda _there, _total: None
    elif sys.stderr.isatty():
        with _download_bar(what, color=face.may_color) as tell:
            yield tell
    else:
        yield _download_lines(face, what)


def _download_lines(face: Face, what: str) -> Callable[[int, int], None]:
    told = -1

    def tell(there: int, total: int) -> None:
        nonlocal told
        quarter = there * 4 // max(1, total)
        if quarter > told:
            told = quarter
            face.say(f"{what}: {there / 1e6:.0f} of {total / 1e6:.0f} MB")

    return tell


@contextmanager
def _download_bar(what: str, *, color: bool) -> Generator[Callable[[int, int], None], None, None]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True, no_color=not color, highlight=False)
    columns = (TextColumn(what), BarColumn(bar_width=28), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)

        def tell(there: int, total: int) -> None:
            progress.update(task, completed=there, total=total)

        yield tell
