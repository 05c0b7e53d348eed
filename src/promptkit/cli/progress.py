"""Progress on stderr: a bar on a terminal, a line now and then elsewhere, nothing with --quiet."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Final, Protocol

from promptkit.errors import counted
from promptkit.types import RowResult

from .face import Face
from .pace import Pace

_EVERY_S: Final = 10.0


_EVERY_SHARE: Final = 0.1


_LEAST_S: Final = 2.0
"""A line comes every ten seconds, or every tenth of the rows, but not in every blink of a quick job."""


_SLOWER: Final = ((120.0, 1), (3600.0, 6), (math.inf, 30))
"""And the longer a job runs, the more seldom: after two minutes once a minute, after an hour every five."""


Lines = Callable[[], Sequence[str]]
"""How the providers stand: a line for each that is closed, until when and why."""


class Following(Protocol):
    """Told how a job gets on."""

    def __call__(self, result: RowResult) -> None:
        """A row has finished."""
        ...

    def tick(self) -> None:
        """Time has passed."""
        ...


@contextmanager
def following(
    face: Face, pace: Pace, weather: Lines = tuple, *, rows_on_terminal: bool = False
) -> Generator[Following, None, None]:
    """Show how a job gets on while the block runs.

    Args:
        face: whether to be quiet, and whether colours are wanted.
        pace: counts the rows.
        weather: how the providers stand.
        rows_on_terminal: the rows themselves are printed there: a bar would tear them apart.
    """
    if face.quiet or rows_on_terminal or not pace.to_do:
        yield _Counting(pace)
    elif sys.stderr.isatty():
        with _bar(pace, weather, color=face.may_color):
            yield _Counting(pace)
    else:
        yield _Telling(face, pace, weather)


class _Counting:
    """Counts, and shows nothing itself."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def __call__(self, result: RowResult) -> None:
        """Count the row."""
        self._pace.add(result)

    def tick(self) -> None:
        """Nothing: a bar looks at the clock itself."""


class _Telling(_Counting):
    """Says a line now and then."""

    def __init__(self, face: Face, pace: Pace, weather: Lines) -> None:
        super().__init__(pace)
        self._face = face
        self._weather = weather
        self._began = self._told_at = monotonic()
        self._told = pace.made

    def __call__(self, result: RowResult) -> None:
        """Count the row; say a line where it is time to."""
        super().__call__(result)
        self.tick()

    def tick(self) -> None:
        """Say a line where it is time to, also where no row finishes."""
        pace, now = self._pace, monotonic()
        if is_due(now - self._began, now - self._told_at, (pace.made - self._told) / pace.to_do):
            self._told, self._told_at = pace.made, now
            if pace.made < pace.to_do:
                self._face.say("; ".join([pace.line(now - self._began), *self._weather()]))


def is_due(elapsed_s: float, waited_s: float, share: float) -> bool:
    """Whether it is time for a line.

    Args:
        elapsed_s: since the job's start.
        waited_s: since the last line.
        share: of the rows, finished since then.
    """
    seldom = next(factor for until_s, factor in _SLOWER if elapsed_s < until_s)
    return waited_s >= _EVERY_S * seldom or (share >= _EVERY_SHARE and waited_s >= _LEAST_S * seldom)


@contextmanager
def _bar(pace: Pace, weather: Lines, *, color: bool) -> Generator[None, None, None]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    from .times import lasting

    began = monotonic()

    def drawn() -> Group:
        elapsed_s = monotonic() - began
        left = pace.left_s(elapsed_s)
        line = Table.grid(padding=(0, 1))
        line.add_row(
            ProgressBar(total=max(1, pace.total), completed=pace.finished, width=28),
            f"{pace.finished:,}/{counted(pace.total, 'row')}",
            Text(pace.troubles(), style="red"),
            Text(pace.speed(elapsed_s), style="dim"),
            "" if not left else f"{lasting(left)} left",
            Text(pace.cost(), style="green"),
        )
        return Group(line, *(Text(text, style="yellow") for text in weather()))

    console = Console(stderr=True, no_color=not color, highlight=False)
    # Transient: the summary that follows says the same, and for good.
    with Live(get_renderable=drawn, console=console, transient=True, refresh_per_second=4):
        yield


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
