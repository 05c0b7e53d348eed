"""Rows to rehearse with, made from what a skeleton declares. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from promptkit.diff.examples import BARE, Example, completed
from promptkit.templates import Skeleton
from promptkit.types import Kind, Variable


def sample_rows(
    skeleton: Skeleton, examples: Sequence[Mapping[str, object]], count: int
) -> list[dict[str, object]]:
    """So many rows that the skeleton takes, as different as it allows.

    Args:
        skeleton: which declares the variables.
        examples: the variables of its tests, where it has any.
        count: how many.
    """
    variables = skeleton.spec.variables
    named = [Example("test", each) for each in examples] or [BARE]
    base = [completed(each, variables)[0] for each in named]
    return [_told_apart(base[number % len(base)], variables, number + 1) for number in range(count)]


def _told_apart(
    row: Mapping[str, object], variables: Mapping[str, Variable], number: int
) -> dict[str, object]:
    """The same row with a number in the first text that has room for it."""
    for name in (*row, *(name for name in variables if name not in row)):
        variable, value = variables[name], row.get(name, f"[{name}]")
        if isinstance(value, str) and _takes_any_text(variable):
            mark = f" {number}"
            room = None if variable.max_length is None else max(variable.max_length - len(mark), 0)
            text = f"{value[:room]}{mark}"
            if variable.max_length is None or len(text) <= variable.max_length:
                return {**row, name: text}
    return dict(row)


def _takes_any_text(variable: Variable) -> bool:
    return (
        variable.kind is Kind.STRING
        and not variable.choices
        and variable.format is None
        and variable.pattern is None
    )
