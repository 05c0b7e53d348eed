"""A job on the command line: signals, progress, rows on stdout, its result, and its monitor."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from promptkit._util.files import replacing
from promptkit.batch.columns import output_format, writer
from promptkit.batch.output import check_out, layout_of
from promptkit.errors import (
    ExitCode,
    OutputError,
    PromptKitError,
    StoppedEarly,
    StorageError,
    UsageError,
    counted,
    exit_code,
    worst,
)
from promptkit.ledger.records import RowState
from promptkit.types import RowResult, dollars

from .main import Terminated, report_error, report_line
from .output import duration, money_json, remember_secrets, spent
from .progress import Pace, Progress, show_progress
from .views.circuits import OpenCircuits
from .views.job import rows_text

if TYPE_CHECKING:
    from promptkit.batch.job import Job, JobReport
    from promptkit.batch.output import OutputFiles
    from promptkit.batch.tables import Dialect, Format
    from promptkit.engine.context import Session
    from promptkit.ledger.records import SoftPassed
    from promptkit.types import Json

    from .command import Cli

# ------------------------------------------------------------------------------------ the run


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run of a job ended."""

    report: JobReport
    code: int
    stop: PromptKitError | None
    took_s: float
    idle: bool
    """The job was done before, so nothing was sent."""
    soft: Sequence[SoftPassed] = ()
    """The soft caps that were passed."""
    sampled: bool = False
    """Only a random sample of rows was sent."""
    from_cache: int = 0
    """Rows with a reply cache hit in this run."""


async def run_job(
    cli: Cli, session: Session, job: Job, rows: str | None, files: OutputFiles, summary: Path | None = None
) -> int:
    """Run a job to its end, or until it is stopped; return the exit code.

    Args:
        cli: where to print.
        session: what the process has open; it is closed afterwards.
        job: the job.
        rows: the input file; None if no file has the rows.
        files: the output files.
        summary: a file for the result.

    Raises:
        PromptKitError: the job does not start: template, rows, keys, lock, ledger.
    """
    files.check(rows)
    if summary is not None:
        check_out(summary, rows)
    signals = StopSignals(cli, job)
    try:
        with signals.listening():
            async with job:
                outcome = await _run(cli, session, job, rows, files, signals)
        _print_outcome(cli, job, files, summary, outcome)
    except asyncio.CancelledError:
        if signals.received is None:
            raise
        cli.notice(INTERRUPTED)
        return signals.code
    finally:
        await session.aclose()
    return outcome.code


INTERRUPTED = "stopped; calls in flight are unknown outcomes. Run the same command again to continue"


async def _run(
    cli: Cli, session: Session, job: Job, rows: str | None, files: OutputFiles, signals: StopSignals
) -> Outcome:
    ledger = await session.ledger()
    before = await job.report()
    like = await files.begin(ledger, job, rows)
    stdout = RowsOnStdout(job, like, files.format) if files.out is None else None
    began_s = monotonic()
    from_cache = await _run_rows(cli, session, job, before, stdout)
    after = await job.report()
    codes = [exit_code(job.stop)] if job.stop is not None else []
    if after.failed and before.pending:
        codes.append(ExitCode.SOME_FAILED)
    try:
        if stdout is not None:
            stdout.end()
        for notice in files.write(ledger, job, like):
            cli.notice(notice)
        if stdout is None or stdout.complete:
            await job.forget(files.out)
    except StorageError as cause:
        codes.append(exit_code(cause))
        report_line(str(cause)) if cli.quiet else report_error(cause)
    return Outcome(
        after,
        signals.code or worst(codes),
        job.stop,
        monotonic() - began_s,
        idle=not before.pending,
        soft=tuple((await session.engine()).soft_passed.values()),
        sampled=job.sampled,
        from_cache=from_cache,
    )


async def _run_rows(
    cli: Cli, session: Session, job: Job, before: JobReport, stdout: RowsOnStdout | None
) -> int:
    """Run the rows and print each as it finishes; on stdout, rows that were done before come first.

    Returns:
        The number of rows with a reply cache hit.
    """
    from_cache = 0
    done = before.total - before.pending
    stored = done if stdout is not None else 0
    pace = Pace(before.total, done, job.to_do, before.money.known_pico, cap_pico=job.cap_pico)
    engine = await session.engine()
    circuits = OpenCircuits(session.settings, job.pinned.route.targets, lambda: engine.health.circuits)
    on_terminal = stdout is not None and sys.stdout.isatty()
    with show_progress(cli, pace, circuits.lines, rows_on_terminal=on_terminal) as progress:
        if stdout is not None:
            stdout.start()
        async with _ticking(progress), aclosing(job.results(stored=stdout is not None)) as results:
            async for result in results:
                from_cache += result.cached_from is not None
                if stdout is not None:
                    stdout.row(result)
                if stored:
                    stored -= 1
                else:
                    progress.add(result)
    return from_cache


@asynccontextmanager
async def _ticking(progress: Progress) -> AsyncGenerator[None]:
    """Let the progress look at the clock, also while no row finishes."""

    async def tick() -> None:
        while True:
            await asyncio.sleep(1)
            progress.tick()

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()


# ------------------------------------------------------------------------------------ signals


class Stoppable(Protocol):
    """A run that can stop early."""

    def halt(self) -> None:
        """Send nothing new; calls in flight are awaited and recorded."""
        ...


class StopSignals:
    """SIGINT and SIGTERM: the first lets calls in flight finish, the second stops at once."""

    def __init__(self, cli: Cli, job: Stoppable) -> None:
        self._cli = cli
        self._job = job
        self._task = asyncio.current_task()
        self.received: signal.Signals | None = None

    @contextmanager
    def listening(self) -> Generator[None, None, None]:
        """Handle the signals while the block runs, then restore their former handlers."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.getsignal(number) for number in numbers}
        for number in numbers:
            loop.add_signal_handler(number, self._receive, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)  # with this alone, SIGTERM would kill the process
                signal.signal(number, before[number])

    def _receive(self, number: signal.Signals) -> None:
        if self.received is None:
            self.received = number
            self._job.halt()
            self._cli.notice("stopping: waiting for the calls in flight; repeat to stop at once")
        elif self._task is not None:
            self._task.cancel()

    @property
    def code(self) -> int:
        """The exit code of the signal; 0 without a signal."""
        return 0 if self.received is None else 128 + self.received


# ----------------------------------------------------------------------------- rows on stdout


class RowsOnStdout:
    """The rows of a job on stdout as they finish. A reader that is gone, or a full disk, stops the job."""

    def __init__(self, job: Job, like: Dialect, format_: Format | None) -> None:
        self._job = job
        self._layout = layout_of(job.record)
        self._writer = writer(
            output_format(None, like, format_), self._layout.header, delimiter=like.delimiter
        )
        self._error: OSError | None = None

    @property
    def complete(self) -> bool:
        """Whether everything was written."""
        return self._error is None

    def start(self) -> None:
        """Write what comes before the first row."""
        self._write(self._writer.start)

    def row(self, result: RowResult) -> None:
        """Write a row."""
        self._write(self._writer.row(self._layout.record(result)))

    def end(self) -> None:
        """Write what comes after the last row.

        Raises:
            OutputError: stdout is not writable, now or before.
        """
        self._write(self._writer.end)
        if self._error is not None and not isinstance(self._error, BrokenPipeError):
            raise OutputError(
                f"stdout is not writable: {self._error.strerror}",
                remedy="The results are in the ledger: run the same command again; nothing is paid twice.",
            )

    def _write(self, data: bytes) -> None:
        if self._error is not None or not data:
            return
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except OSError as cause:
            # Calls in flight are paid for: they are awaited and recorded, and nothing new is sent.
            self._error = cause
            self._job.halt()


# --------------------------------------------------------------------------------- the result


def _print_outcome(cli: Cli, job: Job, files: OutputFiles, summary: Path | None, outcome: Outcome) -> None:
    lines = _lines(outcome)
    ending = f"{outcome.stop.message}; exit {outcome.code}" if outcome.stop else f"exit {outcome.code}"
    members = _outcome_json(job, files, outcome)
    if summary is not None:
        _write_summary(summary, members, [ending, *lines])
    if cli.quiet and not cli.as_json:
        if outcome.code not in {ExitCode.OK, ExitCode.STORAGE}:  # a storage error was printed before
            report_line(f"{lines[0]}; {ending}")
        return
    if outcome.stop is not None:
        report_error(outcome.stop)
    if not cli.as_json:
        for line in lines:
            cli.notice(line)
    elif files.out is not None:
        cli.print_json(members)
    else:  # the rows are on stdout
        print(json.dumps(members, ensure_ascii=False), file=sys.stderr)


def _lines(outcome: Outcome) -> list[str]:
    """Return the rows and their cost, then what to do next."""
    report = outcome.report
    counts = rows_text(report.rows)
    if outcome.idle:
        lines = [f"job {report.name} is done: {counts}; nothing was sent"]
    else:
        lines = [f"job {report.name}: {counts}; {spent(report.money)}; {duration(outcome.took_s)}"]
    if outcome.from_cache:
        lines.append(f"reply cache: {counted(outcome.from_cache, 'row')}, nothing was sent for them")
    lines += [soft_cap_text(passed) for passed in outcome.soft]
    if report.pending and not isinstance(outcome.stop, StoppedEarly):  # its remedy is printed before
        command = "the command without --sample" if outcome.sampled else "the same command again"
        lines.append(f"{report.pending:,} pending; next: run {command}, nothing is paid twice")
    elif report.pending:
        lines.append(f"{report.pending:,} pending")
    if report.failed > report.rows.get(RowState.INVALID, 0):
        lines.append(
            f"`promptkit log --job {report.name}` shows why rows failed; "
            "--retry-failed with the same command sends them again"
        )
    elif report.failed:
        lines.append(
            "the column `error` shows what is wrong with the invalid rows; "
            "correct them, then run the same command again"
        )
    return lines


def soft_cap_text(passed: SoftPassed) -> str:
    """Return the notice about a soft cap that is passed."""
    return (
        f"soft cap passed: {dollars(passed.spent_pico)} of {dollars(passed.soft_pico)} "
        f"under {passed.scope_key}"
    )


def _outcome_json(job: Job, files: OutputFiles, outcome: Outcome) -> dict[str, Json]:
    report = outcome.report
    rows: dict[str, Json] = {state.value: report.rows.get(state, 0) for state in RowState}
    return {
        "job": report.name,
        "template": report.template,
        "template_digest": job.record.template_digest,
        "total": report.total,
        "rows": rows,
        **money_json(report.money),
        "from_cache": outcome.from_cache,
        "took_s": round(outcome.took_s, 3),
        "output": None if files.out is None else str(files.out),
        "failed": None if files.failed is None else str(files.failed),
        "soft_caps_passed": [passed.scope_key for passed in outcome.soft],
        "stopped": None if outcome.stop is None else outcome.stop.message,
        "exit_code": outcome.code,
    }


def _write_summary(path: Path, members: dict[str, Json], lines: Sequence[str]) -> None:
    text = json.dumps(members, ensure_ascii=False, indent=2) if path.suffix == ".json" else "\n".join(lines)
    try:
        with replacing(path) as file:
            file.write(f"{text}\n".encode("utf-8", "replace"))
    except OSError as cause:
        raise OutputError(f"not writable: {cause.strerror}", file=path) from cause


# --------------------------------------------------------------------------------- under cron


def run_monitored(cli: Cli, url: str | None, run: Callable[[], int]) -> int:
    """Run a batch: ping its monitor at the start and at any end, and print one line per error with --quiet.

    Args:
        cli: where to print.
        url: the address of --ping.
        run: returns the exit code.
    """
    ping = None if url is None else Ping(url, cli)
    if ping is not None:
        ping.start()
    code: int = ExitCode.BUG
    try:
        code = run()
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
        raise
    except Terminated:
        code = 128 + signal.SIGTERM
        raise
    except PromptKitError as error:
        code = exit_code(error)
        if not cli.quiet:
            raise
        report_line(str(error))
    finally:
        if ping is not None:
            ping.end(code)
    return code


class Ping:
    """A monitor: it gets `URL/start`, then `URL`, or `URL/CODE` with the exit code.

    It never fails a job or delays it for long. The first failed request is a notice.

    Args:
        url: its address. It allows anybody to report for the job, so it appears in no message.
        cli: where to print the notice.

    Raises:
        UsageError: it is not an address.
    """

    _TIMEOUT_S = 5.0

    def __init__(self, url: str, cli: Cli) -> None:
        remember_secrets([url])
        if not url.startswith(("http://", "https://")):
            raise UsageError(
                "--ping takes an http or https address", remedy="--ping https://hc.example.com/UUID"
            )
        self._url = url
        self._cli = cli
        self._has_failed = False
        self._starting: threading.Thread | None = None

    def start(self) -> None:
        """Report the start, without waiting for the monitor's response."""
        self._starting = threading.Thread(target=self._send, args=("start",), daemon=True)
        self._starting.start()

    def end(self, code: int) -> None:
        """Report the exit code."""
        if self._starting is not None:
            self._starting.join(self._TIMEOUT_S)
        self._send("" if code == ExitCode.OK else str(int(code)))

    def _send(self, event: str) -> None:
        import httpx

        try:
            url = httpx.URL(self._url)
            if event:
                url = url.copy_with(path=f"{url.path.rstrip('/')}/{event}")
            response = httpx.get(url, timeout=self._TIMEOUT_S, follow_redirects=True)
            failure = "" if response.is_success else f"status {response.status_code}"
        except (httpx.HTTPError, httpx.InvalidURL) as cause:
            failure = type(cause).__name__
        if failure and not self._has_failed:
            self._has_failed = True
            self._cli.notice(f"the ping failed: {failure}; the job continues")
