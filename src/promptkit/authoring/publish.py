"""Publishing: the draft is sealed as the next version, with its includes pinned.

What is written is written whole and under the template's lock, so that two processes never make
the same version, and a crash leaves what the next publish takes up again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

from promptkit._util.files import locked, read_bytes, write_bytes, write_text
from promptkit.errors import TemplateError, TemplateNotFound, UsageError
from promptkit.templates.folder import TemplateFolder, missing, numbers
from promptkit.templates.jinja.syntax import pin
from promptkit.templates.library import Library
from promptkit.templates.reference import DRAFT, HASH, epoch_of, is_pinned, parse_ref, version_of
from promptkit.templates.source import read_source
from promptkit.templates.template import Part, Template
from promptkit.templates.versions import FILE, LabelMove, write_versions
from promptkit.types import TemplateRef

_BOM: Final = "\ufeff"


@dataclass(frozen=True, slots=True)
class Published:
    """A version; `is_new` is False where the newest one had the same text already.

    `pinned` maps each include as the draft has it to what the version has instead.
    """

    ref: TemplateRef
    file: Path
    is_new: bool
    pinned: Mapping[str, str] = field(default_factory=dict[str, str])


def open_gate(_template: Template) -> Sequence[str]:
    """The gate that refuses nothing."""
    return ()


def publish(desk: Desk, name: str, *, gate: Gate = open_gate) -> Published:
    """Seal the draft as the next version, with its includes pinned.

    An include is pinned to what it means now, so that what is sealed is what was tried.

    Args:
        desk: where it stands.
        name: the template.
        gate: what must find nothing wrong with the version-to-be.

    Raises:
        TemplateNotFound: no such template, or it has no draft.
        TemplateError: it can't be loaded, or the gate refuses it.
        OutputError: it can't be written.
    """
    ref = parse_ref(name)
    if ref.at not in {None, DRAFT}:
        raise UsageError(f"{name} names a version", remedy=f"The draft is published: {ref.name}")
    with locked(desk.owned(ref.name).path):
        home = desk.library.home(ref.name)
        raw, pinned, part = _candidate(desk, home)
        if _is_newest(home, part):
            newest = TemplateRef(home.name, str(home.versions.newest))
            return Published(newest, home.file(newest.at or ""), is_new=False)
        refuse(f"{home.name} isn't published", gate(Template(part)), part.source.file)
        version = version_of(part.ref) or 1
        # In this order: a crash leaves a version without its seal, which nobody can load.
        write_bytes(home.file(version), raw)
        write_text(home.path / FILE, write_versions(home.versions.with_seal(version, part.digest)))
    return Published(part.ref, home.file(version), is_new=True, pinned=pinned)


def _candidate(desk: Desk, home: TemplateFolder) -> tuple[bytes, dict[str, str], Part]:
    """The version-to-be: its bytes, what was pinned, and itself put together."""
    if not home.has_draft:
        raise missing(home, TemplateRef(home.name, DRAFT))
    file = home.file(DRAFT)
    raw = read_bytes(file)
    draft = desk.library.part(TemplateRef(home.name, DRAFT), read_source(raw, file=str(file)))
    pins = {written: _pinned(written, inner, draft) for written, inner in draft.includes.items()}
    pins = {written: name for written, name in pins.items() if name != written}
    source, text = draft.source, raw.decode()
    bare = text.removeprefix(_BOM)
    sealed = text[: len(text) - len(bare)] + pin(bare, len(source.text) - len(source.body), pins)
    version = TemplateRef(home.name, str(_next_version(home, sealed.encode())))
    part = desk.library.part(version, read_source(sealed, file=source.file))
    return sealed.encode(), pins, part


def _is_newest(home: TemplateFolder, part: Part) -> bool:
    """Whether the newest version has this very text."""
    seal = home.versions.seals.get(home.versions.newest or 0)
    return seal is not None and part.seal(epoch_of(seal) or 0) == seal


def _pinned(written: str, inner: Part, draft: Part) -> str:
    """What an include is written as in a published version."""
    if inner.ref.at == DRAFT:
        raise TemplateError(
            f"include {written!r} means a draft, and a published version includes only published ones",
            file=draft.source.file,
            line=draft.compiled.includes[written] + draft.source.offset,
            remedy=f"promptkit templates publish {inner.ref.name} first.",
        )
    return written if is_pinned(parse_ref(written)) else str(inner.ref)


def _next_version(home: TemplateFolder, raw: bytes) -> int:
    """The number to publish under; a file left behind without its seal is taken up again."""
    newest = max([0, *home.versions.seals, *numbers(home)])
    if newest and newest not in home.versions.seals and read_bytes(home.file(newest)) == raw:
        return newest
    return newest + 1


Gate: TypeAlias = Callable[[Template], Sequence[str]]
"""A check before a step: the problems it finds, one text each; where there is none, the step happens."""


def refuse(what: str, problems: Sequence[str], file: str) -> None:
    """Raise what a gate found.

    Raises:
        TemplateError: there are problems; it tells all of them.
    """
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise TemplateError(f"{what}:{listed}", file=file)


@dataclass(frozen=True, slots=True)
class Desk:
    """A studio's own templates, to be worked on.

    `folders` are those of the library's that may be written to; new templates go into the first.
    """

    library: Library
    folders: Sequence[Path]

    def find(self, name: str) -> TemplateFolder | None:
        """A template of any folder, or None."""
        try:
            return self.library.home(name)
        except TemplateNotFound:
            return None

    def has(self, home: TemplateFolder) -> bool:
        """Whether a template is one of the studio's own."""
        return any(home.path == folder / home.name for folder in self.folders)

    def owned(self, name: str) -> TemplateFolder:
        """A template of the studio's own, as it is on disk now.

        Raises:
            TemplateNotFound: there is none of that name.
            TemplateError: it is shipped, not the studio's.
        """
        home = self.library.home(name)
        if not self.has(home):
            raise TemplateError(
                f"{home.name} is shipped with promptkit and stays as it is",
                file=home.path,
                remedy=f"Bring it into your project: promptkit templates new {home.name} --from {home.name}",
            )
        return home


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
        template = desk.library.load(TemplateRef(home.name, str(version)))
        if home.versions.labels.get(label) == version:
            return Moved(home.name, home.versions.history(label)[-1], is_new=False)
        problems = tuple(gate(template))
        if not force:
            refuse(f"{label} isn't put on {home.name}@{version}", problems, template.file)
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
    home: TemplateFolder,
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


def _published(desk: Desk, home: TemplateFolder, ref: TemplateRef) -> int:
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


def _never_moved(home: TemplateFolder, label: str) -> TemplateError:
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
