"""Full-text search: what a user may type, and what is found."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some
from ledger_making import attempt_end, attempt_start, call_end, call_start

from promptkit.ledger.erasing import Erase
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import LogFilter
from promptkit.ledger.search import match_of


async def say(ledger: Ledger, text: str, **more: object) -> int:
    """A call with that reply."""
    call = call_start(**more)  # pyright: ignore[reportArgumentType]
    attempt = attempt_start(call.id)
    await ledger.calls.begin(attempt, (), call)
    await ledger.calls.finish(attempt_end(attempt), call_end(call, text=text))
    return call.id


def found(ledger: Ledger, text: str) -> list[int]:
    """The calls that a search finds, newest first."""
    return [call.id for call in ledger.calls.search(where=LogFilter(text=text))]


@given(text=some.text() | some.text(alphabet="\"'*^:()+-AND OR NEAR{}a é\\"))
def test_no_query_breaks_the_syntax(text: str) -> None:
    """Whatever is typed is looked for, and never read as FTS5's own language."""
    match = match_of(text)
    if match is not None:
        index = sqlite3.connect(":memory:")
        index.execute("CREATE VIRTUAL TABLE words USING fts5(text)")
        index.execute("SELECT rowid FROM words WHERE words MATCH ?", (match.replace("\x00", ""),)).fetchall()
        index.close()


async def test_words_phrases_beginnings_and_accents(ledger: Ledger) -> None:
    """All words in any order, by their beginnings, without case and accents; a phrase in quotes; emoji and Chinese by reading."""
    slump = await say(ledger, "Le coup de mou de 16 h\nÉté 🙏 蛋白棒")
    other = await say(ledger, "mou", variables={"brand": "Lumé", "proof": ["no\nslump"]})
    assert found(ledger, "mou") == [other, slump]
    assert found(ledger, "MOU coup") == [slump]
    assert found(ledger, '"coup de mou"') == [slump]
    assert found(ledger, '"mou coup"') == []
    assert found(ledger, "ete") == [slump]
    assert found(ledger, "lume slum") == [other]
    assert found(ledger, "🙏") == found(ledger, "白") == [slump]
    later = await say(ledger, "encore mou")
    assert found(ledger, "mou") == [later, other, slump]


async def test_what_is_erased_is_not_found_and_its_words_go(ledger: Ledger, database: Path) -> None:
    """The index is deleted with the texts, and made anew from what is left."""
    gone = await say(ledger, "zanzibar mou")
    kept = await say(ledger, "mou")
    index = database.with_name(f"{database.name}-search")
    assert found(ledger, "zanzibar") == [gone]
    assert b"zanzibar" in index.read_bytes()
    assert index.stat().st_mode & 0o777 == 0o600
    await ledger.erase(Erase(call_ids=(gone,)))
    assert not index.exists()
    assert found(ledger, "zanzibar") == []
    assert found(ledger, "mou") == [kept]
    assert b"zanzibar" not in index.read_bytes()


async def test_a_broken_index_is_done_without(ledger: Ledger, database: Path) -> None:
    """Then every text is read."""
    call = await say(ledger, "zanzibar")
    database.with_name(f"{database.name}-search").write_bytes(b"no database" * 100)
    assert found(ledger, "zanzibar") == [call]


@pytest.mark.parametrize("text", ["", '""', "!?", "_", "蛋白"])
def test_what_an_index_of_words_can_not_answer(text: str) -> None:
    """No word, or a script without spaces."""
    assert match_of(text) is None
