"""One template's folder: its files, its versions, and what is wrong with them."""

from __future__ import annotations

import difflib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from promptkit.errors import TemplateError, TemplateNotFound
from promptkit.templates import DRAFT, Part, epoch_of
from promptkit.types import TemplateRef

from .files import read_text
from .versions import FILE, Versions, line_of_seal

PRODUCTION: Final = "production"
SUFFIX: Final = ".jinja"


@dataclass(frozen=True, slots=True)
class Home:
    """One template's folder."""

    name: str
    path: Path
    versions: Versions
    files: frozenset[str] = field(default_factory=frozenset[str])

    def file(self, at: int | str) -> Path:
        """The file of a version or of the draft, there or not."""
        return self.path / (f"{DRAFT}{SUFFIX}" if at == DRAFT else f"v{at}{SUFFIX}")

    def has(self, at: int | str) -> bool:
        """Whether that file is there."""
        return self.file(at).name in self.files

    @property
    def has_draft(self) -> bool:
        """Whether there is work in progress."""
        return self.has(DRAFT)


def default_version(home: Home, *, allow_draft: bool) -> int | str:
    """What a bare name means: production, else the newest version, else the draft."""
    chosen = home.versions.labels.get(PRODUCTION, home.versions.newest)
    if chosen is not None:
        return chosen
    if allow_draft and home.has_draft:
        return DRAFT
    if never := numbers(home):
        raise unsealed(home, max(never))
    raise TemplateNotFound(
        f"nothing of {home.name} is published",
        file=home.path,
        remedy=f"Say {home.name}@draft, or publish it: promptkit templates publish {home.name}",
    )


def check_seal(home: Home, version: int, part: Part) -> None:
    """Refuse a version that has no seal, or whose seal is broken."""
    seal = home.versions.seals.get(version)
    if seal is None:
        raise unsealed(home, version)
    if part.seal(epoch_of(seal) or 0) != seal:
        raise _changed(home, version, f"its seal is {seal[:22]}…")


@contextmanager
def loading(home: Home, at: int | str) -> Generator[None]:
    """Around the reading of a version: a sealed one loaded when it was published, so it was changed since."""
    try:
        yield
    except TemplateError as cause:
        if at not in home.versions.seals or isinstance(cause.__context__, OSError):  # it can't be read
            raise
        raise _changed(home, int(at), f"now it doesn't load: {cause.what}", cause.line) from None


def _changed(home: Home, version: int, why: str, line: int | None = None) -> TemplateError:
    file = home.file(version)
    return TemplateError(
        f"{home.name}@{version} was changed after it was published ({why})",
        file=file,
        line=line,
        remedy=f"Bring it back (git checkout -- {file}); put the change into {home.file(DRAFT).name} and publish that.",
    )


def without_file(home: Home, version: int) -> TemplateError:
    """The error of a seal whose version file is gone."""
    file, gone = home.path / FILE, home.file(version)
    return TemplateError(
        f"{home.name}@{version} has a seal but no file {gone.name}",
        file=file,
        line=line_of_seal(read_text(file), version),
        remedy=f"Bring it back (git checkout -- {gone}); or, if nobody used it, take this line out.",
    )


def unsealed(home: Home, version: int) -> TemplateError:
    """The error of a version file that was never published."""
    return TemplateError(
        f"{home.name}@{version} has no seal in {FILE}: its publishing never ended, or a merge lost the line",
        file=home.file(version),
        remedy=f"Publish again: promptkit templates publish {home.name} (a {DRAFT}{SUFFIX} of the same text takes it"
        " up); if the line was lost, bring it back from git.",
    )


def missing(home: Home, ref: TemplateRef) -> TemplateNotFound:
    """The error of a version that isn't there, with those that are."""
    names = [str(version) for version in home.versions.seals]
    names += [f"{label} (= {version})" for label, version in sorted(home.versions.labels.items())]
    names += [DRAFT] if home.has_draft else []
    there = f"{home.name} has: {', '.join(names)}." if names else f"Nothing of {home.name} is published."
    close = difflib.get_close_matches(ref.at or "", home.versions.labels, n=1)
    hint = f"Did you mean {home.name}@{close[0]}? " if close else ""
    return TemplateNotFound(f"no {ref}", file=home.path, remedy=hint + there)


def numbers(home: Home) -> list[int]:
    """The versions that have a file, sealed or not."""
    return sorted(int(name[1 : -len(SUFFIX)]) for name in home.files if name != f"{DRAFT}{SUFFIX}")


def is_template_file(name: str) -> bool:
    """Whether it is draft.jinja or v1.jinja and so on."""
    stem = name.removesuffix(SUFFIX)
    return stem != name and (stem == DRAFT or (stem[:1] == "v" and stem[1:].isdecimal() and stem[1] != "0"))


def hex_of(digest: str) -> str:
    """A digest without its epoch and algorithm."""
    return digest.rpartition(":")[2]
