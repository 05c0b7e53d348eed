"""Labels: promote a version to a label, and roll a label back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from promptkit._util.files import locked, write_text
from promptkit.authoring.publish import OwnTemplates, TemplateCheck, refuse
from promptkit.errors import TemplateError, TemplateNotFound, UsageError
from promptkit.templates.folder import TemplateFolder, missing
from promptkit.templates.reference import DRAFT, HASH, parse_ref, version_of
from promptkit.templates.versions import FILE, LabelMove, write_versions
from promptkit.types import TemplateRef


@dataclass(frozen=True, slots=True)
class Signature:
    """Who moves a label, when (UTC) and why."""

    at: datetime
    by: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class MovedLabel:
    """A label after `promote` or `rollback`; `is_new` is False if it already had that version.

    `overridden` are the problems that `force` ignored.
    """

    name: str
    move: LabelMove
    is_new: bool = True
    overridden: tuple[str, ...] = ()


def promote(
    own: OwnTemplates,
    reference: str,
    label: str,
    signature: Signature,
    *,
    check: TemplateCheck | None = None,
    force: bool = False,
) -> MovedLabel:
    """Put a label on a published version.

    Args:
        own: the project's templates.
        reference: the version: `ugc/script@2`, or another of its labels.
        label: `production` and so on; created if it is new.
        signature: who, when and why.
        check: checks the version first.
        force: move the label despite problems. The signature needs a reason, which is recorded.

    Raises:
        UsageError: the reference has no version, the label is not valid, or force has no reason.
        TemplateError: the version can't be loaded, or the check refuses it.
        OutputError: a file can't be written.
    """
    if force and not signature.why.strip():
        raise UsageError("--force needs a reason", remedy='Give one: --force --reason "..."; it is recorded.')
    ref = parse_ref(reference)
    _check_label(ref.name, label)
    with locked(own.get(ref.name).path):
        home = own.get(ref.name)
        version = _published_version(own, home, ref)
        template = own.library.load(TemplateRef(home.name, str(version)))
        if home.versions.labels.get(label) == version:
            return MovedLabel(home.name, home.versions.history(label)[-1], is_new=False)
        problems = tuple(check(template)) if check is not None else ()
        if not force:
            refuse(f"{label} isn't put on {home.name}@{version}", problems, template.file)
        move = _move(home, label, version, signature, forced=bool(problems))
        return MovedLabel(home.name, move, overridden=problems)


def _published_version(own: OwnTemplates, home: TemplateFolder, ref: TemplateRef) -> int:
    """Return the version number of a reference to a published version."""
    if ref.at is None:
        newest = home.versions.newest
        raise UsageError(
            f"{ref.name} doesn't name a version",
            remedy=f"The newest is {ref.name}@{newest}." if newest else "Publish it first.",
        )
    if ref.at == DRAFT:
        raise UsageError(
            "a draft can't have a label, because it changes",
            remedy=f"Run `promptkit templates publish {ref.name}` first.",
        )
    version = version_of(own.library.load(ref).ref)
    if version is None:
        raise missing(home, ref)
    return version


def rollback(own: OwnTemplates, name: str, label: str, signature: Signature) -> MovedLabel:
    """Put a label back on its previous version; a second rollback goes one version further back.

    Raises:
        UsageError: the name has a version.
        TemplateError: the label never had another version, or that version can't be loaded.
        OutputError: a file can't be written.
    """
    ref = parse_ref(name)
    if ref.at is not None:
        raise UsageError(
            f"{name} names a version, but a rollback finds the version itself",
            remedy=f"Run `promptkit templates rollback {ref.name} {label}`, or promote {name} {label}.",
        )
    _check_label(ref.name, label)
    with locked(own.get(ref.name).path):
        home = own.get(ref.name)
        previous = home.versions.before(label)
        if previous is None:
            raise _never_moved(home, label)
        own.library.load(TemplateRef(home.name, str(previous)))
        return MovedLabel(home.name, _move(home, label, previous, signature, rollback=True))


def _never_moved(home: TemplateFolder, label: str) -> TemplateError:
    version = home.versions.labels.get(label)
    if version is None:
        known = ", ".join(sorted(home.versions.labels)) or "none"
        return TemplateNotFound(
            f"{home.name} has no label {label}", file=home.path, remedy=f"Its labels: {known}."
        )
    return TemplateError(
        f"{label} had no version before {version}",
        file=home.path / FILE,
        remedy=f"Put it on a version: promptkit templates promote {home.name}@N {label}",
    )


def _check_label(name: str, label: str) -> None:
    """Refuse a label that a reference would read as something else."""
    try:
        ref = parse_ref(f"{name}@{label}")
    except UsageError:
        ref = TemplateRef(name, DRAFT)
    if ref.at == DRAFT or version_of(ref) is not None or label.startswith(HASH):
        raise UsageError(
            f"{label!r} can't be a label",
            remedy="A label is a word such as production or staging, but not draft or a number.",
        )


def _move(
    home: TemplateFolder,
    label: str,
    version: int,
    signature: Signature,
    *,
    forced: bool = False,
    rollback: bool = False,
) -> LabelMove:
    """Append a move to versions.toml."""
    origin = home.versions.labels.get(label)
    move = LabelMove(label, version, origin, signature.at, signature.by, signature.why, forced, rollback)
    write_text(home.path / FILE, write_versions(home.versions.with_move(move)))
    return move
