"""Locks, the queue's bound, and how values become columns."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_making import SOURCE, attempt_start, call_start, one_call
from sqlalchemy import bindparam, create_engine

from promptkit._util.locks import CommitLock, LockFile
from promptkit.errors import LedgerError
from promptkit.ledger import statements as sql
from promptkit.ledger import tables as t
from promptkit.ledger import writer as writing
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.statements import TagIds, digest_id, read_json, read_object, storable, to_json


def test_a_lock_that_is_removed_while_it_is_taken_is_never_held_twice(tmp_path: Path) -> None:
    """However threads take and remove the same lock file, one at a time has it."""
    inside, most = 0, 0
    counting = threading.Lock()

    def contend() -> None:
        nonlocal inside, most
        lock = LockFile(tmp_path / "lock")
        for _ in range(300):
            if lock.try_lock():
                with counting:
                    inside, most = inside + 1, max(most, inside + 1)
                with counting:
                    inside -= 1
                lock.release()

    threads = [threading.Thread(target=contend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_lock_file_that_cannot_be_read_names_nobody(tmp_path: Path) -> None:
    """A holder who wrote no pid is just another process; letting go twice is once; a link isn't followed."""
    lock = LockFile(tmp_path / "lock")
    assert lock.holder() is None
    assert lock.try_lock()
    assert lock.holder() is not None
    lock.path.write_text("x")
    assert lock.holder() is None
    lock.release(remove=False)
    lock.release()
    assert lock.path.exists()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="link"):
        LockFile(link).try_lock()
    assert not (tmp_path / "target").exists()


def test_a_commit_lock_goes_from_one_to_the_next(tmp_path: Path) -> None:
    """Who waits gets it when it is released, also after having given up once."""
    one, two = CommitLock(tmp_path / "commit"), CommitLock(tmp_path / "commit")
    one.take(180)
    assert not two.acquire(0.01)
    two.release()
    with pytest.raises(LedgerError, match="does not release it"):
        two.take(0.01)
    two.close()
    one.release()
    two.take(180)
    two.release()
    for lock in (one, two):
        lock.close()


async def test_a_full_queue_makes_callers_wait(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue is bounded: callers beyond it wait, cancelled ones drop out, and all others are served."""
    monkeypatch.setattr(writing, "QUEUE_AT_MOST", 3)
    tasks = [asyncio.create_task(one_call(ledger)) for _ in range(50)]
    call = call_start()
    dropped = asyncio.create_task(ledger.calls.begin(attempt_start(call.id), (), call))
    await asyncio.sleep(0)
    dropped.cancel()
    await asyncio.gather(*tasks)
    assert dropped.cancelled()
    assert ledger.reports.spent_total().attempts == 50


async def test_leaving_while_waiting(ledger: Ledger) -> None:
    """A caller that stops waiting for room, or whose loop has ended, disturbs nobody."""
    waiting = asyncio.create_task(ledger.calls.wait_for_release(180))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    def elsewhere() -> None:
        loop = asyncio.new_event_loop()
        loop.create_task(one_call(ledger))  # noqa: RUF006 - it is left behind on purpose
        loop.run_until_complete(asyncio.sleep(0))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    await asyncio.to_thread(elsewhere)
    await ledger.calls.store_templates([SOURCE])
    await one_call(ledger)


@given(st.text())
def test_any_text_can_be_stored(text: str) -> None:
    """What is storable encodes as UTF-8 without NUL, and is the text itself where that was so already."""
    kept = storable(text)
    assert "\x00" not in kept.encode().decode()
    assert kept == text or "\ufffd" in kept


_storable = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | _storable,
    lambda inner: st.lists(inner) | st.dictionaries(_storable, inner),
    max_leaves=8,
)


@given(_json)
@settings(max_examples=60)
def test_json_comes_back(value: object) -> None:
    """JSON survives its column, in its order."""
    assert json.dumps(read_json(to_json(value))) == json.dumps(value)


def test_what_is_no_json_is_refused() -> None:
    """NaN and objects are no JSON; a column that holds no object reads as none."""
    with pytest.raises(ValueError, match="JSON"):
        to_json(float("nan"))
    with pytest.raises(TypeError, match="set is not JSON"):
        to_json({1})
    assert to_json({"a": SOURCE.includes}) == to_json({"a": dict(SOURCE.includes)})
    assert (read_object(None), read_object("[1]")) == ({}, {})


@given(st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=3), min_size=1), max_size=20))
@settings(max_examples=50)
def test_tag_sets_have_one_id(sets: Sequence[dict[str, str]]) -> None:
    """A set's id doesn't depend on its order, and is the same once it is remembered."""
    ids = TagIds()
    for tags in sets:
        number, text = ids(dict(reversed(tags.items())))
        assert number == digest_id(to_json(dict(sorted(tags.items()))))
        assert 0 <= number < 1 << 63
        if text is not None:
            ids.remember({number: text})
        assert ids(tags) == (number, None)


def test_tag_sets_are_forgotten_when_there_are_many() -> None:
    """Memory stays flat however many sets a night has."""
    ids = TagIds()
    ids.remember({number: to_json({"row": str(number)}) for number in range(10_001)})
    assert ids({"row": "7"}) == (7, None)
    ids.remember({1: '{"a":"b"}'})
    assert ids({"row": "7"})[1] is not None


def test_rows_are_stored_by_their_keys_in_any_order() -> None:
    """A value goes to the column of its key, whatever the order of the keys and of the columns."""
    table = t.PRICE_SOURCES
    add, change = sql.Bulk(table.insert()), sql.Bulk(table.update().where(table.c.id == bindparam("key")))
    with create_engine("sqlite://").connect() as connection:
        table.create(connection)
        add(connection, [{"source": "a", "id": 1}])
        add(connection, [{"id": 2, "source": "b"}, {"id": 3, "source": "c"}])
        add(connection, [])
        change(connection, [{"key": 2, "source": "d"}])
        change(connection, [{"source": "e", "key": 3}])
        assert connection.execute(table.select()).all() == [(1, "a"), (2, "d"), (3, "e")]
