"""A comparison as data: its columns, rows and cells, and the figures of each column."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median

from promptkit.ledger.records import Money
from promptkit.types import Status, Usage

NO_MONEY = Money()
REPLIED = (Status.OK, Status.TRUNCATED, Status.DEGRADED)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison. `name` is the value of the tag `compare` of every call, `table` the table's name."""

    name: str
    template: str
    table: str
    columns: tuple[ComparisonColumn, ...]
    rows: tuple[ComparisonRow, ...]

    @property
    def figures(self) -> tuple[ColumnFigures, ...]:
        """The figures of each column."""
        return tuple(
            figures([row.cells[index] for row in self.rows], has_checks=column.has_checks)
            for index, column in enumerate(self.columns)
        )


@dataclass(frozen=True, slots=True)
class ComparisonColumn:
    """A column: its label, its template and targets, and its job."""

    label: str
    template: str
    template_digest: str
    targets: tuple[str, ...]
    job: str
    has_checks: bool = False


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """A row of the table and its cells, in the order of the columns.

    `number` counts the table's rows from 1; `facts` are its non-empty fields.
    """

    number: int
    facts: Mapping[str, str]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """The reply of one column to one row.

    `status` is None while the row is pending. `why` is the reason why there is no (whole) text,
    `problems` are its flags. `money` is that of all the row's calls. Tokens, target and latency are
    those of the request that returned the reply, None without a reply.
    """

    status: Status | None
    text: str | None = None
    why: str = ""
    problems: tuple[str, ...] = ()
    money: Money = NO_MONEY
    usage: Usage | None = None
    latency_s: float | None = None
    target: str = ""
    call: str = ""

    @property
    def has_reply(self) -> bool:
        """Whether there is a reply, with its text stored or not."""
        return self.status in REPLIED


@dataclass(frozen=True, slots=True)
class ColumnFigures:
    """The sums of a column. Prices are exact and rounded once; None is unknown, or nothing to divide by.

    `per_text_pico` is the cost of the whole column, failures included, per text. `latency_s` and
    tokens are medians over the texts. `checks_failed` counts texts that fail the template's
    checks, None without checks.
    """

    rows: int
    texts: int
    failed: int
    pending: int
    checks_failed: int | None
    money: Money
    per_text_pico: int | None
    per_thousand_pico: int | None
    latency_s: float | None
    input_tokens: float | None
    output_tokens: float | None
    reasoning_tokens: float | None


def figures(cells: Sequence[Cell], *, has_checks: bool = False) -> ColumnFigures:
    """Return the figures of a column's cells."""
    texts = [cell for cell in cells if cell.has_reply]
    pending = sum(cell.status is None for cell in cells)
    money = sum((cell.money for cell in cells), NO_MONEY)
    usages = [cell.usage for cell in texts if cell.usage is not None]
    per_text = None if money.unknown or not texts else Fraction(money.known_pico, len(texts))
    return ColumnFigures(
        rows=len(cells),
        texts=len(texts),
        failed=len(cells) - len(texts) - pending,
        pending=pending,
        checks_failed=sum(bool(cell.problems) for cell in texts) if has_checks else None,
        money=money,
        per_text_pico=None if per_text is None else round(per_text),
        per_thousand_pico=None if per_text is None else round(per_text * 1000),
        latency_s=_median(cell.latency_s for cell in texts if cell.latency_s is not None),
        input_tokens=_median(usage.input_tokens for usage in usages),
        output_tokens=_median(usage.output_tokens for usage in usages),
        reasoning_tokens=_median(usage.reasoning_tokens for usage in usages),
    )


def _median(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return median(numbers) if numbers else None


def best(columns: Sequence[ColumnFigures], figure: Callable[[ColumnFigures], float | None]) -> int | None:
    """Return the index of the column with the lowest figure; None for a tie, or if one is unknown."""
    values = [figure(column) for column in columns]
    known = [value for value in values if value is not None]
    if len(known) != len(values) or known.count(min(known, default=0)) != 1:
        return None
    return values.index(min(known))


_CONTROL_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
_NOT_TEXT = re.compile("[\x80-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """Return a model's text with everything visible that would control a terminal or is not text.

    Control characters become their pictures (NUL: ␀), line ends become newlines, and characters that
    UTF-8 can't encode become the replacement character.
    """
    visible = text.replace("\r\n", "\n").translate(_CONTROL_PICTURES)
    return _NOT_TEXT.sub("\ufffd", visible)
