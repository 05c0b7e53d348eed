"""What a comparison says: texts row by row, and the figures of each column. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median
from typing import Final

from promptkit.ledger import Money
from promptkit.types import Status, Usage

_ANSWERED: Final = frozenset({Status.OK, Status.TRUNCATED, Status.DEGRADED})
_THOUSAND: Final = 1000
NOTHING: Final = Money()
_PICTURES: Final = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
_NOT_TEXT: Final = re.compile("[\x80-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Cell:
    """What one column made of one row.

    `status` is None while the row waits. `why` says why there is no (whole) text, `problems` are
    the flags that it is kept with: what `[checks]` found wrong. `money` is of all the row's calls;
    tokens, target and latency are those of the request that answered, None where none did.
    """

    status: Status | None
    text: str | None = None
    why: str = ""
    problems: tuple[str, ...] = ()
    money: Money = NOTHING
    usage: Usage | None = None
    latency_s: float | None = None
    target: str = ""
    call: str = ""

    @property
    def is_answered(self) -> bool:
        """Whether a text was made, be it kept or not."""
        return self.status in _ANSWERED


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the table and what each column made of it, in the columns' order.

    `number` counts the table's rows from 1; `facts` are its columns that aren't empty.
    """

    number: int
    facts: Mapping[str, str]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """A column as it is told: its label, what it runs, and its job."""

    label: str
    template: str
    template_digest: str
    targets: tuple[str, ...]
    job: str
    has_checks: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """All of it. `name` is the value of the tag `compare` of every call."""

    name: str
    template: str
    rows: str
    sides: tuple[Side, ...]
    lines: tuple[Line, ...]

    @property
    def figures(self) -> tuple[Figures, ...]:
        """The figures of each column."""
        return tuple(
            figures([line.cells[place] for line in self.lines], has_checks=side.has_checks)
            for place, side in enumerate(self.sides)
        )


@dataclass(frozen=True, slots=True)
class Figures:
    """A column in sum. Prices are exact and rounded once; None is unknown, or nothing to divide by.

    `per_text_pico` is all that the column cost, its failures too, by the texts it made;
    `latency_s` and tokens are medians over the texts. `checks_failed` counts texts that don't keep
    to the skeleton's checks, None where it has none.
    """

    rows: int
    texts: int
    failed: int
    waiting: int
    checks_failed: int | None
    money: Money
    per_text_pico: int | None
    per_thousand_pico: int | None
    latency_s: float | None
    input_tokens: float | None
    output_tokens: float | None
    reasoning_tokens: float | None


def figures(cells: Sequence[Cell], *, has_checks: bool = False) -> Figures:
    """The figures of a column's cells."""
    answered = [cell for cell in cells if cell.is_answered]
    waiting = sum(cell.status is None for cell in cells)
    money = sum((cell.money for cell in cells), NOTHING)
    usages = [cell.usage for cell in answered if cell.usage is not None]
    each = None if money.unknown or not answered else Fraction(money.known_pico, len(answered))
    return Figures(
        rows=len(cells),
        texts=len(answered),
        failed=len(cells) - len(answered) - waiting,
        waiting=waiting,
        checks_failed=sum(bool(cell.problems) for cell in answered) if has_checks else None,
        money=money,
        per_text_pico=None if each is None else round(each),
        per_thousand_pico=None if each is None else round(each * _THOUSAND),
        latency_s=_median(cell.latency_s for cell in answered if cell.latency_s is not None),
        input_tokens=_median(usage.input_tokens for usage in usages),
        output_tokens=_median(usage.output_tokens for usage in usages),
        reasoning_tokens=_median(usage.reasoning_tokens for usage in usages),
    )


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return median(found) if found else None


def best(columns: Sequence[Figures], of: Callable[[Figures], float | None]) -> int | None:
    """The place of the column with the lowest figure; None where it isn't one alone, or one isn't known.

    Args:
        columns: the figures.
        of: which figure.
    """
    values = [of(one) for one in columns]
    known = [value for value in values if value is not None]
    if len(known) != len(values) or known.count(min(known, default=0)) != 1:
        return None
    return values.index(min(known))


def shown(text: str) -> str:
    """A text of anybody's, made fit to be shown: what would steer a terminal or is no text is visible.

    Control characters become their pictures (NUL: ␀), line ends one kind; what UTF-8 can't say
    becomes the replacement character.
    """
    plain = text.replace("\r\n", "\n").translate(_PICTURES)
    return _NOT_TEXT.sub("\ufffd", plain)
