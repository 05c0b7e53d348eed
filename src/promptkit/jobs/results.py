"""What became of a row: from a call that was just made, or from the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from promptkit.calls import cost_of
from promptkit.engine import Judge, Made, judge_text
from promptkit.ledger import OutputRow, RowRecord, RowState
from promptkit.templates import parse_ref
from promptkit.types import Cost, Json, RowResult, Status, TemplateRef, Usage

_NOT_KEPT = "the text is not kept: [storage] keeps replies out of the ledger once a job is done"


_ANSWERED = frozenset({Status.OK, Status.TRUNCATED, Status.DEGRADED})


def from_call(row: RowRecord, made: Made, ref: TemplateRef) -> RowResult[Any]:
    """The result of a row whose call has just ended."""
    attempts = made.attempts
    pico = cost_of(attempts)
    return RowResult(
        number=row.position + 1,
        status=made.status,
        text=made.text if made.answered else None,
        parsed=made.parsed,
        flags=made.flags,
        error=None if made.answered else made.why,
        cost=None if pico is None else Cost(pico, "attempts"),
        usage=made.answered.completion.usage if made.answered else None,
        target=made.answered.target if made.answered else attempts[-1].target if attempts else None,
        template=ref,
        call=made.id,
        cells=row.passthrough or {},
        cached_from=made.cached_from,
    )


def from_ledger(
    out: OutputRow, schema: Mapping[str, Json] | None, read: Callable[[Json], object] | None = None
) -> RowResult[Any] | None:
    """The result of a row as the ledger has it; None while it is still to be done."""
    row = out.row
    if row.state is RowState.PENDING:
        return None
    status = Status.FAILED if row.state is RowState.INVALID else Status(row.state.value)
    text = out.text if status in _ANSWERED else None  # what was refused or failed may be kept, too
    judged = None if schema is None or text is None else judge_text(text, Judge(schema, read=read))
    known = out.input_tokens is not None and out.output_tokens is not None
    return RowResult(
        number=row.position + 1,
        status=status,
        text=text,
        parsed=None if judged is None else judged.value,
        flags=out.flags,
        error=row.error or out.error or (_NOT_KEPT if out.text is None and status in _ANSWERED else None),
        cost=None if out.money.unknown else Cost(out.money.known_pico, "attempts"),
        usage=Usage(out.input_tokens or 0, out.output_tokens or 0) if known else None,
        target=out.target,
        template=None if out.template_ref is None else parse_ref(out.template_ref),
        call=row.call_id,
        cells=row.passthrough or {},
    )
