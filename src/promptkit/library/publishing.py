"""Publishing: the draft is sealed as the next version, with its includes pinned.

What is written is written whole and under the template's lock, so that two processes never make
the same version, and a crash leaves what the next publish takes up again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from promptkit.errors import TemplateError, UsageError
from promptkit.templates import (
    DRAFT,
    Part,
    Skeleton,
    epoch_of,
    is_pinned,
    parse_ref,
    pin,
    read_source,
    version_of,
)
from promptkit.types import TemplateRef

from .desk import Desk, Gate, open_gate, refuse
from .files import locked, read_bytes, write_bytes, write_text
from .home import Home, missing, numbers
from .versions import FILE, write_versions

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
        refuse(f"{home.name} isn't published", gate(Skeleton(part)), part.source.file)
        version = version_of(part.ref) or 1
        # In this order: a crash leaves a version without its seal, which nobody can load.
        write_bytes(home.file(version), raw)
        write_text(home.path / FILE, write_versions(home.versions.with_seal(version, part.digest)))
    return Published(part.ref, home.file(version), is_new=True, pinned=pinned)


def _candidate(desk: Desk, home: Home) -> tuple[bytes, dict[str, str], Part]:
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


def _is_newest(home: Home, part: Part) -> bool:
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


def _next_version(home: Home, raw: bytes) -> int:
    """The number to publish under; a file left behind without its seal is taken up again."""
    newest = max([0, *home.versions.seals, *numbers(home)])
    if newest and newest not in home.versions.seals and read_bytes(home.file(newest)) == raw:
        return newest
    return newest + 1
