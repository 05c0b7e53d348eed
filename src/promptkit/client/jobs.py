"""A job as a script has it: `AsyncJob`, and what it may be told beside the commonest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypedDict

from promptkit.errors import UsageError, closest
from promptkit.types import OnMiss, Parsed_co, RowResult

if TYPE_CHECKING:
    from promptkit.batch.job import Job, JobReport
    from promptkit.batch.output import OutputFiles
    from promptkit.batch.quote import Quote
    from promptkit.batch.tables import Format
    from promptkit.engine.context import Session


class RunOptions(TypedDict, total=False):
    """What one run of a job may be told, as the command's options of the same names; None is not said.

    Attributes:
        out: the output file, written in the input's order when the iteration ends, however it
            ends; with columns in braces one a row.
        failed: a file for the rows that have no text, with their reasons.
        limit: send at most so many rows this time.
        canary: the first rows go alone; 0 for none.
        max_fail_rate: the share of them that may fail (0.2) for the others to follow.
        deadline: when to send nothing more: `06:30` on the configured clock, `2026-11-23T06:30`,
            or an aware time.
        on_miss: what to do where it won't be met.
        retry_failed: do rows again that failed, were refused or are degraded.
    """

    out: str | Path | None
    failed: str | Path | None
    limit: int | None
    canary: int | None
    max_fail_rate: float | None
    deadline: str | datetime | None
    on_miss: Literal["warn", "stop", "faster", "fastest"]
    retry_failed: bool


class BatchOptions(RunOptions, total=False):
    """What a batch may be told besides.

    Attributes:
        mapping: variable to column, where their names differ.
        strict: an invalid row or a column that fills nothing stops everything before the first call.
        sample: send so many rows, drawn by lot.
        seed: another one draws others.
        on_unknown: a request that was sent and never answered: send it again, or fail its row.
        text_as: the name of the text's column in `out`.
        pack: how many short rows go in one request at most; `auto`: as many as pay off.
    """

    mapping: Mapping[str, str]
    strict: bool
    sample: int | None
    seed: int
    on_unknown: Literal["send", "fail"]
    text_as: str | None
    pack: int | Literal["auto"]


_LEAST: Final = {"limit": 1, "sample": 1, "canary": 0, "concurrency": 1}


def job_options(told: Mapping[str, Any], session: Session) -> dict[str, Any]:
    """What `JobOptions` takes of it: only what was told.

    Args:
        told: `BatchOptions`, and `concurrency`; None is not said.
        session: the clock, and whose `06:30` a deadline is.

    Raises:
        UsageError: there is no such option, or its value can't stand.
    """
    from promptkit.batch.options import pack_of

    options = {name: value for name, value in told.items() if value is not None}
    for name in told.keys() - _KNOWN:
        raise UsageError(f"a batch takes no {name!r}", remedy=closest(name, _KNOWN))
    for name, least in _LEAST.items():
        if name in options and options[name] < least:
            raise UsageError(f"{name} is {options[name]!r}; it must be at least {least}")
    if not 0 <= options.get("max_fail_rate", 0) <= 1:
        raise UsageError(f"max_fail_rate is {options['max_fail_rate']!r}; it is a share, from 0 to 1")
    options.pop("failed", None)
    if "pack" in options:
        options["pack"] = pack_of(options["pack"])
    if "out" in options:
        options["out"] = Path(options["out"])
    if "deadline" in options:
        options["deadline_s"] = _moment_s(options.pop("deadline"), session)
    if "on_miss" in options:
        options["on_miss"] = _one_of("on_miss", options["on_miss"], {each.value: each for each in OnMiss})
    if "on_unknown" in options:
        told_unknown = options.pop("on_unknown")
        options["resend_unknown"] = _one_of("on_unknown", told_unknown, {"send": True, "fail": False})
    return options


_KNOWN: Final = frozenset({*BatchOptions.__annotations__, "concurrency"})


def delivery_of(told: Mapping[str, Any], format_: Format | None = None) -> OutputFiles:
    """The files that a run writes; without a format, their names tell."""
    from promptkit.batch.output import OutputFiles

    out, failed = told.get("out"), told.get("failed")
    return OutputFiles(None if out is None else Path(out), format_, None if failed is None else Path(failed))


def _moment_s(told: str | datetime, session: Session) -> float:
    from promptkit.batch.control import read_deadline

    if isinstance(told, str):
        now = datetime.fromtimestamp(session.now(), UTC)
        return read_deadline(told, now, session.settings.timezone).timestamp()
    if told.tzinfo is None:
        raise UsageError(f"the deadline {told} has no time zone", remedy="Give an aware time, or a text.")
    return told.timestamp()


def _one_of(name: str, told: str, known: Mapping[str, Any]) -> Any:
    if told not in known:
        raise UsageError(f"{name} can't be {told!r}", remedy=closest(str(told), known))
    return known[told]


class AsyncJob(Generic[Parsed_co]):
    """A job, lazily: nothing is read or sent before `async for` begins.

    Results come as rows finish; a failure is a result, too. No more rows are under way than
    `concurrency` and none is begun while that many results wait to be taken, so a slow reader
    slows the job down. A job that was stopped goes on when one of the same name is iterated again:
    rows that are paid come from the ledger, first and in order.

    Raises:
        StoppedEarly: at the end of the iteration: its deadline or canary ended it.
        BudgetStop: at the end, a hard cap did; before the first row, with `until_budget=False`.
        LockHeld: another process runs it.
        PromptKitError: template, rows, keys or ledger can't stand.
    """

    def __init__(self, job: Job, session: Session, files: OutputFiles, rows: object = None) -> None:
        self._job = job
        self._session = session
        self._files = files
        self._rows = str(rows) if isinstance(rows, str | Path) else None

    @property
    def name(self) -> str:
        """What it is called: `{date}` is the budget day."""
        return self._job.name

    async def __aiter__(self) -> AsyncGenerator[RowResult[Parsed_co]]:
        self._files.check(self._rows)
        async with self._job as job:
            ledger = await self._session.ledger()
            manner = await self._files.begin(ledger, job, self._rows) if self._files else None
            try:
                async with aclosing(job.results()) as results:
                    async for result in results:
                        yield result
            except GeneratorExit:  # who leaves early has what was made till then, in the file too
                if manner is not None:
                    list(self._files.write(ledger, job, manner))
                raise
            if manner is not None:
                await asyncio.to_thread(lambda: list(self._files.write(ledger, job, manner)))
            await job.forget(self._files.out)
        if self._job.stop is not None:
            raise self._job.stop

    async def quote(self) -> Quote:
        """What the job would cost and take now; nothing is sent, no job begins. It reads the rows."""
        return await self._job.quote()

    async def report(self) -> JobReport:
        """Where the job stands: rows by state, and money. It must have begun."""
        return await self._job.report()

    def halt(self) -> None:
        """Send no new rows; what is in flight is awaited and recorded. Any thread may call it, or a signal's handler."""
        self._job.halt()
