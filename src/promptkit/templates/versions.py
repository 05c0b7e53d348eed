"""versions.toml: the seals of a template's versions, and every move of its labels.

    [seals]
    v1 = "1:sha256:..."
    v2 = "1:sha256:..."

    [labels]
    moves = [
      { label = "production", to = 1, at = 2026-11-21T09:00:00Z, by = "Ana" },
      { label = "production", from = 1, to = 2, at = 2026-11-22T09:00:00Z, by = "Ben", why = "retention +4 %" },
      { label = "production", from = 2, to = 1, at = 2026-11-22T18:00:00Z, by = "Ana", rollback = true },
    ]

Each line is one fact, in the order of time. After a conflict in git, keep the lines of both sides:
git's own `merge=union` does that. The last line of a label says which version it means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from promptkit._util import toml
from promptkit.errors import TemplateError

from .reference import epoch_of

FILE = "versions.toml"
_HEAD = """\
# Seals and labels of this template, written by promptkit: keep it in git, edit nothing by hand.
# After a conflict, keep the lines of both sides. The last line of a label says which version it means.
"""


_SEAL_KEY = re.compile(r"v([1-9][0-9]{0,8})")
_SEAL = re.compile(r"[0-9]+:sha256:[0-9a-f]{64}")
_SEAL_LINE = re.compile(r"[ \t]*(v[0-9]+)[ \t]*=")
_MOVE_LINE = re.compile(r"[ \t]*\{.*\blabel[ \t]*=")
_CONFLICT = re.compile(r"^(<{7}|={7}|>{7}|\|{7})( |$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LabelMove:
    """A label was put on version `to`; `origin` is where it stood, or None at its first move.

    `at` is in UTC; `forced`: although tests failed; `rollback`: back to what it meant before;
    `line` is where the file says so.
    """

    label: str
    to: int
    origin: int | None = None
    at: datetime | None = None
    by: str = ""
    why: str = ""
    forced: bool = False
    rollback: bool = False
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Versions:
    """What versions.toml says: seals by version, and the moves of all labels, oldest first."""

    seals: Mapping[int, str] = field(default_factory=dict[int, str])
    moves: tuple[LabelMove, ...] = ()

    @property
    def labels(self) -> dict[str, int]:
        """The version that each label means."""
        return {move.label: move.to for move in self.moves}

    @property
    def newest(self) -> int | None:
        """The newest published version."""
        return max(self.seals, default=None)

    def history(self, label: str) -> tuple[LabelMove, ...]:
        """Return the moves of one label, oldest first."""
        return tuple(move for move in self.moves if move.label == label)

    def before(self, label: str) -> int | None:
        """Return the version that a label meant before its last promotion, or None.

        A rollback takes the last promotion away, so that another one goes further back.
        """
        versions: list[int] = []
        for move in self.history(label):
            if move.rollback:
                # A merge of two sides can leave rollbacks without their promotion.
                while versions and versions[-1] != move.to:
                    versions.pop()
            if not versions or versions[-1] != move.to:
                versions.append(move.to)
        return versions[-2] if len(versions) > 1 else None

    def with_seal(self, version: int, seal: str) -> Versions:
        """Return a copy with one more version."""
        return replace(self, seals={**self.seals, version: seal})

    def with_move(self, move: LabelMove) -> Versions:
        """Return a copy with one more move."""
        return replace(self, moves=(*self.moves, move))


def read_versions(text: str, *, file: str) -> Versions:
    """Read versions.toml.

    Raises:
        TemplateError: it isn't as written; the usual cause is a conflict in git.
    """
    _check_merged(text, file)
    table = toml.parse(text, file=file, error=TemplateError)
    seals_table, labels_table = table.table("seals"), table.table("labels")
    seals = dict(_seal(seals_table, key) for key in seals_table.keys())  # noqa: SIM118 - a Table, no dict
    moves = tuple(_moves(labels_table, text, seals))
    labels_table.finish()
    table.finish()
    return Versions(dict(sorted(seals.items())), moves)


def _check_merged(text: str, file: str) -> None:
    """Refuse what git leaves behind after a merge, with what to do about it."""
    if match := _CONFLICT.search(text):
        raise TemplateError(
            "a conflict in git is not resolved",
            file=file,
            line=text.count("\n", 0, match.start()) + 1,
            remedy="Keep the lines of both sides, and take out the lines of <<<<<<<, ======= and >>>>>>>.",
        )
    seen: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if match := _SEAL_LINE.match(line):
            key = match[1]
            if key in seen:
                raise TemplateError(
                    f"two seals for {key} (lines {seen[key]} and {number}): both sides published it",
                    file=file,
                    line=number,
                    remedy=f"Keep one side's line and its {key}.jinja; put the other side's text into draft.jinja"
                    " and publish that: it becomes the next version.",
                )
            seen[key] = number


def _seal(table: toml.Table, key: str) -> tuple[int, str]:
    name = _SEAL_KEY.fullmatch(key)
    seal = table.text(key)
    if name is None or not _SEAL.fullmatch(seal) or epoch_of(seal) is None:
        raise table.fail(
            f"not a seal: {key} = {seal!r}", key, remedy='A seal is written v1 = "1:sha256:...".'
        )
    return int(name[1]), seal


def _moves(table: toml.Table, text: str, seals: Mapping[int, str]) -> Iterator[LabelMove]:
    entries = table.tables("moves")
    lines = [number for number, line in enumerate(text.split("\n"), start=1) if _MOVE_LINE.match(line)]
    known = len(lines) == len(entries)  # written as one line each, as promptkit does
    for index, entry in enumerate(entries):
        try:
            yield _move(entry, seals, lines[index] if known else None)
        except TemplateError as cause:
            cause.line = lines[index] if known else cause.line
            raise


def _move(entry: toml.Table, seals: Mapping[int, str], line: int | None) -> LabelMove:
    at = entry.raw("at", None)
    if at is not None and not (isinstance(at, datetime) and at.tzinfo is not None):
        raise entry.fail("at must be a time with its zone, like 2026-11-22T09:00:00Z", "at")
    move = LabelMove(
        entry.text("label"),
        entry.integer("to", least=1),
        entry.integer("from", None, least=1),
        at,
        entry.text("by", ""),
        entry.text("why", ""),
        entry.flag("forced", False),  # noqa: FBT003 - as in dict.get
        entry.flag("rollback", False),  # noqa: FBT003 - the same
        line,
    )
    entry.finish()
    if move.to not in seals:
        raise entry.fail(
            f"the label {move.label} was put on version {move.to}, which has no seal",
            remedy=f"Restore the line of v{move.to} back under [seals] (git log -p -- {FILE}), or delete this line.",
        )
    return move


def unsorted(versions: Versions, *, file: str) -> list[TemplateError]:
    """Return the moves that are below a later one of the same label, because it is unclear which one counts."""
    problems: list[TemplateError] = []
    latest: dict[str, LabelMove] = {}
    for move in versions.moves:
        above = latest.get(move.label)
        if move.at is None:
            continue
        if above is not None and above.at is not None and move.at < above.at:
            problems.append(
                TemplateError(
                    f"this move of {move.label} is older than the one above it",
                    file=file,
                    line=move.line,
                    remedy="Put the lines into the order of their times: the last one says which version the label means"
                    f" (now: version {versions.labels[move.label]}).",
                )
            )
        else:
            latest[move.label] = move
    return problems


def line_of_seal(text: str, version: int) -> int | None:
    """Return the line that has the seal of a version."""
    match = re.search(rf"^[ \t]*v{version}[ \t]*=", text, re.MULTILINE)
    return None if match is None else text.count("\n", 0, match.start()) + 1


def write_versions(versions: Versions) -> str:
    """Return the text of versions.toml."""
    seals = [f'v{version} = "{seal}"' for version, seal in sorted(versions.seals.items())]
    # The empty list is written too: two sides that each add a first move then conflict in lines alone.
    moves = [f"  {_line(move)}," for move in versions.moves]
    return "\n".join([_HEAD, "[seals]", *seals, "", "[labels]", "moves = [", *moves, "]"]) + "\n"


def _line(move: LabelMove) -> str:
    parts = [f"label = {_quoted(move.label)}"]
    if move.origin is not None:
        parts.append(f"from = {move.origin}")
    parts.append(f"to = {move.to}")
    if move.at is not None:
        parts.append(f"at = {move.at.isoformat().replace('+00:00', 'Z')}")
    parts += [f"{key} = {_quoted(text)}" for key, text in (("by", move.by), ("why", move.why)) if text]
    parts += [f"{key} = true" for key, on in (("forced", move.forced), ("rollback", move.rollback)) if on]
    return f"{{ {', '.join(parts)} }}"


def _quoted(text: str) -> str:
    """Return a TOML string: JSON's, but for the delete character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
