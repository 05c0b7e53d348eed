"""`jobs redo`: rows of a job written once more with another version, as a job of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from promptkit.engine.context import Session
from promptkit.errors import JobConflict, TemplateError, UsageError, VariableError
from promptkit.ledger.records import InputRead, JobRecord, JobStart, RowRecord, RowStart, RowState
from promptkit.templates.reference import parse_ref
from promptkit.templates.template import Template
from promptkit.types import Json, Route, TemplateRef

from .options import JobOptions, pinned_route, pinned_rule_routes, stored_params, stored_start

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Redo:
    """The rows of a job that are written once more, and the version for them.

    Attributes:
        version: the new version, like `@6`.
        written_by: only rows of this version, like `ugc/script@7`; None: of any version.
        states: only rows with one of these states; none: with any state.
        rejected: only rows whose text was rated `reject`.
        route: another route than the job's.
    """

    version: str
    written_by: str | None = None
    states: tuple[RowState, ...] = ()
    rejected: bool = False
    route: Route | None = None


async def prepare(session: Session, original: JobRecord, redo: Redo, options: JobOptions) -> JobRecord:
    """Create the job that writes rows of another job once more, or find it; nothing is sent.

    Args:
        session: the open session.
        original: the job with the rows.
        redo: which rows, and with which version.
        options: how the new job runs; without a name, it has the original's and the version.

    Returns:
        The new job, with its rows; `Job.resume` runs it.

    Raises:
        TemplateError: the version can't be used.
        UsageError: the version is another template's, no row matches, or the variables are erased.
        JobConflict: the name belongs to another job.
        LockHeld: another process runs it.
    """
    ledger = await session.ledger()
    template = session.library.load(_ref(redo.version, original), allow_draft=False)
    rows = _Rows(session, ledger, original, redo, template)
    rows.check()
    await session.remember(template)
    start = _start(session, original, redo, options, template)
    record = await ledger.jobs.create_or_get(start)
    if record.redo_of_id != original.id or record.template_digest != template.digest:
        raise JobConflict(
            f"the name {record.name!r} belongs to another job", remedy="Give this one a name with --job."
        )
    with ledger.jobs.lock(record):
        await ledger.jobs.ingest(record.id, rows, lambda: InputRead(original.columns))
    return ledger.jobs.get(record.name) or record


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of the original as rows of the new job."""

    session: Session
    ledger: Ledger
    original: JobRecord
    redo: Redo
    template: Template

    def check(self) -> None:
        """Check that there are such rows, and that the ledger has their variables.

        Raises:
            UsageError: there are none, or the variables are erased.
        """
        name, first = self.original.name, next(islice(self._matches(), 1), None)
        if first is None:
            raise UsageError(
                f"no row of job {name!r} matches{self._criteria()}",
                remedy=f"It ran with {self.original.template_ref}; see `promptkit jobs show {name}`.",
            )
        if any(row.variables is None for row in self._matches()):
            raise UsageError(
                f"job {name!r}: [storage] has erased the variables of its rows",
                remedy="Send them from the input file, as a batch with another --job.",
            )

    def __iter__(self) -> Iterator[RowStart]:
        for row in self._matches():
            variables: Mapping[str, object] = row.variables or {}
            error = None
            try:
                variables = self.template.bind(variables)
            except VariableError as cause:  # the other version declares other variables
                variables, error = {}, cause.message
            yield RowStart(
                id=self.session.ids(),
                key=row.key,
                ordinal=row.ordinal,
                content=f"redo {row.id}",
                position=row.position,
                line=row.line,
                variables=variables,
                passthrough=row.passthrough,
                tags=row.tags,
                deliverable=row.deliverable,
                parent_call_id=row.parent_call_id,
                redo_of_id=row.id,
                error=error,
            )

    def _matches(self) -> Iterator[RowRecord]:
        redo, original = self.redo, self.original
        version = None if redo.written_by is None else self._version(_ref(redo.written_by, original))
        return self.ledger.jobs.finished_rows(original.id, version, redo.states, rejected=redo.rejected)

    def _version(self, ref: TemplateRef) -> str:
        """Return the version of a reference; the ledger knows a deleted one by its name."""
        try:
            return str(self.session.library.load(ref, allow_draft=True).ref)
        except TemplateError:
            return str(ref)

    def _criteria(self) -> str:
        redo = self.redo
        criteria = [
            f"version {_ref(redo.written_by, self.original)}" if redo.written_by else "",
            f"state {' or '.join(redo.states)}" if redo.states else "",
            "rating reject" if redo.rejected else "",
        ]
        text = ", ".join(filter(None, criteria))
        return f" {text}" if text else ": none has a result yet"


def _start(
    session: Session, original: JobRecord, redo: Redo, options: JobOptions, template: Template
) -> JobStart:
    route = redo.route or pinned_route(original)
    rule_routes = pinned_rule_routes(original) if redo.route is None else None
    kept: dict[str, Json] = {name: original.options[name] for name in ("output",) if name in original.options}
    return JobStart(
        id=session.ids(),
        name=options.name or f"{original.name}-redo-{template.ref.at or template.digest[-8:]}",
        template_digest=template.digest,
        template_ref=str(template.ref),
        route=route.name,
        created_us=int(datetime.now(UTC).timestamp() * 1e6),
        params=stored_params(session.params(template, route)),
        schema=template.spec.output,
        options={
            **stored_start(route, rule_routes, options),
            **kept,
        },
        key_column=original.key_column,
        redo_of_id=original.id,
    )


def _ref(text: str, original: JobRecord) -> TemplateRef:
    """Return a version of the job's template; `@6` alone suffices.

    Raises:
        UsageError: it is another template's.
    """
    name = parse_ref(original.template_ref).name
    ref = parse_ref(f"{name}{text}" if text.startswith("@") else text)
    if ref.name != name:
        raise UsageError(
            f"job {original.name!r} makes {name}, not {ref.name}", remedy=f"For example {name}@2"
        )
    return ref
