"""What Python's regular expressions do, step by step: their backtracking, written out so that it can be counted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

_parser: Any = import_module("re._parser")
_Rest = Callable[[int], "int | None"]
"""What is left of a pattern, matched from a position: where it ends, or None."""


class Matcher:
    """A pattern that counts the steps of its searches: one for each piece of it that is tried at a position."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.steps = 0
        self.pattern = pattern
        self._parsed = list(_parser.parse(pattern.pattern, pattern.flags))
        self._one: dict[int, re.Pattern[str]] = {}

    def search(self, text: str) -> re.Match[str] | None:
        """Search like the pattern itself, and count; both must find the same."""
        found = next((span for at in range(len(text) + 1) if (span := self._match(text, at))), None)
        told = self.pattern.search(text)
        assert found == (None if told is None else told.span())
        return told

    def _match(self, text: str, at: int) -> tuple[int, int] | None:
        end = self._sequence(self._parsed, text, at, lambda end: end)
        return None if end is None else (at, end)

    def _sequence(self, pieces: list[Any], text: str, at: int, rest: _Rest) -> int | None:
        """Match pieces one after the other, then the rest."""
        if not pieces:
            return rest(at)
        return self._piece(pieces[0], text, at, lambda end: self._sequence(pieces[1:], text, end, rest))

    def _piece(self, piece: Any, text: str, at: int, rest: _Rest) -> int | None:
        self.steps += 1
        name, argument = str(piece[0]), piece[1]
        match name:
            case "LITERAL" | "NOT_LITERAL" | "IN" | "ANY" | "RANGE" | "CATEGORY":
                return rest(at + 1) if self._is_one(piece, text, at) else None
            case "AT":
                return rest(at) if self._is_at(str(argument), text, at) else None
            case "SUBPATTERN":
                return self._sequence(list(argument[3]), text, at, rest)
            case "BRANCH":
                ways = (self._sequence(list(way), text, at, rest) for way in argument[1])
                return next((end for end in ways if end is not None), None)
            case "MAX_REPEAT":
                least, most, body = argument
                return self._repeat(list(body), (least, int(most)), text, at, rest)
            case _:
                raise NotImplementedError(name)

    def _repeat(self, body: list[Any], times: tuple[int, int], text: str, at: int, rest: _Rest) -> int | None:
        """Match as often as possible first; where the rest doesn't follow, once less."""
        least, most = times
        if len(body) == 1 and str(body[0][0]) in {"LITERAL", "NOT_LITERAL", "IN", "ANY"}:
            ends = list(self._ends(body[0], most, text, at))
            back = (rest(end) for end in reversed(ends[least:]))
            return next((end for end in back if end is not None), None)
        if most:
            fewer = (max(0, least - 1), most - 1)

            def again(end: int) -> int | None:
                return None if end == at else self._repeat(body, fewer, text, end, rest)

            end = self._sequence(body, text, at, again)
            if end is not None:
                return end
        return None if least else rest(at)

    def _ends(self, piece: Any, most: int, text: str, at: int) -> Iterator[int]:
        yield at
        while most and self._is_one(piece, text, at):
            self.steps += 1
            at, most = at + 1, most - 1
            yield at

    def _is_one(self, piece: Any, text: str, at: int) -> bool:
        """Whether a character is what a piece matches, by Python's own word."""
        if at >= len(text):
            return False
        if id(piece) not in self._one:  # the parsed pattern keeps its pieces alive
            self._one[id(piece)] = _single(piece, self.pattern.flags)
        return self._one[id(piece)].match(text, at) is not None

    def _is_at(self, kind: str, text: str, at: int) -> bool:
        lines = bool(self.pattern.flags & re.MULTILINE)
        match kind:
            case "AT_BEGINNING":
                return at == 0 or (lines and text[at - 1] == "\n")
            case "AT_END":
                return text[at:] in {"", "\n"} or (lines and text[at] == "\n")
            case "AT_BOUNDARY":
                return _in_word(text, at - 1) is not _in_word(text, at)
            case _:
                raise NotImplementedError(kind)


def _single(piece: Any, flags: int) -> re.Pattern[str]:
    """A pattern of one piece alone."""
    compiler: Any = import_module("re._compiler")
    state = _parser.State()
    state.flags = flags
    return compiler.compile(_parser.SubPattern(state, [piece]), flags)


def _in_word(text: str, at: int) -> bool:
    return 0 <= at < len(text) and (text[at].isalnum() or text[at] == "_")
