"""A template at a glance: what a list shows, read off the text without parsing TOML or Jinja.

Parsing costs a hundred times what reading does, and a folder may hold ten thousand templates. A
glance knows files as promptkit and people usually write them, and says None about any other,
which is then loaded as always. What only loading finds out (an unknown key, a broken tag, a
broken seal) is not seen here: `lint`, `doctor` and loading tell it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from promptkit.errors import TemplateError
from promptkit.templates import DRAFT
from promptkit.types import TemplateRef

from .files import read_bytes
from .home import PRODUCTION, SUFFIX, is_template_file
from .versions import FILE

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
class Glance:
    """What a list shows of a template; `at` is what its bare name means."""

    description: str
    versions: tuple[int, ...]
    labels: dict[str, int]
    at: str
    is_partial: bool


def walked(folders: Sequence[Path]) -> list[tuple[str, tuple[Path, list[str]]]]:
    """Every template's name, with its folder and its files, sorted by name; the first folder wins."""
    found: dict[str, tuple[Path, list[str]]] = {}
    for folder in reversed(folders):
        start = len(str(folder)) + 1
        for path, _, files in os.walk(folder):
            if any(map(is_template_file, files)):
                found[path[start:].replace(os.sep, "/")] = folder, files
    return sorted(found.items())


def glance(path: Path, files: Collection[str]) -> Glance | None:
    """A template's folder at a glance; None where only loading can tell.

    Args:
        path: its folder.
        files: the names of the files there.
    """
    try:
        found = _versions(read_bytes(path / FILE).decode()) if FILE in files else ((), dict[str, int]())
        if found is None:
            return None
        versions, labels = found
        newest = max(versions, default=None)
        chosen = labels.get(PRODUCTION, newest)
        file = f"{DRAFT}{SUFFIX}" if chosen is None else f"v{chosen}{SUFFIX}"
        seen = _source(read_bytes(path / file).decode()) if file in files else None
    except (TemplateError, UnicodeDecodeError):
        return None
    if seen is None:
        return None
    return Glance(seen[0], versions, labels, DRAFT if chosen is None else str(chosen), seen[1])


def _versions(text: str) -> tuple[tuple[int, ...], dict[str, int]] | None:
    """The versions, and where each label stands."""
    whole = _VERSIONS.fullmatch(text)
    if whole is None:
        return None
    versions = sorted(int(number) for number in _SEAL.findall(whole["seals"]))
    labels = {label: int(to) for label, to in _MOVE.findall(whole["moves"])}
    known = frozenset(versions)
    return (tuple(versions), labels) if len(known) == len(versions) and known >= {*labels.values()} else None


def _source(text: str) -> tuple[str, bool] | None:
    """The description, and whether it is a partial."""
    description, body = "", text
    if text.startswith("+++"):
        head = _HEAD.match(text)
        if head is None:
            return None
        body = text[head.end() :]
        if "description" in head["top"]:
            told = _DESCRIPTION.search(head["top"])
            if told is None or '"""' in head["top"] or "'''" in head["top"]:
                return None
            description = told["text"]
    elif text.startswith("\ufeff"):
        return None
    body = _COMMENT.sub("", body) if "{#" in body else body
    if _MESSAGE.search(body):
        return None if "raw" in body and _UNSURE.search(body) else (description, False)
    return None if _UNSURE.search(body) else (description, True)
