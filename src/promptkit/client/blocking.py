"""`PromptKit`: `AsyncPromptKit` for blocking code, over one loop thread."""

from __future__ import annotations

import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack

from promptkit.config.settings import Settings
from promptkit.engine.context import Session
from promptkit.types import Parsed_co, Prompt, Reply, RowResult, TemplateRef

from .jobs import AsyncJob
from .kit import AsyncPromptKit, Rows
from .options import BatchOptions, CallOptions, RouteOptions, RunOptions
from .streams import LoopThread, Readings, ReplyStream, Run, close_all, end_others

if TYPE_CHECKING:
    from promptkit.batch.job import JobReport
    from promptkit.batch.quote import Quote
    from promptkit.reports.report import Report


_T = TypeVar("_T")


class PromptKit:
    """promptkit for blocking code: the methods of `AsyncPromptKit`, run on a loop thread of its own.

    It works if a loop runs already (Jupyter), and from several threads. Use it as a `with`
    block, or call `close` at the end.

    Args:
        config: see `AsyncPromptKit`.
    """

    def __init__(self, config: str | Path | Settings | None = None) -> None:
        self._kit = AsyncPromptKit(config)
        self._thread: LoopThread | None = None
        self._starting = threading.Lock()
        self._open: set[AsyncGenerator[Any]] = set()
        self._end: Callable[[], object] | None = None

    @property
    def session(self) -> Session:
        """The open resources of this kit."""
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
        output: type[Parsed_co] | None = None,
        **options: Unpack[CallOptions],
    ) -> Reply[Parsed_co]:
        """Turn a template into text; see `AsyncPromptKit.run`."""
        return self._run(self._kit.run(ref, variables, output=output, **options))

    def stream(
        self,
        ref: str | TemplateRef,
        variables: Mapping[str, object] | None = None,
        **options: Unpack[CallOptions],
    ) -> ReplyStream:
        """Like `run`, but read the text as it arrives; see `AsyncPromptKit.stream`."""
        stream = self._kit.stream(ref, variables, **options)
        return ReplyStream(stream, Readings(self._started, self._open))

    def retake(
        self,
        call_id: int | str,
        note: str,
        *,
        template: str | TemplateRef = "ugc/retake",
        variables: Mapping[str, object] | None = None,
        **options: Unpack[RouteOptions],
    ) -> Reply:
        """Revise a text after a client's note; see `AsyncPromptKit.retake`."""
        return self._run(self._kit.retake(call_id, note, template=template, variables=variables, **options))

    def batch(
        self,
        ref: str | TemplateRef,
        rows: Rows | str | Path | None = None,
        *,
        variables: Mapping[str, object] | None = None,
        output: type[Parsed_co] | None = None,
        **options: Unpack[BatchOptions],
    ) -> BlockingJob[Parsed_co]:
        """Set up a job; see `AsyncPromptKit.batch`."""
        return self._blocking(self._kit.batch(ref, rows, variables=variables, output=output, **options))

    def resume(self, name: str, **options: Unpack[RunOptions]) -> BlockingJob[Any]:
        """Set up a job to continue as it began; see `AsyncPromptKit.resume`."""
        return self._blocking(self._run(self._kit.resume(name, **options)))

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

        A closed kit may be used again. A kit that you never close is closed when it is garbage
        collected or the process ends.
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

    def _blocking(self, job: AsyncJob[Parsed_co]) -> BlockingJob[Parsed_co]:
        return BlockingJob(job, self._run, Readings(self._started, self._open))

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._started().run(work)

    def _started(self) -> LoopThread:
        with self._starting:
            if self._thread is None:
                self._thread = LoopThread()
                self._end = weakref.finalize(self, _end, self._thread, self._kit.session, self._open)
            return self._thread


class BlockingJob(Generic[Parsed_co]):
    """A job. Nothing is read or sent before you iterate over it. See `AsyncJob`."""

    def __init__(self, job: AsyncJob[Parsed_co], run: Run, readings: Readings) -> None:
        self._job = job
        self._run = run
        self._readings = readings

    @property
    def name(self) -> str:
        """The job's name; `{date}` is the budget day."""
        return self._job.name

    def __iter__(self) -> Iterator[RowResult[Parsed_co]]:
        return self._readings.read(aiter(self._job))

    def quote(self) -> Quote:
        """Return what the job would cost and how long it would take now. It reads the rows and sends nothing."""
        return self._run(self._job.quote())

    def report(self) -> JobReport:
        """Return the job's rows by state, and its costs. It must have begun."""
        return self._run(self._job.report())

    def halt(self) -> None:
        """Send no new rows; calls in flight are awaited and recorded. Safe from any thread or signal handler."""
        self._job.halt()


def _end(thread: LoopThread, session: Session, open_: set[AsyncGenerator[Any]]) -> None:
    """Close the resources and the loop thread of a kit. Also called by the garbage collector and at exit."""
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
        ledger.close()  # here, because at exit no executor accepts it any more
