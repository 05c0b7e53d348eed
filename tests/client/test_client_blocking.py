"""`PromptKit`: blocking, over a loop thread of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cli_kit import simulating
from studio import BIG, LINE, REF, Studio, attempts_of, brands
from waiting import HANGS_S, wait_for

from promptkit import PromptKit
from promptkit._util.notices import show_notices
from promptkit.client.streams import LoopThread
from promptkit.errors import AllTargetsFailed, BudgetStop, UsageError, VariableError
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import RowState
from promptkit.simulator.scenario import Scenario
from promptkit.types import AttemptState, Reply, Status


@pytest.fixture
def blocking(tmp_path: Path, blank_database: Path) -> Iterator[Studio]:
    """A studio whose simulator runs on another thread."""
    with simulating(seed=7, scenario=Scenario(models=(BIG,))) as sim:
        yield Studio.build(tmp_path, sim, blank_database)


def kit_of(studio: Studio) -> PromptKit:
    show_notices(studio.said.append)
    return PromptKit(studio.settings())


def ask(kit: PromptKit, number: int) -> Reply:
    return kit.run(REF, {"brand": f"B{number}"})


def started(studio: Studio, code: str) -> subprocess.Popen[bytes]:
    """A process that runs that code; its argument is the config file."""
    told = [sys.executable, "-W", "ignore", "-c", code, str(studio.folder / "promptkit.toml")]
    return subprocess.Popen(told, stdout=-1, stderr=-1)  # noqa: S603 - the tests' own code


def test_run_render_and_batch(blocking: Studio) -> None:
    """The blocking kit has the same names as the asynchronous one, and the same results."""
    with kit_of(blocking) as kit:
        prompt = kit.render(REF, {"brand": "Barly"})
        reply = kit.run(REF, {"brand": "Barly"}, tags={"client": "barly"})
        assert (reply.status, reply.prompt_digest, reply.tags) == (
            Status.OK,
            prompt.digest,
            {"client": "barly"},
        )
        job = kit.batch(REF, brands(4), job="night", concurrency=2)
        assert sorted(result.number for result in job) == [1, 2, 3, 4]
        assert job.report().rows == {RowState.OK: 4}
        assert [result.number for result in job] == [1, 2, 3, 4]
        job.halt()
        assert len(kit.session.settings.routes) == 2
    assert blocking.asked() == 5


async def test_under_a_running_loop(blocking: Studio) -> None:
    """It works where a loop runs already, as in a notebook."""
    with kit_of(blocking) as kit:
        assert kit.run(REF, {"brand": "Barly"}).text
        assert len(list(kit.batch(REF, brands(2), job="night"))) == 2


def test_from_several_threads(blocking: Studio) -> None:
    """Threads may share one kit; each gets its own reply, and each call is in the books once."""
    with kit_of(blocking) as kit, ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(partial(ask, kit), range(24)))
    assert len({reply.id for reply in replies}) == len({reply.prompt_digest for reply in replies}) == 24
    assert blocking.asked() == 24


def test_closed_and_used_again(blocking: Studio) -> None:
    """A closed kit may be used again, and closing twice does no harm."""
    kit = kit_of(blocking)
    kit.close()
    job = kit.batch(REF, brands(2), job="night")
    for _ in range(2):
        assert kit.run(REF, {"brand": "Barly"}).text
        with ThreadPoolExecutor(8) as pool:
            assert all(reply.text for reply in pool.map(partial(ask, kit), range(8)))
        assert len(list(job)) == 2
        kit.close()
        kit.close()
    assert "promptkit-loop" not in {thread.name for thread in threading.enumerate()}


def test_closing_tells_the_threads_that_wait(blocking: Studio) -> None:
    """A call that waits in another thread is cancelled when the kit closes, and recorded as unknown."""
    blocking.sim.script(["wire.stall"])
    kit = kit_of(blocking)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(kit.run, REF, {"brand": "Barly"})
        wait_for(lambda: blocking.asked() == 1)
        kit.close()
        with pytest.raises((asyncio.CancelledError, FutureCancelled)):
            call.result(HANGS_S)
    with Ledger.open(blocking.folder / "promptkit.db") as ledger:
        assert [attempt.state for attempt in attempts_of(ledger)] == [AttemptState.UNKNOWN]


def test_rendering_touches_nothing(blocking: Studio) -> None:
    """`render` opens no database, no connection and no thread."""
    (blocking.folder / "promptkit.db").unlink()
    before = threading.active_count()
    kit = kit_of(blocking)
    assert kit.render(REF, {"brand": "Barly"}).messages[1].content == "Brand: Barly. Angle: proof."
    with pytest.raises(VariableError, match="brand"):
        kit.render(REF)
    assert threading.active_count() == before
    assert not (blocking.folder / "promptkit.db").exists()
    assert blocking.asked() == 0
    kit.close()


def test_rendering_imports_no_sdk(blocking: Studio) -> None:
    """`render` loads no SDK and no SQLModel."""
    code = (
        "import sys; from promptkit import PromptKit; kit = PromptKit(sys.argv[1]); kit.render('ad/line', {'brand': 'B'});"
        "print(*(name for name in ('openai', 'anthropic', 'google.genai', 'sqlmodel', 'sqlalchemy') if name in sys.modules))"
    )
    out, _ = started(blocking, code).communicate(timeout=HANGS_S)
    assert out.strip() == b""


def test_errors_carry_every_attempt(blocking: Studio) -> None:
    """What `run` raises has each attempt with its target and fault."""
    blocking.configure(route="max_wait_s = 0.05")
    blocking.sim.script(["http.500"])
    with kit_of(blocking) as kit, pytest.raises(AllTargetsFailed) as caught:
        kit.run(REF, {"brand": "Barly"})
    assert len({attempt.target for attempt in caught.value.attempts}) == 3


@pytest.mark.parametrize(
    "code",
    [
        "with PromptKit(sys.argv[1]) as kit:\n    kit.run('ad/line', {'brand': 'B'})",
        "PromptKit(sys.argv[1]).run('ad/line', {'brand': 'B'})",
    ],
    ids=["with", "without"],
)
def test_an_interrupt_is_recorded(blocking: Studio, code: str) -> None:
    """Ctrl-C while a call waits ends it at once: the attempt is unknown in the books, and nothing hangs."""
    blocking.sim.script(["wire.stall"])
    process = started(blocking, f"import sys; from promptkit import PromptKit\n{code}")
    wait_for(lambda: blocking.asked() == 1)
    process.send_signal(signal.SIGINT)
    _, told_err = process.communicate(timeout=HANGS_S)
    assert b"KeyboardInterrupt" in told_err
    assert process.returncode != 0
    with Ledger.open(blocking.folder / "promptkit.db") as ledger:
        [attempt] = attempts_of(ledger)
        assert (attempt.state, attempt.detail) == (AttemptState.UNKNOWN, "stopped while it was under way")


def test_breaking_out_of_a_batch(blocking: Studio) -> None:
    """Leaving the loop early lets what is in flight finish, and frees the job for the next start."""
    with kit_of(blocking) as kit:
        for result in kit.batch(REF, brands(30), job="night", concurrency=4):
            assert result.status is Status.OK
            break
        rest = list(kit.batch(REF, brands(30), job="night"))
        assert len(rest) == 30
    with Ledger.open(blocking.folder / "promptkit.db") as ledger:
        assert {attempt.state for attempt in attempts_of(ledger)} == {AttemptState.OK}
    assert blocking.asked() == 30


def test_a_job_that_stops_raises_why(blocking: Studio) -> None:
    """What ends a job early is raised after its results, and the report tells what waits."""
    with kit_of(blocking) as kit:
        job = kit.batch(REF, brands(20), job="night", budget_usd=Decimal("0.0005"))
        with pytest.raises(BudgetStop):
            list(job)
        assert job.report().pending > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_is_told(blocking: Studio) -> None:
    """A kit that was in use before a fork says so in the child, instead of hanging there."""
    code = """
import os, sys
from promptkit import PromptKit
from promptkit.errors import PromptKitError
kit = PromptKit(sys.argv[1])
kit.run('ad/line', {'brand': 'B'})
if os.fork() == 0:
    try:
        kit.run('ad/line', {'brand': 'B'})
    except PromptKitError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
kit.close()
"""
    out, _ = started(blocking, code).communicate(timeout=HANGS_S)
    assert b"before the process was forked" in out
    assert b"after the fork" in out
    assert blocking.asked() == 1


def test_closing_while_a_batch_is_half_read(blocking: Studio) -> None:
    """A kit may be closed over an iterator that is read half: nothing is complained of, and the process ends."""
    code = """
import sys
from promptkit import PromptKit
kit = PromptKit(sys.argv[1])
half = iter(kit.batch("ad/line", [{"brand": name} for name in "ABC"], job="n"))
print(next(half).status)
kit.close()
"""
    process = started(blocking, code)
    try:
        assert process.communicate(timeout=HANGS_S) == (b"ok\n", b"")
    finally:
        process.kill()


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "kit = None",
        'half = iter(kit.batch("ad/line", [{"brand": name} for name in "AB"], job="n")); next(half)',
        "cycle = [kit]; cycle.append(cycle); del kit, cycle; import gc; gc.collect()",
    ],
)
def test_a_kit_that_is_never_closed(blocking: Studio, ending: str) -> None:
    """A process that never closes its kit ends at once and complains of nothing; its books are closed."""
    code = f"""
import sys
from promptkit import PromptKit
kit = PromptKit(sys.argv[1])
reply = kit.run("ad/line", {{"brand": "Barly", "angle": "proof"}}, route="default", tags={{"client": "barly"}})
print(reply.target, flush=True)
{ending}
"""
    told = [sys.executable, "-W", "default", "-c", code, str(blocking.folder / "promptkit.toml")]
    done = subprocess.run(told, capture_output=True, timeout=HANGS_S, check=False)  # noqa: S603 - the tests' own code
    assert (done.returncode, done.stdout, done.stderr) == (0, b"openai/gpt-6-luna\n", b"")
    assert not list((blocking.folder / "promptkit.db-locks").glob("owner-*"))


def test_an_asynchronous_kit_that_is_never_closed(blocking: Studio) -> None:
    """An `AsyncPromptKit` without `aclose` doesn't keep its process from ending."""
    code = """
import asyncio, sys
from promptkit import AsyncPromptKit
async def main():
    print((await AsyncPromptKit(sys.argv[1]).run("ad/line", {"brand": "Barly"})).target)
asyncio.run(main())
"""
    process = started(blocking, code)
    try:
        assert process.communicate(timeout=HANGS_S)[0] == b"openai/gpt-6-luna\n"
        assert process.returncode == 0
    finally:
        process.kill()


def test_budgets_that_cannot_stand(blocking: Studio) -> None:
    """A budget that is negative, no number or finer than a pico-dollar is a usage error."""
    with kit_of(blocking) as kit:
        for budget in (Decimal(-1), Decimal("NaN"), Decimal("1e-13")):
            with pytest.raises(UsageError, match="is not possible"):
                kit.run(REF, {"brand": "B"}, budget_usd=budget)
            with pytest.raises(UsageError):
                kit.batch(REF, brands(1), job="x", budget_usd=budget)
        with pytest.raises(UsageError, match="not both"):
            kit.run(REF, {"brand": "B"}, route="default", targets=["openai/gpt-6-luna"])
        with pytest.raises(UsageError, match="unknown route 'defualt'"):
            kit.run(REF, {"brand": "B"}, route="defualt")


def test_an_unknown_option_is_refused_with_the_closest(blocking: Studio) -> None:
    """By every method, before anything is sent."""
    wrong: dict[str, Any] = {"tag": {"client": "barly"}}
    with kit_of(blocking) as kit:
        for method in (
            partial(kit.run, REF, {"brand": "B"}),
            partial(kit.stream, REF, {"brand": "B"}),
            partial(kit.retake, 1, "shorter"),
            partial(kit.batch, REF, brands(1), job="x"),
        ):
            with pytest.raises(UsageError, match="no option 'tag'") as refused:
                method(**wrong)
            assert refused.value.remedy == "Did you mean 'tags'?"
        with pytest.raises(UsageError, match="no option 'key'"):
            kit.resume("x", key="id")  # pyright: ignore[reportCallIssue, reportArgumentType] - that is what is refused
    assert blocking.asked() == 0


@pytest.mark.parametrize("tags", [{"client": "barly", "x": 1}, {"x": None}, {1: "x"}])
def test_tags_that_are_no_texts(blocking: Studio, tags: Any) -> None:
    """A tag that is no text is a usage error that names it, of a call as of a job; nothing is sent."""
    with kit_of(blocking) as kit:
        for ask_with in (partial(kit.run, REF, {"brand": "B"}), partial(kit.batch, REF, brands(1), job="x")):
            with pytest.raises(UsageError, match=r"the tag ('x'|1) is not a string: (1|None) "):
                ask_with(tags=tags)
    assert blocking.asked() == 0


def test_a_newly_published_version_is_seen(blocking: Studio) -> None:
    """A kit that stays open sees a version that was published meanwhile, within seconds."""
    with kit_of(blocking) as kit:
        assert str(kit.run(REF, {"brand": "B"}).ref) == "ad/line@1"
        blocking.publish(LINE.replace("one line", "two lines"))
        wait_for(lambda: str(kit.run(REF, {"brand": "B"}).ref) == "ad/line@2")


async def test_a_loop_thread_hands_over_whatever_comes() -> None:
    """Results, errors and cancellations of a coroutine reach the thread that waits for it."""

    async def give(what: object) -> object:
        if isinstance(what, BaseException):
            raise what
        return what

    thread = LoopThread()
    try:
        assert thread.run(give(3)) == 3
        with pytest.raises(ValueError, match="no"):
            thread.run(give(ValueError("no")))
        with pytest.raises(asyncio.CancelledError):
            thread.run(give(asyncio.CancelledError()))
    finally:
        thread.stop()
