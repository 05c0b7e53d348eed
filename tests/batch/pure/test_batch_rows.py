"""Rows become variables, tags and keys; results become lines of a file."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from decimal import Decimal
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.batch.binding import (
    Binding,
    Matrix,
    Namer,
    Ordinals,
    constant_tags,
    content_digest,
    row_key,
)
from promptkit.batch.columns import (
    call_column,
    check_text_as,
    excel_like,
    layout,
    neutral,
    output_format,
    usd_text,
    writer,
)
from promptkit.batch.options import JobOptions
from promptkit.batch.tables import Dialect, Format, Record, garbled_columns, read_rows, repaired
from promptkit.errors import InputError, PromptKitError, UsageError, VariableError
from promptkit.types import Cost, Json, Kind, RowResult, Status, Target, TemplateRef, Usage, Value, Variable

VARIABLES: Final = {
    "brand": Variable("brand"),
    "audience": Variable("audience"),
    "angle": Variable("angle", default="proof"),
}
COLUMNS: Final = ("brand", "Audiences", "sku", "client")


def record(line: int = 2, /, **cells: Json) -> Record:
    return Record(1, line, cells)


def binding(options: JobOptions, columns: tuple[str, ...] | None = COLUMNS) -> Binding:
    return Binding(columns, VARIABLES, options, "rows.csv")


MAPPED: Final = {"audience": "Audiences"}


def test_cells_fill_variables() -> None:
    """By name or by --map; empty cells are absent values; -v fills all rows; the rest passes through."""
    bound = binding(JobOptions(mapping=MAPPED, constants={"angle": "problem"}))
    row = record(brand="Barly", Audiences=" ", sku="7", client="c")
    assert bound.variables(row) == {"brand": "Barly", "angle": "problem"}
    assert bound.unused == ("sku", "client")


@pytest.mark.parametrize("cell", ["", "  ", "\u00a0", None])
def test_an_empty_cell_is_an_absent_value(cell: Json) -> None:
    """Nothing, white space alone, or null in JSON: the variable's default then serves."""
    row = record(brand=cell, audience=0)
    assert binding(JobOptions(), None).variables(row) == {"audience": 0}


OBJECT: Final = {
    "brand": Variable(
        "brand",
        Kind.OBJECT,
        fields={
            "name": Variable("name"),
            "home": Variable("home", Kind.OBJECT, fields={"city": Variable("city")}),
        },
    )
}


def test_an_object_from_columns() -> None:
    """A column for each field, by its way or by --map; empty ones are absent; or the whole in one cell."""
    options = JobOptions(mapping={"brand.home.city": "Town"})
    bound = Binding(("brand.name", "Town", "sku"), OBJECT, options, "rows.csv")
    assert bound.unused == ("sku",)
    row = {"brand.name": "Barly", "Town": "Lyon", "sku": "7"}
    assert bound.variables(Record(1, 2, row)) == {"brand": {"name": "Barly", "home": {"city": "Lyon"}}}
    assert bound.variables(Record(1, 2, {**row, "Town": " "})) == {"brand": {"name": "Barly"}}
    assert bound.variables(Record(1, 2, {"brand.name": ""})) == {}
    whole = Binding(None, OBJECT, JobOptions(), "rows.jsonl")
    assert whole.variables(Record(1, 2, {"brand": {"name": "B"}})) == {"brand": {"name": "B"}}


def test_an_object_twice() -> None:
    """The whole object and a field of it contradict each other, and so does -v; a missing one is asked for."""
    bound = Binding(("brand", "brand.name"), OBJECT, JobOptions(), "rows.csv")
    with pytest.raises(
        InputError, match=r"'brand' contains the whole object, and 'brand.name' a field of it"
    ):
        bound.variables(Record(1, 2, {"brand": "{}", "brand.name": "x"}))
    with pytest.raises(InputError, match=r"'brand' comes from -v and from column 'brand.name'"):
        Binding(("brand.name",), OBJECT, JobOptions(constants={"brand": "{}"}), "rows.csv")
    with pytest.raises(VariableError, match="no column for the required 'brand'"):
        Binding(("sku",), OBJECT, JobOptions(), "rows.csv")
    with pytest.raises(UsageError, match=r"no variable 'brand.nmae'"):
        Binding(("sku",), OBJECT, JobOptions(mapping={"brand.nmae": "sku"}), "rows.csv")


def test_tags() -> None:
    """K=V for all rows, K=@COLUMN by row, @@ for a plain @; an empty cell gives no tag."""
    options = JobOptions(
        mapping=MAPPED, tags={"team": "ugc", "client": "@client", "sku": "@sku", "handle": "@@barly"}
    )
    assert constant_tags(options.tags) == {"team": "ugc", "handle": "@barly"}
    row = record(client=" barly ", sku="")
    assert binding(options).tags(row) == {"team": "ugc", "client": "barly", "handle": "@barly"}
    assert binding(options).unused == ()


def test_keys() -> None:
    """The key column's value names the row; a number of JSON is its text; none without --key."""
    keyed = binding(JobOptions(mapping=MAPPED, key_column="sku"))
    assert keyed.key(record(sku=" A7 ")) == "A7"
    assert keyed.key(record(sku=7)) == "7"
    assert binding(JobOptions(mapping=MAPPED)).key(record(sku="A7")) is None
    with pytest.raises(InputError, match="'sku' is empty") as caught:
        keyed.key(record(9, sku=""))
    assert caught.value.line == 9


REFUSED: Final[list[tuple[JobOptions, type[PromptKitError], str]]] = [
    (
        JobOptions(),
        VariableError,
        r"required 'audience' \(did you mean 'Audiences'\?\)\n  --map audience=COLUMN",
    ),
    (
        JobOptions(mapping={"audiense": "Audiences"}),
        UsageError,
        r"no variable 'audiense' \(did you mean 'audience'\?\)",
    ),
    (
        JobOptions(mapping={"audience": "audience"}),
        InputError,
        r"no column 'audience' \(did you mean 'Audiences'\?\)",
    ),
    (
        JobOptions(mapping=MAPPED, key_column="xyz"),
        InputError,
        "no column 'xyz'\n  columns: brand, Audiences, sku, client",
    ),
    (JobOptions(mapping=MAPPED, tags={"client": "@cleint"}), InputError, "no column 'cleint' .*'client'"),
    (
        JobOptions(mapping=MAPPED, constants={"brand": "X"}),
        InputError,
        "'brand' comes from -v and from column 'brand'",
    ),
    (
        JobOptions(mapping=MAPPED, constants={"brnd": "X"}),
        VariableError,
        r"no variable 'brnd' \(did you mean 'brand'\?\)",
    ),
    (JobOptions(mapping=MAPPED, strict=True), InputError, "not declare: 'sku', 'client'"),
]


@pytest.mark.parametrize(("options", "error", "what"), REFUSED)
def test_columns_that_do_not_fit_are_refused_at_once(
    options: JobOptions, error: type[PromptKitError], what: str
) -> None:
    """Before any row is read: what is missing, with close matches and what to type."""
    with pytest.raises(error, match=what):
        binding(options)


def test_a_skeleton_without_variables() -> None:
    """The remedy says that there is nothing to map."""
    with pytest.raises(UsageError, match="declares none"):
        Binding(("a",), {}, JobOptions(mapping={"b": "a"}), "rows.csv")


def test_json_rows_are_checked_one_by_one() -> None:
    """Their columns are known only then: the line is named."""
    with pytest.raises(InputError, match="not declare: 'x'") as strict:
        binding(JobOptions(strict=True), None).variables(record(5, brand="B", x=1))
    with pytest.raises(InputError, match="comes from -v") as twice:
        binding(JobOptions(constants={"brand": "B"}), None).variables(record(6, brand="B"))
    assert (strict.value.line, twice.value.line) == (5, 6)
    assert binding(JobOptions(constants={"brand": "B"}), None).variables(record()) == {"brand": "B"}


# ------------------------------------------------------------------------------ keys


def test_content_is_canonical() -> None:
    """Order of variables and the spelling of a whole number don't count; all else does."""
    assert content_digest({"a": 3, "b": [1.0, "x"]}) == content_digest({"b": [1, "x"], "a": 3.0})
    different: list[dict[str, Value]] = [
        {"a": "3"},
        {"a": 3},
        {"a": 3.5},
        {"a": [3]},
        {"b": 3},
        {},
        {"a": ""},
    ]
    assert len({content_digest(variables) for variables in different}) == len(different)


def test_a_pinned_digest() -> None:
    """Stored keys must be found again by later versions: these digests never change."""
    digest = content_digest({"brand": "Élan", "n": 2, "on": True, "tags": ["a", "b"]})
    assert digest == "19f0c69f198f855006a93febe486070c7dddb554e51a0081192bca2aeb850a12"
    assert row_key(digest, 0) == "34d0e936baed8c1c5b08a4ea1c19b065fce13b8151570811025cff62800dab62"


def test_identical_rows_are_told_apart_by_their_ordinal() -> None:
    """A row wanted twice has two keys; moved or repeated, it keeps them."""
    namer, again = Namer("rows.csv"), Namer("rows.csv")
    first = [namer.row(record(brand=brand), {"brand": brand}, {}, None) for brand in "ABAAB"]
    moved = [again.row(record(brand=brand), {"brand": brand}, {}, None) for brand in "BBAAA"]
    assert len({row.key for row in first}) == 5
    assert {row.key for row in first} == {row.key for row in moved}
    assert first[0].content == first[2].content


def test_a_key_names_one_row() -> None:
    """--key is the name; twice the same in one file is refused with its line."""
    namer = Namer("rows.csv")
    row = namer.row(record(2, sku="7"), {"brand": "B"}, {"client": "c"}, "7")
    assert (row.key, row.tags, row.cells, row.line, row.number) == ("7", {"client": "c"}, {"sku": "7"}, 2, 1)
    with pytest.raises(InputError, match="'7' appears twice") as caught:
        namer.row(record(9, sku="7"), {"brand": "C"}, {}, "7")
    assert caught.value.line == 9


@given(st.lists(st.integers(0, 40), max_size=200))
def test_ordinals_count(seen: list[int]) -> None:
    """The ordinal is how many of the same came before."""
    ordinals = Ordinals()
    for place, number in enumerate(seen):
        assert ordinals.next(row_key("x", number)) == seen[:place].count(number)


def test_ordinals_stay_small() -> None:
    """Twenty thousand rows are told apart in half a megabyte, and told again."""
    digests = [row_key("x", number) for number in range(20_000)]
    tracemalloc.start()
    ordinals = Ordinals()
    assert not any(ordinals.next(digest) for digest in digests)
    assert tracemalloc.get_traced_memory()[1] < 500_000
    tracemalloc.stop()
    assert all(ordinals.next(digest) == 1 for digest in digests)


# -------------------------------------------------------------------------- mojibake


@pytest.mark.parametrize(
    "text", ["crème brûlée", "l\u2019été", "« déjà vu »", "Œuvre à 12 €", "🔥✨", "naïf — ça"]
)
def test_text_encoded_twice_is_found(text: str) -> None:
    """UTF-8 read as cp1252 is told, with what was meant; sound text is left alone."""
    twice = "".join(
        bytes([byte]).decode("cp1252") if byte not in {0x81, 0x8D, 0x8F, 0x90, 0x9D} else chr(byte)
        for byte in text.encode()
    )
    assert repaired(twice) == text
    assert repaired(text) is None


@pytest.mark.parametrize("text", ["plain", "ÉTÉ®", "SÃO PAULO", "Âge", "Ã, Å"])
def test_sound_text_is_not_suspected(text: str) -> None:
    """Capitals with a tilde or a circumflex are words of their own."""
    assert repaired(text) is None


def test_a_run_that_decodes_to_nothing_is_left() -> None:
    """What only looks like it stays as it is."""
    assert repaired("â\u201a") is None


def test_garbled_columns_are_named() -> None:
    """A row tells which of its columns, and the text that was probably meant."""
    assert garbled_columns(record(brand="Barly", note="trÃ¨s", n=3)) == (("note", "très"),)


# ---------------------------------------------------------------------------- output

RESULT: Final = RowResult(
    number=1,
    status=Status.OK,
    text="Bonjour 😀\nà toi",
    cost=Cost(180_000_000, "test"),
    usage=Usage(12, 34),
    target=Target("openai", "gpt-6-luna"),
    template=TemplateRef("ugc/script", "2"),
    call=1,
    cells={"brand": "Barly", "status": "new"},
)
FACTS: Final[dict[str, Json]] = {
    "error": None,
    "cost_usd": "0.00018",
    "input_tokens": 12,
    "output_tokens": 34,
    "target": "openai/gpt-6-luna",
    "template": "ugc/script@2",
    "call": "0000000000001",
}


def test_an_output_row() -> None:
    """The input's columns, the text, the facts; a name that is taken gets the prefix."""
    laid = layout(("brand", "status"))
    assert laid.record(RESULT) == {
        "brand": "Barly",
        "status": "new",
        "text": RESULT.text,
        "promptkit_status": "ok",
        **FACTS,
    }
    assert laid.header[:4] == ("brand", "status", "text", "promptkit_status")


def test_the_text_has_the_name_that_it_is_given() -> None:
    """Of a chain each step's text can be called what it is; names that are taken are refused."""
    assert layout(("brand", "text"), text_as="hooks").header[:4] == ("brand", "text", "hooks", "status")
    assert layout((), text_as="status").header[:2] == ("status", "promptkit_status")
    check_text_as("hooks", ("brand",), {"type": "array"})
    with pytest.raises(UsageError, match="the input has a column"):
        check_text_as("brand", ("brand",), None)
    with pytest.raises(UsageError, match="is not a name"):
        check_text_as(" ", (), None)
    with pytest.raises(UsageError, match="are fields"):
        check_text_as("hook", (), {"properties": {"line": {}}})


def test_a_structured_reply_fills_columns() -> None:
    """The schema's properties stand instead of the text; what is not there is empty."""
    schema: dict[str, Json] = {"properties": {"hook": {}, "status": {}, "brand": {}}}
    laid = layout(("brand", "promptkit_brand"), schema)
    parsed: dict[str, Json] = {"hook": "H", "status": "s", "more": 1}
    result = RowResult(1, Status.OK, text="{}", parsed=parsed, cells={"brand": "B"})
    row = laid.record(result)
    assert laid.header[:6] == (
        "brand",
        "promptkit_brand",
        "hook",
        "status",
        "promptkit_promptkit_brand",
        "promptkit_status",
    )
    assert (row["hook"], row["status"], row["promptkit_status"], row["brand"]) == ("H", "s", "ok", "B")
    assert row["promptkit_promptkit_brand"] is None
    assert "promptkit_brand" not in row
    assert "text" not in row


def test_a_row_without_a_call() -> None:
    """What is unknown is null, never 0."""
    row = layout(()).record(RowResult(3, Status.FAILED, error="no key"))
    assert row == {
        **dict.fromkeys(FACTS),
        "text": None,
        "status": "failed",
        "error": "no key",
    }


def test_a_schema_without_properties_gives_text() -> None:
    """A reply that is an array, say, is kept as its text."""
    assert layout((), {"type": "array"}).header[0] == "text"


@pytest.mark.parametrize(
    ("pico", "text"),
    [(None, None), (0, "0"), (1, "0.000000000001"), (180_000_000, "0.00018"), (10**13, "10"), (10**12 + 1, "1.000000000001")],
)  # fmt: skip
def test_money_is_a_decimal_string(pico: int | None, text: str | None) -> None:
    """Exact, without an exponent or trailing zeros."""
    assert usd_text(pico) == text
    assert text is None or Decimal(text) * 10**12 == pico


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd|x", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "@barly", "=5", "-5e3"]
)
def test_what_a_spreadsheet_would_run_is_neutralised(text: str) -> None:
    """A reply or a cell can't become a formula."""
    assert neutral(text) == "'" + text


@pytest.mark.parametrize(
    "text", ["", "5", "-5", "+5", "-12,5 %", "-1 200.50 €", "+33 6 12 34 56 78", "a=b", " x", "'=1"]
)
def test_plain_numbers_stay(text: str) -> None:
    """A number runs nothing."""
    assert neutral(text) == text


def written(format: Format, rows: list[dict[str, Json]], **options: str | bool) -> bytes:  # noqa: A002
    header = list(rows[0])
    write = writer(
        format, header, delimiter=str(options.get("delimiter", ",")), mark=bool(options.get("mark"))
    )
    return write.start + b"".join(write.row(row) for row in rows) + write.end


ROWS: Final[list[dict[str, Json]]] = [
    {"=a": "x;y", "b": '"é"\nz', "c": None, "d": True, "e": [1, "é"]},
    {"=a": "=1", "b": "-5", "c": 3, "d": False, "e": -1.5},
]


def test_csv() -> None:
    """Quoted as needed, true and false in words, lists as JSON; header names are neutral too."""
    data = written(Format.CSV, ROWS, delimiter=";", mark=True)
    assert data.startswith(b"\xef\xbb\xbf'=a;b;c;d;e\n")
    lines = list(csv.reader(io.StringIO(data.decode("utf-8-sig")), delimiter=";"))
    assert lines[1:] == [["x;y", '"é"\nz', "", "true", '[1, "é"]'], ["'=1", "-5", "3", "false", "-1.5"]]


def test_tsv() -> None:
    """Tabs part the cells."""
    assert written(Format.TSV, ROWS[1:]) == b"'=a\tb\tc\td\te\n'=1\t-5\t3\tfalse\t-1.5\n"


def test_jsonl_and_json() -> None:
    """Text as it is, unescaped; values keep their types."""
    data = written(Format.JSONL, ROWS)
    assert [json.loads(line) for line in data.splitlines()] == ROWS
    assert "é".encode() in data
    assert json.loads(written(Format.JSON, ROWS)) == ROWS
    empty = writer(Format.JSON, ())
    assert json.loads(empty.start + empty.end) == []


@pytest.mark.parametrize("format", list(Format))
def test_half_a_character_does_not_lose_the_row(format: Format) -> None:  # noqa: A002
    """An emoji cut by the output limit is written as a question mark."""
    assert b"a?" in written(format, [{"text": "a\ud83d"}])


cell_texts = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=9)


@given(
    st.lists(st.fixed_dictionaries({"a": cell_texts, "b": cell_texts}), min_size=1, max_size=5),
    st.sampled_from(list(Format)),
    st.booleans(),
)
def test_what_is_written_is_read_back(rows: list[dict[str, Json]], format: Format, mark: bool) -> None:  # noqa: A002, FBT001
    """An output file is a good input file; only formulas of a table have changed."""
    data = written(format, rows, mark=mark)
    back = [dict(found.cells) for found in read_rows([data], name="-", format=format)]
    if format in {Format.CSV, Format.TSV}:
        rows = [{name: neutral(str(cell)) for name, cell in row.items()} for row in rows]
    assert back == rows


def test_the_output_format() -> None:
    """What is said, else the extension, else the input's."""
    source = Dialect(Format.JSONL)
    assert output_format(None, source) is Format.JSONL
    assert output_format("out.csv", source) is Format.CSV
    assert output_format("out.txt", source) is Format.JSONL
    assert output_format("out.csv", source, Format.TSV) is Format.TSV


def test_excel_files_get_a_mark() -> None:
    """Where the input came with a mark or in cp1252, Excel will open the output."""
    assert excel_like(Dialect(Format.CSV, "utf-8"), "utf-8")
    assert excel_like(Dialect(Format.CSV), "cp1252")
    assert not excel_like(Dialect(Format.CSV), "utf-8")


# ---------------------------------------------------------------------------- --each


ANGLES: Final = Matrix({"angle": ["problem", "proof"], "language": ["en", "fr"]})


def test_every_row_comes_once_for_each_combination() -> None:
    """The last variable changes fastest; rows are numbered anew and keep their lines."""
    rows = [Record(1, 2, {"brand": "A"}), Record(2, 5, {"brand": "B"})]
    made = list(ANGLES.records(rows, "rows.csv"))
    assert [(row.number, row.line) for row in made] == [(n, 2 if n < 5 else 5) for n in range(1, 9)]
    assert [tuple(row.cells.values()) for row in made[:4]] == [
        ("A", "problem", "en"), ("A", "problem", "fr"), ("A", "proof", "en"), ("A", "proof", "fr"),
    ]  # fmt: skip
    assert ANGLES.columns(("brand",)) == ("brand", "angle", "language")


def test_a_column_that_the_values_would_hide_is_refused() -> None:
    """A column of the variable's name contradicts --each, in a header as in a row of JSON."""
    with pytest.raises(InputError, match="from --each and from a column"):
        ANGLES.check(("brand", "angle"), "rows.csv")
    with pytest.raises(InputError) as refused:
        list(ANGLES.records([record(7, language="de")], "rows.jsonl"))
    assert refused.value.line == 7


@pytest.mark.parametrize(
    ("axes", "says"), [({"angle": []}, "no value"), ({"angle": ["a", "b", "a"]}, "'a' twice")]
)
def test_values_that_make_no_matrix_are_refused(axes: dict[str, list[Json]], says: str) -> None:
    """No value, or one twice."""
    with pytest.raises(UsageError, match=says):
        Matrix(axes)
    assert not Matrix()


def test_a_key_holds_the_values_of_its_row() -> None:
    """With --key and --each a row is named by both, whatever else is in the lists."""
    options = JobOptions(mapping=MAPPED, key_column="sku", each=Matrix({"angle": ["x"]}))
    bound = binding(options, ("brand", "Audiences", "sku", "angle"))
    assert bound.key(record(2, sku="a1", angle="proof")) == "a1 angle=proof"


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        (
            JobOptions(each=Matrix({"angel": ["x"]})),
            VariableError,
            "--each: no variable 'angel' .did you mean 'angle'",
        ),
        (
            JobOptions(constants={"angle": "x"}, each=Matrix({"angle": ["x"]})),
            UsageError,
            "from -v and from --each",
        ),
        (
            JobOptions(mapping={"angle": "x"}, each=Matrix({"angle": ["x"]})),
            UsageError,
            "from --map and from --each",
        ),
    ],
)
def test_each_variable_has_one_source(options: JobOptions, error: type[PromptKitError], says: str) -> None:
    """--each names declared variables that nothing else fills."""
    with pytest.raises(error, match=says):
        binding(options)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (("brand",), None),
        (("brand", "call"), "call"),
        (("promptkit_call",), None),
        (("call", "promptkit_call", "promptkit_promptkit_call"), "promptkit_promptkit_call"),
    ],
)
def test_of_a_chain_of_outputs_the_last_call_counts(columns: tuple[str, ...], expected: str | None) -> None:
    """Each step's own column has one prefix more than that of the step before."""
    assert call_column(columns) == expected
