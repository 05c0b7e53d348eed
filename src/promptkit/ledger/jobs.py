"""Jobs and their rows: pinned once, read in chunks, paged out by position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, insert, select, update

from promptkit.errors import InputError

from . import columns
from . import statements as sql
from . import tables as t
from .encoding import TagIds, maybe_json, read_json, read_object, storable, to_json
from .interning import store_tagsets
from .records import Ingested, InputRead, JobRecord, JobStart, JobState, RowEnd, RowStart, RowState

CHUNK: Final = 500
"""Rows a transaction: enough to be quick, few enough that calls of a running job get in between."""


# ------------------------------------------------------------------------------- jobs


def create_or_get(connection: Connection, start: JobStart) -> JobRecord:
    """The job of that name; made, and pinned to what `start` says, if there is none."""
    found = connection.execute(select(t.JOBS).where(t.JOBS.c.name == start.name)).mappings().first()
    if found is None:
        connection.execute(insert(t.JOBS), _job_columns(start))
        found = connection.execute(select(t.JOBS).where(t.JOBS.c.id == start.id)).mappings().one()
    return job_record(found)


def _job_columns(start: JobStart) -> dict[str, object]:
    return {
        "id": start.id,
        "name": start.name,
        "state": JobState.OPEN.value,
        "template_digest": start.template_digest,
        "template_ref": start.template_ref,
        "route": start.route,
        "params": to_json(start.params),
        "output_schema": maybe_json(start.schema),
        "options": to_json(start.options),
        "key_column": start.key_column,
        "columns": to_json(start.columns),
        "input_path": start.input_path,
        "output_path": start.output_path,
        "ingest": 0,
        "redo_of_id": start.redo_of_id,
        "created_us": start.created_us,
    }


def job_record(row: Mapping[Any, Any]) -> JobRecord:
    """A job from its columns."""
    names = read_json(row["columns"])
    schema = row["output_schema"]
    return JobRecord(
        id=row["id"],
        name=row["name"],
        state=JobState(row["state"]),
        template_digest=row["template_digest"],
        template_ref=row["template_ref"],
        route=row["route"],
        params=read_object(row["params"]),
        schema=None if schema is None else read_object(schema),
        options=read_object(row["options"]),
        columns=tuple(str(name) for name in names) if isinstance(names, list) else (),
        key_column=row["key_column"],
        input_path=row["input_path"],
        input_sha256=row["input_sha256"],
        output_path=row["output_path"],
        ingest=row["ingest"],
        ingested_us=row["ingested_us"],
        redo_of_id=row["redo_of_id"],
        note=row["note"],
        created_us=row["created_us"],
        ended_us=row["ended_us"],
    )


def set_state(
    connection: Connection, job_id: int, state: JobState, ended_us: int | None, note: str | None
) -> None:
    """Say where a job stands."""
    connection.execute(
        update(t.JOBS)
        .where(t.JOBS.c.id == job_id)
        .values(state=state.value, ended_us=ended_us, note=None if note is None else storable(note))
    )


def reset_rows(connection: Connection, job_id: int, states: Sequence[RowState]) -> int:
    """Make rows pending again (`--retry-failed`); returns how many."""
    done = connection.execute(
        update(t.ROWS)
        .where(t.ROWS.c.job_id == job_id, t.ROWS.c.state.in_([state.value for state in states]))
        .values(state=RowState.PENDING.value, call_id=None, error=None, ended_us=None)
    )
    return done.rowcount


# ------------------------------------------------------------------------------- rows


def end_row(connection: Connection, row: RowEnd) -> None:
    """Say how a row ended that no call was made for."""
    sql.update_rows(connection, [columns.row_end(row)])


def begin_ingest(connection: Connection, job_id: int) -> int:
    """Start a reading of the input; returns its number."""
    number = t.JOBS.c.ingest
    connection.execute(
        update(t.JOBS)
        .where(t.JOBS.c.id == job_id)
        .values(ingest=number + 1, ingested_us=None, input_sha256=None)
    )
    return int(connection.execute(select(number).where(t.JOBS.c.id == job_id)).scalar_one())


def end_ingest(connection: Connection, job_id: int, now_us: int, read: InputRead) -> None:
    """Say that the input was read to its end."""
    values: dict[str, object] = {"ingested_us": now_us, "input_sha256": read.sha256}
    if read.columns is not None:
        values["columns"] = to_json(read.columns)
    connection.execute(update(t.JOBS).where(t.JOBS.c.id == job_id).values(values))


def chunks(rows: Iterable[RowStart]) -> Iterator[list[RowStart]]:
    """The rows in lists of `CHUNK`."""
    source = iter(rows)
    while chunk := list(islice(source, CHUNK)):
        yield chunk


def ingest(connection: Connection, job_id: int, number: int, rows: Sequence[RowStart]) -> Ingested:
    """Take a chunk of rows in: a known one is a no-op, changed content a new generation.

    Raises:
        InputError: two rows of this reading have the same key and ordinal.
    """
    known = _newest(connection, job_id, {row.key for row in rows})
    tag_ids, tagsets = TagIds(), dict[int, str]()
    added: list[tuple[sql.Column, ...]] = []
    placed: list[tuple[sql.Column, ...]] = []
    new = changed = invalid = 0
    for row in rows:
        identity = (row.key, row.ordinal)
        row_id, generation, content, seen = known.get(identity, (None, -1, None, None))
        if seen == number:
            raise InputError(f"row {row.line or row.position + 1}: the key {row.key!r} stands there twice")
        invalid += row.error is not None
        if row_id is not None and content == row.content:
            placed.append((row.position, row.line, number, row_id))
        else:
            new, changed = new + (row_id is None), changed + (row_id is not None)
            added.append(_row_columns(job_id, number, row, generation + 1, _tagset(tag_ids, tagsets, row)))
        known[identity] = (row_id or row.id, generation, row.content, number)
    store_tagsets(connection, tagsets)
    sql.insert_rows(connection, added)
    sql.place_rows(connection, placed)
    return Ingested(new, len(placed), changed, invalid)


_Known = dict[tuple[str, int], tuple[int | None, int, str | None, int | None]]


def _newest(connection: Connection, job_id: int, keys: set[str]) -> _Known:
    row = t.ROWS.c
    found = connection.execute(
        select(row.row_key, row.ordinal, row.id, row.generation, row.content, row.seen)
        .where(row.job_id == job_id, row.row_key.in_(sorted(keys)))
        .order_by(row.generation)
    )
    return {
        (key, ordinal): (row_id, generation, content, seen)
        for key, ordinal, row_id, generation, content, seen in found
    }


def _tagset(tag_ids: TagIds, tagsets: dict[int, str], row: RowStart) -> int | None:
    if not row.tags:
        return None
    number, text = tag_ids(row.tags)
    if text is not None:
        tagsets[number] = text
        tag_ids.remember({number: text})
    return number


def _row_columns(
    job_id: int, number: int, row: RowStart, generation: int, tagset_id: int | None
) -> tuple[sql.Column, ...]:
    state = RowState.PENDING if row.error is None else RowState.INVALID
    return (
        row.id,
        job_id,
        storable(row.key),
        row.ordinal,
        generation,
        row.content,
        row.position,
        row.line,
        number,
        state.value,
        maybe_json(row.variables),
        maybe_json(row.passthrough),
        tagset_id,
        row.deliverable,
        row.parent_call_id,
        row.redo_of_id,
        int(row.canary),
        0,
        None,
        None if row.error is None else storable(row.error),
        None,
    )
