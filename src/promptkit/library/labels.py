"""Labels: put on a published version, and taken back; each move is one line of versions.toml."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from promptkit.errors import TemplateError, TemplateNotFound, UsageError
from promptkit.templates import DRAFT, HASH, parse_ref, version_of
from promptkit.types import TemplateRef

from .desk import Desk, Gate, open_gate, refuse
from .files import locked, write_text
from .home import Home, missing
from .versions import FILE, LabelMove, write_versions


@dataclass(frozen=True, slots=True)
class Signature:
    """Who moves a label, when (UTC) and why."""

    at: datetime
    by: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Moved:
    """A label that was moved, or that stood there already (`is_new` is False).

    `overridden` are the problems in spite of which it was moved.
    """

    name: str
    move: LabelMove
    is_new: bool = True
    overridden: tuple[str, ...] = ()


def promote(
    desk: Desk,
    reference: str,
    label: str,
    signature: Signature,
    *,
    gate: Gate = open_gate,
    force: bool = False,
) -> Moved:
    """Put a label on a published version.

    Args:
        desk: where the template stands.
        reference: the version: `ugc/script@2`, or another of its labels.
        label: `production` and so on; made where it is new.
        signature: who, when and why.
        gate: what must find nothing wrong with the version.
        force: move it in spite of the gate; the signature must say why, and it is recorded.

    Raises:
        UsageError: no version is named, the label can't be one, or force comes without a reason.
        TemplateError: the version can't be loaded, or the gate refuses it.
        OutputError: it can't be written.
    """
    if force and not signature.why.strip():
        raise UsageError("--force needs a reason", remedy='Say why: --force --reason "..."; it is recorded.')
    ref = parse_ref(reference)
    _check_label(ref.name, label)
    with locked(desk.owned(ref.name).path):
        home = desk.owned(ref.name)
        version = _published(desk, home, ref)
        skeleton = desk.library.load(TemplateRef(home.name, str(version)))
        if home.versions.labels.get(label) == version:
            return Moved(home.name, home.versions.history(label)[-1], is_new=False)
        problems = tuple(gate(skeleton))
        if not force:
            refuse(f"{label} isn't put on {home.name}@{version}", problems, skeleton.file)
        move = _write(home, label, version, signature, forced=bool(problems))
        return Moved(home.name, move, overridden=problems)


def rollback(desk: Desk, name: str, label: str, signature: Signature) -> Moved:
    """Put a label back on what it meant before; again, and it goes further back.

    Raises:
        UsageError: a version is named.
        TemplateError: the label never meant anything else, or that version can't be loaded.
        OutputError: it can't be written.
    """
    ref = parse_ref(name)
    if ref.at is not None:
        raise UsageError(
            f"{name} names a version; a rollback finds it by itself",
            remedy=f"promptkit templates rollback {ref.name} {label}; or promote {name} {label}.",
        )
    _check_label(ref.name, label)
    with locked(desk.owned(ref.name).path):
        home = desk.owned(ref.name)
        before = home.versions.before(label)
        if before is None:
            raise _never_moved(home, label)
        desk.library.load(TemplateRef(home.name, str(before)))
        return Moved(home.name, _write(home, label, before, signature, rollback=True))


def _write(
    home: Home,
    label: str,
    version: int,
    signature: Signature,
    *,
    forced: bool = False,
    rollback: bool = False,
) -> LabelMove:
    """Append a move to versions.toml."""
    move = LabelMove(
        label,
        version,
        home.versions.labels.get(label),
        signature.at,
        signature.by,
        signature.why,
        forced,
        rollback,
    )
    write_text(home.path / FILE, write_versions(home.versions.with_move(move)))
    return move


def _published(desk: Desk, home: Home, ref: TemplateRef) -> int:
    """The version that a reference to a published one means."""
    if ref.at is None:
        newest = home.versions.newest
        raise UsageError(
            f"{ref.name} doesn't say which version",
            remedy=f"The newest is {ref.name}@{newest}." if newest else "Publish it first.",
        )
    if ref.at == DRAFT:
        raise UsageError(
            "a draft takes no label: it changes", remedy=f"promptkit templates publish {ref.name} first."
        )
    version = version_of(desk.library.load(ref).ref)
    if version is None:
        raise missing(home, ref)
    return version


def _check_label(name: str, label: str) -> None:
    """Refuse a word that a reference would read as something else."""
    try:
        ref = parse_ref(f"{name}@{label}")
    except UsageError:
        ref = TemplateRef(name, DRAFT)
    if ref.at == DRAFT or version_of(ref) is not None or label.startswith(HASH):
        raise UsageError(
            f"{label!r} can't be a label",
            remedy="A label is a word like production or staging; not draft or a number.",
        )


def _never_moved(home: Home, label: str) -> TemplateError:
    stands = home.versions.labels.get(label)
    if stands is None:
        known = ", ".join(sorted(home.versions.labels)) or "none"
        return TemplateNotFound(
            f"{home.name} has no label {label}", file=home.path, remedy=f"Its labels: {known}."
        )
    return TemplateError(
        f"{label} meant nothing before version {stands}",
        file=home.path / FILE,
        remedy=f"Put it where you want it: promptkit templates promote {home.name}@N {label}",
    )
