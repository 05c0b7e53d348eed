"""The output file of a job: written from the ledger, in the input's order, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from promptkit._util.files import replacing
from promptkit.config.settings import Keep, Storage
from promptkit.engine.calls import CallResult, cost_of
from promptkit.engine.judge import Judge, judge_text
from promptkit.errors import OutputError, UsageError, counted
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import JobRecord, OutputRow, RowRecord, RowState
from promptkit.templates.reference import parse_ref
from promptkit.types import Cost, Json, RowResult, Status, TemplateRef, Usage

from .binding import Ordinals, cell_text
from .columns import ADDED, WHERE, WHY, Layout, guarded, layout, output_format, writer
from .input import FileReading, FileSource
from .options import Manner, pinned_options, pinned_output, plain_output
from .tables import Dialect, Format

if TYPE_CHECKING:
    from .job import Job


_PAGE: Final = 500


def stored_results(
    ledger: Ledger, job: JobRecord, read: Callable[[Json], object] | None = None
) -> Iterator[RowResult]:
    """The results of a job that the ledger has, in the input's order, page by page."""
    for out in ledger.jobs.output_rows(job.id):
        result = from_ledger(out, job.schema, read)
        if result is not None:
            yield result


def layout_of(job: JobRecord) -> Layout:
    """The columns of a job's output."""
    return layout(
        job.columns,
        job.schema,
        flagged=bool(job.options.get("checks")),
        text_as=pinned_options(job).text_as,
    )


def write_output(
    ledger: Ledger, job: JobRecord, out: Path, *, format_: Format | None = None, like: Dialect, mark: bool
) -> int:
    """Write the results of a job into a file, which appears whole or not at all.

    Args:
        ledger: where the results are.
        job: the job.
        out: the file, or with columns in braces the pattern of one a row.
        format_: what the user says; else the file's extension, else the input's.
        like: how the input is written; CSV follows its delimiter.
        mark: whether CSV begins with a byte order mark, for Excel.

    Returns:
        How many rows were written.

    Raises:
        OutputError: it can't be written, or what stands there has texts that the ledger no longer
            has; what stood there before still stands.
    """
    if is_pattern(str(out)):
        return write_pieces(ledger, job, str(out))
    kept, erased = ledger.jobs.reply_counts(job.id)
    if erased and out.is_file():
        if kept and not has_all(ledger, job, out):
            raise OutputError(
                f"stands already, and {erased:,} of the texts in it are kept nowhere else",
                file=out,
                remedy="Write the new rows to another file with -o.",
            )
        return sum(ledger.jobs.row_counts(job.id).values())
    chosen = output_format(out.name, like, format_)
    parts = 0
    try:
        with replacing(out) as file:
            for part in encoded(ledger, job, chosen, like=like, mark=mark):
                file.write(part)
                parts += 1
    except OSError as cause:
        raise OutputError(
            f"can't be written: {cause.strerror}",
            file=out,
            remedy="The results are in the ledger: make room, then run the same command again; nothing is paid twice.",
        ) from cause
    return parts - 2  # without what stands before and after the rows


def encoded(
    ledger: Ledger, job: JobRecord, format_: Format, *, like: Dialect, mark: bool = False
) -> Iterator[bytes]:
    """The output as it is written: what stands before the rows, each row, what stands after them."""
    rows = layout_of(job)
    delimiter = like.delimiter if like.format is Format.CSV else ","
    encode = writer(format_, rows.header, delimiter=delimiter, mark=mark)
    yield encode.start
    for result in stored_results(ledger, job):
        yield encode.row(rows.record(result))
    yield encode.end


_WORKBOOKS: Final = frozenset({".xlsx", ".xls", ".ods", ".numbers"})


_LOOKED_AT: Final = 1000
"""Rows after which an encoding that is still open is taken for UTF-8."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """The files of a run: the output (a pattern makes one a row), and that of the failed rows; None for none."""

    out: Path | None = None
    format: Format | None = None
    failed: Path | None = None

    def __bool__(self) -> bool:
        return self.out is not None or self.failed is not None

    def check(self, rows: str | None) -> None:
        """Refuse files that can't be written; `rows` is the input file, None for none.

        Raises:
            UsageError: one is the input.
            OutputError: one is a folder, or its folder isn't there.
        """
        for path in (self.out, self.failed):
            if path is not None:
                check_out(path, rows)

    async def begin(self, ledger: Ledger, job: Job, rows: str | None) -> Manner:
        """Note with the job where its output goes, before anything is sent; returns how it will be written.

        Raises:
            UsageError: two rows would have one file.
        """
        manner = manner_of(job, rows)
        await job.remember_output(self.out, plain_output(self.format, manner))
        if self.out is not None and is_pattern(str(self.out)):
            check_pieces(ledger, job.record, str(self.out))
        return manner

    def write(self, ledger: Ledger, job: Job, manner: Manner) -> Iterator[str]:
        """Write the files, one after the other; yields what to say of each.

        Raises:
            OutputError: one can't be written; what stood there before still stands.
        """
        record = job.record
        if self.out is not None:
            total = sum(ledger.jobs.row_counts(record.id).values())
            count = write_output(
                ledger, record, self.out, format_=self.format, like=manner.like, mark=manner.mark
            )
            told = counted(total, "row")
            yield f"{self.out} has {told if count == total else f'{count:,} of {told}'}"
        if self.failed is not None:
            count = write_failed(ledger, record, self.failed, manner)
            yield f"{self.failed} has {counted(count, 'failed row')}"


def manner_of(job: Job, rows: str | None) -> Manner:
    """How a job's input is written; the file is looked at again where nobody noted it."""
    reading = job.reading
    if not isinstance(reading, FileReading):
        if rows is None or "output" in job.record.options:
            return pinned_output(job.record)[1]
        reading = FileSource(rows, None).read()
        for _ in islice(reading, _LOOKED_AT):
            pass
    return Manner(reading.dialect, reading.excel)


def check_out(out: Path, rows: str | None) -> None:
    """Refuse an output file that can't be written, before anything is paid for it.

    Raises:
        UsageError: it is the input, or would be no workbook though its name says so.
        OutputError: it is a folder, or its folder isn't there.
    """
    if out.suffix.lower() in _WORKBOOKS:
        raise UsageError(
            f"{out}: workbooks aren't written",
            remedy=f"-o {out.with_suffix('.csv')}: spreadsheets open CSV.",
        )
    if is_pattern(str(out)):
        return  # its folders are made
    if rows is not None and rows != "-" and out.exists() and Path(rows).exists() and out.samefile(rows):
        raise UsageError(f"{out} is the input", remedy="Name another file with -o.")
    if out.is_dir():
        raise OutputError("is a folder", file=out, remedy="Name a file in it.")
    if not out.absolute().parent.is_dir():
        raise OutputError("its folder isn't there", file=out, remedy=f"mkdir -p {out.parent}")


_FAILED: Final = (RowState.FAILED, RowState.REFUSED, RowState.INVALID)


def write_failed(ledger: Ledger, job: JobRecord, path: Path, manner: Manner) -> int:
    """Write the rows that have no text, with their reasons; returns how many.

    Args:
        ledger: where the rows are.
        job: the job.
        path: the file; its extension decides the format, else it is the input's.
        manner: how the input is written, which the file follows.

    Raises:
        OutputError: it can't be written; what stood there before still stands.
    """
    format_ = output_format(path.name, manner.like)
    table = format_ in {Format.CSV, Format.TSV}
    delimiter = manner.like.delimiter if manner.like.format is Format.CSV else ","
    encode = writer(
        format_,
        (*job.columns, *ADDED),
        delimiter=delimiter,
        mark=manner.mark,
        guard=guarded if table else None,
    )
    count = 0
    try:
        with replacing(path) as file:
            file.write(encode.start)
            for cells in _failed_cells(ledger, job):
                file.write(encode.row(cells))
                count += 1
            file.write(encode.end)
    except OSError as cause:
        raise OutputError(f"can't be written: {cause.strerror}", file=path) from cause
    return count


def _failed_cells(ledger: Ledger, job: JobRecord) -> Iterator[dict[str, Json]]:
    for out in ledger.jobs.output_rows(job.id):
        if out.row.state in _FAILED:
            result = from_ledger(out, job.schema)
            why = None if result is None else result.error
            where = f"{job.input_path}:{out.row.line}"
            yield {**(out.row.passthrough or {}), WHY: why, WHERE: where}


async def erase_kept_out(
    ledger: Ledger, job_id: int, storage: Storage, delivered: Path | None = None
) -> None:
    """Erase what `storage` keeps out, row by row: it may differ by client. Cut off, it can be done again.

    Args:
        ledger: where the rows are.
        job_id: the job; every row that it ever had counts, edited and removed ones, too.
        storage: the settings.
        delivered: the file that has all the texts.
    """
    if _keeps_all(storage):
        return
    if delivered is not None:
        told = _delivered(ledger, job_id, delivered)
        await ledger.jobs.update_run(job_id, {"delivered": {**told}}, told["path"])
    rows = ledger.jobs.row_tags(job_id)
    while page := list(islice(rows, _PAGE)):
        kept = [(row_id, storage.of(tags)) for row_id, tags in page]
        await ledger.jobs.erase_texts(
            job_id,
            replies_of=[row_id for row_id, keep in kept if keep.replies is not Keep.FULL],
            inputs_of=[row_id for row_id, keep in kept if keep.variables is not Keep.FULL],
        )


def has_all(ledger: Ledger, job: JobRecord, out: Path) -> bool:
    """Whether a file was written with all the texts that the job has now, or had before they were erased."""
    return job.options.get("delivered") == _delivered(ledger, job.id, out)


def _delivered(ledger: Ledger, job_id: int, out: Path) -> dict[str, str]:
    return {"path": str(out.absolute()), "answers": ledger.jobs.replies_digest(job_id)}


def _keeps_all(storage: Storage) -> bool:
    every = (storage, *storage.clients.values())
    return all(kept.replies is Keep.FULL and kept.variables is Keep.FULL for kept in every)


def check_pieces(ledger: Ledger, job: JobRecord, pattern: str) -> None:
    """Make sure, before anything is paid, that each row has a file of its own.

    Raises:
        UsageError: the pattern names no column, or two rows would have one file.
    """
    check_pattern(pattern, job.columns)
    seen = Ordinals()
    for out in ledger.jobs.output_rows(job.id):
        path = piece_name(pattern, out.row.passthrough or {}, number_of(out.row.position))
        if seen.next(name_digest(path)):
            raise UsageError(
                f"row {number_of(out.row.position)} (line {out.row.line}) would be written to {path}, "
                "as a row before it",
                remedy="Add a column that tells them apart to -o, or {number}.",
            )


def number_of(position: int) -> int:
    """A row's number, from 1."""
    return position + 1


def write_pieces(ledger: Ledger, job: JobRecord, pattern: str) -> int:
    """Write a file for each row that has a text; returns how many there are.

    A file that has the text already is left alone, and so is that of a text which the ledger no longer has.

    Raises:
        OutputError: one can't be written; those before it stand.
    """
    count = 0
    for result in stored_results(ledger, job):
        if result.text is not None:
            _write(Path(piece_name(pattern, result.cells, result.number)), _content(result))
            count += 1
    return count


def _content(result: RowResult) -> bytes:
    text = result.text or ""
    if result.parsed is not None:
        text = json.dumps(result.parsed, ensure_ascii=False, indent=2)
    return (text if text.endswith("\n") else f"{text}\n").encode("utf-8", "replace")


def _write(path: Path, content: bytes) -> None:
    try:
        if path.is_file() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(content)
    except OSError as cause:
        raise OutputError(
            f"can't be written: {cause.strerror}",
            file=path,
            remedy="The results are in the ledger: make room, then run the same command again; nothing is paid twice.",
        ) from cause


NUMBER: Final = "number"
"""The row's own number, from 1, where no column has that name."""


_FIELD: Final = re.compile(r"\{([^{}]+)\}")


_UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f/\\<>:"|?*]+')


_LONGEST: Final = 240
"""Bytes of a name: file systems take 255, and the temporary file beside it is longer by some."""


def is_pattern(out: str) -> bool:
    """Whether an output is one file a row: a column stands in braces."""
    return _FIELD.search(out) is not None


def check_pattern(pattern: str, columns: Sequence[str]) -> None:
    """Make sure that all columns of a pattern are there.

    Raises:
        UsageError: one isn't, or the name of a file has none of them.
    """
    for name in _FIELD.findall(pattern):
        if name not in columns and name != NUMBER:
            raise UsageError(
                f"-o {pattern!r}: no column {name!r}", remedy=f"columns: {', '.join((*columns, NUMBER))}"
            )


def piece_name(pattern: str, cells: Mapping[str, Json], number: int) -> str:
    """The path of a row's file.

    Args:
        pattern: with columns in braces.
        cells: the row's.
        number: the row's, from 1.
    """

    def fill(field: re.Match[str]) -> str:
        name = field[1]
        return _safe(str(number) if name == NUMBER and name not in cells else cell_text(cells.get(name)))

    return "/".join(_short(part) for part in _FIELD.sub(fill, pattern).split("/"))


def name_digest(path: str) -> str:
    """What two paths share (hex) that are one file somewhere: on disks that fold case or accents."""
    folded = unicodedata.normalize("NFC", path).casefold()
    return hashlib.sha256(folded.encode("utf-8", "surrogatepass")).hexdigest()


def _safe(text: str) -> str:
    plain = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode())
    return _UNSAFE.sub("-", plain.strip()).lstrip("-. ").rstrip(". ") or "_"


def _short(name: str) -> str:
    """A name that a file system takes: its middle cut, its ending kept, and told from others by a digest."""
    if len(name.encode()) <= _LONGEST:
        return name
    stem, dot, suffix = name.rpartition(".")
    ending = f"{dot}{suffix}" if stem and len(suffix) <= 10 else ""  # noqa: PLR2004 - an extension, no sentence
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    kept = name.encode()[: _LONGEST - len(ending.encode()) - 9].decode(errors="ignore")
    return f"{kept}-{mark}{ending}"


_NOT_KEPT = "the text is not kept: [storage] keeps replies out of the ledger once a job is done"


_ANSWERED = frozenset({Status.OK, Status.TRUNCATED, Status.DEGRADED})


def from_call(row: RowRecord, made: CallResult, ref: TemplateRef) -> RowResult[Any]:
    """The result of a row whose call has just ended."""
    attempts = made.attempts
    pico = cost_of(attempts)
    return RowResult(
        number=row.position + 1,
        status=made.status,
        text=made.text if made.answered else None,
        parsed=made.parsed,
        flags=made.flags,
        error=None if made.answered else made.why,
        cost=None if pico is None else Cost(pico, "attempts"),
        usage=made.answered.completion.usage if made.answered else None,
        target=made.answered.target if made.answered else attempts[-1].target if attempts else None,
        template=ref,
        call=made.id,
        cells=row.passthrough or {},
        cached_from=made.cached_from,
    )


def from_ledger(
    out: OutputRow, schema: Mapping[str, Json] | None, read: Callable[[Json], object] | None = None
) -> RowResult[Any] | None:
    """The result of a row as the ledger has it; None while it is still to be done."""
    row = out.row
    if row.state is RowState.PENDING:
        return None
    status = Status.FAILED if row.state is RowState.INVALID else Status(row.state.value)
    text = out.text if status in _ANSWERED else None  # what was refused or failed may be kept, too
    judged = None if schema is None or text is None else judge_text(text, Judge(schema, read=read))
    known = out.input_tokens is not None and out.output_tokens is not None
    return RowResult(
        number=row.position + 1,
        status=status,
        text=text,
        parsed=None if judged is None else judged.value,
        flags=out.flags,
        error=row.error or out.error or (_NOT_KEPT if out.text is None and status in _ANSWERED else None),
        cost=None if out.money.unknown else Cost(out.money.known_pico, "attempts"),
        usage=Usage(out.input_tokens or 0, out.output_tokens or 0) if known else None,
        target=out.target,
        template=None if out.template_ref is None else parse_ref(out.template_ref),
        call=row.call_id,
        cells=row.passthrough or {},
    )
