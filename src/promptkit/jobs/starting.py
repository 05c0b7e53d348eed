"""How a job starts: what it pins the first time, and what it goes on with ever after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from promptkit.batch import check_text_as
from promptkit.engine import judge_of
from promptkit.errors import JobConflict, TemplateError, UsageError
from promptkit.ledger import JobRecord, JobStart
from promptkit.session import Session
from promptkit.templates import Skeleton, parse_ref
from promptkit.types import Json, Route, TemplateRef

from .options import JobOptions, job_name
from .pinning import Pinned, pinned_detours, pinned_route, plain_detours, plain_params, plain_route
from .quoting import Asked
from .remembered import plain_options, plain_path
from .source import MemorySource, Source

if TYPE_CHECKING:
    from promptkit.ledger import Ledger


class Starting:
    """One start of a job.

    Args:
        session: what the process has open.
        ref: the skeleton, as the user names it.
        source: where its rows come from.
        route: where calls may go.
        options: the rest.
    """

    def __init__(
        self, session: Session, ref: TemplateRef, source: Source, route: Route, options: JobOptions
    ) -> None:
        self._session = session
        self._ref = ref
        self._source = source
        self._route = route
        self._options = options
        self.made = False
        """Whether this start made the job."""

    @property
    def name(self) -> str:
        """What it is called; `{date}` is the budget day.

        Raises:
            UsageError: its rows are in memory, and it has no name.
        """
        options = self._options
        if options.name is None and isinstance(self._source, MemorySource):
            raise UsageError(
                "rows in memory need a name for their job",
                remedy='For example job="night-{date}": under the same name it goes on where it stopped.',
            )
        return job_name(options.name, self._ref.name, self._source.name, options.out, self._session.today())

    def asked(self, ledger: Ledger | None) -> Asked:
        """What the job runs, or would if it began now."""
        known = None if ledger is None else ledger.job(self.name)
        if ledger is not None and known is not None:
            return asked_of(self._go_on(ledger, known))
        return Asked(self._load(), self._route, self._detours())

    async def pin(self, ledger: Ledger) -> Pinned:
        """The job of that name, as it was pinned; made where there is none."""
        name = self.name
        known = ledger.job(name)
        if known is not None:
            return self._go_on(ledger, known)
        skeleton = self._load()
        check_text_name(self._options, (), skeleton.spec.output)
        judge_of(skeleton, {})  # a schema that nothing can be held against is refused before there is a job
        await self._session.remember(skeleton)
        detours = self._detours()
        start = JobStart(
            id=self._session.ids(),
            name=name,
            template_digest=skeleton.digest,
            template_ref=str(skeleton.ref),
            route=self._route.name,
            created_us=int(datetime.now(UTC).timestamp() * 1e6),
            params=plain_params(self._session.params(skeleton, self._route)),
            schema=skeleton.spec.output,
            options={
                "route": plain_route(self._route),
                "detours": plain_detours(detours),
                "checks": skeleton.spec.checks is not None,
                **plain_options(self._options),
            },
            key_column=self._options.key_column,
            input_path=self._source.name,
            output_path=plain_path(self._options.out),
        )
        record = await ledger.create_or_get_job(start)
        if record.id != start.id:  # another process was first
            return self._go_on(ledger, record)
        self.made = True
        return Pinned(record, skeleton, self._route, detours)

    def _go_on(self, ledger: Ledger, job: JobRecord) -> Pinned:
        """Take up a job with what it pinned; what the user says otherwise now is told and ignored."""
        pinned_ref = parse_ref(job.template_ref)
        if pinned_ref.name != self._ref.name:
            raise JobConflict(
                f"the job {job.name!r} makes {pinned_ref.name}, not {self._ref.name}",
                remedy="Give this one another name with --job.",
            )
        if job.key_column != self._options.key_column:
            raise JobConflict(
                f"the job {job.name!r} names its rows by {_naming(job.key_column)}",
                remedy=f"Go on with the same --key, or give this one another name with --job (it names them by "
                f"{_naming(self._options.key_column)}).",
            )
        shape = self._options.shape
        if shape is not None and shape.schema != job.schema:
            raise JobConflict(
                f"the job {job.name!r} began with another output schema",
                remedy="Go on with the same model, or give this one another name.",
            )
        skeleton = self._pinned_skeleton(ledger, job).shaped(job.schema)
        route = pinned_route(job)
        if route != self._route:
            self._session.say(f"job {job.name}: it goes on with the route it began with ({route.name})")
        return Pinned(job, skeleton, route, pinned_detours(job))

    def _load(self) -> Skeleton:
        skeleton = self._session.library.load(self._ref, allow_draft=False)
        shape = self._options.shape
        return skeleton if shape is None else skeleton.shaped(shape.schema)

    def _detours(self) -> dict[str, Route] | None:
        """The routes that rules name, where rows may go by them."""
        if not self._options.by_rules:
            return None
        settings = self._session.settings
        return {name: settings.routes[name] for name in sorted(settings.rules.routes)}

    def _pinned_skeleton(self, ledger: Ledger, job: JobRecord) -> Skeleton:
        """The skeleton as it was at the job's first start, whatever has become of it since."""
        try:
            current = self._session.library.load(self._ref, allow_draft=False)
        except TemplateError as cause:
            now = f"{self._ref} can't be used now: {cause.what}"
        else:
            if current.digest == job.template_digest:
                return current
            same = str(current.ref) == job.template_ref
            now = f"{current.ref} has changed since" if same else f"{self._ref} now means {current.ref}"
        self._session.say(f"job {job.name}: it goes on with {job.template_ref} as it began; {now}")
        return Skeleton.rebuild(job.template_digest, ledger.stored_source)


def asked_of(pinned: Pinned) -> Asked:
    """What the rows of a job are for, as it has pinned it."""
    return Asked(pinned.skeleton, pinned.route, pinned.detours, pinned.job.name, pinned.job.id)


def check_text_name(options: JobOptions, columns: Sequence[str], schema: Mapping[str, Json] | None) -> None:
    """See that the text's column can have the name that `--text-as` gives it.

    Raises:
        UsageError: it can't.
    """
    if options.text_as is not None:
        check_text_as(options.text_as, columns, schema)


def _naming(key_column: str | None) -> str:
    return "their content" if key_column is None else f"the column {key_column!r}"
