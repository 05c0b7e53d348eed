"""Retakes: a text revised after a client's note, with what it inherits from the call that wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from promptkit.engine.context import Session
from promptkit.errors import UsageError
from promptkit.templates.reference import parse_ref
from promptkit.templates.template import Template
from promptkit.types import Route, TemplateRef
from promptkit.types.ids import read_id, show_id

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger
    from promptkit.ledger.records import CallRecord


RETAKE = "ugc/retake"

_NEEDED = ("text", "note")

_MOST_ROUNDS = 20

_NEW_TEXT = re.compile(r"^(?:NEW TEXT|NOUVEAU TEXTE)\s*:\s*\n?", re.MULTILINE)
"""The heading of the whole new text in a retake of the shipped kit; the list of changes comes before it."""


@dataclass(frozen=True, slots=True)
class Retake:
    """The call to revise, and the variables and tags of the new one."""

    parent: CallRecord
    variables: Mapping[str, object]
    tags: Mapping[str, str]


def retake_of(
    ledger: Ledger, call_id: int, note: str, template: Template, overrides: Mapping[str, object]
) -> Retake:
    """Set up the retake of a call.

    Args:
        ledger: contains the call.
        call_id: the call whose text the client commented on.
        note: what the client wrote back.
        template: declares `text` and `note`, and `round` if it counts retakes; its other variables
            get the call's values of the same names.
        overrides: variables that override those.

    Raises:
        UsageError: there is no such call, its text is missing, or the template is not for retakes.
    """
    declared = template.spec.variables
    missing = [name for name in _NEEDED if name not in declared]
    if missing:
        raise UsageError(
            f"{template.ref} is not a template for retakes: it declares no {' and no '.join(missing)}",
            remedy=f"{RETAKE} is one.",
        )
    parent = ledger.calls.get(call_id)
    if parent is None:
        raise UsageError(f"no call {show_id(call_id)}", remedy="Run promptkit log to list the calls.")
    variables: dict[str, object] = {
        name: value for name, value in (parent.variables or {}).items() if name in declared
    }
    variables["text"] = _text(parent, of_retake=_is_by(parent, template))
    variables["note"] = note
    if "round" in declared:
        variables["round"] = 1 + sum(_is_by(call, template) for call in _ancestry(ledger, parent))
    return Retake(parent, variables | dict(overrides), parent.tags)


def number_of(call_id: int | str) -> int:
    """Return a call's id as the ledger stores it.

    Raises:
        UsageError: the text is not an id.
    """
    if isinstance(call_id, int):
        return call_id
    try:
        return read_id(call_id)
    except ValueError:
        raise UsageError(
            f"{call_id!r} is not a call id", remedy="`Reply.id` is one: 13 characters."
        ) from None


def route_of(session: Session, parent: CallRecord, tags: Mapping[str, str], ref: TemplateRef) -> Route:
    """Return the route of the call if the configuration still has it; else the usual one."""
    name = parent.route or ""
    if name in session.settings.routes:
        return session.route(name)
    if "/" in name:  # it had targets instead of a route
        try:
            return session.route(None, name.split())
        except UsageError:
            pass
    return session.route(ref=ref, tags=tags)


def _is_by(call: CallRecord, template: Template) -> bool:
    return parse_ref(call.template_ref).name == template.ref.name


def _ancestry(ledger: Ledger, call: CallRecord) -> Iterator[CallRecord]:
    """Yield a call and the calls that it revised, the latest first."""
    for _ in range(_MOST_ROUNDS):
        yield call
        parent = None if call.parent_id is None else ledger.calls.get(call.parent_id)
        if parent is None:
            return
        call = parent


def _text(call: CallRecord, *, of_retake: bool) -> str:
    if call.text is not None:
        return _NEW_TEXT.split(call.text)[-1].strip() if of_retake else call.text
    shown = show_id(call.id)
    if call.forgotten_us is not None:
        raise UsageError(
            f"the text of {shown} was erased", remedy="Give it to promptkit run with -v text=@FILE."
        )
    if call.text_sha256 is not None:
        raise UsageError(
            f"the text of {shown} was not kept ([storage] replies)",
            remedy=f"Give it yourself: promptkit run {RETAKE} -v text=@FILE -v note=...",
        )
    raise UsageError(f"{shown} has no reply to revise", remedy=f"Run promptkit show {shown} to see why.")
