"""Rules on the text itself: PK2xx. They read a file's own tokens; an include is linted by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from promptkit.templates import Lexeme

from .findings import Spot, World
from .subject import Subject

_BLANK_LINES: Final = re.compile(r"\n(?:[ \t]*\n){2,}")
_TRAILING: Final = re.compile(r"(?P<text>[^\s])?(?P<blanks>[ \t]+)(?=\n)")
_BRACES: Final = re.compile(r"(?<!\{)\{ ?(?P<name>[A-Za-z_]\w*) ?\}(?!\})")
_ENDS: Final = frozenset({"block_end", "comment_end"})
_OPENS: Final = frozenset({"if", "for"})
_TURNS: Final = frozenset({"else", "elif"})
_CLOSES: Final = frozenset({"endif", "endfor"})


def blank_lines(subject: Subject, _world: World) -> Iterator[Spot]:
    """Two or more blank lines in a row."""
    for token, first, last in subject.texts:
        text = token.text
        for found in _BLANK_LINES.finditer(text):
            at_edge = (first and not text[: found.start()].strip()) or (
                last and not text[found.end() :].strip()
            )
            if not at_edge:
                yield Spot(
                    f"{found.group().count(chr(10)) - 1} blank lines in a row",
                    subject.file,
                    subject.line(token.line + text.count("\n", 0, found.start()) + 1),
                    "One is enough: models read more of them as a change of subject, and each costs a token.",
                )


def trailing_blanks(subject: Subject, _world: World) -> Iterator[Spot]:
    """Blanks at the end of a line."""
    for token, _, _ in subject.texts:
        for found in _TRAILING.finditer(token.text):
            yield Spot(
                f"{len(found['blanks'])} blank{'s' if len(found['blanks']) > 1 else ''} at the end of the line",
                subject.file,
                subject.line(token.line + token.text.count("\n", 0, found.start("blanks"))),
                "Take them out: nobody sees them, and they are sent.",
            )


def braces(subject: Subject, _world: World) -> Iterator[Spot]:
    """A declared variable in single braces, which is sent as it stands."""
    for token, _, _ in subject.texts:
        for found in _BRACES.finditer(token.text):
            if found["name"] in subject.spec.variables:
                yield Spot(
                    f"{found.group()} is plain text: the variable is not put in",
                    subject.file,
                    subject.line(token.line + token.text.count("\n", 0, found.start())),
                    f"Write {{{{ {found['name']} }}}}.",
                )


@dataclass(slots=True)
class _Line:
    """Whether the line of output that is being written has text on it, over branches."""

    visible: bool = False
    outer: list[tuple[bool, list[bool]]] = field(default_factory=list[tuple[bool, list[bool]]])

    def text(self, text: str) -> None:
        head, newline, tail = text.rpartition("\n")
        del head
        self.visible = bool(tail.strip()) or (self.visible and not newline)

    def block(self, name: str) -> None:
        if name in _OPENS:
            self.outer.append((self.visible, []))
        elif name in _TURNS and self.outer:
            before, ends = self.outer[-1]
            ends.append(self.visible)
            self.visible = before
        elif name in _CLOSES and self.outer:
            _, ends = self.outer.pop()
            self.visible = self.visible or any(ends)
        elif name in ("message", "endmessage"):
            self.visible = False


def swallowed_newline(subject: Subject, _world: World) -> Iterator[Spot]:
    """A tag at the end of a line of text: it swallows the newline, and the next line is glued on."""
    line, name = _Line(), ""
    tokens = [token for token in subject.lexemes if token.kind != "whitespace"]
    for index, (token, following) in enumerate(pairwise([*tokens, Lexeme(0, "end", "")])):
        match token.kind:
            case "data":
                line.text(token.text)
            case "variable_begin":
                line.visible = True
            case "block_begin":
                name = following.text
            case "block_end":
                line.block(name)
            case _:
                pass
        swallows = token.kind in _ENDS and token.text.endswith("}\n") and not token.text.startswith("-")
        if swallows and line.visible and _is_glued(tokens, index + 1):
            mark = token.text[0]
            yield Spot(
                "the tag swallows the end of this line: the next one is glued to it",
                subject.file,
                subject.line(token.line),
                f"End the tag with +{mark}}} to keep the newline, or put it on a line of its own.",
            )


def _is_glued(tokens: list[Lexeme], start: int) -> bool:
    """Whether what comes next on the output line is text."""
    for token, following in pairwise([*tokens[start:], Lexeme(0, "end", "")]):
        if token.kind == "data":
            return not token.text.startswith("\n")
        if token.kind == "variable_begin":
            return True
        if token.kind == "block_begin" and following.text == "endmessage":
            return False
    return False
