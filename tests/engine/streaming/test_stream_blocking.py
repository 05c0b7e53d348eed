"""`PromptKit.stream`: pieces over the loop thread, from scripts, threads, notebooks and the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cli_kit import simulating
from studio import BIG, REF, Studio, assert_books_agree, attempts_of
from waiting import HANGS_S, wait_for

from promptkit import PromptKit, StreamCut
from promptkit._util.notices import show_notices
from promptkit.errors import UsageError
from promptkit.ledger.ledger import Ledger
from promptkit.simulator.scenario import Scenario
from promptkit.types import AttemptState, Status

WORDS: dict[str, object] = {"brand": "Barly"}
STALL = {"fault": "wire.stall_stream", "times": None}


@pytest.fixture
def blocking(tmp_path: Path, blank_database: Path) -> Iterator[Studio]:
    """A studio whose simulator runs on another thread."""
    with simulating(seed=7, scenario=Scenario(models=(BIG,))) as sim:
        yield Studio.build(tmp_path, sim, blank_database)


def kit_of(studio: Studio) -> PromptKit:
    show_notices(studio.said.append)
    return PromptKit(studio.settings())


def assert_given_up(studio: Studio, streams: int = 1) -> None:
    """The books after streams that were left: each settled with an estimate, nothing held."""
    with Ledger.open(studio.folder / "promptkit.db") as ledger:
        attempts = attempts_of(ledger)
        assert [attempt.state for attempt in attempts] == [AttemptState.UNKNOWN] * streams
        assert all(attempt.estimate is not None for attempt in attempts)
        assert not any(scope.reserved_pico for scope in ledger.reports.budgets())
        assert_books_agree(ledger, studio)


def test_pieces_and_reply(blocking: Studio) -> None:
    """In a block and in a plain loop the pieces make up the reply, which is there at the end and not before."""
    with kit_of(blocking) as kit:
        with kit.stream(REF, WORDS, tags={"client": "barly"}) as stream:
            with pytest.raises(UsageError):
                _ = stream.reply
            pieces = list(stream)
        plain = kit.stream(REF, WORDS)
        assert "".join(plain) == "".join(pieces) == stream.reply.text == plain.reply.text
        assert len(pieces) > 1
        assert (stream.reply.status, stream.reply.tags) == (Status.OK, {"client": "barly"})
        assert list(stream) == []
        stream.close()
    assert blocking.asked() == 2


def test_a_cut_is_raised(blocking: Studio) -> None:
    """What breaks off after the first word is raised with what had come."""
    blocking.sim.script([{"fault": "wire.cut_stream", "at": 0.6}])
    with kit_of(blocking) as kit, kit.stream(REF, WORDS) as stream:
        pieces: list[str] = []
        with pytest.raises(StreamCut) as caught:
            pieces.extend(stream)
        assert caught.value.text.startswith("".join(pieces))
        assert caught.value.attempts[0].estimate is not None


def test_leaving_early(blocking: Studio) -> None:
    """A block that is left, a loop that is left, and a kit that is closed each end their stream, before they return."""
    blocking.sim.script([STALL])
    with kit_of(blocking) as kit:
        with kit.stream(REF, WORDS) as stream:
            assert next(iter(stream))
        for piece in kit.stream(REF, WORDS):
            assert piece
            break
        gc.collect()
        assert_given_up(blocking, 2)
        left = iter(kit.stream(REF, WORDS))
        assert next(left)
    assert_given_up(blocking, 3)
    assert list(left) == []


def test_the_garbage_collector_may_be_on_the_loop_thread(blocking: Studio) -> None:
    """A stream in a cycle that is collected on the kit's own thread ends without waiting for itself."""
    blocking.sim.script([STALL])
    with kit_of(blocking) as kit:

        def leave() -> None:
            pieces = iter(kit.stream(REF, WORDS))
            assert next(pieces)
            cycle: list[Any] = [pieces]
            cycle.append(cycle)

        async def collect() -> None:
            gc.collect()

        gc.disable()
        try:
            leave()
            kit._run(collect())  # pyright: ignore[reportPrivateUsage] - where any allocation may collect
        finally:
            gc.enable()
        with Ledger.open(blocking.folder / "promptkit.db") as ledger:
            wait_for(lambda: attempts_of(ledger)[0].state is AttemptState.UNKNOWN)
    assert_given_up(blocking)


def test_threads_stream_side_by_side(blocking: Studio) -> None:
    """Threads that share a kit each read their own text."""

    def text(kit: PromptKit, number: int) -> tuple[str, str]:
        with kit.stream(REF, {"brand": f"B{number}"}) as stream:
            return "".join(stream), stream.reply.text

    with kit_of(blocking) as kit, ThreadPoolExecutor(8) as pool:
        read = list(pool.map(partial(text, kit), range(16)))
    assert all(one == other for one, other in read)
    assert blocking.asked() == 16


async def test_it_works_where_a_loop_runs(blocking: Studio) -> None:
    """In a notebook, where a loop runs in the very thread, it reads like anywhere else."""
    asyncio.get_running_loop()
    with kit_of(blocking) as kit, kit.stream(REF, WORDS) as stream:
        assert "".join(stream) == stream.reply.text


@pytest.mark.parametrize(
    "code",
    [
        "with PromptKit(sys.argv[1]) as kit, kit.stream('ad/line', {'brand': 'B'}) as s:\n    [print(p, flush=True) for p in s]",
        "for piece in PromptKit(sys.argv[1]).stream('ad/line', {'brand': 'B'}): print(piece, flush=True)",
    ],
    ids=["with", "without"],
)
def test_an_interrupt_is_recorded(blocking: Studio, code: str) -> None:
    """Ctrl-C in mid-text ends it at once, and the attempt is settled with an estimate."""
    blocking.sim.script([STALL])
    told = [sys.executable, "-W", "ignore", "-c", f"import sys; from promptkit import PromptKit\n{code}"]
    process = subprocess.Popen(  # noqa: S603 - the tests' own code
        [*told, str(blocking.folder / "promptkit.toml")], stdout=-1, stderr=-1
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, told_err = process.communicate(timeout=HANGS_S)
    assert b"KeyboardInterrupt" in told_err
    assert process.returncode != 0
    assert_given_up(blocking)


def test_no_thread_is_left(blocking: Studio) -> None:
    """A stream starts the one loop thread, and closing the kit ends it."""
    with kit_of(blocking) as kit:
        unread = kit.stream(REF, WORDS)
        assert "promptkit-loop" not in {thread.name for thread in threading.enumerate()}
        unread.close()
        assert "".join(kit.stream(REF, WORDS))
    assert "promptkit-loop" not in {thread.name for thread in threading.enumerate()}
