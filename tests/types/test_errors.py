"""The tree of errors and their exit codes."""

from __future__ import annotations

import pytest

from promptkit import errors
from promptkit.errors import ExitCode, PromptKitError, counted, exit_code, worst

CODES = {
    errors.UsageError: 2,
    errors.ConfigError: 2,
    errors.InputError: 2,
    errors.JobConflict: 2,
    errors.TemplateError: 3,
    errors.TemplateNotFound: 3,
    errors.VariableError: 3,
    errors.RenderLimit: 3,
    errors.NoUsableKey: 4,
    errors.AllTargetsFailed: 5,
    errors.StreamCut: 5,
    errors.BudgetStop: 6,
    errors.Unpriced: 6,
    errors.LockHeld: 7,
    errors.StoppedEarly: 8,
    errors.StorageError: 9,
    errors.LedgerError: 9,
    errors.OutputError: 9,
    PromptKitError: 70,
}


def tree(kind: type[PromptKitError]) -> set[type[PromptKitError]]:
    return {kind}.union(*(tree(sub) for sub in kind.__subclasses__()))


def test_every_error_of_the_tree_has_its_promised_code() -> None:
    """The exit codes are promises; a new error has to be told here."""
    assert {kind for kind in tree(PromptKitError) if kind.__module__ == "promptkit.errors"} == set(CODES)
    for kind, code in CODES.items():
        assert exit_code(kind("x")) == code


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Each class stands in the drawing, with its code behind it."""
    for kind, code in CODES.items():
        line = next(
            line for line in (errors.__doc__ or "").splitlines() if f" {kind.__name__} " in f"{line} "
        )
        assert f" {code}" in line


def test_what_is_none_of_ours_is_a_bug() -> None:
    """Exit 70."""
    assert exit_code(KeyError("x")) is ExitCode.BUG


@pytest.mark.parametrize(
    ("codes", "wins"),
    [
        ([], 0),
        ([0, 0], 0),
        ([0, 1], 1),
        ([1, 8, 5, 6, 4, 9, 70], 70),
        ([1, 8, 5, 6, 4, 9], 9),
        ([1, 8, 5, 6, 4], 4),
        ([1, 8, 5, 6], 6),
        ([1, 8, 5], 5),
        ([1, 8], 8),
        ([130], 130),
    ],
)
def test_the_worst_code_wins(codes: list[int], wins: int) -> None:
    """70, 9, 4, 6, 5, 8, 1 in that order."""
    assert worst([ExitCode(code) for code in codes]) == wins


def test_an_error_says_where_what_and_what_next() -> None:
    """`file:line: what`, then the remedy on a line of its own."""
    assert str(PromptKitError("odd")) == "odd"
    assert str(PromptKitError("odd", file="a.toml")) == "a.toml: odd"
    assert str(PromptKitError("odd", file="a.toml", line=3, remedy="Mend it.")) == "a.toml:3: odd\n  Mend it."
    assert PromptKitError("odd").where == ""
    assert errors.AllTargetsFailed("none").attempts == ()
    assert errors.BudgetStop("full").attempts == ()


def test_one_of_a_thing_is_no_plural() -> None:
    """Number and noun agree, also where the plural is no mere s; thousands are set off."""
    assert [counted(count, "row") for count in (0, 1, 2, 2_000)] == [
        "0 rows",
        "1 row",
        "2 rows",
        "2,000 rows",
    ]
    assert [counted(count, "reply is", "replies are") for count in (1, 2)] == ["1 reply is", "2 replies are"]
