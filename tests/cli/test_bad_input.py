"""Bad input, case by case: a message with file, line and remedy, and its exit code. Nothing is ever sent."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from cli_kit import VALUES, Invoke, invoker, make_project, process, quiet_machine

from promptkit.ledger.ledger import Ledger

NOWHERE = "http://127.0.0.1:9"
USER = '{% message "user" %}'
END = "{% endmessage %}\n"
HEADER = "brand,product,audience\n"
RUN = ("run", "ugc/hooks", *VALUES)
DRY = ("batch", "ugc/hooks", "rows.csv", "--dry-run")
BATCH = ("batch", "ugc/hooks", "rows.csv", "--limit", "0")


@pytest.fixture
def place(tmp_path: Path, blank_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with keys, whose providers refuse every connection; it is the working folder."""
    quiet_machine(monkeypatch, tmp_path / "home")
    folder = make_project(tmp_path / "project", NOWHERE)
    (folder / "promptkit.db").write_bytes(blank_database.read_bytes())
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str]) -> Invoke:
    return invoker(capsys)


def put(name: str, content: str | bytes) -> None:
    """Write a file of the project."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def template(text: str) -> None:
    put("templates/my/line/draft.jinja", text)


def refused(invoke: Invoke, arguments: tuple[str, ...], code: int, *says: str) -> str:
    """The command ends with that code, says all of this, prints no data, and knows no bug."""
    ran = invoke(*arguments)
    assert ran.code == code, ran.err
    for expected in says:
        assert expected in ran.err
    assert (ran.out, "Traceback" in ran.err) == ("", False)
    return ran.err


# ------------------------------------------------------------------------------ templates

DRAFT = "templates/my/line/draft.jinja"


@pytest.mark.parametrize(
    ("text", "says", "remedy"),
    [
        pytest.param('+++\ndescription = "x"\n', ":1: ", "+++", id="front matter without an end"),
        pytest.param(f'+++\ndescription = "x"\ncolour = 1\n+++\n{USER}x{END}', ":3: unknown key", "Known here", id="unknown key"),
        pytest.param(f"+++\n[variables.b]\nmax_lenght = 3\n+++\n{USER}x{END}", ":3: unknown key", "Did you mean 'max_length'?", id="misspelt key"),
        pytest.param(f"+++\ndescription = \n+++\n{USER}x{END}", ":2: not valid TOML", "", id="broken TOML"),
        pytest.param(f'+++\n[variables.b]\nmax_length = "3"\n+++\n{USER}x{END}', ":3: ", "", id="wrong type"),
        pytest.param("+++\n+++\n" + USER + "{{ brand }\n" + END, ":3: ", "", id="broken tag"),
        pytest.param("+++\n+++\n" + USER + "\n{{ brand }}\n" + END, ":4: unknown variable 'brand'", "Declare [variables.brand]", id="undeclared variable"),
        pytest.param("+++\n+++\nhello\n" + USER + "x" + END, ":3: text outside a message", "endmessage", id="text outside"),
        pytest.param("+++\n+++\n" + USER + "\n{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}" + END, ":4: ", "", id="it loops"),
        pytest.param("+++\n+++\n" + USER + '\n{{ "%1000000000s"|format(1) }}' + END, ":4: ", "", id="it explodes"),
        pytest.param("+++\n+++\n" + USER + '\n{% include "shared/none@1" %}' + END, ":4: ", "shared/none", id="missing include"),
        pytest.param("+++\n+++\n" + USER + '\n{% include "../../../etc/passwd" %}' + END, ":4: ", "", id="an include that climbs out"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("place")
def test_a_broken_skeleton(invoke: Invoke, text: str, says: str, remedy: str) -> None:
    """Exit 3, with the file, the line and what to do."""
    template(text)
    refused(invoke, ("render", "my/line"), 3, DRAFT + says, remedy)


@pytest.mark.parametrize("ref", ["../../etc/passwd", "/etc/passwd", "ugc/../../x", "ugc//hooks", ""])
@pytest.mark.usefixtures("place")
def test_a_reference_that_climbs_out(invoke: Invoke, ref: str) -> None:
    """Exit 2: no name leads out of the template folders."""
    refused(invoke, ("render", ref), 2)


# --------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        pytest.param("promptkit.toml", "[routes.default\n", "promptkit.toml:1: not valid TOML", id="broken TOML"),
        pytest.param("promptkit.toml", '\ntimezon = "UTC"\n', "Did you mean 'timezone'?", id="misspelt key"),
        pytest.param("promptkit.toml", '[routes.default]\ntargets = ["openai/gpt-9"]\n', "promptkit.toml:2: ", id="unknown model"),
        pytest.param("promptkit.toml", 'database = "mysql://x"\n', 'Use "sqlite:///promptkit.db".', id="unknown database"),
        pytest.param("promptkit.toml", 'timezone = "Europe/Pari"\n', "Europe/Paris", id="unknown zone"),
        pytest.param("promptkit.toml", "[budgets]\nper_day_usd = -1\n", "promptkit.toml:2: ", id="a negative budget"),
        pytest.param("providers/mine.toml", 'adapter = "openia"\n', "mine.toml:1: ", id="a provider's file"),
        pytest.param(".env", "OPENAI_API_KEY\n", ".env:1: not a KEY=VALUE line", id="env file"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("place")
def test_a_broken_configuration(invoke: Invoke, name: str, text: str, says: str) -> None:
    """Exit 2, with the file, the line and what to do."""
    put(name, text)
    err = refused(invoke, RUN, 2, Path(name).name)
    assert says in err.replace("database must be an SQLite file\n  For example", "Use"), err


def test_an_env_file_that_others_can_read(invoke: Invoke, place: Path) -> None:
    """Exit 2, with the command that mends it."""
    (place / ".env").chmod(0o644)
    refused(invoke, RUN, 2, f"chmod 600 {place / '.env'}")


@pytest.mark.parametrize(
    ("options", "says", "remedy"),
    [
        (("--route", "longfrom"), "unknown route 'longfrom'", "Known here: default, demo."),
        (("--target", "opnai/gpt-6-luna"), "unknown provider 'opnai'", "Did you mean 'openai'?"),
        (
            ("--target", "openai/gpt-6-lunar"),
            "openai has no model 'gpt-6-lunar'",
            "Did you mean 'gpt-6-luna'?",
        ),
        (("--target", "gpt-6-luna"), "is not a target", "provider/model"),
    ],
)
@pytest.mark.parametrize("command", [RUN, DRY], ids=["run", "batch"])
@pytest.mark.usefixtures("place")
def test_an_unknown_route_or_target(
    invoke: Invoke, command: tuple[str, ...], options: tuple[str, ...], says: str, remedy: str
) -> None:
    """Exit 2, with the closest that there is."""
    refused(invoke, (*command, *options), 2, says, remedy)


@pytest.mark.parametrize("command", [RUN, DRY, BATCH], ids=["run", "dry run", "batch"])
@pytest.mark.usefixtures("place")
def test_no_key_at_all(invoke: Invoke, command: tuple[str, ...]) -> None:
    """Exit 4: which variables are missing, where to put them, and what answers without."""
    put(".env", "")
    refused(invoke, command, 4, "OPENAI_API_KEY isn't set", "env_file", "--route demo")


@pytest.mark.usefixtures("place")
def test_an_address_that_refuses(invoke: Invoke) -> None:
    """Exit 5: every target is tried, and each one's refusal is told."""
    text = Path("promptkit.toml").read_text("utf-8").replace("max_wait_s = 2", "max_wait_s = 0")
    put("promptkit.toml", text)
    err = refused(invoke, RUN, 5)
    for target in ("openai/gpt-6-luna", "anthropic/claude-haiku-5-5", "gemini/gemini-2.5-flash-lite"):
        assert f"  {target}: transient: " in err
    assert "127.0.0.1:9" in err


# ------------------------------------------------------------------------------------ rows


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("\ufeff" + HEADER + "Barly,bar,runners\n", id="UTF-8 with a mark"),
        pytest.param((HEADER + "Lumé,crème,peaux sèches\n").replace(",", ";").encode("cp1252"), id="Excel: cp1252, semicolons"),
        pytest.param((HEADER + "Lumé,crème,été\n").replace(",", "\t").encode("utf-16"), id="Excel: UTF-16, tabs"),
        pytest.param("sep=;\n" + HEADER.replace(",", ";") + "Barly;bar;runners\n", id="Excel: sep="),
        pytest.param(HEADER + '"Barly ""the"" brand","bar,\nwith nuts",runners\n', id="quotes and newlines in cells"),
        pytest.param(HEADER.replace("\n", "\r\n") + "Barly,bar,runners\r\n\r\n", id="CRLF and an empty line"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("place")
def test_what_people_send_is_read(invoke: Invoke, content: str | bytes) -> None:
    """Excel's ways and others: one row, which can be sent."""
    put("rows.csv", content)
    told = invoke(*DRY, "--json").json()
    assert (told["rows"], told["invalid"]) == (1, 0)


@pytest.mark.usefixtures("place")
def test_text_that_was_encoded_twice(invoke: Invoke) -> None:
    """It is read as it stands, and told with file, line, row, column and what was meant."""
    put("rows.csv", HEADER + "Barly,bar,runners\n" + "Lumé,crème,été\n".encode().decode("cp1252"))
    ran = invoke(*DRY)
    assert ran.code == 0
    assert "rows.csv:3: row 2, column 'product' looks encoded twice: 'crème' was probably meant" in ran.err


@pytest.mark.parametrize(
    ("content", "code", "says", "remedy"),
    [
        pytest.param("", 2, "the file is empty", "header", id="empty"),
        pytest.param(b"PK\x03\x04rest", 2, "an Excel workbook", "save the sheet as CSV", id="a workbook"),
        pytest.param("brand,prodct,audience\nB,p,a\n", 3, "no column for the required 'product' (did you mean 'prodct'?)", "--map product=COLUMN", id="a missing column"),
        pytest.param("brand,brand,audience\nB,p,a\n", 2, ":1: ", "", id="a column twice"),
        pytest.param(HEADER + '"B,p,a\nB,p,a\n', 2, ":2: ", "", id="an open quote"),
        pytest.param(HEADER + "B," + "x" * 10_000_000 + ",a\n", 2, ":2: ", "", id="a cell of 10 MB"),
        pytest.param((HEADER + "é,p,a\n").encode() + b"B,\xe9,a\n", 2, ":3: ", "save the whole file as UTF-8", id="two encodings"),
        pytest.param(HEADER + "B,p\0,a\n", 2, ":2: a NUL byte", "", id="a NUL byte"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("place")
def test_a_table_that_can_not_be_read(
    invoke: Invoke, content: str | bytes, code: int, says: str, remedy: str
) -> None:
    """Nothing is begun: the file, the line where there is one, and what to do."""
    put("rows.csv", content)
    refused(invoke, DRY, code, "rows.csv", says, remedy)
    refused(invoke, BATCH, code, "rows.csv", says, remedy)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"brand": "B"\n', "rows.jsonl:1: "),
        ('{"brand": "B"}\n[1]\n', "rows.jsonl:2: "),
        ('{"brand": "B"}\nnot json\n', "rows.jsonl:2: "),
    ],
)
@pytest.mark.usefixtures("place")
def test_rows_of_json_that_can_not_be_read(invoke: Invoke, content: str, says: str) -> None:
    """Exit 2, with the line."""
    put("rows.jsonl", content)
    assert says in invoke("batch", "ugc/hooks", "rows.jsonl", "--dry-run").err


@pytest.mark.usefixtures("place")
def test_rows_that_are_not_there(invoke: Invoke) -> None:
    """A missing file and a folder are exit 2, with the system's word."""
    refused(
        invoke, ("batch", "ugc/hooks", "none.csv", "--dry-run"), 2, "none.csv: can't be read: No such file"
    )
    refused(invoke, ("batch", "ugc/hooks", "templates", "--dry-run"), 2)


@pytest.mark.usefixtures("place")
def test_rows_that_do_not_fit(invoke: Invoke) -> None:
    """A row whose values don't fit is invalid by itself, told with its line; with --strict it is exit 2."""
    put("rows.csv", HEADER + "Barly,bar,runners\n" + "B" * 81 + ",bar,runners\n")
    ran = invoke(*DRY)
    assert (ran.code, "rows.csv:3: row 2 is invalid: ugc/hooks@1: brand: 81 characters" in ran.err) == (
        1,
        True,
    )
    refused(invoke, (*DRY, "--strict"), 2, "rows.csv:3: ")


# ------------------------------------------------------------------------------- the ledger


def not_a_database(path: Path) -> None:
    path.write_text("a letter to grandmother " * 20, encoding="utf-8")


def another_programs(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (id)")
        connection.commit()


def a_newer_one(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'pk9999'")
        connection.commit()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "says", "remedy"),
    [
        (not_a_database, "this is not a promptkit database", "name another file"),
        (another_programs, "this database belongs to another program", "name another file"),
        (a_newer_one, "a newer promptkit wrote this database", "pip install -U promptkit-router"),
        (a_folder, "this is not a file", "name a file"),
    ],
)
@pytest.mark.parametrize("command", [RUN, BATCH, ("log",)], ids=["run", "batch", "log"])
def test_a_database_that_is_none_of_ours(
    invoke: Invoke,
    place: Path,
    command: tuple[str, ...],
    spoil: Callable[[Path], None],
    says: str,
    remedy: str,
) -> None:
    """Exit 9, with the file and what to do; the file stays as it is."""
    spoil(place / "promptkit.db")
    refused(invoke, command, 9, f"{place / 'promptkit.db'}: {says}", remedy)


def test_a_folder_that_is_not_there(invoke: Invoke, place: Path) -> None:
    """A database in a folder that doesn't exist is exit 9, with the command that makes it."""
    text = (place / "promptkit.toml").read_text("utf-8").replace("sqlite:///", "sqlite:///books/")
    put("promptkit.toml", text)
    refused(invoke, RUN, 9, "the folder of the database does not exist", f"mkdir -p {place / 'books'}")


def test_a_locked_database(invoke: Invoke, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program that holds the database is waited for, and then told of: exit 9."""
    monkeypatch.setattr(Ledger, "open", partial(Ledger.open, busy_timeout_s=0.1))
    with closing(sqlite3.connect(place / "promptkit.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refused(invoke, RUN, 9, "locked by another program", "close the program")
        refused(invoke, BATCH, 9, "locked by another program", "close the program")


@contextmanager
def nobody() -> Generator[None]:
    """As a user who may write nothing here, even where the tests run as root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def open_place(place: Path, blank_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same outside of pytest's own folders, which belong to its user alone; the key is in the environment."""
    text = (place / "promptkit.toml").read_text("utf-8").replace('env_file = ".env"\n', "")
    with tempfile.TemporaryDirectory(prefix="promptkit-") as name, monkeypatch.context() as here:
        folder = Path(name)
        quiet_machine(here, folder)
        here.setenv("OPENAI_API_KEY", "sk-canary-readonly")
        here.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        here.chdir(folder)
        (folder / "promptkit.db").write_bytes(blank_database.read_bytes())
        (folder / "promptkit.toml").write_text(text, encoding="utf-8")
        yield folder
        folder.chmod(0o700)


@pytest.mark.parametrize(
    ("folder_mode", "file_mode"), [(0o755, 0o444), (0o555, 0o666)], ids=["file", "folder"]
)
def test_a_read_only_database(invoke: Invoke, open_place: Path, folder_mode: int, file_mode: int) -> None:
    """A database or folder that may not be written is exit 9, before anything is sent."""
    (open_place / "promptkit.db").chmod(file_mode)
    open_place.chmod(folder_mode)
    with nobody():
        refused(
            invoke,
            RUN,
            9,
            f"{open_place / 'promptkit.db'}: the database is read-only",
            "check the permissions",
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can work in a folder that it may not enter")
def test_a_folder_that_may_not_be_entered(invoke: Invoke, place: Path) -> None:
    """A working folder of somebody else, as under sudo: exit 2, with a way out."""
    place.chmod(0o700)
    with nobody():
        refused(invoke, ("render", "ugc/hooks", *VALUES), 2, "Permission denied", "--config FILE")


def test_a_full_disk(invoke: Invoke, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that can't grow is exit 9; nothing is sent, and with room again everything works."""
    with closing(sqlite3.connect(place / "promptkit.db")) as plain:
        pages = plain.execute("PRAGMA page_count").fetchone()[0]
    with monkeypatch.context() as small:
        small.setattr(Ledger, "open", partial(Ledger.open, max_pages=pages))
        refused(invoke, RUN, 9, "the disk is full", "free some space")
        rows = "".join(f"Brand {number},bar,runners\n" for number in range(500))
        put("rows.csv", HEADER + rows)
        refused(invoke, BATCH, 9, "the disk is full", "free some space")
    assert invoke(*BATCH).code == 0


def test_a_new_database_on_a_full_disk(invoke: Invoke, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that can't be made is exit 9."""
    (place / "promptkit.db").unlink()
    monkeypatch.setattr(Ledger, "open", partial(Ledger.open, max_pages=5))
    refused(invoke, RUN, 9, "the disk is full")


# ------------------------------------------------------------------------------- the output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("command", [("render", "ugc/hooks", *VALUES), BATCH], ids=["render", "batch"])
def test_a_full_stdout(place: Path, command: tuple[str, ...]) -> None:
    """Exit 9, and one line that says why."""
    with Path("/dev/full").open("w") as full:
        ran = process(*command, "-q", cwd=place, stdout=full)
    assert (ran.code, ran.err.startswith("promptkit: stdout is not writable: No space left")) == (9, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.usefixtures("place")
def test_a_full_output_file(invoke: Invoke) -> None:
    """Exit 9: the results are in the ledger, and the message says how to get them."""
    refused(invoke, (*BATCH, "-o", "/dev/full"), 9, "/dev/full: not writable", "nothing is paid twice")
    told = invoke(*BATCH, "-o", "/dev/full", "-q")
    assert (told.code, told.err.count("\n")) == (9, 1)


def test_an_output_that_stood_there_still_stands(invoke: Invoke, place: Path) -> None:
    """Where the output can't be written, the file of yesterday is left as it was."""
    (place / "out").mkdir()
    (place / "out/rows.csv").write_text("yesterday", encoding="utf-8")
    refused(invoke, (*BATCH, "-o", "out"), 9, "is a folder")
    assert (place / "out/rows.csv").read_text("utf-8") == "yesterday"
