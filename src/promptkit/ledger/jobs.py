"""Jobs and their rows: pinned once, read in chunks, paged out by position."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from promptkit.errors import InputError
from promptkit.ledger import statements as columns
from promptkit.ledger import statements as sql
from promptkit.ledger import tables as t
from promptkit.types import Json

from .calls import REJECTED
from .group import store_tagsets
from .records import Ingested, InputRead, JobRecord, JobStart, JobState, RowEnd, RowStart, RowState
from .statements import TagIds, maybe_json, read_json, read_object, storable, to_json

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


def take_back(connection: Connection, job_id: int) -> None:
    """Remove a job that was made just now and has asked nothing, with the rows it took in."""
    connection.execute(delete(t.ROWS).where(t.ROWS.c.job_id == job_id))
    connection.execute(delete(t.JOBS).where(t.JOBS.c.id == job_id))


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


def cancel(connection: Connection, job_id: int, now_us: int) -> bool:
    """Cancel a job unless it is done; returns whether it is cancelled now."""
    done = connection.execute(
        update(t.JOBS)
        .where(t.JOBS.c.id == job_id, t.JOBS.c.state == JobState.OPEN.value)
        .values(state=JobState.CANCELLED.value, ended_us=now_us)
    )
    return bool(done.rowcount)


def remember_run(
    connection: Connection, job_id: int, options: Mapping[str, Json], output_path: str | None
) -> None:
    """Keep how a job runs now, for whoever goes on with it; what it pinned stays as it is."""
    kept = connection.execute(select(t.JOBS.c.options).where(t.JOBS.c.id == job_id)).scalar_one()
    told = to_json({**read_object(kept), **options})
    connection.execute(
        update(t.JOBS).where(t.JOBS.c.id == job_id).values(options=told, output_path=output_path)
    )


def rate(
    connection: Connection, call_ids: Sequence[int], verdict: str | None, note: str | None, now_us: int
) -> int:
    """Say what became of replies; returns how many."""
    done = connection.execute(
        update(t.CALLS)
        .where(t.CALLS.c.id.in_(call_ids))
        .values(
            verdict=verdict,
            verdict_us=None if verdict is None else now_us,
            verdict_note=None if note is None else storable(note),
        )
    )
    if verdict == REJECTED:  # of what was served again: nobody is to meet it a third time
        originals = select(t.CALLS.c.cached_from_id).where(t.CALLS.c.id.in_(call_ids))
        connection.execute(update(t.CALLS).where(t.CALLS.c.id.in_(originals)).values(cache_key=None))
    return done.rowcount


def reset_rows(connection: Connection, job_id: int, states: Sequence[RowState]) -> int:
    """Make rows pending again (`--retry-failed`); returns how many."""
    done = connection.execute(
        update(t.ROWS)
        .where(t.ROWS.c.job_id == job_id, t.ROWS.c.state.in_([state.value for state in states]))
        .values(state=RowState.PENDING.value, call_id=None, error=None, ended_us=None, unknowns=0)
    )
    return done.rowcount


# ------------------------------------------------------------------------------- rows
def end_row(connection: Connection, row: RowEnd) -> None:
    """Say how a row ended that no call was made for."""
    sql.update_rows(connection, [columns.row_end(row)])


def erase_texts(
    connection: Connection, job_id: int, *, replies_of: Sequence[int], inputs_of: Sequence[int]
) -> None:
    """Erase the replies of some rows, and what some rows were made of, for good.

    The job no longer knows its input then: the next start reads it again.
    """
    calls = select(t.CALLS.c.id).where(t.CALLS.c.row_id.in_(replies_of))
    connection.execute(delete(t.REPLIES).where(t.REPLIES.c.call_id.in_(calls)))
    connection.execute(
        update(t.ROWS).where(t.ROWS.c.id.in_(inputs_of)).values(variables=None, passthrough=None)
    )
    if inputs_of:
        connection.execute(update(t.JOBS).where(t.JOBS.c.id == job_id).values(input_sha256=None))


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
    values: dict[str, object] = {
        "ingested": t.JOBS.c.ingest,
        "ingested_us": now_us,
        "input_sha256": read.sha256,
    }
    if read.columns is not None:
        values["columns"] = to_json(read.columns)
    connection.execute(update(t.JOBS).where(t.JOBS.c.id == job_id).values(values))


def chunks(rows: Iterable[RowStart]) -> Iterator[list[RowStart]]:
    """The rows in lists of `CHUNK`."""
    source = iter(rows)
    while chunk := list(islice(source, CHUNK)):
        yield chunk


def ingest(connection: Connection, job_id: int, number: int, rows: Sequence[RowStart]) -> Ingested:
    """Take a chunk of rows in: a known one is only placed, new content is a new generation.

    Content that an earlier generation of the key had is that generation again: it may be paid.

    Raises:
        InputError: two rows of this reading have the same key and ordinal.
    """
    rows = _with_parents(connection, rows)
    known = _known(connection, job_id, {row.key for row in rows})
    tag_ids, tagsets = TagIds(), dict[int, str]()
    added: list[tuple[sql.Column, ...]] = []
    placed: list[tuple[sql.Column, ...]] = []
    new = changed = invalid = 0
    for row in rows:
        before = known.setdefault((storable(row.key), row.ordinal), _Key())
        if before.seen == number:
            raise InputError(f"row {row.line or row.position + 1}: the key {row.key!r} stands there twice")
        before.seen = number
        invalid += row.error is not None
        tagset_id = _tagset(tag_ids, tagsets, row)
        row_id = before.rows.get(row.content)
        if row_id is not None:
            belongs = (tagset_id, row.deliverable, row.parent_call_id)
            placed.append((row.position, row.line, number, *_texts(row), *belongs, row_id))
        else:
            new, changed = new + (not before.rows), changed + bool(before.rows)
            added.append(_row_columns(job_id, number, row, before.generations, tagset_id))
    store_tagsets(connection, tagsets)
    sql.insert_rows(connection, added)
    sql.place_rows(connection, placed)
    return Ingested(new, len(placed), changed, invalid)


def parents(connection: Connection, call_ids: Collection[int]) -> dict[int, str | None]:
    """Those of the calls that there are, with their deliverables."""
    if not call_ids:
        return {}
    found = connection.execute(_PARENTS, {"ids": sorted(call_ids)})
    return {row.id: row.deliverable for row in found}


_PARENTS: Final = select(t.CALLS.c.id, t.CALLS.c.deliverable).where(
    t.CALLS.c.id.in_(bindparam("ids", expanding=True))
)


def _with_parents(connection: Connection, rows: Sequence[RowStart]) -> Sequence[RowStart]:
    """The rows, each with the parent that there is, and its deliverable where the row names none."""
    named = {row.parent_call_id for row in rows if row.parent_call_id is not None}
    if not named:
        return rows
    known = parents(connection, named)
    return [
        replace(row, deliverable=row.deliverable or known[row.parent_call_id])
        if row.parent_call_id in known
        else replace(row, parent_call_id=None)
        for row in rows
    ]


@dataclass(slots=True)
class _Key:
    """What a job knows of a key and ordinal: its rows by content, and the last reading that held it."""

    rows: dict[str, int] = field(default_factory=dict[str, int])
    generations: int = 0
    seen: int = 0


_KNOWN: Final = select(
    t.ROWS.c.row_key, t.ROWS.c.ordinal, t.ROWS.c.id, t.ROWS.c.generation, t.ROWS.c.content, t.ROWS.c.seen
).where(t.ROWS.c.job_id == bindparam("job"), t.ROWS.c.row_key.in_(bindparam("keys", expanding=True)))
"""Made once: a statement is a cycle of objects, and one a chunk would keep its keys until they are collected."""


def _known(connection: Connection, job_id: int, keys: set[str]) -> dict[tuple[str, int], _Key]:
    found = connection.execute(_KNOWN, {"job": job_id, "keys": sorted(storable(key) for key in keys)})
    known: dict[tuple[str, int], _Key] = {}
    for key, ordinal, row_id, generation, content, seen in found:
        one = known.setdefault((key, ordinal), _Key())
        one.rows[content] = row_id
        one.generations = max(one.generations, generation + 1)
        one.seen = max(one.seen, seen)
    return known


def _texts(row: RowStart) -> tuple[sql.Column, sql.Column]:
    return maybe_json(row.variables), maybe_json(row.passthrough)


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
        *_texts(row),
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
