"""A text again, after a client's note: what a retake takes over from the call that it goes back to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from promptkit.engine.context import Session
from promptkit.errors import UsageError
from promptkit.templates.reference import parse_ref
from promptkit.templates.template import Template
from promptkit.types import Route, TemplateRef
from promptkit.types.ids import show_id

if TYPE_CHECKING:
    from promptkit.ledger.ledger import Ledger
    from promptkit.ledger.records import CallRecord


RETAKE: Final = "ugc/retake"


_NEEDED: Final = ("text", "note")


_ROUNDS_AT_MOST: Final = 20


_NEW_TEXT: Final = re.compile(r"^(?:NEW TEXT|NOUVEAU TEXTE)\s*:\s*\n?", re.MULTILINE)
"""Where a retake of the shipped kit has the whole new text; before it stand the changes."""


@dataclass(frozen=True, slots=True)
class Retake:
    """A call to be made again: what it goes back to, and what goes along."""

    parent: CallRecord
    variables: Mapping[str, object]
    tags: Mapping[str, str]


def retake_of(
    ledger: Ledger, call_id: int, note: str, template: Template, said: Mapping[str, object]
) -> Retake:
    """Set up the retake of a call.

    Args:
        ledger: where the call is.
        call_id: the call whose text was commented on.
        note: what the client wrote back.
        template: declares `text` and `note`, and `round` if it counts them; whatever else it
            declares comes from the call's variables of the same names.
        said: variables that win over those.

    Raises:
        UsageError: there is no such call, its text is not there, or the template takes none.
    """
    declared = template.spec.variables
    missing = [name for name in _NEEDED if name not in declared]
    if missing:
        raise UsageError(
            f"{template.ref} is no template of a retake: it declares no {' and no '.join(missing)}",
            remedy=f"{RETAKE} is one.",
        )
    parent = ledger.calls.get(call_id)
    if parent is None:
        raise UsageError(f"no call {show_id(call_id)}", remedy="promptkit log lists them.")
    variables: dict[str, object] = {
        name: value for name, value in (parent.variables or {}).items() if name in declared
    }
    variables["text"] = _text(parent, again=_made_by(parent, template))
    variables["note"] = note
    if "round" in declared:
        variables["round"] = 1 + sum(_made_by(one, template) for one in _line(ledger, parent))
    return Retake(parent, variables | dict(said), parent.tags)


def way_of(session: Session, parent: CallRecord, tags: Mapping[str, str], ref: TemplateRef) -> Route:
    """The route that the call went, where it stands in the configuration; else the usual one."""
    name = parent.route or ""
    if name in session.settings.routes:
        return session.route(name)
    if "/" in name:  # it went to targets, not over a route
        try:
            return session.route(None, name.split())
        except UsageError:
            pass
    return session.route(ref=ref, tags=tags)


def _made_by(call: CallRecord, template: Template) -> bool:
    return parse_ref(call.template_ref).name == template.ref.name


def _line(ledger: Ledger, call: CallRecord) -> Iterator[CallRecord]:
    """A call and those that it goes back to."""
    for _ in range(_ROUNDS_AT_MOST):
        yield call
        before = None if call.parent_id is None else ledger.calls.get(call.parent_id)
        if before is None:
            return
        call = before


def _text(call: CallRecord, *, again: bool) -> str:
    if call.text is not None:
        return _NEW_TEXT.split(call.text)[-1].strip() if again else call.text
    shown = show_id(call.id)
    if call.forgotten_us is not None:
        raise UsageError(
            f"the text of {shown} was erased", remedy="Give it with -v text=@FILE to promptkit run."
        )
    if call.text_sha256 is not None:
        raise UsageError(
            f"the text of {shown} was not kept ([storage] replies)",
            remedy=f"Give it yourself: promptkit run {RETAKE} -v text=@FILE -v note=...",
        )
    raise UsageError(f"{shown} has no reply to go back to", remedy="promptkit show tells what became of it.")
