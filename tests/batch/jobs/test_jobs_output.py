"""Output files, and what a job keeps until its output is written."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import sqlite3
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from studio import REF, Studio, brands, run_all, texts

from promptkit import AsyncPromptKit
from promptkit.batch import output as keeping
from promptkit.batch.job import Job
from promptkit.batch.output import write_output
from promptkit.batch.tables import Dialect, Format
from promptkit.errors import LedgerError, OutputError
from promptkit.ledger.jobs import Jobs
from promptkit.types import RowResult, Status
from promptkit.types.ids import read_id

LIKE = Dialect(Format.CSV, ",")


async def write(kit: AsyncPromptKit, job: Job, out: Path) -> int:
    ledger = await kit.session.ledger()
    return write_output(ledger, job.record, out, like=LIKE)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


async def test_the_output_is_in_input_order(studio: Studio) -> None:
    """The output has the input's columns, then what became of each row, in the input's order."""
    out = studio.folder / "out.csv"
    studio.sim.script([{"fault": "http.400", "after": 2, "times": 1}])
    async with studio.kit() as kit:
        rows = [{"brand": f"B{n}", "status": "mine", "note": "=1+1"} for n in range(8)]
        job = studio.job(kit, rows, concurrency=4)
        results = await run_all(job)
        assert await write(kit, job, out) == 8
    written = rows_of(out)
    assert [row["brand"] for row in written] == [f"B{n}" for n in range(8)]
    assert [row["status"] for row in written] == ["mine"] * 8
    assert [row["promptkit_status"] for row in written] == [str(result.status) for result in results]
    assert [row["text"] for row in written] == [text or "" for text in texts(results)]
    assert {row["note"] for row in written} == {"'=1+1"}
    [failed] = [row for row in written if row["promptkit_status"] == "failed"]
    assert "400" in failed["error"]
    assert failed["cost_usd"] == "0"
    for row, result in zip(written, results, strict=True):
        assert result.call == read_id(row["call"])
        assert (row["template"], row["target"]) == ("ad/line@1", str(result.target))


async def test_an_output_is_whole_or_not_there(studio: Studio) -> None:
    """The file takes the old one's place when it is whole, and keeps its mode; a new one follows the umask."""
    out = studio.folder / "out.csv"
    async with studio.kit() as kit:
        job = studio.job(kit, brands(3))
        await run_all(job)
        before = os.umask(0o027)
        try:
            await write(kit, job, out)
        finally:
            os.umask(before)
        assert stat.S_IMODE(out.stat().st_mode) == 0o640
        out.chmod(0o604)
        old = out.stat().st_ino
        await write(kit, job, out)
        assert (stat.S_IMODE(out.stat().st_mode), out.stat().st_ino != old) == (0o604, True)
        assert not list(studio.folder.glob(".out.csv.*"))


async def test_a_full_disk_loses_nothing(studio: Studio) -> None:
    """Where the output can't be written the error says so; the results are in the ledger and cost nothing again."""
    async with studio.kit() as kit:
        job = studio.job(kit, brands(3))
        await run_all(job)
        with pytest.raises(OutputError, match="No space left") as caught:
            await write(kit, job, Path("/dev/full"))
        assert "nothing is paid twice" in str(caught.value)
        with pytest.raises(OutputError, match="No such file"):
            await write(kit, job, studio.folder / "nowhere/out.csv")
        assert await write(kit, job, Path("/dev/null")) == 3
        assert await write(kit, job, studio.folder / "out.csv") == 3
    assert studio.asked() == 3


async def test_a_broken_write_leaves_the_old_file(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stood there before still stands, and nothing lies beside it."""
    out = studio.folder / "out.csv"
    out.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    async with studio.kit() as kit:
        job = studio.job(kit, brands(3))
        await run_all(job)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OutputError):
            await write(kit, job, out)
    assert out.read_text() == "old"
    assert [path.name for path in studio.folder.iterdir() if "out.csv" in path.name] == ["out.csv"]


async def test_the_output_is_written_again_from_the_ledger(studio: Studio) -> None:
    """A finished job writes its output again, byte for byte, in any format, and sends nothing."""
    async with studio.kit() as kit:
        job = studio.job(kit, brands(3))
        await run_all(job)
        await write(kit, job, studio.folder / "one.csv")
        again = studio.job(kit, brands(3))
        async with again:
            pass
        await write(kit, again, studio.folder / "two.csv")
        await write(kit, again, studio.folder / "three.jsonl")
    assert (studio.folder / "one.csv").read_bytes() == (studio.folder / "two.csv").read_bytes()
    lines = [json.loads(line) for line in (studio.folder / "three.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == [row["text"] for row in rows_of(studio.folder / "one.csv")]
    assert studio.asked() == 3


async def test_an_unfinished_output_has_the_rows_that_are_done(studio: Studio) -> None:
    """Rows that still wait are not in the output yet."""
    async with studio.kit() as kit:
        job = studio.job(kit, brands(5), limit=2)
        await run_all(job)
        assert await write(kit, job, studio.folder / "out.csv") == 2


# --------------------------------------------------------------------------- storage


def everything(studio: Studio) -> str:
    """All texts in the database: what anyone who reads the file can see of rows, calls and replies."""
    connection = sqlite3.connect(studio.folder / "promptkit.db")
    try:
        tables = ("rows", "calls", "replies")
        return repr([connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables])  # noqa: S608 - three names
    finally:
        connection.close()


def kept(studio: Studio, results: list[RowResult], value: str = "Brand 0") -> tuple[bool, bool]:
    """Whether the first row's reply and its variables are in the database."""
    seen = everything(studio)
    return repr(results[0].text)[1:-1] in seen, value in seen


@pytest.mark.parametrize("replies", ["full", "hash", "none"])
@pytest.mark.parametrize("variables", ["full", "hash", "none"])
async def test_what_storage_keeps_out_goes_when_the_job_is_done(
    studio: Studio, replies: str, variables: str
) -> None:
    """Replies and variables that [storage] keeps out are there while their job needs them, and gone when it is done."""
    studio.configure(tables=f'[storage]\nreplies = "{replies}"\nvariables = "{variables}"\n')
    async with studio.kit() as kit:
        open_ = studio.job(kit, brands(4), limit=2)
        first = await run_all(open_)
        await open_.forget()
        assert kept(studio, first) == (True, True)
        results = await run_all(kit.batch(REF, brands(4), job="night"))
        assert texts(results)[:2] == texts(first)
        assert kept(studio, results) == (replies == "full", variables == "full")
        call = (await kit.session.ledger()).calls.get(results[0].call or 0)
        assert call is not None
        assert (call.text_sha256 is None) is (replies == "none")
        assert (call.text is not None) is (replies == "full")
        assert (call.variables is not None) is (variables == "full")
        again = await run_all(kit.batch(REF, brands(4), job="night"))
        assert studio.asked() == 4
        assert (again[0].text, again[0].error is None) == (
            (results[0].text, True) if replies == "full" else (None, False)
        )
        assert [result.status for result in again] == [Status.OK] * 4


async def test_single_calls_keep_what_storage_says(studio: Studio) -> None:
    """A single call's reply and variables never enter the ledger where the settings keep them out."""
    studio.configure(tables='[storage]\nreplies = "hash"\nvariables = "none"\n')
    async with studio.kit() as kit:
        reply = await kit.run(REF, {"brand": "Brand 0"})
        call = (await kit.session.ledger()).calls.get(read_id(reply.id))
        assert call is not None
        assert (call.text, call.variables, len(call.text_sha256 or "")) == (None, None, 64)
    assert "Brand 0" not in everything(studio)


async def test_storage_by_client(studio: Studio) -> None:
    """What is kept may differ by the client of each row."""
    studio.configure(tables='[storage.clients.secretive]\nreplies = "none"\nvariables = "none"\n')
    rows = [{"brand": "Open", "client": "barly"}, {"brand": "Closed", "client": "secretive"}]
    async with studio.kit() as kit:
        await run_all(kit.batch(REF, rows, job="night", tags={"client": "@client"}))
        again = await run_all(kit.batch(REF, rows, job="night", tags={"client": "@client"}))
        assert [result.text is None for result in again] == [False, True]
        ledger = await kit.session.ledger()
        assert [row.row.variables for row in ledger.jobs.output_rows(ledger.jobs.newest()[0].id)] == [
            {"brand": "Open"},
            None,
        ]
    assert "Closed" not in everything(studio)


async def test_an_output_that_says_more_than_the_ledger_stays(studio: Studio) -> None:
    """A file with texts that are kept nowhere else is not written over."""
    studio.configure(tables='[storage]\nreplies = "none"\nvariables = "none"\n')
    out = studio.folder / "out.csv"

    async def start(count: int) -> Job:
        job = studio.job(kit, brands(count))
        await run_all(job)
        return job

    async with studio.kit() as kit:
        job = await start(2)
        assert await write(kit, job, out) == 2
        await job.forget()
        whole = out.read_bytes()
        assert b",ok," in whole
        assert await write(kit, await start(2), out) == 2
        assert out.read_bytes() == whole
        with pytest.raises(OutputError, match="kept nowhere else"):
            await write(kit, await start(3), out)
        assert out.read_bytes() == whole
        assert await write(kit, await start(3), studio.folder / "more.csv") == 3
    more = rows_of(studio.folder / "more.csv")
    assert [bool(row["text"]) for row in more] == [False, False, True]
    assert "not kept" in more[0]["error"]


async def test_a_job_that_was_cut_off_while_it_erased_goes_on(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two pages of texts that [storage] keeps out: the output stands, and the rest goes, too."""
    studio.configure(tables='[storage]\nreplies = "none"\nvariables = "none"\n')
    monkeypatch.setattr(keeping, "_PAGE", 1)
    out, erase = studio.folder / "out.csv", Jobs.erase_texts

    async def once(ledger: Jobs, *arguments: Any, **options: Any) -> None:
        await erase(ledger, *arguments, **options)
        raise LedgerError("the power failed")

    async with studio.kit() as kit:
        job = studio.job(kit, brands(3))
        await run_all(job)
        assert await write(kit, job, out) == 3
        whole = out.read_bytes()
        with monkeypatch.context() as patched:
            patched.setattr(Jobs, "erase_texts", once)
            with pytest.raises(LedgerError):
                await job.forget(out)
        assert "Brand 2" in everything(studio)
        again = studio.job(kit, brands(3))
        await run_all(again)
        assert await write(kit, again, out) == 3
        assert out.read_bytes() == whole
        await again.forget(out)
    assert "Brand" not in everything(studio)
    assert studio.asked() == 3


async def test_an_output_with_texts_that_only_some_clients_keep_is_written_once(studio: Studio) -> None:
    """The same command again leaves it as it is; only an answer that it lacks can't be added to it."""
    studio.configure(tables='[storage.clients.secretive]\nreplies = "none"\n')
    rows = [{"brand": f"Brand {number}", "client": ("barly", "secretive")[number % 2]} for number in range(3)]
    out = studio.folder / "out.csv"
    async with studio.kit() as kit:
        for _ in range(2):
            job = studio.job(kit, rows[:2], tags={"client": "@client"})
            await run_all(job)
            assert await write(kit, job, out) == 2
            await job.forget(out)
        more = studio.job(kit, rows, tags={"client": "@client"})
        await run_all(more)
        with pytest.raises(OutputError, match="kept nowhere else"):
            await write(kit, more, out)


@pytest.mark.parametrize("to", ["-o out.csv", "> out.csv", "> /dev/full", "-o /dev/full"])
async def test_the_command_forgets_what_it_has_delivered(studio: Studio, to: str) -> None:
    """`batch` erases what [storage] keeps out once its output is written, and not before."""
    studio.configure(tables='[storage]\nreplies = "none"\nvariables = "none"\n')
    (studio.folder / "rows.csv").write_text("brand\nBrand 0\n")
    program = "from promptkit.cli import main; main()"
    command = f"'{sys.executable}' -c '{program}' batch {REF} rows.csv --job night --quiet {to}"
    process = await asyncio.create_subprocess_shell(command, cwd=studio.folder, stderr=-1)
    await process.communicate()
    full = "full" in to
    assert process.returncode == (9 if full else 0)
    assert ("Brand 0" in everything(studio)) is full
    assert studio.asked() == (0 if to == "> /dev/full" else 1)  # the header alone told it


async def test_failed_rows_can_be_retried_after_their_texts_went(studio: Studio) -> None:
    """--retry-failed on a finished job reads the input again: the variables that were erased come back."""
    studio.configure(tables='[storage]\nvariables = "none"\n')
    path = studio.folder / "rows.csv"
    path.write_text("brand\nA\nB\n")
    studio.sim.script([{"fault": "http.400", "times": 1}])
    async with studio.kit() as kit:
        results = await run_all(kit.batch(REF, path, job="night", concurrency=1))
        assert [result.status for result in results] == [Status.FAILED, Status.OK]
        job: Any = studio.job(kit, path, retry_failed=True)
        assert [result.status for result in await run_all(job)] == [Status.OK] * 2
        assert job.reading is not None
    assert studio.asked() == 3
