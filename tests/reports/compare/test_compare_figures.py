"""The figures of a comparison, as tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.ledger.records import Money
from promptkit.reports.comparison import Cell, ColumnFigures, best, figures, printable
from promptkit.types import Status, Usage


def text(pico: int, seconds: float = 1.0, output: int = 10, **more: object) -> Cell:
    usage = Usage(100, output, reasoning_tokens=output // 2)
    return Cell(Status.OK, "a text", money=Money(pico, pico, 0, 1), usage=usage, latency_s=seconds, **more)  # pyright: ignore[reportArgumentType]


def failed(pico: int = 0) -> Cell:
    return Cell(Status.FAILED, why="down", money=Money(pico, pico, 0, 2))


WAITS = Cell(None, why="not made yet")


def test_what_a_text_costs_bears_the_failures() -> None:
    """All that a column cost, its failures too, is divided by the texts that it made."""
    one = figures([text(100), text(300), failed(200)])
    assert (one.rows, one.texts, one.failed, one.pending) == (3, 2, 1, 0)
    assert (one.per_text_pico, one.per_thousand_pico) == (300, 300_000)
    assert one.money == Money(600, 600, 0, 4)


def test_a_price_is_rounded_once() -> None:
    """A thousand texts cost a thousand times the exact price of one, not of the rounded one."""
    one = figures([text(100), text(100), text(101)])
    assert (one.per_text_pico, one.per_thousand_pico) == (100, 100_333)


def test_what_is_unknown_is_none() -> None:
    """An attempt of unknown cost leaves the price of a text unknown; a column without texts has none."""
    lost = Cell(Status.OK, "t", money=Money(10, 50, 1, 2))
    assert figures([text(100), lost]).per_text_pico is None
    nothing = figures([failed(), WAITS])
    assert (nothing.texts, nothing.failed, nothing.pending) == (0, 1, 1)
    assert (nothing.per_text_pico, nothing.per_thousand_pico, nothing.latency_s) == (None, None, None)
    assert (nothing.input_tokens, nothing.output_tokens, nothing.reasoning_tokens) == (None, None, None)


def test_medians_are_over_the_texts() -> None:
    """Times and tokens are medians of the texts that were made: a failure has none."""
    one = figures([text(1, 1.0, 10), text(1, 9.0, 30), text(1, 2.0, 20), failed()])
    assert one.latency_s == 2.0
    assert (one.input_tokens, one.output_tokens, one.reasoning_tokens) == (100, 20, 10)


def test_checks_count_texts() -> None:
    """A text with two problems fails once; a template without checks has no such figure."""
    cells = [text(1, problems=("too long", "says free")), text(1)]
    assert figures(cells, has_checks=True).checks_failed == 1
    assert figures(cells).checks_failed is None


@pytest.mark.parametrize(
    ("seconds", "place"),
    [((2.0, 1.0, 3.0), 1), ((1.0, 1.0, 3.0), None), ((None, 1.0), None), ((), None), ((4.0,), 0)],
)
def test_the_best_is_one_alone(seconds: tuple[float | None, ...], place: int | None) -> None:
    """The lowest figure wins where it is one alone, and where every column has one."""
    columns: list[ColumnFigures] = [
        figures([text(1, one)]) if one is not None else figures([WAITS]) for one in seconds
    ]
    assert best(columns, lambda one: one.latency_s) == place


@pytest.mark.parametrize(
    ("given_", "seen"),
    [
        ("a\x00b", "a␀b"),
        ("\x1b[31mred", "␛[31mred"),
        ("one\r\ntwo\rthree\tfour\n", "one\ntwo␍three\tfour\n"),
        ("\x7f\x9b2J", "␡\ufffd2J"),
        ("\ud800", "\ufffd"),
        ("déjà 🎬 \u202eabc", "déjà 🎬 \u202eabc"),
    ],
)
def test_what_is_shown(given_: str, seen: str) -> None:
    """What would steer a terminal, or is no text, is made visible; all else stays."""
    assert printable(given_) == seen


@given(st.text(st.characters(codec=None)))
def test_what_is_shown_can_be_written(anything: str) -> None:
    """Whatever a model wrote can be written as UTF-8, steers no terminal, and stays as it is when shown again."""
    seen = printable(anything)
    seen.encode()
    assert not {"\x1b", "\x9b", "\x00", "\r"} & set(seen)
    assert printable(seen) == seen
