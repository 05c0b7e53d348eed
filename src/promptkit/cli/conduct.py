"""A job on the command line: signals, progress, rows out, and the word at its end."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final, Protocol

from promptkit._util.files import replacing
from promptkit.batch.columns import usd_text
from promptkit.batch.job import Job, JobReport
from promptkit.batch.output import OutputFiles, check_out
from promptkit.batch.tables import Format
from promptkit.engine.context import Session
from promptkit.errors import (
    ExitCode,
    OutputError,
    PromptKitError,
    StoppedEarly,
    StorageError,
    counted,
    exit_code,
    worst,
)
from promptkit.ledger.records import RowState, SoftPassed
from promptkit.types import Json, dollars

from .face import Face
from .lanes import Weather
from .money import spent
from .pace import Pace
from .progress import Following, following
from .run import say_line, tell
from .sink import Stdout
from .times import lasting

_ENDED: Final = tuple(state for state in RowState if state is not RowState.PENDING)


_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Order:
    """What a user wants done with a job's rows; `rows` is None where no file has them."""

    rows: str | None
    out: Path | None
    format: Format | None
    failed: Path | None = None
    """Where the failed rows go."""
    summary: Path | None = None
    """Where the last word goes, besides what is said."""

    @property
    def files(self) -> OutputFiles:
        """The files that have rows."""
        return OutputFiles(self.out, self.format, self.failed)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run of a job ended."""

    report: JobReport
    code: int
    stop: PromptKitError | None
    took_s: float
    idle: bool
    """There was nothing to do: the job had finished before."""
    soft: Sequence[SoftPassed] = ()
    """The soft caps that were found passed."""
    sampled: bool = False
    """Only rows drawn by lot were to be made."""
    from_cache: int = 0
    """Rows that the reply cache served this time."""


class Stoppable(Protocol):
    """What can be told to send nothing new."""

    def halt(self) -> None:
        """Send nothing new; what is in flight is awaited and recorded."""
        ...


class Halting:
    """SIGINT and SIGTERM: the first lets what is in flight finish, the second stops at once."""

    def __init__(self, job: Stoppable, face: Face) -> None:
        self._job = job
        self._face = face
        self._task = asyncio.current_task()
        self.by: signal.Signals | None = None

    def __call__(self, number: signal.Signals) -> None:
        """A signal came."""
        if self.by is None:
            self.by = number
            self._job.halt()
            self._face.say("stopping: waiting for the calls in flight; once more stops at once")
        elif self._task is not None:
            self._task.cancel()

    @property
    def code(self) -> int:
        """The exit code that says which signal it was; 0 for none."""
        return 0 if self.by is None else 128 + self.by

    @contextmanager
    def listening(self) -> Generator[None, None, None]:
        """Take the signals while the block runs; then those that took them before do so again."""
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in _STOPPING}
        for number in _STOPPING:
            loop.add_signal_handler(number, self, number)
        try:
            yield
        finally:
            for number in _STOPPING:
                loop.remove_signal_handler(number)  # this alone would leave SIGTERM to kill on the spot
                signal.signal(number, before[number])


async def conduct(face: Face, session: Session, job: Job, order: Order) -> int:
    """Run a job to its end, or to where it is stopped; returns the exit code.

    Raises:
        PromptKitError: it can't begin: template, rows, keys, lock, ledger.
    """
    order.files.check(order.rows)
    if order.summary is not None:
        check_out(order.summary, order.rows)
    halting = Halting(job, face)
    try:
        with halting.listening():
            async with job:
                outcome = await _run(face, session, job, order, halting)
        _conclude(face, job, order, outcome)
    except asyncio.CancelledError:
        if halting.by is None:
            raise
        face.say("stopped; calls in flight are recorded as unknown. The same command goes on")
        return halting.code
    finally:
        await session.aclose()
    return outcome.code


async def _run(face: Face, session: Session, job: Job, order: Order, halting: Halting) -> Outcome:
    ledger = await session.ledger()
    before = await job.report()
    manner = await order.files.begin(ledger, job, order.rows)
    stdout = Stdout(job, manner, order.format) if order.out is None else None
    began = monotonic()
    from_cache = await _follow(face, session, job, before, stdout)
    after = await job.report()
    codes = [exit_code(job.stop)] if job.stop is not None else []
    if after.failed and before.pending:
        codes.append(ExitCode.SOME_FAILED)
    try:
        if stdout is not None:
            stdout.end()
        for told in order.files.write(ledger, job, manner):
            face.say(told)
        if stdout is None or stdout.whole:
            await job.forget(order.out)
    except StorageError as cause:
        codes.append(exit_code(cause))
        say_line(str(cause)) if face.quiet else tell(cause)
    soft = (await session.engine()).soft_passed
    return Outcome(
        after,
        halting.code or worst(codes),
        job.stop,
        monotonic() - began,
        idle=not before.pending,
        soft=tuple(soft.values()),
        sampled=job.sampled,
        from_cache=from_cache,
    )


async def _follow(face: Face, session: Session, job: Job, before: JobReport, stdout: Stdout | None) -> int:
    """Run the rows, each shown and printed as it finishes; stored ones come first, and only on stdout.

    Returns:
        How many of them the reply cache served.
    """
    from_cache = 0
    stored = before.total - before.pending if stdout is not None else 0
    done = before.total - before.pending
    pace = Pace(before.total, done, job.to_do, before.money.known_pico, cap_pico=job.cap_pico)
    engine = await session.engine()
    weather = Weather(session.settings, job.pinned.route.targets, lambda: engine.health.lanes)
    rows_on_terminal = stdout is not None and sys.stdout.isatty()
    with following(face, pace, weather.lines, rows_on_terminal=rows_on_terminal) as shown:
        if stdout is not None:
            stdout.start()
        async with _ticking(shown), aclosing(job.results(stored=stdout is not None)) as results:
            async for result in results:
                from_cache += result.cached_from is not None
                if stdout is not None:
                    stdout.row(result)
                if stored:
                    stored -= 1
                else:
                    shown(result)
    return from_cache


@asynccontextmanager
async def _ticking(shown: Following) -> AsyncGenerator[None]:
    """Let what is shown look at the clock, also where no row finishes."""

    async def tick() -> None:
        while True:
            await asyncio.sleep(1)
            shown.tick()

    ticking = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticking.cancel()


# --------------------------------------------------------------------- the word at the end
def _conclude(face: Face, job: Job, order: Order, outcome: Outcome) -> None:
    lines = _lines(outcome)
    if order.summary is not None:
        _write_summary(order.summary, _summary(job, order, outcome), [_ending(outcome), *lines])
    if face.quiet and not face.as_json:
        if outcome.code not in {ExitCode.OK, ExitCode.STORAGE}:  # of the latter the error itself was said
            say_line(f"{lines[0]}; {_ending(outcome)}")
        return
    if outcome.stop is not None:
        tell(outcome.stop)
    if face.as_json:
        _print_json(face, order, _summary(job, order, outcome))
        return
    for line in lines:
        face.say(line)


def _ending(outcome: Outcome) -> str:
    """What ended it, and the exit code."""
    why = f"{outcome.stop.what}; " if outcome.stop is not None else ""
    return f"{why}exit {outcome.code}"


def _lines(outcome: Outcome) -> list[str]:
    """The word at the end: the rows and their cost, and then what is to be done."""
    report = outcome.report
    if outcome.idle:
        lines = [f"job {report.name} is finished: {counts(report)}; nothing was sent"]
    else:
        lines = [f"job {report.name}: {counts(report)}; {spent(report.money)}; {lasting(outcome.took_s)}"]
    if outcome.from_cache:
        lines.append(f"{counted(outcome.from_cache, 'row')} from the reply cache: nothing was sent for them")
    lines += [soft_word(passed) for passed in outcome.soft]
    if report.pending and isinstance(outcome.stop, StoppedEarly):
        lines.append(counted(report.pending, "row waits", "rows wait"))  # how to go on stands above
    elif report.pending:
        waiting = counted(report.pending, "row waits", "rows wait")
        command = "the command without --sample" if outcome.sampled else "the same command"
        lines.append(f"{waiting}: {command} goes on, and pays nothing twice")
    if report.failed > report.rows.get(RowState.INVALID, 0):
        lines.append(
            f"why rows failed: promptkit log --job {report.name}; "
            "the same command with --retry-failed does them again"
        )
    elif report.failed:
        lines.append(
            "what is wrong with the invalid rows stands in their `error`: correct them, then the same command"
        )
    return lines


def _write_summary(path: Path, summary: dict[str, Json], lines: Sequence[str]) -> None:
    text = json.dumps(summary, ensure_ascii=False, indent=2) if path.suffix == ".json" else "\n".join(lines)
    try:
        with replacing(path) as file:
            file.write(f"{text}\n".encode("utf-8", "replace"))
    except OSError as cause:
        raise OutputError(f"can't be written: {cause.strerror}", file=path) from cause


def soft_word(passed: SoftPassed) -> str:
    """What is said of a soft cap that is passed."""
    return (
        f"soft cap passed: {dollars(passed.spent_pico)} of {dollars(passed.soft_pico)} "
        f"under {passed.scope_key}"
    )


def counts(report: JobReport) -> str:
    """`10 rows: 8 ok, 1 failed, 1 waiting`."""
    ended = [f"{report.rows[state]:,} {state}" for state in _ENDED if report.rows.get(state)]
    waiting = [f"{report.pending:,} waiting"] if report.pending else []
    return f"{counted(report.total, 'row')}: {', '.join([*ended, *waiting])}" if report.total else "no rows"


def _summary(job: Job, order: Order, outcome: Outcome) -> dict[str, Json]:
    """How it ended, for programs."""
    report = outcome.report
    rows: dict[str, Json] = {state.value: report.rows.get(state, 0) for state in RowState}
    return {
        "job": report.name,
        "template": report.template,
        "template_digest": job.record.template_digest,
        "total": report.total,
        "rows": rows,
        "cost_usd": usd_text(report.money.known_pico),
        "charged_usd": usd_text(report.money.charged_pico),
        "attempts": report.money.attempts,
        "unknown_attempts": report.money.unknown,
        "from_cache": outcome.from_cache,
        "took_s": round(outcome.took_s, 3),
        "output": None if order.out is None else str(order.out),
        "failed": None if order.failed is None else str(order.failed),
        "soft_caps_passed": [passed.scope_key for passed in outcome.soft],
        "stopped": None if outcome.stop is None else outcome.stop.what,
        "exit_code": outcome.code,
    }


def _print_json(face: Face, order: Order, summary: dict[str, Json]) -> None:
    """The summary as JSON: on stdout, unless the rows are there."""
    if order.out is not None:
        face.print_json(summary)
    else:
        print(json.dumps(summary, ensure_ascii=False), file=sys.stderr)
