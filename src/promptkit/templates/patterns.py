"""Regular expressions whose matching time is linear in the length of the text.

Python's own matcher tries one alternative after the other, and `(a+)+$` can take longer than a life.
A time limit would not help: whether a value is valid would depend on the machine and its load.
Here all alternatives are followed at once (Thompson, 1968), so back-references and look-around, which
don't allow that, are refused. The rest means what it means to Python's `re.fullmatch`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TypeAlias

MAX_PATTERN = 500
MAX_STATES = 2_000
MAX_COUNT = 1_000
MAX_DEPTH = 20
_MAX_KNOWN = 5_000
_COUNTED = re.compile(r"\{([0-9]{1,4})(?:(,)([0-9]{1,4})?)?\}")
_QUANTIFIERS = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_SETS = frozenset("dDwWsS")
_CONTROLS = frozenset("ntrfv")


State: TypeAlias = int


_Build: TypeAlias = Callable[[State], State]
"""Makes the states of a piece of the pattern, given the state behind it; returns the first."""


class Pattern:
    """A compiled pattern.

    Raises:
        ValueError: it isn't one, uses what isn't available, or is too large.
    """

    __slots__ = ("_accept", "_leaves", "_next", "_start", "_steps")

    def __init__(self, pattern: str) -> None:
        self._leaves: list[re.Pattern[str] | None] = []
        self._next: list[tuple[State, ...]] = []
        self._accept = self._state(None)
        build = _Parser(pattern, self._state, self._link).whole()
        self._start = self._closure((build(self._accept),))
        self._steps: dict[tuple[frozenset[State], str], frozenset[State]] = {}

    def matches(self, text: str) -> bool:
        """Return whether the pattern matches the whole text."""
        states, known = self._start, self._steps
        for char in text:
            step = known.get((states, char))
            if step is None:
                if len(known) >= _MAX_KNOWN:
                    known.clear()
                step = known[states, char] = self._step(states, char)
            if not step:
                return False
            states = step
        return self._accept in states

    def _step(self, states: frozenset[State], char: str) -> frozenset[State]:
        reached = [
            follower
            for state in states
            if (leaf := self._leaves[state]) is not None and leaf.fullmatch(char)
            for follower in self._next[state]
        ]
        return self._closure(reached)

    def _closure(self, states: tuple[State, ...] | list[State]) -> frozenset[State]:
        """Return the states with all those that are reached without reading a character."""
        seen: set[State] = set()
        pending = list(states)
        while pending:
            state = pending.pop()
            if state not in seen:
                seen.add(state)
                if self._leaves[state] is None:
                    pending.extend(self._next[state])
        return frozenset(seen)

    def _state(self, leaf: re.Pattern[str] | None, *followers: State) -> State:
        if len(self._leaves) >= MAX_STATES:
            message = "it is too large: repeat less"
            raise ValueError(message)
        self._leaves.append(leaf)
        self._next.append(followers)
        return len(self._leaves) - 1

    def _link(self, state: State, follower: State) -> None:
        self._next[state] = (*self._next[state], follower)


@lru_cache(maxsize=256)
def compiled(pattern: str) -> Pattern:
    """Compile a pattern, once."""
    return Pattern(pattern)


class _Parser:
    """Reads a pattern into functions that build its states from the end to the start."""

    def __init__(self, text: str, state: Callable[..., State], link: Callable[[State, State], None]) -> None:
        if len(text) > MAX_PATTERN:
            message = f"it is longer than {MAX_PATTERN} characters"
            raise ValueError(message)
        self._text = text.removeprefix("^")
        if self._text.endswith("$") and not _escaped(self._text):
            self._text = self._text[:-1]
        self._at = 0
        self._depth = 0
        self._state = state
        self._link = link

    def whole(self) -> _Build:
        """Read the whole pattern."""
        build = self._either()
        if self._at < len(self._text):
            raise self._error("a ) without its (")
        return build

    def _error(self, problem: str) -> ValueError:
        return ValueError(f"{problem}, at character {self._at + 1}")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _either(self) -> _Build:
        alternatives = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            alternatives.append(self._sequence())
        if len(alternatives) == 1:
            return alternatives[0]
        return lambda behind: self._state(None, *[alternative(behind) for alternative in alternatives])

    def _sequence(self) -> _Build:
        pieces: list[_Build] = []
        while self._peek() not in {"", "|", ")"}:
            pieces.append(self._repeated(self._atom()))

        def build(behind: State) -> State:
            for piece in reversed(pieces):
                behind = piece(behind)
            return behind

        return build

    def _repeated(self, piece: _Build) -> _Build:
        bounds = self._bounds()
        if bounds is None:
            return piece
        least, most = bounds
        if self._peek() == "?":  # the lazy form matches the same texts
            self._at += 1
        if self._peek() in {"*", "+", "?"} or _COUNTED.match(self._text, self._at):
            raise self._error("a repetition of a repetition")
        return partial(self._build_repeated, piece, least, most)

    def _bounds(self) -> tuple[int, int | None] | None:
        if (char := self._peek()) in _QUANTIFIERS:
            self._at += 1
            return _QUANTIFIERS[char]
        if not (counted := _COUNTED.match(self._text, self._at)):
            return None
        self._at = counted.end()
        least = int(counted[1])
        most = least if counted[2] is None else int(counted[3]) if counted[3] else None
        if max(least, most or 0) > MAX_COUNT or (most is not None and most < least):
            raise self._error(f"a repetition counts from low to high, to {MAX_COUNT:,} at most")
        return least, most

    def _build_repeated(self, piece: _Build, least: int, most: int | None, behind: State) -> State:
        if most is None:
            loop = self._state(None, behind)
            self._link(loop, piece(loop))
            behind = loop
        else:
            end = behind
            for _ in range(most - least):
                behind = self._state(None, piece(behind), end)
        for _ in range(least):
            # A state of its own for each turn: an empty piece, repeated, must come to an end too.
            behind = self._state(None, piece(behind))
        return behind

    def _atom(self) -> _Build:
        char = self._peek()
        if char == "(":
            return self._group()
        if char in {"^", "$"}:
            raise self._error(f"{char} inside: a pattern always matches the whole text")
        if char in _QUANTIFIERS or char == "{":
            raise self._error(f"{char} repeats nothing; to mean the character, write \\{char}")
        start = self._at
        if char == "[":
            self._skip_class()
        elif char == "\\":
            self._skip_escape()
        else:
            self._at += 1
        source = self._text[start : self._at]
        try:
            leaf = re.compile(source if len(source) > 1 or source == "." else re.escape(source))
        except re.error as cause:
            raise self._error(str(cause)) from None
        return lambda behind: self._state(leaf, behind)

    def _group(self) -> _Build:
        self._at += 1
        if self._peek() == "?":
            if not self._text.startswith("?:", self._at):
                raise self._error("(?...) isn't available, but for (?:...)")
            self._at += 2
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"groups nest deeper than {MAX_DEPTH}")
        inner = self._either()
        self._depth -= 1
        if self._peek() != ")":
            raise self._error("a ( without its )")
        self._at += 1
        return inner

    def _skip_class(self) -> None:
        self._at += 2 if self._text.startswith("[^", self._at) else 1
        first = True
        while first or self._peek() != "]":
            if self._peek() in {"", "["}:
                raise self._error("a [ without its ], or inside one: there write \\[")
            if self._peek() == "\\":
                self._skip_escape()
            else:
                self._at += 1
            first = False
        self._at += 1

    def _skip_escape(self) -> None:
        escaped = self._text[self._at + 1 : self._at + 2]
        if not escaped or (escaped.isalnum() and escaped not in _SETS | _CONTROLS):
            raise self._error(f"\\{escaped} isn't available")
        self._at += 2


def _escaped(text: str) -> bool:
    """Return whether an odd number of backslashes is before the last character."""
    body = text[:-1]
    return (len(body) - len(body.rstrip("\\"))) % 2 == 1
