"""The output of a job: written from the ledger, in the order of the input, complete or not at all."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptkit._util.files import replacing
from promptkit.config.settings import Keep, Storage
from promptkit.engine.calls import CallResult, cost_of
from promptkit.engine.validate import ReplyRules, validate_text
from promptkit.errors import OutputError, UsageError, counted
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import JobRecord, OutputRow, RowRecord, RowState
from promptkit.templates.reference import parse_ref
from promptkit.types import Cost, Json, RowResult, Status, TemplateRef, Usage

from .binding import Ordinals, cell_text
from .columns import ADDED, WHERE, WHY, Layout, guarded, layout, output_format, writer
from .input import FileReading, FileSource
from .options import pinned_options, pinned_output, stored_output
from .tables import Dialect, Format

if TYPE_CHECKING:
    from .job import Job

_PAGE = 500

_DIALECT_ROWS = 1000
"""An encoding that is still open after so many rows counts as UTF-8."""

_RERUN = (
    "The results are in the ledger. Free some space, then run the same command again: nothing is paid twice."
)


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """The files of a run: the output (or a pattern for one file per row) and the failed rows; None for none."""

    out: Path | None = None
    format: Format | None = None
    failed: Path | None = None

    def __bool__(self) -> bool:
        return self.out is not None or self.failed is not None

    def check(self, rows: str | None) -> None:
        """Refuse files that can't be written.

        Args:
            rows: the input file; None for none.

        Raises:
            UsageError: a file is the input.
            OutputError: a file is a folder, or its folder doesn't exist.
        """
        for path in (self.out, self.failed):
            if path is not None:
                check_out(path, rows)

    async def begin(self, ledger: Ledger, job: Job, rows: str | None) -> Dialect:
        """Store with the job where its output goes, before anything is sent; return how it is written.

        Raises:
            UsageError: two rows have the same file.
        """
        like = input_dialect(job, rows)
        await job.remember_output(self.out, stored_output(self.format, like))
        if self.out is not None and is_pattern(str(self.out)):
            check_row_files(ledger, job.record, str(self.out))
        return like

    def write(self, ledger: Ledger, job: Job, like: Dialect) -> Iterator[str]:
        """Write the files, one after the other; yield a notice for each.

        Raises:
            OutputError: a file can't be written; its earlier content is unchanged.
        """
        record = job.record
        if self.out is not None:
            count = write_output(ledger, record, self.out, format_=self.format, like=like)
            total = sum(ledger.jobs.row_counts(record.id).values())
            rows = counted(total, "row")
            yield f"{self.out} has {rows if count == total else f'{count:,} of {rows}'}"
        if self.failed is not None:
            count = write_failed(ledger, record, self.failed, like)
            yield f"{self.failed} has {counted(count, 'failed row')}"


def check_out(out: Path, rows: str | None) -> None:
    """Refuse an output file that can't be written, before anything is paid for it.

    Raises:
        UsageError: it is the input, or has the name of a workbook.
        OutputError: it is a folder, or its folder doesn't exist.
    """
    if out.suffix.lower() in {".xlsx", ".xls", ".ods", ".numbers"}:
        raise UsageError(
            f"{out}: workbooks are not supported",
            remedy=f"-o {out.with_suffix('.csv')}: spreadsheets open CSV.",
        )
    if is_pattern(str(out)):
        return  # its folders are created
    if rows is not None and rows != "-" and out.exists() and Path(rows).exists() and out.samefile(rows):
        raise UsageError(f"{out} is the input", remedy="Name another file with -o.")
    if out.is_dir():
        raise OutputError("is a folder", file=out, remedy="Name a file in it.")
    if not out.absolute().parent.is_dir():
        raise OutputError("its folder doesn't exist", file=out, remedy=f"mkdir -p {out.parent}")


def input_dialect(job: Job, rows: str | None) -> Dialect:
    """Return how a job's input is written; the file is read once more if the job doesn't know."""
    reading = job.reading
    if not isinstance(reading, FileReading):
        if rows is None or "output" in job.record.options:
            return pinned_output(job.record)[1]
        reading = FileSource(rows, None).read()
        for _ in islice(reading, _DIALECT_ROWS):
            pass
    return reading.dialect


def write_output(
    ledger: Ledger, job: JobRecord, out: Path, *, format_: Format | None = None, like: Dialect
) -> int:
    """Write the results of a job into a file: complete, or not at all.

    Args:
        ledger: where the results are.
        job: the job.
        out: the file, or a pattern with columns in braces for one file per row.
        format_: the user's; otherwise the file's extension decides, or the input's format.
        like: how the input is written; CSV has its delimiter.

    Returns:
        The number of rows that were written.

    Raises:
        OutputError: it can't be written, or it contains texts that the ledger no longer has; its
            earlier content is unchanged.
    """
    if is_pattern(str(out)):
        return write_row_files(ledger, job, str(out))
    kept, erased = ledger.jobs.reply_counts(job.id)
    if erased and out.is_file():
        if kept and not has_all(ledger, job, out):
            raise OutputError(
                f"exists, and {erased:,} of the texts in it are kept nowhere else",
                file=out,
                remedy="Write the new rows to another file with -o.",
            )
        return sum(ledger.jobs.row_counts(job.id).values())
    parts = encoded(ledger, job, output_format(out.name, like, format_), like=like)
    return _write(out, parts) - 2  # without the start and the end


def encoded(ledger: Ledger, job: JobRecord, format_: Format, *, like: Dialect) -> Iterator[bytes]:
    """Yield the output in parts: the start, each row, the end.

    Args:
        ledger: where the results are.
        job: the job.
        format_: of the output.
        like: how the input is written.
    """
    columns = layout_of(job)
    encode = writer(format_, columns.header, delimiter=_delimiter(like), mark=like.excel)
    yield encode.start
    for result in stored_results(ledger, job):
        yield encode.row(columns.record(result))
    yield encode.end


def layout_of(job: JobRecord) -> Layout:
    """Return the columns of a job's output."""
    return layout(
        job.columns,
        job.schema,
        flagged=bool(job.options.get("checks")),
        text_as=pinned_options(job).text_as,
    )


def stored_results(
    ledger: Ledger, job: JobRecord, read: Callable[[Json], object] | None = None
) -> Iterator[RowResult]:
    """Yield the results that the ledger has of a job, in the order of the input."""
    for out in ledger.jobs.output_rows(job.id):
        result = from_ledger(out, job.schema, read)
        if result is not None:
            yield result


def write_failed(ledger: Ledger, job: JobRecord, path: Path, like: Dialect) -> int:
    """Write the rows without a text, with their reasons; return how many.

    Args:
        ledger: where the rows are.
        job: the job.
        path: the file; its extension decides the format, otherwise it is the input's.
        like: how the input is written.

    Raises:
        OutputError: it can't be written; its earlier content is unchanged.
    """
    format_ = output_format(path.name, like)
    table = format_ in {Format.CSV, Format.TSV}
    encode = writer(
        format_,
        (*job.columns, *ADDED),
        delimiter=_delimiter(like),
        mark=like.excel,
        guard=guarded if table else None,
    )

    def parts() -> Iterator[bytes]:
        yield encode.start
        for out in ledger.jobs.output_rows(job.id):
            if out.row.state in {RowState.FAILED, RowState.REFUSED, RowState.INVALID}:
                result = from_ledger(out, job.schema)
                reason = None if result is None else result.error
                where = f"{job.input_path}:{out.row.line}"
                yield encode.row({**(out.row.passthrough or {}), WHY: reason, WHERE: where})
        yield encode.end

    return _write(path, parts()) - 2


def _delimiter(like: Dialect) -> str:
    return like.delimiter if like.format is Format.CSV else ","


def _write(path: Path, parts: Iterable[bytes]) -> int:
    """Write a file, complete or not at all; return the number of its parts.

    Raises:
        OutputError: the system refuses it.
    """
    count = 0
    try:
        with replacing(path) as file:
            for part in parts:
                file.write(part)
                count += 1
    except OSError as cause:
        raise OutputError(f"can't be written: {cause.strerror}", file=path, remedy=_RERUN) from cause
    return count


def check_row_files(ledger: Ledger, job: JobRecord, pattern: str) -> None:
    """Check, before anything is paid, that each row has a file of its own.

    Raises:
        UsageError: the pattern has no column, or two rows have the same file.
    """
    check_pattern(pattern, job.columns)
    seen = Ordinals()
    for out in ledger.jobs.output_rows(job.id):
        number = out.row.position + 1
        path = row_file_name(pattern, out.row.passthrough or {}, number)
        if seen.next(name_digest(path)):
            raise UsageError(
                f"row {number} (line {out.row.line}) and a row before it have the same file, {path}",
                remedy="Add a column that distinguishes them to -o, or {number}.",
            )


def write_row_files(ledger: Ledger, job: JobRecord, pattern: str) -> int:
    """Write one file for each row that has a text; return how many rows have one.

    A file that contains its text already stays unchanged. So does a file whose text the ledger no
    longer has.

    Raises:
        OutputError: a file can't be written; the files before it are complete.
    """
    count = 0
    for result in stored_results(ledger, job):
        if result.text is not None:
            _write_row_file(Path(row_file_name(pattern, result.cells, result.number)), _content(result))
            count += 1
    return count


def _write_row_file(path: Path, content: bytes) -> None:
    try:
        if path.is_file() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise OutputError(f"can't be written: {cause.strerror}", file=path, remedy=_RERUN) from cause
    _write(path, (content,))


def _content(result: RowResult) -> bytes:
    text = result.text or ""
    if result.parsed is not None:
        text = json.dumps(result.parsed, ensure_ascii=False, indent=2)
    return (text if text.endswith("\n") else f"{text}\n").encode("utf-8", "replace")


NUMBER = "number"
"""The field of a row's number, from 1, unless a column has that name."""

_FIELD = re.compile(r"\{([^{}]+)\}")
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\<>:"|?*]+')

_MAX_BYTES = 240
"""Bytes of a name: file systems allow 255, and the name of the temporary file is longer."""


def is_pattern(out: str) -> bool:
    """Return whether an output is one file per row: it has a column in braces."""
    return _FIELD.search(out) is not None


def check_pattern(pattern: str, columns: Sequence[str]) -> None:
    """Check that the input has all columns of a pattern.

    Raises:
        UsageError: a column is missing.
    """
    for name in _FIELD.findall(pattern):
        if name not in columns and name != NUMBER:
            raise UsageError(
                f"-o {pattern!r}: no column {name!r}", remedy=f"columns: {', '.join((*columns, NUMBER))}"
            )


def row_file_name(pattern: str, cells: Mapping[str, Json], number: int) -> str:
    """Return the path of a row's file.

    Args:
        pattern: with columns in braces.
        cells: of the row.
        number: of the row, from 1.
    """

    def fill(field: re.Match[str]) -> str:
        name = field[1]
        return _safe(str(number) if name == NUMBER and name not in cells else cell_text(cells.get(name)))

    return "/".join(_short(part) for part in _FIELD.sub(fill, pattern).split("/"))


def name_digest(path: str) -> str:
    """Return a digest (hex) that is the same for names of one file on disks that fold case or accents."""
    folded = unicodedata.normalize("NFC", path).casefold()
    return hashlib.sha256(folded.encode("utf-8", "surrogatepass")).hexdigest()


def _safe(text: str) -> str:
    plain = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode())
    return _UNSAFE.sub("-", plain.strip()).lstrip("-. ").rstrip(". ") or "_"


def _short(name: str) -> str:
    """Return a name that a file system allows: cut in the middle, with a digest to keep it unique."""
    if len(name.encode()) <= _MAX_BYTES:
        return name
    stem, dot, suffix = name.rpartition(".")
    ending = f"{dot}{suffix}" if stem and len(suffix) <= 10 else ""  # noqa: PLR2004 - a longer one is not an extension
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    kept = name.encode()[: _MAX_BYTES - len(ending.encode()) - 9].decode(errors="ignore")
    return f"{kept}-{mark}{ending}"


_NOT_KEPT = "the text is not kept: [storage] keeps replies out of the ledger after the job"

_WITH_TEXT = frozenset({Status.OK, Status.TRUNCATED, Status.DEGRADED})


def from_call(row: RowRecord, call: CallResult, ref: TemplateRef) -> RowResult[Any]:
    """Return the result of a row whose call has just ended."""
    attempts = call.attempts
    pico = cost_of(attempts)
    return RowResult(
        number=row.position + 1,
        status=call.status,
        text=call.text if call.replied else None,
        parsed=call.parsed,
        flags=call.flags,
        error=None if call.replied else call.why,
        cost=None if pico is None else Cost(pico, "attempts"),
        usage=call.replied.completion.usage if call.replied else None,
        target=call.replied.target if call.replied else attempts[-1].target if attempts else None,
        template=ref,
        call=call.id,
        cells=row.passthrough or {},
        cached_from=call.cached_from,
    )


def from_ledger(
    out: OutputRow, schema: Mapping[str, Json] | None, read: Callable[[Json], object] | None = None
) -> RowResult[Any] | None:
    """Return the result of a row as the ledger has it; None if the row is pending."""
    row = out.row
    if row.state is RowState.PENDING:
        return None
    status = Status.FAILED if row.state is RowState.INVALID else Status(row.state.value)
    text = out.text if status in _WITH_TEXT else None  # the text of a refused or failed row may be kept, too
    judged = None if schema is None or text is None else validate_text(text, ReplyRules(schema, read=read))
    known = out.input_tokens is not None and out.output_tokens is not None
    return RowResult(
        number=row.position + 1,
        status=status,
        text=text,
        parsed=None if judged is None else judged.value,
        flags=out.flags,
        error=row.error or out.error or (_NOT_KEPT if out.text is None and status in _WITH_TEXT else None),
        cost=None if out.money.unknown else Cost(out.money.known_pico, "attempts"),
        usage=Usage(out.input_tokens or 0, out.output_tokens or 0) if known else None,
        target=out.target,
        template=None if out.template_ref is None else parse_ref(out.template_ref),
        call=row.call_id,
        cells=row.passthrough or {},
    )


async def erase_kept_out(
    ledger: Ledger, job_id: int, storage: Storage, delivered: Path | None = None
) -> None:
    """Erase the texts that `storage` keeps out, row by row: it may differ by client. It can be repeated.

    Args:
        ledger: where the rows are.
        job_id: the job; edited and removed rows count, too.
        storage: the settings.
        delivered: the file that contains all the texts.
    """
    if _keeps_all(storage):
        return
    if delivered is not None:
        delivery = _delivered(ledger, job_id, delivered)
        await ledger.jobs.update_run(job_id, {"delivered": {**delivery}}, delivery["path"])
    rows = ledger.jobs.row_tags(job_id)
    while page := list(islice(rows, _PAGE)):
        kept = [(row_id, storage.of(tags)) for row_id, tags in page]
        await ledger.jobs.erase_texts(
            job_id,
            replies_of=[row_id for row_id, keep in kept if keep.replies is not Keep.FULL],
            inputs_of=[row_id for row_id, keep in kept if keep.variables is not Keep.FULL],
        )


def has_all(ledger: Ledger, job: JobRecord, out: Path) -> bool:
    """Return whether a file contains all texts that the job has now, or had before they were erased."""
    return job.options.get("delivered") == _delivered(ledger, job.id, out)


def _delivered(ledger: Ledger, job_id: int, out: Path) -> dict[str, str]:
    return {"path": str(out.absolute()), "answers": ledger.jobs.replies_digest(job_id)}


def _keeps_all(storage: Storage) -> bool:
    every = (storage, *storage.clients.values())
    return all(kept.replies is Keep.FULL and kept.variables is Keep.FULL for kept in every)
