"""`AsyncPromptKit`. Its blocking version is in `blocking`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from promptkit.config.settings import Settings
from promptkit.engine.calls import make_reply
from promptkit.engine.context import Session, checked_tags, load_settings
from promptkit.routing.reply_cache import read_age
from promptkit.types import Parsed_co, Prompt, Reply, TemplateRef
from promptkit.validation.output_models import output_model_of

from .jobs import AsyncJob
from .options import BatchOptions, CallOptions, RouteOptions, RunOptions, cap_of, check_names, job_fields
from .retakes import number_of, retake_of, route_of
from .streams import AsyncReplyStream

if TYPE_CHECKING:
    from promptkit.batch.output import OutputFiles
    from promptkit.batch.tables import Format
    from promptkit.reports.report import Report


Rows = Iterable[Mapping[str, object]]


class AsyncPromptKit:
    """promptkit for asyncio.

    Use it as an `async with` block, or call `aclose` at the end. Nothing is opened before it is
    needed: rendering uses neither the network nor the database. An instance belongs to the
    event loop that it first runs on.

    Args:
        config: a configuration file, settings that were loaded before, or None to search for
            `promptkit.toml` as the command does.

    Raises:
        ConfigError: the configuration is not valid.
    """

    def __init__(self, config: str | Path | Settings | None = None) -> None:
        settings = config if isinstance(config, Settings) else load_settings(config)
        self._session = Session(settings)

    @property
    def session(self) -> Session:
        """The open resources of this kit: settings, templates, ledger, engine."""
        return self._session

    async def render(self, ref: str | TemplateRef, variables: Mapping[str, object] | None = None) -> Prompt:
        """Render a template: exactly what would be sent. No network, no database.

        Args:
            ref: like `ugc/script`, `ugc/script@2`, `ugc/script@draft`.
            variables: what the template declares; texts are converted to the declared types.

        Raises:
            TemplateError: the template is broken or missing, or the variables don't fit.
        """
        template = self._session.template(ref)
        return template.render(template.bind(variables or {}))

    async def run(
        self,
        ref: str | TemplateRef,
        variables: Mapping[str, object] | None = None,
        *,
        output: type[Parsed_co] | None = None,
        **options: Unpack[CallOptions],
    ) -> Reply[Parsed_co]:
        """Turn a template into text: one call over a route's targets, every attempt in the ledger.

        Args:
            ref: the template, see `render`.
            variables: its variables.
            output: a Pydantic model. The reply is then requested as JSON of its schema (instead of the
                template's `[output]`) and validated; `parsed` is an instance of it.
            options: `route`, `targets`, `tags`, `budget_usd`, `parent_id`, `cache`: see `RouteOptions`
                and `CallOptions`.

        Returns:
            The reply; its `status` is `truncated` or `degraded` if the reply is.

        Raises:
            UsageError: an option is not valid, such as an unknown route or target; nothing was sent.
            TemplateError: the template or its variables are not valid; nothing was sent.
            NoUsableKey: no target has a key, or all keys were refused.
            AllTargetsFailed: every attempt failed; the error has all of them.
            BudgetStop: a hard cap leaves too little for the call.
            LedgerError: the ledger can't be written; nothing more is sent.
        """
        check_names(options, CallOptions)
        return await self._call(ref, variables, output=output, **options)

    def stream(
        self,
        ref: str | TemplateRef,
        variables: Mapping[str, object] | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncReplyStream:
        """Like `run`, but read the text as it arrives.

            async with kit.stream("ugc/script", {...}) as stream:
                async for piece in stream:
                    print(piece, end="", flush=True)
            stream.reply.cost

        Until the first word, the call fails over to other targets as `run` does. After it, nothing is
        sent again. If you stop reading early, the call ends: its cost in the ledger is then an estimate,
        and the caps count its max cost.

        Args:
            ref: the template, see `render`; of a structured one the pieces are JSON.
            variables: its variables.
            options: see `run`.

        Returns:
            An async iterator of pieces of text, with a `reply` at its end. Nothing is sent before
            you ask for the first piece; errors of `run` are raised there.

        Raises:
            StreamCut: while you read: the stream broke off after its first word; `text` is the part
                that arrived.
        """
        check_names(options, CallOptions)
        return AsyncReplyStream(partial(self._call, ref, variables, **options))

    async def _call(
        self,
        ref: str | TemplateRef,
        variables: Mapping[str, object] | None,
        listen: Callable[[str], None] | None = None,
        *,
        output: type[Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> Reply[Any]:
        """Make a call; `listen` gets each piece of its text."""
        session = self._session
        tags, cache = checked_tags(options.get("tags")), options.get("cache")
        template = session.template(ref)
        model = None if output is None else output_model_of(output)
        if model is not None:
            template = template.shaped(model.schema)
        route = session.route(options.get("route"), options.get("targets"), ref=template.ref, tags=tags)
        return await make_reply(
            session,
            template,
            variables or {},
            route=route,
            tags=tags,
            cap_pico=_cap_pico(options),
            parent_id=None if (parent_id := options.get("parent_id")) is None else number_of(parent_id),
            cache_s=route.cache_s if cache is None else read_age(cache),
            listen=listen,
            read=None if model is None else model.read,
        )

    async def retake(
        self,
        call_id: int | str,
        note: str,
        *,
        template: str | TemplateRef = "ugc/retake",
        variables: Mapping[str, object] | None = None,
        **options: Unpack[RouteOptions],
    ) -> Reply:
        """Revise a text after a client's note: a child of the call that wrote it.

        By default, variables, tags, deliverable and route are those of that call.

        Args:
            call_id: the call, by its `Reply.id`.
            note: what the client wrote back.
            template: a template that declares `text` and `note`.
            variables: override the call's.
            options: see `RouteOptions`; `tags` are added to the call's.

        Raises:
            UsageError: there is no such call, or its text was not kept; nothing was sent.
            PromptKitError: as `run`.
        """
        check_names(options, RouteOptions)
        session = self._session
        loaded = session.template(template)
        retake = retake_of(await session.ledger(), number_of(call_id), note, loaded, variables or {})
        tags = {**retake.tags, **checked_tags(options.get("tags"))}
        route, targets = options.get("route"), options.get("targets")
        if route is not None or targets:
            chosen = session.route(route, targets)
        else:
            chosen = route_of(session, retake.parent, tags, loaded.ref)
        return await make_reply(
            session,
            loaded,
            retake.variables,
            route=chosen,
            tags=tags,
            cap_pico=_cap_pico(options),
            parent_id=retake.parent.id,
        )

    def batch(
        self,
        ref: str | TemplateRef,
        rows: Rows | str | Path | None = None,
        *,
        variables: Mapping[str, object] | None = None,
        output: type[Parsed_co] | None = None,
        **options: Unpack[BatchOptions],
    ) -> AsyncJob[Parsed_co]:
        """Set up a job: one text per row. Nothing is read or sent before you iterate over it.

        Args:
            ref: the template; a job pins its version at its first start.
            rows: mappings, or a file (CSV, TSV, JSONL, JSON); None if `variables` and `each`
                make them.
            variables: the same for all rows.
            output: see `run`; the job pins the model's schema.
            options: the command's options, by their names: see `BatchOptions`, `RunOptions` and
                `RouteOptions`.

        Raises:
            UsageError: an argument is not valid.
        """
        from promptkit.batch.job import Job
        from promptkit.batch.options import JobOptions

        check_names(options, BatchOptions)
        route, targets = options.get("route"), options.get("targets")
        job_options = JobOptions(
            constants=variables or {},
            by_rules=route is None and not targets,
            output_model=None if output is None else output_model_of(output),
            **job_fields(options, self._session),
        )
        chosen = self._session.route(route, targets, ref=ref, tags=job_options.all_rows_tags)
        job = Job(self._session, ref, rows, chosen, job_options)
        return AsyncJob(job, self._session, _files(options), rows)

    async def resume(self, name: str, **options: Unpack[RunOptions]) -> AsyncJob[Any]:
        """Set up a job to continue as it began, also one that was cancelled: its rows come from the ledger.

        Template, route, tags, output file and options stay as they were, unless you give others.

        Args:
            name: the job; `{date}` is the budget day.
            options: see `RunOptions`.

        Raises:
            UsageError: there is no such job, or an argument is not valid.
        """
        from promptkit.batch.job import Job, job_named
        from promptkit.batch.options import pinned_options, pinned_output

        check_names(options, RunOptions)
        record = job_named(await self._session.ledger(), name, self._session.today())
        format_ = None if "out" in options else pinned_output(record)[0]
        options.setdefault("out", record.output_path)
        job = Job.resume(self._session, record, pinned_options(record, **job_fields(options, self._session)))
        return AsyncJob(job, self._session, _files(options, format_))

    async def report(
        self,
        by: Sequence[str] = (),
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        template: str | None = None,
        job: str | None = None,
    ) -> Report:
        """Add up what was spent; the groups add up to the ledger's total.

        Args:
            by: `template`, `client`, `target`, `job`, `day`, `deliverable`, or any tag.
            since: an aware time; only calls that began then or later.
            until: an aware time; only calls that began before.
            tags: only calls with these tags.
            template: only calls of this template, with or without its version.
            job: only calls of this job.

        Raises:
            UsageError: `by` names a thing twice, or a time is naive.
        """
        from promptkit.reports.report import ReportQuery, make_report

        asked = ReportQuery(tuple(by), since, until, checked_tags(tags), template, job)
        ledger = await self._session.ledger()
        return await asyncio.to_thread(make_report, ledger, self._session.settings, asked)

    async def aclose(self) -> None:
        """Close connections and ledger. A closed kit may be used again."""
        await self._session.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _cap_pico(options: RouteOptions) -> int | None:
    budget_usd = options.get("budget_usd")
    return None if budget_usd is None else cap_of(budget_usd)


def _files(options: RunOptions, format_: Format | None = None) -> OutputFiles:
    """Return the files that a run writes; without a format, their names decide."""
    from promptkit.batch.output import OutputFiles

    out, failed = options.get("out"), options.get("failed")
    return OutputFiles(None if out is None else Path(out), format_, None if failed is None else Path(failed))
