"""versions.toml: the seals of a template's versions, and where each label stands and stood.

    [seals]
    v1 = "1:sha256:..."
    v2 = "1:sha256:..."

    [labels]
    production = [
      { version = 1, at = 2026-11-21T09:00:00Z, by = "ana" },
      { version = 2, at = 2026-11-22T09:00:00Z, by = "ben" },
    ]

One line a fact, appended at the end: after a conflict in git, keep the lines of both sides.
A label stands where its last line says; the lines above are its history.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from promptkit import toml
from promptkit.errors import TemplateError
from promptkit.templates import epoch_of

FILE: Final = "versions.toml"

_HEAD: Final = """\
# Seals and labels of this template, written by promptkit: keep it in git, edit nothing by hand.
# After a conflict keep the lines of both sides; a label stands where its last line says.
# Two seals for one version: rename one side's file to the next free number and publish it again.
"""
_SEAL_KEY = re.compile(r"v([1-9][0-9]{0,8})")
_SEAL = re.compile(r"[0-9]+:sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class LabelMove:
    """A label was put on a version."""

    version: int
    at: datetime | None = None
    by: str = ""


@dataclass(frozen=True, slots=True)
class Versions:
    """What versions.toml says: seals by version, and each label's moves, oldest first."""

    seals: Mapping[int, str] = field(default_factory=dict[int, str])
    moves: Mapping[str, tuple[LabelMove, ...]] = field(default_factory=dict[str, tuple[LabelMove, ...]])

    @property
    def labels(self) -> dict[str, int]:
        """The version on which each label stands."""
        return {label: moves[-1].version for label, moves in self.moves.items()}

    @property
    def newest(self) -> int | None:
        """The newest published version."""
        return max(self.seals, default=None)

    def with_seal(self, version: int, seal: str) -> Versions:
        """The same, with one more version."""
        return replace(self, seals={**self.seals, version: seal})


def read_versions(text: str, *, file: str) -> Versions:
    """Read versions.toml.

    Raises:
        TemplateError: it isn't as written; the usual cause is a conflict in git.
    """
    if "<<<<<<< " in text:
        line = text[: text.index("<<<<<<< ")].count("\n") + 1
        raise TemplateError(
            "a conflict in git is not resolved", file=file, line=line, remedy="Keep the lines of both sides."
        )
    table = toml.parse(text, file=file, error=TemplateError)
    seals_table, labels_table = table.table("seals"), table.table("labels")
    seals = dict(_seal(seals_table, key) for key in seals_table.keys())  # noqa: SIM118 - a Table, no dict
    moves = {label: _moves(labels_table, label, seals) for label in labels_table.keys()}  # noqa: SIM118 - the same
    table.finish()
    return Versions(dict(sorted(seals.items())), moves)


def _seal(table: toml.Table, key: str) -> tuple[int, str]:
    name = _SEAL_KEY.fullmatch(key)
    seal = table.text(key)
    if name is None or not _SEAL.fullmatch(seal) or epoch_of(seal) is None:
        raise table.fail(
            f"not a seal: {key} = {seal!r}", key, remedy='A seal is written v1 = "1:sha256:...".'
        )
    return int(name[1]), seal


def _moves(table: toml.Table, label: str, seals: Mapping[int, str]) -> tuple[LabelMove, ...]:
    entries = table.tables(label)
    if not entries:
        raise table.fail(f"the label {label} stands nowhere", label, remedy="Remove its line.")
    return tuple(_move(entry, label, seals) for entry in entries)


def _move(entry: toml.Table, label: str, seals: Mapping[int, str]) -> LabelMove:
    version = entry.integer("version", least=1)
    if version not in seals:
        raise entry.fail(f"the label {label} stands on version {version}, which has no seal", "version")
    at = entry.raw("at", None)
    if at is not None and not isinstance(at, datetime):
        raise entry.fail("at must be a date with a time", "at")
    move = LabelMove(version, at, entry.text("by", ""))
    entry.finish()
    return move


def write_versions(versions: Versions) -> str:
    """The text of versions.toml."""
    lines = [_HEAD, "[seals]"]
    lines += [f'v{version} = "{seal}"' for version, seal in sorted(versions.seals.items())]
    if versions.moves:
        lines += ["", "[labels]"]
    for label, moves in versions.moves.items():
        lines += [f"{label} = [", *(f"  {_line(move)}," for move in moves), "]"]
    return "\n".join(lines) + "\n"


def _line(move: LabelMove) -> str:
    parts = [f"version = {move.version}"]
    if move.at is not None:
        parts.append(f"at = {move.at.isoformat().replace('+00:00', 'Z')}")
    if move.by:
        parts.append(f"by = {_quoted(move.by)}")
    return f"{{ {', '.join(parts)} }}"


def _quoted(text: str) -> str:
    """A TOML string: JSON's, but for the delete character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
