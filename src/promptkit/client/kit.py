"""`AsyncPromptKit`. Its blocking twin is in `blocking`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, Unpack

from promptkit.config.settings import Settings
from promptkit.engine.calls import make_reply
from promptkit.engine.context import Session, checked_tags, load_settings
from promptkit.errors import UsageError
from promptkit.routing.budgets import pico_of_usd
from promptkit.routing.reply_cache import read_age
from promptkit.types import Json, Parsed_co, Prompt, Reply, TemplateRef
from promptkit.validation.output_models import output_model_of

from .jobs import AsyncJob, BatchOptions, RunOptions, delivery_of, job_options
from .streams import AsyncReplyStream

if TYPE_CHECKING:
    from promptkit.reports.report import Report


_LOGGER: Final = logging.getLogger("promptkit")


Rows = Iterable[Mapping[str, object]]


class AsyncPromptKit:
    """promptkit for asyncio.

    Use it as an `async with` block, or end it with `aclose`. Nothing is opened before it is
    needed: rendering touches neither the network nor the database. An instance belongs to the
    event loop that it first runs on.

    Args:
        config: a configuration file, settings that were loaded before, or None to search for
            `promptkit.toml` as the command does.
        say: is called with each notice (a target that is skipped, a parameter that is dropped);
            by default they go to the logger `promptkit` as warnings.

    Raises:
        ConfigError: the configuration can't stand.
    """

    def __init__(
        self, config: str | Path | Settings | None = None, *, say: Callable[[str], None] | None = None
    ) -> None:
        settings = config if isinstance(config, Settings) else load_settings(config)
        self._session = Session(settings, say or _LOGGER.warning)

    @property
    def session(self) -> Session:
        """What this kit has open: settings, templates, ledger, engine."""
        return self._session

    async def render(self, ref: str | TemplateRef, variables: Mapping[str, object] | None = None) -> Prompt:
        """Render a template: what exactly would be sent. No network, no database.

        Args:
            ref: like `ugc/script`, `ugc/script@2`, `ugc/script@draft`.
            variables: what the template declares; texts are coerced to the declared types.

        Raises:
            TemplateError: the template is broken or not there, or the variables don't fit.
        """
        template = self._session.template(ref)
        return template.render(template.bind(variables or {}))

    async def run(
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
        """Turn a template into text: one call over a route's targets, every attempt in the ledger.

        Args:
            ref: the template, see `render`.
            variables: its variables.
            route: the route's name; `default` where nothing is said.
            targets: `provider/model`, in order, instead of a route.
            tags: what the call belongs to (`client`, `deliverable`, ...).
            budget_usd: hard cap of this call.
            parent_id: the call that this one goes back to.
            cache: how old a reply may be that serves this very call again (`7d`, `12h`; `0`: none,
                but this one's is kept for later); by default what the route says.
            output: a Pydantic model: the reply is asked for as JSON of its schema (in place of the
                template's `[output]`), held against it, and `parsed` is an instance of it.

        Returns:
            The reply; `status` tells whether it is truncated or degraded.

        Raises:
            UsageError: a tag that is no text, an unknown route or target; nothing was sent.
            TemplateError: the template or its variables can't stand; nothing was sent.
            NoUsableKey: no target has a key, or all keys were refused.
            AllTargetsFailed: every attempt failed; each one is on the error.
            BudgetStop: a hard cap leaves no room.
            LedgerError: the ledger can't be written; nothing more is sent.
        """
        return await ask(
            self._session,
            ref,
            variables,
            route,
            targets,
            tags=tags,
            budget_usd=budget_usd,
            parent_id=parent_id,
            cache=cache,
            output=output,
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
    ) -> AsyncReplyStream:
        """Like `run`, but the text is read as it comes.

            async with kit.stream("ugc/script", {...}) as stream:
                async for piece in stream:
                    print(piece, end="", flush=True)
            stream.reply.cost

        Until the first word the call moves on to other targets as `run` does. After it nothing is
        sent again. Who stops reading early ends the call; what that cost is then an estimate in the
        ledger, and the caps count its ceiling.

        Args:
            ref: the template, see `render`; of a structured one the pieces are JSON.
            variables: its variables.
            route: see `run`.
            targets: see `run`.
            tags: see `run`.
            budget_usd: see `run`.
            parent_id: see `run`.
            cache: see `run`.

        Returns:
            An async iterator of pieces of text, whose `reply` is there at its end. Nothing is sent
            before the first piece is asked for; what `run` raises is raised there, too.

        Raises:
            StreamCut: while it is read: it broke off after its first word; `text` is what had come.
        """
        return AsyncReplyStream(
            partial(
                ask,
                self._session,
                ref,
                variables,
                route,
                targets,
                tags=tags,
                budget_usd=budget_usd,
                parent_id=parent_id,
                cache=cache,
            )
        )

    async def retake(
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
        """Make a text again after a client's note: a child of the call that made it.

        Variables, tags, deliverable and route are those of that call, unless said otherwise.

        Args:
            call_id: the call, like `Reply.id`.
            note: what the client wrote back.
            template: a template that declares `text` and `note`.
            variables: these win over the call's.
            route: the route's name.
            targets: `provider/model`, in order, instead of a route.
            tags: added to the call's.
            budget_usd: hard cap of this call.

        Raises:
            UsageError: there is no such call, or its text was not kept; nothing was sent.
            PromptKitError: as `run`.
        """
        from .retakes import retake_of, way_of

        session = self._session
        loaded = session.template(template)
        retake = retake_of(await session.ledger(), call_id, note, loaded, variables or {})
        told = {**retake.tags, **checked_tags(tags)}
        said = route is not None or bool(targets)
        return await make_reply(
            session,
            loaded,
            retake.variables,
            route=session.route(route, targets) if said else way_of(session, retake.parent, told, loaded.ref),
            tags=told,
            cap_pico=None if budget_usd is None else cap_of(budget_usd),
            parent_id=call_id,
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
    ) -> AsyncJob[Parsed_co]:
        """Set up a job: a text a row. Nothing is read or sent before it is iterated.

        Args:
            ref: the template; a job pins its version at its first start.
            rows: mappings, or a file (CSV, TSV, JSONL, JSON); None where `variables` and `each`
                make them.
            job: its name; with the same name it goes on where it stopped. By default it is
                derived from template and rows file; mappings need a name.
            key: the column that identifies a row; by default its content does.
            variables: constants of all rows.
            each: variables and their values: every row once for each combination.
            route: the route's name.
            targets: `provider/model`, in order, instead of a route.
            tags: constants, or `@COLUMN` for a row's own value.
            budget_usd: hard cap of the whole job.
            concurrency: how many rows are under way at once.
            cache: see `run`.
            until_budget: run until a hard cap stops it. With False it raises `BudgetStop` before
                the first call where the worst case of what is left doesn't fit every cap.
            output: see `run`; the job pins the model's schema.
            more: the command's other options, by their names: see `BatchOptions` and `RunOptions`.

        Raises:
            UsageError: an argument can't stand.
        """
        from promptkit.batch.binding import Matrix
        from promptkit.batch.job import Job
        from promptkit.batch.options import JobOptions

        told = {**more, "concurrency": concurrency}
        options = JobOptions(
            name=job,
            key_column=key,
            constants=variables or {},
            each=Matrix(each or {}),
            tags=checked_tags(tags),
            cap_pico=None if budget_usd is None else cap_of(budget_usd),
            until_budget=until_budget,
            by_rules=route is None and not targets,
            cache_s=None if cache is None else read_age(cache),
            shape=None if output is None else output_model_of(output),
            **job_options(told, self._session),
        )
        chosen = self._session.route(route, targets, ref=ref, tags=options.all_rows_tags)
        made = Job(self._session, ref, rows, chosen, options)
        return AsyncJob(made, self._session, delivery_of(told), rows)

    async def resume(
        self,
        name: str,
        *,
        budget_usd: Decimal | None = None,
        concurrency: int | None = None,
        until_budget: bool | None = None,
        **more: Unpack[RunOptions],
    ) -> AsyncJob[Any]:
        """Set up a job to go on as it began, also one that was cancelled: its rows come from the ledger.

        Template, route, tags, output file and all that isn't said otherwise are those that it had.

        Args:
            name: the job; `{date}` is the budget day.
            budget_usd: hard cap of the whole job.
            concurrency: how many rows are under way at once.
            until_budget: see `batch`.
            more: see `RunOptions`.

        Raises:
            UsageError: there is no such job, or an argument can't stand.
        """
        from promptkit.batch.job import JobAgain, job_named, said_again
        from promptkit.batch.options import pinned_output

        record = job_named(await self._session.ledger(), name, self._session.today())
        kept = None if "out" in more else pinned_output(record)[0]
        told: dict[str, Any] = {"out": record.output_path, "concurrency": concurrency, **more}
        options = said_again(
            record,
            cap_pico=None if budget_usd is None else cap_of(budget_usd),
            until_budget=until_budget,
            **job_options(told, self._session),
        )
        return AsyncJob(JobAgain(self._session, record, options), self._session, delivery_of(told, kept))

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
        """Add up what was spent; groups add up to the ledger.

        Args:
            by: `template`, `client`, `target`, `job`, `day`, `deliverable`, or any tag.
            since: an aware time; what began then or later.
            until: what began before.
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


async def ask(
    session: Session,
    ref: str | TemplateRef,
    variables: Mapping[str, object] | None,
    route: str | None,
    targets: Sequence[str] | None,
    listen: Callable[[str], None] | None = None,
    *,
    tags: Mapping[str, str] | None,
    budget_usd: Decimal | None,
    parent_id: int | None,
    cache: str | None,
    output: type[Any] | None = None,
) -> Reply[Any]:
    """Make the call; see `AsyncPromptKit.run`. `listen` is told each piece of its text."""
    told = checked_tags(tags)
    shape = None if output is None else output_model_of(output)
    template = session.template(ref)
    if shape is not None:
        template = template.shaped(shape.schema)
    chosen = session.route(route, targets, ref=template.ref, tags=told)
    return await make_reply(
        session,
        template,
        variables or {},
        route=chosen,
        tags=told,
        cap_pico=None if budget_usd is None else cap_of(budget_usd),
        parent_id=parent_id,
        cache_s=chosen.cache_s if cache is None else read_age(cache),
        listen=listen,
        read=None if shape is None else shape.read,
    )


def cap_of(budget_usd: Decimal | float | str) -> int:
    """A budget in pico-USD.

    Raises:
        UsageError: negative, not a number, or finer than a pico-dollar.
    """
    try:
        return pico_of_usd(Decimal(str(budget_usd)))
    except (ValueError, ArithmeticError) as cause:
        raise UsageError(f"the budget {budget_usd} can't stand: {cause}") from None
