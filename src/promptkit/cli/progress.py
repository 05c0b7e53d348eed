"""The progress of jobs and downloads on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from promptkit.errors import counted
from promptkit.types import RowResult, Status, dollars

from .output import duration, listed

if TYPE_CHECKING:
    from .command import Cli

_FAILED = (Status.FAILED, Status.REFUSED)

_EVERY_S = 10.0
_EVERY_SHARE = 0.1
_LEAST_S = 2.0
"""A line comes every ten seconds or every tenth of the rows, but not more often than every two seconds."""

_SLOWER = ((120.0, 1), (3600.0, 6), (math.inf, 30))
"""The longer a job runs, the fewer lines: after two minutes one per minute, after an hour one per five."""

ProviderLines = Callable[[], Sequence[str]]
"""Returns a line for each provider with an open circuit: until when, and why."""


@dataclass(slots=True)
class Pace:
    """Counts the results of a job as they arrive. Pure: times are arguments.

    Args:
        total: rows of the job.
        done: rows that were done before this run.
        to_do: rows that this run sends.
        pico: cost of the job before this run.
        cap_pico: the cap of the job; None if there is none.
    """

    total: int
    done: int
    to_do: int
    pico: int = 0
    finished: int = 0
    """Rows that this run has finished."""
    failed: int = 0
    degraded: int = 0
    unknown: int = 0
    cap_pico: int | None = None

    def add(self, result: RowResult) -> None:
        """Count a row that has just finished."""
        self.finished += 1
        self.failed += result.status in _FAILED
        self.degraded += result.status is Status.DEGRADED
        if result.cost is not None:
            self.pico += result.cost.pico
        elif result.call is not None:
            self.unknown += 1

    @property
    def all_finished(self) -> int:
        """Rows that are done, before this run and in it."""
        return self.done + self.finished

    def rate(self, elapsed_s: float) -> float | None:
        """Return rows per second; None before the first row."""
        return self.finished / elapsed_s if self.finished and elapsed_s > 0 else None

    def left_s(self, elapsed_s: float) -> float | None:
        """Return the seconds until the rows of this run are done, at the rate so far."""
        rate = self.rate(elapsed_s)
        return None if rate is None else max(0, self.to_do - self.finished) / rate

    def failures(self) -> str:
        """Return `3 failed, 1 degraded`, or the empty string."""
        counts = ((self.failed, "failed"), (self.degraded, "degraded"))
        return listed(f"{count:,} {word}" for count, word in counts if count)

    def cost(self) -> str:
        """Return `$0.42 of $5.00`, with the number of calls of unknown cost."""
        cap = "" if self.cap_pico is None else f" of {dollars(self.cap_pico)}"
        return dollars(self.pico) + (f" + {self.unknown:,} unknown" if self.unknown else "") + cap

    def speed(self, elapsed_s: float) -> str:
        """Return `41 rows/s`, or `12 rows/min` if it is slow."""
        rate = self.rate(elapsed_s)
        if rate is None:
            return ""
        return f"{rate:,.1f} rows/s" if rate >= 1 else f"{rate * 60:,.0f} rows/min"

    def line(self, elapsed_s: float) -> str:
        """Return all of it in one line."""
        left = self.left_s(elapsed_s)
        return listed(
            (
                f"{self.all_finished:,} of {counted(self.total, 'row')}",
                self.failures(),
                self.speed(elapsed_s),
                f"about {duration(left)} left" if left else "",
                f"{self.cost()} so far",
            )
        )


class Progress:
    """The progress of a job that is shown nowhere: with --quiet, or below a bar."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace

    def add(self, result: RowResult) -> None:
        """Count a row that has finished."""
        self.pace.add(result)

    def tick(self) -> None:
        """Show progress while no row finishes; a bar does that itself."""


class _Lines(Progress):
    """The progress of a job as a line now and then."""

    def __init__(self, cli: Cli, pace: Pace, providers: ProviderLines) -> None:
        super().__init__(pace)
        self._cli = cli
        self._providers = providers
        self._began_s = self._last_s = monotonic()
        self._last_finished = pace.finished

    def add(self, result: RowResult) -> None:
        super().add(result)
        self.tick()

    def tick(self) -> None:
        pace, now_s = self.pace, monotonic()
        share = (pace.finished - self._last_finished) / pace.to_do
        if is_due(now_s - self._began_s, now_s - self._last_s, share):
            self._last_finished, self._last_s = pace.finished, now_s
            if pace.finished < pace.to_do:
                self._cli.notice("; ".join([pace.line(now_s - self._began_s), *self._providers()]))


def is_due(elapsed_s: float, waited_s: float, share: float) -> bool:
    """Return whether it is time for a line.

    Args:
        elapsed_s: since the start of the job.
        waited_s: since the last line.
        share: of the rows, finished since the last line.
    """
    factor = next(factor for until_s, factor in _SLOWER if elapsed_s < until_s)
    return waited_s >= _EVERY_S * factor or (share >= _EVERY_SHARE and waited_s >= _LEAST_S * factor)


@contextmanager
def show_progress(
    cli: Cli, pace: Pace, providers: ProviderLines = tuple, *, rows_on_terminal: bool = False
) -> Generator[Progress, None, None]:
    """Show the progress of a job while the block runs.

    Args:
        cli: whether to be quiet, and whether colors are wanted.
        pace: counts the rows.
        providers: returns a line for each provider with an open circuit.
        rows_on_terminal: rows are printed on the terminal, where a bar would tear them apart.
    """
    if cli.quiet or rows_on_terminal or not pace.to_do:
        yield Progress(pace)
    elif sys.stderr.isatty():
        with _bar(pace, providers, color=cli.may_color):
            yield Progress(pace)
    else:
        yield _Lines(cli, pace, providers)


@contextmanager
def _bar(pace: Pace, providers: ProviderLines, *, color: bool) -> Generator[None, None, None]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    began_s = monotonic()

    def draw() -> Group:
        elapsed_s = monotonic() - began_s
        left = pace.left_s(elapsed_s)
        line = Table.grid(padding=(0, 1))
        line.add_row(
            ProgressBar(total=max(1, pace.total), completed=pace.all_finished, width=28),
            f"{pace.all_finished:,}/{counted(pace.total, 'row')}",
            Text(pace.failures(), style="red"),
            Text(pace.speed(elapsed_s), style="dim"),
            f"{duration(left)} left" if left else "",
            Text(pace.cost(), style="green"),
        )
        return Group(line, *(Text(text, style="yellow") for text in providers()))

    console = Console(stderr=True, no_color=not color, highlight=False)
    # Transient: the summary that follows contains the same.
    with Live(get_renderable=draw, console=console, transient=True, refresh_per_second=4):
        yield


@contextmanager
def show_download(cli: Cli, name: str) -> Generator[Callable[[int, int], None], None, None]:
    """Show the progress of a download; the block gets a function that takes bytes and total bytes."""
    if cli.quiet:
        yield lambda _loaded, _total: None
    elif sys.stderr.isatty():
        with _download_bar(name, color=cli.may_color) as update:
            yield update
    else:
        yield _download_lines(cli, name)


def _download_lines(cli: Cli, name: str) -> Callable[[int, int], None]:
    last_quarter = -1

    def update(loaded: int, total: int) -> None:
        nonlocal last_quarter
        quarter = loaded * 4 // max(1, total)
        if quarter > last_quarter:
            last_quarter = quarter
            cli.notice(f"{name}: {loaded / 1e6:.0f} of {total / 1e6:.0f} MB")

    return update


@contextmanager
def _download_bar(name: str, *, color: bool) -> Generator[Callable[[int, int], None], None, None]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as RichProgress

    console = Console(stderr=True, no_color=not color, highlight=False)
    columns = (TextColumn(name), BarColumn(bar_width=28), DownloadColumn(), TransferSpeedColumn())
    with RichProgress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name, total=None)

        def update(loaded: int, total: int) -> None:
            progress.update(task, completed=loaded, total=total)

        yield update
