"""The templates that a project owns, and publishing them: a draft becomes the next sealed version.

Files are written whole and under the template's lock. Two processes never make the same version,
and after a crash the next publish continues.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from promptkit._util.files import locked, read_bytes, write_bytes, write_text
from promptkit.errors import TemplateError, TemplateNotFound, UsageError
from promptkit.templates.folder import TemplateFolder, missing, numbers
from promptkit.templates.jinja.syntax import pin
from promptkit.templates.library import Library
from promptkit.templates.reference import DRAFT, epoch_of, is_pinned, parse_ref, version_of
from promptkit.templates.source import read_source
from promptkit.templates.template import Part, Template
from promptkit.templates.versions import FILE, write_versions
from promptkit.types import TemplateRef

_BOM = "\ufeff"
TemplateCheck = Callable[[Template], Sequence[str]]
"""A check before a version is published or gets a label. It returns the problems; none lets it pass."""


@dataclass(frozen=True, slots=True)
class OwnTemplates:
    """The project's own templates in a library.

    `folders` are the library's folders that may be written to; new templates go into the first.
    """

    library: Library
    folders: Sequence[Path]

    def find(self, name: str) -> TemplateFolder | None:
        """Return a template of any folder, also a shipped one; None if there is none."""
        try:
            return self.library.home(name)
        except TemplateNotFound:
            return None

    def __contains__(self, home: TemplateFolder) -> bool:
        return any(home.path == folder / home.name for folder in self.folders)

    def get(self, name: str) -> TemplateFolder:
        """Return one of the project's own templates, as it is on disk now.

        Raises:
            TemplateNotFound: no template has that name.
            TemplateError: the template is shipped.
        """
        home = self.library.home(name)
        if home not in self:
            raise TemplateError(
                f"{home.name} is shipped with promptkit and can't be changed",
                file=home.path,
                remedy=f"Copy it into your project: promptkit templates new {home.name} --from {home.name}",
            )
        return home


@dataclass(frozen=True, slots=True)
class Published:
    """A published version; `is_new` is False if the newest version already had the same text.

    `pinned` maps each include of the draft to the reference that the version has instead.
    """

    ref: TemplateRef
    file: Path
    is_new: bool
    pinned: Mapping[str, str] = field(default_factory=dict[str, str])


def publish(own: OwnTemplates, name: str, *, check: TemplateCheck | None = None) -> Published:
    """Seal a draft as the next version.

    An include without a version is pinned to the version that it means now, because that one was tested.

    Args:
        own: the project's templates.
        name: the template.
        check: checks the version before it is written.

    Raises:
        TemplateNotFound: there is no such template, or it has no draft.
        TemplateError: it can't be loaded, or the check refuses it.
        OutputError: a file can't be written.
    """
    ref = parse_ref(name)
    if ref.at not in {None, DRAFT}:
        raise UsageError(f"{name} names a version", remedy=f"Publish the draft: {ref.name}")
    with locked(own.get(ref.name).path):
        home = own.library.home(ref.name)
        raw, pinned, part = _candidate(own, home)
        if _is_newest(home, part):
            newest = TemplateRef(home.name, str(home.versions.newest))
            return Published(newest, home.file(newest.at or ""), is_new=False)
        template = Template(part)  # also refuses a draft that reads undeclared variables
        if check is not None:
            refuse(f"{home.name} isn't published", check(template), part.source.file)
        version = version_of(part.ref) or 1
        # In this order: after a crash there is a version without its seal, which can't be loaded.
        write_bytes(home.file(version), raw)
        write_text(home.path / FILE, write_versions(home.versions.with_seal(version, part.digest)))
    return Published(part.ref, home.file(version), is_new=True, pinned=pinned)


def _candidate(own: OwnTemplates, home: TemplateFolder) -> tuple[bytes, dict[str, str], Part]:
    """Return the next version: its bytes, its pinned includes, and its compiled part."""
    if not home.has_draft:
        raise missing(home, TemplateRef(home.name, DRAFT))
    file = home.file(DRAFT)
    raw = read_bytes(file)
    draft = own.library.part(TemplateRef(home.name, DRAFT), read_source(raw, file=str(file)))
    pins = {written: _pinned(written, included, draft) for written, included in draft.includes.items()}
    pins = {written: name for written, name in pins.items() if name != written}
    source, text = draft.source, raw.decode()
    bare = text.removeprefix(_BOM)
    sealed = text[: len(text) - len(bare)] + pin(bare, len(source.text) - len(source.body), pins)
    version = TemplateRef(home.name, str(_next_version(home, sealed.encode())))
    part = own.library.part(version, read_source(sealed, file=source.file))
    return sealed.encode(), pins, part


def _pinned(written: str, included: Part, draft: Part) -> str:
    """Return the reference of an include in a published version."""
    if included.ref.at == DRAFT:
        raise TemplateError(
            f"include {written!r} means a draft, and a published version can only include published ones",
            file=draft.source.file,
            line=draft.compiled.includes[written] + draft.source.offset,
            remedy=f"Run `promptkit templates publish {included.ref.name}` first.",
        )
    return written if is_pinned(parse_ref(written)) else str(included.ref)


def _next_version(home: TemplateFolder, raw: bytes) -> int:
    """Return the next version number, or that of an unsealed file with the same text that a crash left."""
    newest = max([0, *home.versions.seals, *numbers(home)])
    if newest and newest not in home.versions.seals and read_bytes(home.file(newest)) == raw:
        return newest
    return newest + 1


def _is_newest(home: TemplateFolder, part: Part) -> bool:
    """Return whether the newest version has exactly this text."""
    seal = home.versions.seals.get(home.versions.newest or 0)
    return seal is not None and part.seal(epoch_of(seal) or 0) == seal


def refuse(action: str, problems: Sequence[str], file: str) -> None:
    """Raise the problems that a check returned.

    Raises:
        TemplateError: there are problems; its message lists all of them.
    """
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise TemplateError(f"{action}:{listed}", file=file)
