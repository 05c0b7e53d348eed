"""Full-text search: an index beside the database, updated by a search and not by a call.

The file `<database>-search` has words and no texts, and can be deleted at any time: the next search
makes a new one. Erasing texts deletes it, after the commit; a search opens it before it reads the
ledger. So no word of an erased text is found, or stays on disk.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection, select

from promptkit.ledger import tables as t
from promptkit.types import Json

from .statements import read_json

_PAGE = 500


_LATE = (3 * 24 * 3_600_000) << 21
"""How much earlier (in ids, which begin with milliseconds) a call that ends now can have begun."""


_TERM = re.compile(r'"([^"]*)"?|([^\s"]+)')


_WORD = re.compile(r"[^\W_]")


_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


_SCHEMA = """
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(text, content='', tokenize="unicode61 remove_diacritics 2");
CREATE TABLE IF NOT EXISTS done (id INTEGER PRIMARY KEY);
"""


def match_of(text: str) -> str | None:
    """Return a search as an FTS5 expression, every term quoted: it can't break the syntax.

    A text must have all words, each as the beginning of a word; words `"in quotes"` must follow each
    other. None if an index of words can't answer it: no word at all, or a script without spaces.
    """
    if _UNSPACED.search(text):
        return None
    terms = [(phrase, "") if phrase else (word, " *") for phrase, word in _TERM.findall(text)]
    return " AND ".join(f'"{term}"{prefix}' for term, prefix in terms if _WORD.search(term)) or None


def drop(database: Path) -> None:
    """Delete the index of a database."""
    for ending in ("", "-journal"):
        with suppress(FileNotFoundError):
            Path(f"{_file(database)}{ending}").unlink()


def _file(database: Path) -> Path:
    return database.with_name(f"{database.name}-search")


class Index:
    """The open index. Call `update`, then `pages`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def update(self, ledger: Connection) -> None:
        """Add the calls that have ended since the last search."""
        with self._connection as index:
            index.execute("BEGIN IMMEDIATE")
            (last,) = index.execute("SELECT coalesce(max(id), 0) FROM done").fetchone()
            after = max(last - _LATE, 0)
            done = {call_id for (call_id,) in index.execute("SELECT id FROM done WHERE id > ?", (after,))}
            for ids in _ended(ledger, after):
                fresh = _read(ledger, [call_id for call_id in ids if call_id not in done])
                index.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", fresh)
                index.executemany("INSERT INTO done (id) VALUES (?)", [(call_id,) for call_id, _ in fresh])

    def pages(self, match: str) -> Iterator[list[int]]:
        """Yield the calls that match, newest first, in pages."""
        before = 1 << 62
        query = "SELECT rowid FROM words WHERE words MATCH ? AND rowid < ? ORDER BY rowid DESC LIMIT ?"
        while page := [call_id for (call_id,) in self._connection.execute(query, (match, before, _PAGE))]:
            before = page[-1]
            yield page


@contextmanager
def opened(database: Path) -> Generator[Index, None, None]:
    """Open the index of a database; create it if there is none, readable by its owner only.

    Raises:
        sqlite3.Error: it can't be used.
        OSError: it can't be made.
    """
    file = _file(database)
    os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(file, timeout=60, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(_SCHEMA)
        yield Index(connection)


def _ended(ledger: Connection, after: int) -> Iterator[list[int]]:
    """Yield the calls that have ended, in pages; most of those before the last search are in the index."""
    call = t.CALLS.c
    while True:
        query = (
            select(call.id)
            .where(call.id > after, call.status.is_not(None), call.forgotten_us.is_(None))
            .order_by(call.id)
            .limit(_PAGE)
        )
        ids = list(ledger.execute(query).scalars())
        ledger.rollback()  # no read transaction over the whole of it
        if not ids:
            return
        after = ids[-1]
        yield ids


def _read(ledger: Connection, ids: list[int]) -> list[tuple[int, str]]:
    """Return the texts of some calls; none of calls that were erased meanwhile."""
    call = t.CALLS.c
    if not ids:
        return []
    query = (
        select(call.id, call.variables, call.error, t.REPLIES.c.text)
        .outerjoin(t.REPLIES, t.REPLIES.c.call_id == call.id)
        .where(call.id.in_(ids), call.forgotten_us.is_(None))
    )
    rows = ledger.execute(query).all()
    ledger.rollback()
    return [(row.id, "\n".join(_texts(row.variables, row.error, row.text))) for row in rows]


def _texts(variables: str | None, *more: str | None) -> Iterator[str]:
    if variables is not None:
        yield from _strings(read_json(variables))
    yield from (text for text in more if text)


def _strings(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        inner: Iterable[Json] = value.values() if isinstance(value, dict) else value
        for element in inner:
            yield from _strings(element)
