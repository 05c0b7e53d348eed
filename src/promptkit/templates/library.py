"""The library: several template folders as one, the first that has a template wins."""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

from promptkit._util.files import read_bytes, read_text
from promptkit.errors import TemplateError, TemplateNotFound, UsageError
from promptkit.types import TemplateRef

from .bytecode import Bytecode
from .compiler import Compiled, compile_source
from .folder import (
    SUFFIX,
    Home,
    TemplateEntry,
    check_seal,
    default_version,
    glance,
    hex_of,
    is_template_file,
    loading,
    missing,
    numbers,
    walked,
    without_file,
)
from .reference import DRAFT, HASH, is_pinned, parse_ref, version_of
from .source import Source, read_source
from .template import Part, Template
from .versions import FILE, Versions, read_versions, unsorted


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A template, and every folder and file that it was found and read by."""

    template: Template
    seen: tuple[tuple[Path, Stamp | None], ...]

    def still_holds(self) -> bool:
        return all(stamp_of(path) == stamp for path, stamp in self.seen)


class Library:
    """Template folders, one over the other: the first that has a template of a name wins it whole.

    Args:
        folders: in order; the shipped kit usually comes last.
        bytecode: where compiled templates are kept between processes; None keeps none.
    """

    __slots__ = ("_bytecode", "_compiled", "_disk", "_folders", "_loaded", "_loading", "_made")

    def __init__(self, folders: Sequence[Path], *, bytecode: Path | None = None) -> None:
        self._folders = tuple(folders)
        self._bytecode = None if bytecode is None else Bytecode(bytecode)
        self._compiled: dict[str, Compiled] = {}
        self._disk = Disk()
        self._loaded: dict[tuple[TemplateRef, bool], _Loaded] = {}
        self._loading = threading.Lock()
        self._made: dict[TemplateRef, Template] = {}

    # ------------------------------------------------------------------------- loading

    def load(self, ref: TemplateRef | str, *, allow_draft: bool = True) -> Template:
        """The template that a reference means now.

        Args:
            ref: `ugc/script`, `ugc/script@2`, `@LABEL`, `@draft`, `@sha256:PREFIX`.
            allow_draft: whether a bare name may mean the draft where nothing is published.

        Raises:
            UsageError: it is no reference.
            TemplateNotFound: no such template or version.
            TemplateError: it is broken, or its seal is.
        """
        wanted = parse_ref(ref) if isinstance(ref, str) else ref
        held = self._loaded.get((wanted, allow_draft))
        if held is not None and held.still_holds():
            return held.template
        with self._loading:
            self._disk.begin()
            home = self._home(wanted.name)
            at = self._resolve(home, wanted, allow_draft=allow_draft)
            template = self._template(self._part(home, at, ()))
            self._loaded[wanted, allow_draft] = _Loaded(template, self._disk.seen())
        return template

    def _template(self, part: Part) -> Template:
        """The template of a part: the one at hand, where another reference has led to it."""
        held = self._made.get(part.ref)
        if held is None or (held.digest, held.file) != (part.digest, part.source.file):
            held = self._made[part.ref] = Template(part)
        return held

    def _part(self, home: Home, at: int | str, above: tuple[TemplateRef, ...]) -> Part:
        """A version with all that it includes; published ones with their seal checked."""
        if at in home.versions.seals and not home.has(at):
            raise without_file(home, int(at))
        with loading(home, at):
            source = self._source(home.file(at))
            self._compile(source)
        part = self._join(TemplateRef(home.name, str(at)), source, above)
        if at != DRAFT:
            check_seal(home, int(at), part)
        return part

    def _join(self, ref: TemplateRef, source: Source, above: tuple[TemplateRef, ...]) -> Part:
        """A source with all that it includes."""
        compiled = self._compile(source)
        inner: dict[str, Part] = {}
        for written, line in compiled.includes.items():
            where = (source.file, line + source.offset)
            inner[written] = self._include(written, where, (*above, ref), pinned=ref.at != DRAFT)
        return Part.join(ref, source, compiled, inner)

    def _include(
        self, written: str, where: tuple[str, int], above: tuple[TemplateRef, ...], *, pinned: bool
    ) -> Part:
        file, line = where
        try:
            ref = parse_ref(written)
            home = self._home(ref.name)
            at = self._resolve(home, ref, allow_draft=not pinned)
        except (UsageError, TemplateNotFound) as cause:
            raise TemplateError(
                f"include {written!r}: {cause.what}", file=file, line=line, remedy=cause.remedy
            ) from None
        if pinned and not is_pinned(ref):
            newest = home.versions.newest
            remedy = (
                f'{{% include "{ref.name}@{newest}" %}}'
                if newest
                else f"publish {ref.name} first, then pin it"
            )
            raise TemplateError(
                f"a published version includes only pinned versions, not {written!r}",
                file=file,
                line=line,
                remedy=f"Pin it: {remedy}",
            )
        if TemplateRef(home.name, str(at)) in above:
            raise TemplateError(
                f"include {written!r} goes round in a circle",
                file=file,
                line=line,
                remedy=" includes ".join(str(ref) for ref in above),
            )
        return self._part(home, at, above)

    def _source(self, path: Path) -> Source:
        return self._disk.cached(path, lambda: read_source(read_bytes(path), file=str(path)))

    def _compile(self, source: Source) -> Compiled:
        found = self._compiled.get(source.body)
        if found is None:
            found = compile_source(source) if self._bytecode is None else self._bytecode.compiled(source)
            self._compiled[source.body] = found
        return found

    # ----------------------------------------------------------------------- resolving

    def _home(self, name: str) -> Home:
        for folder in self._folders:
            if home := self._open(name, folder / name):
                return home
        names = [entry for entry, _ in self._names()]
        close = difflib.get_close_matches(name, names, n=3)
        folders = ", ".join(str(folder) for folder in self._folders)
        remedy = f"Did you mean {' or '.join(close)}?" if close else f"Templates are sought in {folders}."
        raise TemplateNotFound(f"no template named {name}", remedy=remedy)

    def _open(self, name: str, path: Path) -> Home | None:
        """The template in a folder, if one is there."""
        self._disk.look(path)
        try:
            files = frozenset(entry.name for entry in path.iterdir() if is_template_file(entry.name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as cause:
            raise TemplateError(f"can't be read: {cause.strerror}", file=path) from None
        if not files:
            return None
        file = path / FILE
        versions = Versions()
        if self._disk.look(file) is not None:
            versions = self._disk.cached(file, lambda: read_versions(read_text(file), file=str(file)))
        return Home(name, path, versions, files)

    def _resolve(self, home: Home, ref: TemplateRef, *, allow_draft: bool) -> int | str:
        """The version number, or `draft`, that a reference means."""
        if ref.at is None:
            return default_version(home, allow_draft=allow_draft)
        if ref.at == DRAFT:
            if home.has_draft:
                return DRAFT
            raise missing(home, ref)
        if ref.at.startswith(HASH):
            return self._by_digest(home, ref)
        number = version_of(ref)
        if number is None:
            number = home.versions.labels.get(ref.at)
        if number is None or not (home.has(number) or number in home.versions.seals):
            raise missing(home, ref)
        return number

    def _by_digest(self, home: Home, ref: TemplateRef) -> int | str:
        prefix = (ref.at or "").removeprefix(HASH)
        found: list[int | str] = [
            version for version, seal in home.versions.seals.items() if hex_of(seal).startswith(prefix)
        ]
        # The draft's digest takes reading it, so it is asked for only where no seal fits.
        if not found and home.has_draft and hex_of(self._part(home, DRAFT, ()).digest).startswith(prefix):
            return DRAFT
        if not found:
            raise missing(home, ref)
        if len(found) > 1:
            raise UsageError(
                f"{ref} fits versions {', '.join(map(str, found))}", remedy="Write more of the digest."
            )
        return found[0]

    # ------------------------------------------------------------------------- listing

    def _names(self) -> Iterator[tuple[str, Path]]:
        """Every template's name and folder, sorted by name; a hidden one is left out."""
        for name, (folder, _) in walked(self._folders):
            yield name, folder

    def entries(self) -> list[TemplateEntry]:
        """All templates, sorted by name; one that can't be read stands there with its problem.

        Ten thousand take a second, so most aren't loaded: what a source says wrong inside is told
        by `load` and `check_seals`.
        """
        return [self._entry(name, folder, files) for name, (folder, files) in walked(self._folders)]

    def _entry(self, name: str, folder: Path, files: list[str]) -> TemplateEntry:
        seen = glance(folder / name, files)
        if seen is None:
            return self._loaded_entry(name, folder)
        return TemplateEntry(
            name,
            seen.description,
            seen.versions,
            seen.labels,
            f"{DRAFT}{SUFFIX}" in files,
            TemplateRef(name, seen.at),
            folder,
            seen.is_partial,
        )

    def _loaded_entry(self, name: str, folder: Path) -> TemplateEntry:
        try:
            home = self._home(name)
        except TemplateError as cause:
            return TemplateEntry(name, "", (), {}, False, None, folder, False, str(cause))  # noqa: FBT003
        try:
            template = self.load(name)
        except TemplateError as cause:
            default, description, is_partial, problem = None, "", False, str(cause)
        else:
            default, description, is_partial = template.ref, template.spec.description, template.is_partial
            problem = ""
        versions = home.versions
        return TemplateEntry(
            name,
            description,
            tuple(versions.seals),
            versions.labels,
            home.has_draft,
            default,
            folder,
            is_partial,
            problem,
        )

    def problems(self, name: str) -> list[TemplateError]:
        """Everything that is wrong with a template's versions, seals and labels.

        Raises:
            TemplateNotFound: no such template.
            TemplateError: its versions.toml is broken, so that nothing more can be said.
        """
        home = self.home(name)
        found = unsorted(home.versions, file=str(home.path / FILE))
        for version in sorted({*home.versions.seals, *numbers(home)}):
            try:
                self._template(self._part(home, version, ()))
            except TemplateError as cause:
                found.append(cause)
        return found

    def check_seals(self) -> list[str]:
        """The problems of all templates, one text each."""
        told: list[str] = []
        for name, _ in self._names():
            try:
                told += map(str, self.problems(name))
            except TemplateError as cause:
                told.append(str(cause))
        return list(dict.fromkeys(told))

    # ------------------------------------------------------------------ for publishing

    def home(self, name: str) -> Home:
        """A template's folder as it is on disk now.

        Raises:
            UsageError: it is no name.
            TemplateNotFound: no such template.
            TemplateError: its versions.toml is broken.
        """
        return self._home(parse_ref(name).name)

    def part(self, ref: TemplateRef, source: Source) -> Part:
        """A source under a reference of the caller's choice, with all that it includes.

        Includes are held to what `ref` is: a published version takes pinned ones only.

        Raises:
            TemplateError: it doesn't compile, or an include can't be found.
        """
        return self._join(ref, source, ())


_T = TypeVar("_T")


Stamp: TypeAlias = tuple[int, int, int]


def stamp_of(path: Path) -> Stamp | None:
    """What changes when a file or folder does; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - asked for many paths in every call
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Disk:
    """What was read from files; whoever loads something learns which paths that stands on."""

    __slots__ = ("_files", "_seen")

    def __init__(self) -> None:
        self._files: dict[Path, tuple[Stamp, object]] = {}
        self._seen: dict[Path, Stamp | None] = {}

    def begin(self) -> None:
        """Forget what was looked at: something new is being loaded."""
        self._seen = {}

    def seen(self) -> tuple[tuple[Path, Stamp | None], ...]:
        """Each path that was looked at since, with its stamp."""
        return tuple(self._seen.items())

    def look(self, path: Path) -> Stamp | None:
        """A path's stamp, remembered: what is being loaded stands on it."""
        stamp = stamp_of(path)
        self._seen[path] = stamp
        return stamp

    def cached(self, path: Path, read: Callable[[], _T]) -> _T:
        """What was read from a file, read anew when the file has changed.

        Raises:
            TemplateError: there is no such file.
        """
        stamp = self.look(path)
        if stamp is None:
            raise TemplateError("can't be read: No such file or directory", file=path)
        held = self._files.get(path)
        if held is None or held[0] != stamp:
            held = (stamp, read())
            self._files[path] = held
        return held[1]  # pyright: ignore[reportReturnType] - what `read` gave for this path
