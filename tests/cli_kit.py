"""The command as tests call it: in this process, or as a process of its own; a project to call it in."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import pytest
import waiting
from waiting import HANGS_S

from promptkit.cli.main import execute
from promptkit.simulator import server
from promptkit.simulator.scenario import FaultRule
from promptkit.simulator.server import Simulator
from promptkit.types import Json

T = TypeVar("T")

KEYS = {
    "OPENAI_API_KEY": "sk-canary-openai-0001",
    "ANTHROPIC_API_KEY": "sk-canary-anthropic-0002",
    "GEMINI_API_KEY": "canary-gemini-0003",
}
VALUES = ("-v", "brand=Barly", "-v", "product=protein bar", "-v", "audience=runners")
ROWS = "brand,product,audience,sku\nBarly,bar,runners,a1\nLumé,cream,people with dry skin,a2\nKlim,rope,busy parents,a3\n"
COMMAND = Path(sys.executable).with_name("promptkit")


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Its stdout, read as one JSON document."""
        return json.loads(self.out)


Invoke = Callable[..., Ran]


def invoker(capsys: pytest.CaptureFixture[str]) -> Invoke:
    """Calls commands in this process, through all that the real one does but exiting."""

    def invoke(*arguments: str | Path) -> Ran:
        capsys.readouterr()
        code = execute([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return invoke


def process(
    *arguments: str | Path,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdout: int | Any = subprocess.PIPE,
    stdin: str | None = None,
) -> Ran:
    """Run the installed command as a process of its own; without `stdin` it has none."""
    done = subprocess.run(  # noqa: S603 - our own command
        [COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=None if env is None else dict(env),
        stdout=stdout,
        stderr=subprocess.PIPE,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        text=True,
        encoding="utf-8",
        timeout=HANGS_S,
        check=False,
    )
    return Ran(done.returncode, done.stdout or "", done.stderr)


def started(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """Start the command and let it run."""
    return subprocess.Popen(  # noqa: S603 - our own command
        [COMMAND, *map(str, arguments)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(running: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    """Wait until it holds, while the process runs."""

    def runs() -> bool:
        assert running.poll() is None, running.communicate()
        return True

    waiting.wait_for(condition, runs)


def heard(stream: IO[str] | None, text: str) -> str:
    """What a process says until it has said a text; read past Python's buffer, so that `communicate` has the rest."""
    assert stream is not None
    said = b""
    while text.encode() not in said:
        assert select.select([stream], [], [], HANGS_S)[0], said
        piece = os.read(stream.fileno(), 1)
        assert piece, said
        said += piece
    return said.decode()


class Held:
    """The replies of the simulators of this process, which wait until they are let go."""

    def __init__(self, passing: int) -> None:
        self._passing = passing
        self._asked = itertools.count()

    def let_go(self) -> None:
        """Hold back no more."""
        self._passing = sys.maxsize

    async def turn(self) -> None:
        """Wait until the next reply may go."""
        number = next(self._asked)
        while number >= self._passing:  # noqa: ASYNC110 - it is let go from another thread
            await asyncio.sleep(0.01)


@contextmanager
def holding_back(passing: int = 0) -> Generator[Held]:
    """Hold back all replies but the first; requests are in the simulator's journal meanwhile."""
    held, deliver = Held(passing), server.deliver

    async def deliver_in_turn(request: Any, delivery: Any) -> Any:
        await held.turn()
        return await deliver(request, delivery)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "deliver", deliver_in_turn)
        try:
            yield held
        finally:
            held.let_go()


class ElsewhereSimulator(Simulator):
    """A simulator on the loop of another thread: what it has seen and does is asked and told there, between requests."""

    elsewhere: asyncio.AbstractEventLoop
    thread: threading.Thread

    def _there(self, function: Callable[[], T]) -> T:
        """Call a function in the simulator's own thread."""
        if threading.current_thread() is self.thread:
            return function()

        async def call() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self.elsewhere).result(HANGS_S)

    def requests(self, *, bodies: bool = False) -> list[dict[str, Json]]:
        return self._there(lambda: super(ElsewhereSimulator, self).requests(bodies=bodies))

    def bill(self, *, lines: bool = True) -> dict[str, Json]:
        return self._there(lambda: super(ElsewhereSimulator, self).bill(lines=lines))

    def script(self, rules: Iterable[FaultRule | Mapping[str, Any] | str]) -> None:
        self._there(lambda: super(ElsewhereSimulator, self).script(rules))


@contextmanager
def simulating(**options: Any) -> Generator[Simulator]:
    """A simulator on a loop thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    simulator = ElsewhereSimulator(**options)
    simulator.elsewhere, simulator.thread = loop, thread
    asyncio.run_coroutine_threadsafe(simulator.__aenter__(), loop).result(HANGS_S)
    try:
        yield simulator
    finally:
        asyncio.run_coroutine_threadsafe(simulator.__aexit__(None, None, None), loop).result(HANGS_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def config_for(url: str, *, budgets: str = "per_job_usd = 5.00\nper_day_usd = 20.00") -> str:
    """A promptkit.toml whose providers are a simulator."""
    return f"""\
database = "sqlite:///promptkit.db"
env_file = ".env"
[budgets]
{budgets}
[routes.default]
targets = ["openai/gpt-6-luna", "anthropic/claude-haiku-5-5", "gemini/gemini-2.5-flash-lite"]
max_wait_s = 2
outage_s = 0
[providers.openai]
base_url = "{url}/v1"
[providers.anthropic]
base_url = "{url}"
[providers.gemini]
base_url = "{url}"
"""


def make_project(folder: Path, url: str, keys: Mapping[str, str] = KEYS) -> Path:
    """A project whose providers are a simulator, with its keys and a table of three rows."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "promptkit.toml").write_text(config_for(url), encoding="utf-8")
    (folder / ".env").write_text("".join(f"{name}={key}\n" for name, key in keys.items()), encoding="utf-8")
    (folder / ".env").chmod(0o600)
    (folder / "rows.csv").write_text(ROWS, encoding="utf-8")
    return folder


def quiet_machine(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Nothing of the user who runs the tests: no keys, no configuration, no colours."""
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_BASE_URL")) or name.startswith(
            ("PROMPTKIT", "XDG_CONFIG", "XDG_DATA")
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
