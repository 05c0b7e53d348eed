"""One template's folder: its files, its versions, and what is wrong with them."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from promptkit._util.files import read_bytes, read_text
from promptkit.errors import TemplateError, TemplateNotFound
from promptkit.types import TemplateRef

from .reference import DRAFT, epoch_of
from .template import Part
from .versions import FILE, Versions, line_of_seal

PRODUCTION = "production"
SUFFIX = ".jinja"


@dataclass(frozen=True, slots=True)
class TemplateFolder:
    """One template's folder."""

    name: str
    path: Path
    versions: Versions
    files: frozenset[str] = field(default_factory=frozenset[str])

    def file(self, at: int | str) -> Path:
        """Return the file of a version or of the draft, whether it exists or not."""
        return self.path / (f"{DRAFT}{SUFFIX}" if at == DRAFT else f"v{at}{SUFFIX}")

    def has(self, at: int | str) -> bool:
        """Return whether that file exists."""
        return self.file(at).name in self.files

    @property
    def has_draft(self) -> bool:
        """Whether there is work in progress."""
        return self.has(DRAFT)


def default_version(home: TemplateFolder, *, allow_draft: bool) -> int | str:
    """Return what a bare name means: production, else the newest version, else the draft."""
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
        remedy=f"Use {home.name}@draft, or publish it: promptkit templates publish {home.name}",
    )


def check_seal(home: TemplateFolder, version: int, part: Part) -> None:
    """Refuse a version that has no seal, or whose seal is broken."""
    seal = home.versions.seals.get(version)
    if seal is None:
        raise unsealed(home, version)
    if part.seal(epoch_of(seal) or 0) != seal:
        raise _changed(home, version, f"its seal is {seal[:22]}…")


@contextmanager
def loading(home: TemplateFolder, at: int | str) -> Generator[None]:
    """Around the reading of a version: a sealed one loaded when it was published, so it was changed since."""
    try:
        yield
    except TemplateError as cause:
        if at not in home.versions.seals or isinstance(cause.__context__, OSError):  # it can't be read
            raise
        raise _changed(home, int(at), f"now it doesn't load: {cause.message}", cause.line) from None


def _changed(home: TemplateFolder, version: int, why: str, line: int | None = None) -> TemplateError:
    file = home.file(version)
    return TemplateError(
        f"{home.name}@{version} was changed after it was published ({why})",
        file=file,
        line=line,
        remedy=f"Restore it (git checkout -- {file}); put the change into {home.file(DRAFT).name} and publish that.",
    )


def without_file(home: TemplateFolder, version: int) -> TemplateError:
    """Return the error of a seal whose version file is missing."""
    file, gone = home.path / FILE, home.file(version)
    return TemplateError(
        f"{home.name}@{version} has a seal but no file {gone.name}",
        file=file,
        line=line_of_seal(read_text(file), version),
        remedy=f"Restore it (git checkout -- {gone}), or delete this line if the version was never used.",
    )


def unsealed(home: TemplateFolder, version: int) -> TemplateError:
    """Return the error of a version file that was never published."""
    return TemplateError(
        f"{home.name}@{version} has no seal in {FILE}: its publishing never ended, or a merge lost the line",
        file=home.file(version),
        remedy=f"Publish again: promptkit templates publish {home.name} (a {DRAFT}{SUFFIX} of the same text takes it"
        " up); if the line was lost, bring it back from git.",
    )


def missing(home: TemplateFolder, ref: TemplateRef) -> TemplateNotFound:
    """Return the error of a version that isn't there, with those that are."""
    names = [str(version) for version in home.versions.seals]
    names += [f"{label} (= {version})" for label, version in sorted(home.versions.labels.items())]
    names += [DRAFT] if home.has_draft else []
    there = f"{home.name} has: {', '.join(names)}." if names else f"Nothing of {home.name} is published."
    close = difflib.get_close_matches(ref.at or "", home.versions.labels, n=1)
    hint = f"Did you mean {home.name}@{close[0]}? " if close else ""
    return TemplateNotFound(f"no {ref}", file=home.path, remedy=hint + there)


def numbers(home: TemplateFolder) -> list[int]:
    """Return the versions that have a file, sealed or not."""
    return sorted(int(name[1 : -len(SUFFIX)]) for name in home.files if name != f"{DRAFT}{SUFFIX}")


def is_template_file(name: str) -> bool:
    """Return whether it is draft.jinja or v1.jinja and so on."""
    stem = name.removesuffix(SUFFIX)
    return stem != name and (stem == DRAFT or (stem[:1] == "v" and stem[1:].isdecimal() and stem[1] != "0"))


def hex_of(digest: str) -> str:
    """Return a digest without its epoch and algorithm."""
    return digest.rpartition(":")[2]


_HEAD = re.compile(
    r"\+\+\+\n(?P<top>(?:[^\[+\n][^\n]*\n|\n)*+)(?P<rest>(?:(?!\+\+\+)[^\n]*\n)*+)\+\+\+(?:\n|$)"
)


_DESCRIPTION = re.compile(r'^description *= *"(?P<text>[^"\\\n]*)" *$', re.MULTILINE)
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_MESSAGE = re.compile(r"\{%[-+]?\s*messages?\b")
_UNSURE = re.compile(r"\{%[-+]?\s*(?:raw|include)\b")
_VERSIONS = re.compile(
    r"(?:#[^\n]*\n|\n)*\[seals\]\n"
    r'(?P<seals>(?:v[1-9][0-9]{0,8} = "[0-9]+:sha256:[0-9a-f]{64}"\n)*)'
    r"\n\[labels\]\nmoves = \[\n"
    r'(?P<moves>(?:  \{ label = "[a-z0-9_.-]+", (?:from = [0-9]+, )?to = [0-9]+[,} ][^\n]*\},?\n)*)\]\n'
)


_SEAL = re.compile(r"^v([0-9]+)", re.MULTILINE)
_MOVE = re.compile(r'^  \{ label = "([^"]+)", (?:from = [0-9]+, )?to = ([0-9]+)', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class TemplateEntry:
    """A template as `templates list` shows it.

    `default` is what its bare name means now, or None where it can't be loaded; `problem` then
    says why.
    """

    name: str
    description: str
    versions: tuple[int, ...]
    labels: dict[str, int]
    has_draft: bool
    default: TemplateRef | None
    folder: Path
    is_partial: bool
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a list shows of a template; `at` is what its bare name means."""

    description: str
    versions: tuple[int, ...]
    labels: dict[str, int]
    at: str
    is_partial: bool


def find_templates(folders: Sequence[Path]) -> list[tuple[str, tuple[Path, list[str]]]]:
    """Return every template's name, with its folder and its files, sorted by name; the first folder wins."""
    templates: dict[str, tuple[Path, list[str]]] = {}
    for folder in reversed(folders):
        start = len(str(folder)) + 1
        for path, _, files in os.walk(folder):
            if any(map(is_template_file, files)):
                templates[path[start:].replace(os.sep, "/")] = folder, files
    return sorted(templates.items())


def summarize(path: Path, files: Collection[str]) -> Summary | None:
    """Read what a list shows of a template's folder; None if only loading can tell.

    Args:
        path: its folder.
        files: the names of the files there.
    """
    try:
        listed = _versions(read_bytes(path / FILE).decode()) if FILE in files else ((), dict[str, int]())
        if listed is None:
            return None
        versions, labels = listed
        newest = max(versions, default=None)
        chosen = labels.get(PRODUCTION, newest)
        file = f"{DRAFT}{SUFFIX}" if chosen is None else f"v{chosen}{SUFFIX}"
        seen = _source(read_bytes(path / file).decode()) if file in files else None
    except (TemplateError, UnicodeDecodeError):
        return None
    if seen is None:
        return None
    return Summary(seen[0], versions, labels, DRAFT if chosen is None else str(chosen), seen[1])


def _versions(text: str) -> tuple[tuple[int, ...], dict[str, int]] | None:
    """Read the versions, and the version that each label means; None if the file needs the full reader."""
    whole = _VERSIONS.fullmatch(text)
    if whole is None:
        return None
    versions = sorted(int(number) for number in _SEAL.findall(whole["seals"]))
    labels = {label: int(to) for label, to in _MOVE.findall(whole["moves"])}
    known = frozenset(versions)
    return (tuple(versions), labels) if len(known) == len(versions) and known >= {*labels.values()} else None


def _source(text: str) -> tuple[str, bool] | None:
    """Read the description, and whether it is a partial; None if only loading can tell."""
    description, body = "", text
    if text.startswith("+++"):
        head = _HEAD.match(text)
        if head is None:
            return None
        body = text[head.end() :]
        if "description" in head["top"]:
            description_line = _DESCRIPTION.search(head["top"])
            if description_line is None or '"""' in head["top"] or "'''" in head["top"]:
                return None
            description = description_line["text"]
    elif text.startswith("\ufeff"):
        return None
    body = _COMMENT.sub("", body) if "{#" in body else body
    if _MESSAGE.search(body):
        return None if "raw" in body and _UNSURE.search(body) else (description, False)
    return None if _UNSURE.search(body) else (description, True)
