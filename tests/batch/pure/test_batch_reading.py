"""Rows files as people and Excel write them."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.batch.binding import Matrix
from promptkit.batch.columns import as_input
from promptkit.batch.tables import (
    Dialect,
    Format,
    Record,
    Rows,
    blocks,
    dialect_notice,
    format_of,
    read_rows,
    sniff,
)
from promptkit.errors import ExitCode, InputError, exit_code
from promptkit.types import Json


def read(data: bytes, name: str = "rows.csv", *, chunk: int = 7, limit: int = 1_000_000) -> list[Record]:
    return list(rows_of(data, name, chunk=chunk, limit=limit))


def rows_of(data: bytes, name: str = "rows.csv", *, chunk: int = 7, limit: int = 1_000_000) -> Rows:
    chunks = (data[at : at + chunk] for at in range(0, len(data), chunk))
    return read_rows(chunks, name=name, max_row_chars=limit)


def cells(data: bytes, name: str = "rows.csv") -> list[dict[str, Json]]:
    return [dict(record.cells) for record in read(data, name)]


TABLE: Final = "brand;product\nÉlan;crème « à l'huile »\nBarly;gourde 2,5 l, 12 €\n"
EXPECTED: Final = [
    {"brand": "Élan", "product": "crème « à l'huile »"},
    {"brand": "Barly", "product": "gourde 2,5 l, 12 €"},
]


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (TABLE.encode(), "utf-8"),
        (TABLE.encode("utf-8-sig"), "utf-8"),
        (TABLE.encode("cp1252"), "cp1252"),
        (TABLE.encode("utf-16"), "utf-16-le"),
        (b"\xfe\xff" + TABLE.encode("utf-16-be"), "utf-16-be"),
        (TABLE.replace("\n", "\r\n").encode("cp1252"), "cp1252"),
        (TABLE.replace("\n", "\r").encode("cp1252"), "cp1252"),
        (("sep=;\n" + TABLE).encode("cp1252"), "cp1252"),
        (("sep=;\r\n" + TABLE).encode("utf-8-sig"), "utf-8"),
        (TABLE.replace(";", "\t").encode(), "utf-8"),
        (TABLE.replace(";", "|").encode(), "utf-8"),
    ],
)
def test_a_table_in_every_dress(data: bytes, encoding: str) -> None:
    """Encodings, delimiters, line ends and Excel's `sep=` line all read the same."""
    rows = rows_of(data)
    assert [dict(record.cells) for record in rows] == EXPECTED
    assert rows.encoding == encoding
    assert rows.columns == ("brand", "product")


def test_late_accents_still_tell_cp1252() -> None:
    """The first byte above ASCII decides, however far into the file it comes."""
    data = b"brand;note\n" + b"Barly;plain\n" * 20_000 + "Élan;été\n".encode("cp1252")
    records = read(data, chunk=1000)
    assert records[-1].cells == {"brand": "Élan", "note": "été"}
    assert records[-1].line == 20_002


@pytest.mark.parametrize("delimiter", list(",;\t|"))
def test_the_delimiter_that_fits_all_rows_wins(delimiter: str) -> None:
    """Other delimiters inside the cells, even more of them, do not mislead."""
    lines = [
        ["name", "price (EUR, incl. tax)"],
        ["a; b, c", "1,5"],
        ["d | e", "2,5"],
        ["", ""],
        ["f\tg", "3"],
    ]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(lines)
    assert sniff(out.getvalue().encode(), name="-").delimiter == delimiter


@pytest.mark.parametrize("text", ["brand\nBarly\n", 'brand\n"a\n', "brand"])
def test_one_column_needs_no_delimiter(text: str) -> None:
    """A list of names is a table of one column."""
    assert sniff(text.encode(), name="rows.csv").delimiter == ","


def test_many_records_in_the_sample() -> None:
    """A long sample is judged by its first records."""
    assert sniff(b"a;b\n" + b"1;2\n" * 500, name="rows.csv").delimiter == ";"


FORMATS: Final[list[tuple[bytes, str, Format | None, Format]]] = [
    (b"a,b\n", "x.csv", None, Format.CSV),
    (b"a,b\n", "X.TSV", None, Format.TSV),
    (b'{"a": 1}', "x.ndjson", None, Format.JSONL),
    (b'{"a": 1}', "x.json", None, Format.JSONL),
    (b'[{"a": 1}]', "x.json", None, Format.JSON),
    (b' \n[{"a": 1}]', "-", None, Format.JSON),
    (b'{"a": 1}', "-", None, Format.JSONL),
    (b"a;b\n", "-", None, Format.CSV),
    (b"a;b\n", "rows.txt", None, Format.CSV),
    (b"[a],b\n", "-", Format.CSV, Format.CSV),
]


@pytest.mark.parametrize(("data", "name", "said", "found"), FORMATS)
def test_the_format_is_said_or_told(data: bytes, name: str, said: Format | None, found: Format) -> None:
    """What the user says, else the extension, else the first character."""
    assert sniff(data, name=name, format=said).format is found


def test_no_extension() -> None:
    """A name may have none."""
    assert format_of("rows") is None
    assert format_of("rows.xyz") is None


def test_quotes_newlines_and_line_numbers() -> None:
    """A record's line is where it starts, though cells hold newlines; they read as plain newlines."""
    data = b'brand,note\r\nBarly,"two\r\nlines, ""quoted"""\r\n\r\n,,\r\nElan,5" screen\r\n'
    assert [(record.number, record.line) for record in read(data)] == [(1, 2), (2, 6)]
    assert cells(data) == [
        {"brand": "Barly", "note": 'two\nlines, "quoted"'},
        {"brand": "Elan", "note": '5" screen'},
    ]


def test_ragged_rows() -> None:
    """Missing cells are empty (Excel leaves trailing delimiters out); empty cells too many are nothing."""
    assert cells(b"a;b;c\n1\n1;2;3;;\n") == [{"a": "1", "b": "", "c": ""}, {"a": "1", "b": "2", "c": "3"}]


@pytest.mark.parametrize("name", ["a.csv", "failed.csv"])
def test_a_row_with_cells_too_many_is_broken_alone(name: str) -> None:
    """It is told what is wrong with it, and the rows around it are read; so in a list of failed rows and times a matrix."""
    data = b"a,b\n1,2\n1,2,3\n4,5\n" if name == "a.csv" else b"a,b,promptkit_failed\n1,2,\n1,2,,3\n4,5,\n"
    records = list(read_rows([data], name=name))
    told = [record.broken for record in records]
    assert (told[0], told[2]) == (None, None)
    assert "the header " in (told[1] or "")
    assert [record.broken for record in as_input(records, table=True)] == told
    every = Matrix({"c": ["x", "y"]}).records(records, name)
    assert [record.broken for record in every] == [one for one in told for _ in "xy"]


def test_a_blank_line_is_no_header() -> None:
    """Lines without a value are skipped before the header too."""
    assert cells(b"\n;;\na;b\n1;2\n") == [{"a": "1", "b": "2"}]


def test_a_header_alone_has_no_rows() -> None:
    """An empty table is a table."""
    rows = rows_of(b"brand;product\n")
    assert rows.columns == ("brand", "product")
    assert list(rows) == []
    assert cells(b"[ ]", "x.json") == []


def test_columns_without_a_name() -> None:
    """Excel writes trailing delimiters for emptied columns; they are no columns."""
    rows = rows_of(b"a; b ;;\n1;2;;\n")
    assert rows.columns == ("a", "b")
    assert [dict(record.cells) for record in rows] == [{"a": "1", "b": "2"}]


OBJECTS: Final[list[dict[str, Json]]] = [
    {"brand": "Élan", "n": 3, "tags": ["a", "b"], "none": None, "ok": True, "emoji": "😀"},
    {"brand": "two\nlines", "n": 2.5},
]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("chunk", [1, 5, 100_000])
def test_json_array(indent: int | None, encoding: str, chunk: int) -> None:
    """Objects of an array are read one by one, however it is laid out and cut."""
    data = json.dumps(OBJECTS, indent=indent).encode(encoding)
    records = read(data, "rows.json", chunk=chunk)
    assert [dict(record.cells) for record in records] == OBJECTS
    assert [record.line for record in records] == ([1, 1] if indent is None else [2, 13])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_jsonl(encoding: str) -> None:
    """One object a line; blank lines are skipped and counted."""
    data = "\n".join(["", json.dumps(OBJECTS[0], ensure_ascii=False), " ", json.dumps(OBJECTS[1])]).encode(
        encoding
    )
    rows = rows_of(data, "rows.jsonl")
    assert rows.columns is None
    assert [(record.number, record.line, record.cells) for record in rows] == [
        (1, 2, OBJECTS[0]),
        (2, 4, OBJECTS[1]),
    ]


def test_a_long_object_over_many_blocks() -> None:
    """An object cut by the end of a block is read on."""
    long = {"note": "x" * 300_000}
    assert cells(json.dumps([long, long]).encode(), "a.json") == [long, long]


BAD: Final[list[tuple[bytes, str, int | None, str]]] = [
    (b"", "a.csv", None, "empty"),
    (b"\xef\xbb\xbf", "a.csv", None, "empty"),
    (b" \r\n\n", "a.jsonl", None, "empty"),
    (b"sep=;\n", "a.csv", None, "no header"),
    (b"PK\x03\x04rest", "a.xlsx", None, "Excel workbook"),
    (b"\xd0\xcf\x11\xe0rest", "a.xls", None, "Excel workbook"),
    (b"\x1f\x8brest", "a.csv.gz", None, "compressed"),
    (b"a,b,a\n1,2,3\n", "a.csv", 1, "'a' appears twice"),
    (b"\n\na,a\n", "a.csv", 3, "'a' appears twice"),
    (b"a,\n1,\n1,2\n", "a.csv", 3, "column 2 has no name"),
    (b'a,b\n1,2\n1,"open\n1,2\n', "a.csv", 3, "never closed"),
    (b'a,b\n"1"x,2\n', "a.csv", 2, "not well-formed"),
    (b"a,b\n1,2\r3\n", "a.csv", 2, "not well-formed"),
    (b"a,b\n1,2\n1,\x002\n", "a.csv", 3, "NUL"),
    ("a,b\n1,é\n1,".encode() + b"\xe9\n", "a.csv", 3, "0xE9 is not UTF-8"),
    ("a,b\n1,é\n1,2\n1,".encode() + b"\xc3", "a.csv", 4, "0xC3 is not UTF-8"),
    (b"\xef\xbb\xbfa,b\n1,\xe9\n", "a.csv", 2, "0xE9 is not UTF-8"),
    (b"a,b\n1,\xe9\n2,\x81\n", "a.csv", 3, "0x81 is neither"),
    ("a,b\n".encode("utf-16") + b"\x00\xdc", "a.csv", 2, "not UTF-16"),
    (b'{"a": 1}\n[1]\n', "a.jsonl", 2, "expected an object"),
    (b'{"a": 1}\n{"a": \n', "a.jsonl", 2, "not valid JSON"),
    (b'{"a": 1}\n{"a": NaN}\n', "a.jsonl", 2, "NaN is not JSON"),
    (b'{"a": 1e999}\n', "a.jsonl", 1, "too large for a number"),
    (b'{"a": "\\ud83d"}\n', "a.jsonl", 1, "half a character"),
    (b'{"a": ' + b"[" * 100_000 + b"\n", "a.jsonl", 1, "too deep"),
    (b"7\n", "a.json", 1, "expected an array"),
    (b'[{"a": 1}\n, 7]', "a.json", 2, "expected an object"),
    (b'[{"a": 1},\n\n{"b": }]', "a.json", 3, "not valid JSON"),
    (b'[{"a": 1},\n{"b":\n\n', "a.json", 2, "not valid JSON"),
    (b'[{"a": 1}', "a.json", 1, "ends inside"),
    (b'[{"a": 1},', "a.json", 1, "ends inside"),
    (b"[", "a.json", 1, "ends inside"),
    (b'[{"a": 1}\n{"a": 1}]', "a.json", 2, "expected a comma"),
    (b'[{"a": 1},]', "a.json", 1, "expected an object"),
    (b'[{"a": 1}]\n[]', "a.json", 2, "text after"),
]


@pytest.mark.parametrize(("data", "name", "line", "what"), BAD)
def test_what_cannot_be_read_is_told_with_its_line(
    data: bytes, name: str, line: int | None, what: str
) -> None:
    """Bad input is an InputError (exit 2) with file and line; a remedy stands beside it."""
    with pytest.raises(InputError, match=what) as caught:
        read(data, name)
    assert (caught.value.file, caught.value.line) == (name, line)
    assert caught.value.remedy
    assert exit_code(caught.value) is ExitCode.USAGE


def test_a_column_of_json_that_is_fine() -> None:
    """An escaped emoji is two halves that belong together."""
    assert cells(b'{"a": "\\ud83d\\ude00"}', "a.jsonl") == [{"a": "😀"}]


@pytest.mark.parametrize(
    ("data", "name", "line"),
    [
        (b"a,b\n1,2\n1," + b"x" * 10_000_000, "a.csv", 3),
        (b'a,b\n1,2\n1,"' + (b"x,y," * 250 + b"\n") * 10_000, "a.csv", 3),
        (b'{"a": 1}\n{"a": "' + b"x" * 10_000_000 + b'"}\n', "a.jsonl", 2),
        (b'[{"a": 1},\n{"a": "' + b"x" * 10_000_000 + b'"}]', "a.json", 2),
        (b'[{"a": 1},\n{"a": "' + b"x" * 10_000_000, "a.json", 2),
    ],
    ids=["a 10 MB cell", "a quote left open", "JSONL", "JSON", "JSON left open"],
)  # fmt: skip
def test_a_row_of_10_mb_is_refused_by_name(data: bytes, name: str, line: int) -> None:
    """A row has a bound: the error names the line where it starts, and no memory fills up."""
    with pytest.raises(InputError, match="longer than 8,388,608") as caught:
        list(read_rows(io.BytesIO(data), name=name))
    assert (caught.value.file, caught.value.line) == (name, line)


def test_a_cell_of_some_megabytes_is_read() -> None:
    """csv's own limit of 128 KiB does not stand in the way."""
    data = b"a,b\n1," + b"x" * 3_000_000 + b"\n"
    (record,) = read_rows(io.BytesIO(data), name="a.csv")
    assert len(str(record.cells["b"])) == 3_000_000


text_cells = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\x1a"), max_size=12)


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    width = draw(st.integers(1, 4))
    row = st.lists(text_cells, min_size=width, max_size=width).filter(any)
    return draw(st.lists(row, max_size=6))


@given(
    tables(),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 40),
)
def test_what_a_csv_writer_writes_is_read_back(
    table: list[list[str]], delimiter: str, encoding: str, newline: str, chunk: int
) -> None:
    """Any text in any dialect, cut anywhere; and each record's line is where it starts."""
    width = len(table[0]) if table else 2
    out = io.StringIO(newline="")
    write = csv.writer(out, delimiter=delimiter, lineterminator=newline)
    write.writerow([f"column{place}" for place in range(width)])
    starts: list[int] = []
    for row in table:
        starts.append(out.getvalue().count("\n") + 1)
        write.writerow(row)
    data = ("sep=" + delimiter + newline + out.getvalue()).encode(encoding)
    records = read(data, chunk=chunk)
    assert [list(record.cells.values()) for record in records] == table
    assert [record.line for record in records] == [start + 1 for start in starts]


@given(st.binary(max_size=60), st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.json", "-"]))
def test_no_bytes_crash_it(data: bytes, name: str) -> None:
    """Whatever the bytes: rows, or an InputError that names the file."""

    def blamed() -> str | None:
        try:
            read(data, name, limit=50)
        except InputError as error:
            return error.file
        return name

    assert blamed() == name


@given(st.lists(st.binary(max_size=9)), st.integers(1, 20))
def test_blocks_keep_every_byte(chunks: list[bytes], size: int) -> None:
    """Chunks are gathered, none lost."""
    gathered = list(blocks(chunks, size))
    assert b"".join(gathered) == b"".join(chunks)
    assert all(len(block) >= size for block in gathered[:-1])


def many(count: int) -> Iterator[bytes]:
    yield b"sku,brand,note\n"
    for number in range(count):
        yield b'%d,Barly,"note, %d"\n' % (number, number)


def test_memory_stays_flat() -> None:
    """Ten thousand rows take no more memory than five hundred."""

    def peak(count: int) -> int:
        tracemalloc.start()
        assert sum(1 for _ in read_rows(many(count), name="a.csv")) == count
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(500)
    assert peak(10_000) < 2_000_000


@pytest.mark.parametrize(
    ("dialect", "encoding", "told"),
    [
        (Dialect(Format.CSV), "utf-8", ""),
        (Dialect(Format.TSV, delimiter="\t"), "utf-8", ""),
        (Dialect(Format.CSV, delimiter=";"), "cp1252", "Windows-1252, `;` between cells"),
        (Dialect(Format.CSV, delimiter="\t"), "utf-16-le", "UTF-16, a tab between cells"),
        (Dialect(Format.JSONL), "cp1252", "Windows-1252"),
    ],
)
def test_what_was_detected_is_told(dialect: Dialect, encoding: str, told: str) -> None:
    """Whatever isn't UTF-8, or not with the format's own delimiter, is told in words."""
    assert dialect_notice(dialect, encoding) == told
