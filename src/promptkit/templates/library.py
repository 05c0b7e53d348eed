"""The template library: loads templates by reference from several folders, and lists them."""

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

from .folder import (
    SUFFIX,
    TemplateEntry,
    TemplateFolder,
    check_seal,
    default_version,
    find_templates,
    hex_of,
    is_template_file,
    loading,
    missing,
    numbers,
    summarize,
    without_file,
)
from .jinja.bytecode import Bytecode
from .jinja.compiler import Compiled, compile_source
from .reference import DRAFT, HASH, is_pinned, parse_ref, version_of
from .source import Source, read_source
from .template import Part, Template
from .versions import FILE, Versions, read_versions, unsorted


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A template, and every folder and file that it was found and read by."""

    template: Template
    seen: tuple[tuple[Path, Stamp | None], ...]

    def is_current(self) -> bool:
        return all(stamp_of(path) == stamp for path, stamp in self.seen)


class Library:
    """Template folders, one over the other: the first that has a template of a name wins it whole.

    Args:
        folders: in order; the shipped kit usually comes last.
        bytecode: where compiled templates are kept between processes; None keeps none.
    """

    __slots__ = ("_bytecode", "_compiled", "_files_read", "_folders", "_loaded", "_loading", "_templates")

    def __init__(self, folders: Sequence[Path], *, bytecode: Path | None = None) -> None:
        self._folders = tuple(folders)
        self._bytecode = None if bytecode is None else Bytecode(bytecode)
        self._compiled: dict[str, Compiled] = {}
        self._files_read = FileCache()
        self._loaded: dict[tuple[TemplateRef, bool], _Loaded] = {}
        self._loading = threading.Lock()
        self._templates: dict[TemplateRef, Template] = {}

    def load(self, ref: TemplateRef | str, *, allow_draft: bool = True) -> Template:
        """Load the template that a reference means now.

        Args:
            ref: `ugc/script`, `ugc/script@2`, `@LABEL`, `@draft`, `@sha256:PREFIX`.
            allow_draft: whether a bare name may mean the draft where nothing is published.

        Raises:
            UsageError: it is no reference.
            TemplateNotFound: no such template or version.
            TemplateError: it is broken, or its seal is.
        """
        wanted = parse_ref(ref) if isinstance(ref, str) else ref
        loaded = self._loaded.get((wanted, allow_draft))
        if loaded is not None and loaded.is_current():
            return loaded.template
        with self._loading:
            self._files_read.begin()
            home = self._home(wanted.name)
            at = self._resolve(home, wanted, allow_draft=allow_draft)
            template = self._template(self._part(home, at, ()))
            self._loaded[wanted, allow_draft] = _Loaded(template, self._files_read.seen())
        return template

    def _template(self, part: Part) -> Template:
        """Return the template of a part: the same object if another reference has led to it."""
        template = self._templates.get(part.ref)
        if template is None or (template.digest, template.file) != (part.digest, part.source.file):
            template = self._templates[part.ref] = Template(part)
        return template

    def _part(self, home: TemplateFolder, at: int | str, above: tuple[TemplateRef, ...]) -> Part:
        """Load a version with everything that it includes, and check the seal of a published one."""
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
        """Put a source together with everything that it includes."""
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
                f"include {written!r}: {cause.message}", file=file, line=line, remedy=cause.remedy
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
                f"include {written!r} includes itself",
                file=file,
                line=line,
                remedy=" includes ".join(str(ref) for ref in above),
            )
        return self._part(home, at, above)

    def _source(self, path: Path) -> Source:
        return self._files_read.cached(path, lambda: read_source(read_bytes(path), file=str(path)))

    def _compile(self, source: Source) -> Compiled:
        compiled = self._compiled.get(source.body)
        if compiled is None:
            compiled = compile_source(source) if self._bytecode is None else self._bytecode.compiled(source)
            self._compiled[source.body] = compiled
        return compiled

    def _home(self, name: str) -> TemplateFolder:
        for folder in self._folders:
            if home := self._open(name, folder / name):
                return home
        names = [entry for entry, _ in self._names()]
        close = difflib.get_close_matches(name, names, n=3)
        folders = ", ".join(str(folder) for folder in self._folders)
        remedy = f"Did you mean {' or '.join(close)}?" if close else f"Template folders: {folders}."
        raise TemplateNotFound(f"no template named {name}", remedy=remedy)

    def _open(self, name: str, path: Path) -> TemplateFolder | None:
        """Return the template in a folder, or None."""
        self._files_read.look(path)
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
        if self._files_read.look(file) is not None:
            versions = self._files_read.cached(file, lambda: read_versions(read_text(file), file=str(file)))
        return TemplateFolder(name, path, versions, files)

    def _resolve(self, home: TemplateFolder, ref: TemplateRef, *, allow_draft: bool) -> int | str:
        """Return the version number, or `draft`, that a reference means."""
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

    def _by_digest(self, home: TemplateFolder, ref: TemplateRef) -> int | str:
        prefix = (ref.at or "").removeprefix(HASH)
        matching: list[int | str] = [
            version for version, seal in home.versions.seals.items() if hex_of(seal).startswith(prefix)
        ]
        # The draft's digest takes reading it, so it is asked for only where no seal fits.
        if not matching and home.has_draft and hex_of(self._part(home, DRAFT, ()).digest).startswith(prefix):
            return DRAFT
        if not matching:
            raise missing(home, ref)
        if len(matching) > 1:
            raise UsageError(
                f"{ref} fits versions {', '.join(map(str, matching))}", remedy="Write more of the digest."
            )
        return matching[0]

    def _names(self) -> Iterator[tuple[str, Path]]:
        """Return every template's name and folder, sorted by name; a hidden one is left out."""
        for name, (folder, _) in find_templates(self._folders):
            yield name, folder

    def entries(self) -> list[TemplateEntry]:
        """Return all templates, sorted by name; one that can't be read has its problem.

        Ten thousand take a second, so most aren't loaded: errors inside a source are reported by
        `load` and `check_seals`.
        """
        return [self._entry(name, folder, files) for name, (folder, files) in find_templates(self._folders)]

    def _entry(self, name: str, folder: Path, files: list[str]) -> TemplateEntry:
        seen = summarize(folder / name, files)
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
        """Return everything that is wrong with a template's versions, seals and labels.

        Raises:
            TemplateNotFound: no such template.
            TemplateError: its versions.toml is broken.
        """
        home = self.home(name)
        problems = unsorted(home.versions, file=str(home.path / FILE))
        for version in sorted({*home.versions.seals, *numbers(home)}):
            try:
                self._template(self._part(home, version, ()))
            except TemplateError as cause:
                problems.append(cause)
        return problems

    def check_seals(self) -> list[str]:
        """Return the problems of all templates, one text each."""
        problems: list[str] = []
        for name, _ in self._names():
            try:
                problems += map(str, self.problems(name))
            except TemplateError as cause:
                problems.append(str(cause))
        return list(dict.fromkeys(problems))

    def home(self, name: str) -> TemplateFolder:
        """Read a template's folder as it is on disk now.

        Raises:
            UsageError: it is no name.
            TemplateNotFound: no such template.
            TemplateError: its versions.toml is broken.
        """
        return self._home(parse_ref(name).name)

    def part(self, ref: TemplateRef, source: Source) -> Part:
        """Put a source together under a reference of the caller's choice.

        Includes are held to what `ref` is: a published version takes pinned ones only.

        Raises:
            TemplateError: it doesn't compile, or an include can't be found.
        """
        return self._join(ref, source, ())


_T = TypeVar("_T")


Stamp: TypeAlias = tuple[int, int, int]


def stamp_of(path: Path) -> Stamp | None:
    """Return the stamp of a file or folder, which changes when it does; None if it doesn't exist."""
    try:
        status = os.stat(path)  # noqa: PTH116 - asked for many paths in every call
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class FileCache:
    """A cache of files that were read. It records which paths a template was loaded from."""

    __slots__ = ("_files", "_seen")

    def __init__(self) -> None:
        self._files: dict[Path, tuple[Stamp, object]] = {}
        self._seen: dict[Path, Stamp | None] = {}

    def begin(self) -> None:
        """Forget what was looked at: something new is being loaded."""
        self._seen = {}

    def seen(self) -> tuple[tuple[Path, Stamp | None], ...]:
        """Return each path that was looked at since `begin`, with its stamp."""
        return tuple(self._seen.items())

    def look(self, path: Path) -> Stamp | None:
        """Return the stamp of a path, and remember it: what is being loaded depends on it."""
        stamp = stamp_of(path)
        self._seen[path] = stamp
        return stamp

    def cached(self, path: Path, read: Callable[[], _T]) -> _T:
        """Return what was read from a file; read it again if the file has changed.

        Raises:
            TemplateError: there is no such file.
        """
        stamp = self.look(path)
        if stamp is None:
            raise TemplateError("can't be read: No such file or directory", file=path)
        entry = self._files.get(path)
        if entry is None or entry[0] != stamp:
            entry = (stamp, read())
            self._files[path] = entry
        return entry[1]  # pyright: ignore[reportReturnType] - what `read` gave for this path
