"""Names of files from cells, and the list of failed rows, which is an input itself."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.batch.columns import ADDED, WHY, as_input, guarded, unguarded, writer
from promptkit.batch.output import check_pattern, is_pattern, name_digest, row_file_name
from promptkit.batch.tables import Format, Record, read_rows
from promptkit.errors import UsageError
from promptkit.types import Json

# -------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("a1", "a1"),
        ("../../etc/passwd", "etc-passwd"),
        ("..", "_"),
        ("", "_"),
        (None, "_"),
        ("/abs", "abs"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("a\\b:c*?\x00\n", "a-b-c-"),
        ("Lumé  crème 🌾 ", "Lumé  crème 🌾"),
        (7, "7"),
        ("half \ud83d", "half -"),
    ],
)
def test_a_cell_is_part_of_a_name_and_no_more(cell: Json, name: str) -> None:
    """No cell leaves the folder, begins another, hides the file or looks like an option."""
    assert row_file_name("out/{sku}.txt", {"sku": cell}, 1) == f"out/{name}.txt"


def test_a_name_takes_several_columns_and_the_rows_number() -> None:
    """`{number}` is the row's own, unless a column has that name."""
    assert row_file_name("{client}/{sku}-{number}.md", {"client": "B", "sku": "a"}, 3) == "B/a-3.md"
    assert row_file_name("{number}", {"number": "nine"}, 3) == "nine"


@given(st.text(max_size=400), st.sampled_from(["out/{sku}.txt", "{sku}", "out/{sku}"]))
def test_any_text_makes_a_name_that_a_file_system_takes(text: str, pattern: str) -> None:
    """One component, in its folder, short enough, no control character."""
    parts = row_file_name(pattern, {"sku": text}, 1).split("/")
    assert len(parts) == pattern.count("/") + 1
    assert all(0 < len(part.encode()) <= 255 and part not in {".", ".."} for part in parts)
    assert not any(ord(char) < 32 for char in parts[-1])


def test_long_names_are_cut_and_told_apart() -> None:
    """The ending stays; two long texts that begin alike have two names."""
    one, other = (row_file_name("{text}.txt", {"text": "x" * 300 + end}, 1) for end in "ab")
    assert one != other
    assert one.endswith(".txt")
    assert len(one.encode()) <= 240


def test_names_that_are_one_file_somewhere_share_a_digest() -> None:
    """Disks may fold case, and write accents in two ways."""
    assert name_digest("out/Lume\u0301.txt") == name_digest("out/LUMÉ.txt") != name_digest("out/lume.txt")


def test_a_pattern_names_columns_that_are_there() -> None:
    """Braces make a pattern; a column that isn't there is refused."""
    assert is_pattern("out/{sku}.txt")
    assert not is_pattern("out/{}.txt")
    check_pattern("{sku}-{number}", ["sku"])
    with pytest.raises(UsageError, match="no column 'sku'"):
        check_pattern("{sku}", ["brand"])


# --------------------------------------------------------------------------- failed rows


@pytest.mark.parametrize(
    "text", ["=1+1", "@lume", "+cmd", "\tx", "\rx", "-x", "'=x", "''@", "-5", "'", "it's", ""]
)
def test_a_cell_that_would_run_is_guarded_and_comes_back(text: str) -> None:
    """What a spreadsheet would run has an apostrophe in front, and has none when it is read again."""
    assert not guarded(text).startswith(("=", "@", "+", "\t", "\r"))
    assert unguarded(guarded(text)) == text


@given(st.text())
def test_guarding_loses_nothing(text: str) -> None:
    """Any text comes back as it was."""
    assert unguarded(guarded(text)) == text


def test_a_list_of_failed_rows_is_the_rows_it_was_made_of() -> None:
    """Written as CSV and read as an input: the same cells, without what was added."""
    cells: dict[str, Json] = {"brand": "@lume", "note": 'a;"b"\nc', "say": "'=x", "n": "-5"}
    encode = writer(Format.CSV, (*cells, *ADDED), delimiter=";", guard=guarded)
    data = encode.start + encode.row({**cells, WHY: "=why"})
    assert next(csv.DictReader(io.StringIO(data.decode()), delimiter=";"))[WHY] == "'=why"
    (row,) = as_input(read_rows([data], name="failed.csv"), table=True)
    assert row.cells == cells


def test_other_rows_stay_as_they_are() -> None:
    """An apostrophe in an input of one's own is the user's; in JSON nothing was guarded."""
    own = Record(1, 2, {"brand": "'=x"})
    listed = Record(1, 2, {"brand": "'=x", WHY: "no"})
    assert list(as_input([own], table=True)) == [own]
    assert [row.cells for row in as_input([listed], table=False)] == [{"brand": "'=x"}]
