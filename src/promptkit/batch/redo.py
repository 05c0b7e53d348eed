"""Rows that a bad version made, made again with another: a job of its own, linked to the originals."""

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

from .options import (
    JobOptions,
    pinned_detours,
    pinned_route,
    plain_detours,
    plain_options,
    plain_params,
    plain_route,
)

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Redo:
    """Which rows of a job are made again, and with what.

    Attributes:
        anew: the version to make them with, like `@6`.
        made_by: only rows that this version made, like `ugc/script@7`; None: whichever did.
        states: only rows that ended so; none: however they ended.
        rejected: only rows whose text was rated `reject`.
        route: another route than the job's.
    """

    anew: str
    made_by: str | None = None
    states: tuple[RowState, ...] = ()
    rejected: bool = False
    route: Route | None = None


async def prepare(session: Session, original: JobRecord, redo: Redo, options: JobOptions) -> JobRecord:
    """Make the job that does rows of another again, or find it; nothing is sent.

    Args:
        session: what the process has open.
        original: whose rows.
        redo: which, and with what.
        options: how the new job runs; its name is the original's and the version unless it says one.

    Returns:
        The new job, its rows taken in: `JobAgain` runs it.

    Raises:
        TemplateError: the version can't be used.
        UsageError: another template; no row fits; the rows' variables are not kept.
        JobConflict: the name belongs to another job.
        LockHeld: another process runs it.
    """
    ledger = await session.ledger()
    template = session.library.load(_ref(redo.anew, original), allow_draft=False)
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
    """The rows of the original as rows of the new job, page by page."""

    session: Session
    ledger: Ledger
    original: JobRecord
    redo: Redo
    template: Template

    def check(self) -> None:
        """See that there are such rows, and that the ledger still has what they were made of.

        Raises:
            UsageError: there are none, or it hasn't.
        """
        name, first = self.original.name, next(islice(self._found(), 1), None)
        if first is None:
            raise UsageError(
                f"no row of job {name!r} fits{self._asked()}",
                remedy=f"It ran with {self.original.template_ref}; `promptkit jobs show {name}` tells more.",
            )
        if any(row.variables is None for row in self._found()):
            raise UsageError(
                f"job {name!r}: [storage] has erased the variables of its rows",
                remedy="Make them again from the input file, as a batch with another --job.",
            )

    def __iter__(self) -> Iterator[RowStart]:
        for row in self._found():
            variables: Mapping[str, object] = row.variables or {}
            error = None
            try:
                variables = self.template.bind(variables)
            except VariableError as cause:  # the other version declares others
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

    def _found(self) -> Iterator[RowRecord]:
        redo, original = self.redo, self.original
        made_by = None if redo.made_by is None else self._version(_ref(redo.made_by, original))
        return self.ledger.jobs.finished_rows(original.id, made_by, redo.states, rejected=redo.rejected)

    def _version(self, ref: TemplateRef) -> str:
        """The version that a reference means; one that is gone is still known to the ledger by its name."""
        try:
            return str(self.session.library.load(ref, allow_draft=True).ref)
        except TemplateError:
            return str(ref)

    def _asked(self) -> str:
        redo = self.redo
        told = [
            "" if redo.made_by is None else f" made by {_ref(redo.made_by, self.original)}",
            f" in state {' or '.join(redo.states)}" if redo.states else "",
            " rated reject" if redo.rejected else "",
        ]
        return "".join(told) or ": none has ended yet"


def _start(
    session: Session, original: JobRecord, redo: Redo, options: JobOptions, template: Template
) -> JobStart:
    route = redo.route or pinned_route(original)
    detours = pinned_detours(original) if redo.route is None else None
    kept: dict[str, Json] = {name: original.options[name] for name in ("output",) if name in original.options}
    return JobStart(
        id=session.ids(),
        name=options.name or f"{original.name}-redo-{template.ref.at or template.digest[-8:]}",
        template_digest=template.digest,
        template_ref=str(template.ref),
        route=route.name,
        created_us=int(datetime.now(UTC).timestamp() * 1e6),
        params=plain_params(session.params(template, route)),
        schema=template.spec.output,
        options={
            "route": plain_route(route),
            "detours": plain_detours(detours),
            **plain_options(options),
            **kept,
        },
        key_column=original.key_column,
        redo_of_id=original.id,
    )


def _ref(text: str, original: JobRecord) -> TemplateRef:
    """A version of the job's template: `@6` alone will do.

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
