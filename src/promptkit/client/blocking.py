"""`PromptKit`, for those who block: `AsyncPromptKit` over one loop thread."""

from __future__ import annotations

import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack

from promptkit.config.settings import Settings
from promptkit.engine.context import Session
from promptkit.types import Json, Parsed_co, Prompt, Reply, RowResult, TemplateRef

from .jobs import AsyncJob, BatchOptions, RunOptions
from .kit import AsyncPromptKit, Rows
from .streams import LoopThread, Readings, ReplyStream, Run, close_all, end_others

if TYPE_CHECKING:
    from promptkit.batch.job import JobReport
    from promptkit.batch.quote import Quote
    from promptkit.reports.report import Report


_T = TypeVar("_T")


class PromptKit:
    """promptkit, blocking: the same names as `AsyncPromptKit`, run on a loop thread of its own.

    It works where a loop runs already (Jupyter) and from several threads. Use it as a `with`
    block, or end it with `close`.

    Args:
        config: see `AsyncPromptKit`.
        say: see `AsyncPromptKit`; it is called on the loop thread.
    """

    def __init__(
        self, config: str | Path | Settings | None = None, *, say: Callable[[str], None] | None = None
    ) -> None:
        self._kit = AsyncPromptKit(config, say=say)
        self._thread: LoopThread | None = None
        self._starting = threading.Lock()
        self._open: set[AsyncGenerator[Any]] = set()
        self._end: Callable[[], object] | None = None

    @property
    def session(self) -> Session:
        """What this kit has open."""
        return self._kit.session

    def render(self, ref: str | TemplateRef, variables: Mapping[str, object] | None = None) -> Prompt:
        """Render a template; see `AsyncPromptKit.render`."""
        template = self._kit.session.template(ref)
        return template.render(template.bind(variables or {}))

    def run(
        self,
        ref: str | TemplateRef,
        variables: Mapping[str, object] | None = None,
        *,
        route: str | None = None,
        targets: Sequence[str] | None = None,
        tags: Mapping[str, str] | None = None,
        budget_usd: Decimal | None = None,
        parent_id: int | None = None,
        cache: str | None = None,
        output: type[Parsed_co] | None = None,
    ) -> Reply[Parsed_co]:
        """Turn a template into text; see `AsyncPromptKit.run`."""
        return self._run(
            self._kit.run(
                ref,
                variables,
                route=route,
                targets=targets,
                tags=tags,
                budget_usd=budget_usd,
                parent_id=parent_id,
                cache=cache,
                output=output,
            )
        )

    def stream(
        self,
        ref: str | TemplateRef,
        variables: Mapping[str, object] | None = None,
        *,
        route: str | None = None,
        targets: Sequence[str] | None = None,
        tags: Mapping[str, str] | None = None,
        budget_usd: Decimal | None = None,
        parent_id: int | None = None,
        cache: str | None = None,
    ) -> ReplyStream:
        """Like `run`, but the text is read as it comes, piece by piece; see `AsyncPromptKit.stream`."""
        made = self._kit.stream(
            ref,
            variables,
            route=route,
            targets=targets,
            tags=tags,
            budget_usd=budget_usd,
            parent_id=parent_id,
            cache=cache,
        )
        return ReplyStream(made, Readings(self._started, self._open))

    def retake(
        self,
        call_id: int,
        note: str,
        *,
        template: str | TemplateRef = "ugc/retake",
        variables: Mapping[str, object] | None = None,
        route: str | None = None,
        targets: Sequence[str] | None = None,
        tags: Mapping[str, str] | None = None,
        budget_usd: Decimal | None = None,
    ) -> Reply:
        """Make a text again after a client's note; see `AsyncPromptKit.retake`."""
        return self._run(
            self._kit.retake(
                call_id,
                note,
                template=template,
                variables=variables,
                route=route,
                targets=targets,
                tags=tags,
                budget_usd=budget_usd,
            )
        )

    def batch(
        self,
        ref: str | TemplateRef,
        rows: Rows | str | Path | None = None,
        *,
        job: str | None = None,
        key: str | None = None,
        variables: Mapping[str, object] | None = None,
        each: Mapping[str, Sequence[Json]] | None = None,
        route: str | None = None,
        targets: Sequence[str] | None = None,
        tags: Mapping[str, str] | None = None,
        budget_usd: Decimal | None = None,
        concurrency: int = 16,
        cache: str | None = None,
        until_budget: bool = True,
        output: type[Parsed_co] | None = None,
        **more: Unpack[BatchOptions],
    ) -> BlockingJob[Parsed_co]:
        """Set up a job; see `AsyncPromptKit.batch`."""
        made = self._kit.batch(
            ref,
            rows,
            job=job,
            key=key,
            variables=variables,
            each=each,
            route=route,
            targets=targets,
            tags=tags,
            budget_usd=budget_usd,
            concurrency=concurrency,
            cache=cache,
            until_budget=until_budget,
            output=output,
            **more,
        )
        return self._blocking(made)

    def resume(
        self,
        name: str,
        *,
        budget_usd: Decimal | None = None,
        concurrency: int | None = None,
        until_budget: bool | None = None,
        **more: Unpack[RunOptions],
    ) -> BlockingJob[Any]:
        """Set up a job to go on as it began; see `AsyncPromptKit.resume`."""
        made = self._kit.resume(
            name, budget_usd=budget_usd, concurrency=concurrency, until_budget=until_budget, **more
        )
        return self._blocking(self._run(made))

    def report(
        self,
        by: Sequence[str] = (),
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        template: str | None = None,
        job: str | None = None,
    ) -> Report:
        """Add up what was spent; see `AsyncPromptKit.report`."""
        return self._run(
            self._kit.report(by, since=since, until=until, tags=tags, template=template, job=job)
        )

    def close(self) -> None:
        """Close connections, ledger and loop thread; calls of other threads are cancelled.

        A closed kit may be used again. One that is never closed is, when it is forgotten or the
        process ends.
        """
        with self._starting:
            thread, self._thread = self._thread, None
            end, self._end = self._end, None
        if thread is not None and end is not None:
            thread.check_process()
            end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _blocking(self, made: AsyncJob[Parsed_co]) -> BlockingJob[Parsed_co]:
        return BlockingJob(made, self._run, Readings(self._started, self._open))

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._started().run(work)

    def _started(self) -> LoopThread:
        with self._starting:
            if self._thread is None:
                self._thread = LoopThread()
                self._end = weakref.finalize(self, _end, self._thread, self._kit.session, self._open)
            return self._thread


class BlockingJob(Generic[Parsed_co]):
    """A job, lazily: nothing is read or sent before it is iterated. See `AsyncJob`."""

    def __init__(self, job: AsyncJob[Parsed_co], run: Run, readings: Readings) -> None:
        self._job = job
        self._run = run
        self._readings = readings

    @property
    def name(self) -> str:
        """What it is called: `{date}` is the budget day."""
        return self._job.name

    def __iter__(self) -> Iterator[RowResult[Parsed_co]]:
        return self._readings.read(aiter(self._job))

    def quote(self) -> Quote:
        """What the job would cost and take now; nothing is sent, no job begins. It reads the rows."""
        return self._run(self._job.quote())

    def report(self) -> JobReport:
        """Where the job stands; it must have begun."""
        return self._run(self._job.report())

    def halt(self) -> None:
        """Send no new rows; what is in flight is awaited and recorded. Any thread may call it, or a signal's handler."""
        self._job.halt()


def _end(thread: LoopThread, session: Session, open_: set[AsyncGenerator[Any]]) -> None:
    """Close what a kit has open, and its loop thread. The garbage collector may call it, and the end of the process."""
    if thread.is_of_another_process:
        return
    if thread.is_current:  # a thread can't wait for itself
        threading.Thread(target=_end, args=(thread, session, open_)).start()
        return
    try:
        thread.run(close_all(open_))
        thread.run(end_others())
        ledger = thread.run(session.let_go())
    finally:
        thread.stop()
    if ledger is not None:
        ledger.close()  # here: at the end of a process no executor takes it any more
