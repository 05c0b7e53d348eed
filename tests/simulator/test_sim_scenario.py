"""Scenario files, ports that refuse, and the command's main loop."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import httpx2
import openai
import pytest
from sim_kit import GOOGLE_WARNS, Clients, clients_of

from promptkit.errors import ConfigError, UsageError
from promptkit.simulator.exchange import IMMEDIATE, Timing, timing
from promptkit.simulator.scenario import LimitRule, Scenario, read_latency, read_scenario
from promptkit.simulator.server import Simulator, serve

pytestmark = GOOGLE_WARNS

FULL = """
seed = 9
latency = 1.5
prompt_cache = false
require_max_tokens = true
down = ["gemini"]
[keys]
openai = ["sk-canary-0001"]
[ports]
groq = 0
[limits.openai]
requests_per_minute = 60
[limits."openai/gpt-6-luna"]
tokens_per_day = 1000
[[models]]
provider = "groq"
id = "llama-9"
rejects = ["seed"]
input_usd_mtok = 0.05
output_usd_mtok = "0.08"
[[faults]]
fault = "openai.rate_limit"
times = 1
retry_after_s = 0.2
"""


async def test_a_scenario_file_says_it_all(tmp_path: Path) -> None:
    """Every part of the file takes effect."""
    path = tmp_path / "bad-night.toml"
    path.write_text(FULL, encoding="utf-8")
    scenario = read_scenario(path)
    assert scenario.limits["openai/gpt-6-luna"] == LimitRule(tokens_per_day=1000)
    assert "canary" not in repr(scenario)
    async with Simulator(scenario=path) as sim, clients_of(sim) as clients:
        assert (sim.simulation.seed, sim.simulation.latency) == (9, 1.5)
        with pytest.raises(openai.RateLimitError):
            await clients.ask("chat")
        await clients.ask("chat")
        assert sim.base_url("groq").endswith("/v1")
        assert "groq" not in sim.base_url("groq")
        async with openai.AsyncOpenAI(api_key="k", base_url=sim.base_url("groq"), max_retries=0) as groq:
            with pytest.raises(openai.BadRequestError, match="seed"):
                await groq.chat.completions.create(
                    model="llama-9", max_tokens=5, seed=3, messages=[{"role": "user", "content": "x"}]
                )
            with pytest.raises(openai.NotFoundError):
                await groq.chat.completions.create(
                    model="llama-8", max_tokens=5, messages=[{"role": "user", "content": "x"}]
                )
    override = Simulator(3, 2.5, path)
    assert (override.simulation.seed, override.simulation.latency) == (3, 2.5)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("seed = \n", "line 1"),
        ("sead = 1", "sead"),
        ("[[faults]]\nfault = 'nope'", "faults.0: unknown fault 'nope'"),
        ("[[faults]]\nfault = 'http.500'\ntims = 2", "tims"),
        ("[limits.openai]\nrequests_per_minute = -1", "limits.openai: a limit must be 0 or more"),
        ("latency = 'fast'", "latency"),
    ],
)
def test_a_broken_scenario_is_named_with_its_place(tmp_path: Path, text: str, names: str) -> None:
    """The error has the file, the place in it and what is wrong."""
    path = tmp_path / "scenario.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_scenario(path)
    assert names in str(caught.value)
    assert caught.value.file == str(path)
    with pytest.raises(ConfigError, match="can't be read"):
        read_scenario(tmp_path / "missing.toml")


def test_latency_as_the_option_says_it() -> None:
    """`realistic`, milliseconds, or nothing; and the realistic one is drawn, not random."""
    assert [read_latency(text) for text in (None, "realistic", "250", 80)] == [None, "realistic", 250.0, 80.0]
    for wrong in ("fast", "-1", "nan", "1e99"):
        with pytest.raises(UsageError, match="--latency"):
            read_latency(wrong)
    drawn = bytes(range(32))
    assert timing(None, drawn, 10) == IMMEDIATE
    assert timing(250.0, drawn, 10) == Timing(0.25)
    assert timing("realistic", drawn, 100) == timing("realistic", drawn, 100)
    assert timing("realistic", drawn, 100).rest_s > timing("realistic", drawn, 10).rest_s > 0


async def test_a_provider_that_is_down_refuses_connections(clients: Clients) -> None:
    """Its own port refuses, the others answer, and it comes back on the same port."""
    address = clients.sim.base_url("openai")
    await clients.ask("chat")
    await clients.sim.down("openai")
    await clients.sim.down("openai")
    with pytest.raises(openai.APIConnectionError) as caught:
        await clients.ask("chat")
    assert isinstance(caught.value.__cause__, httpx2.ConnectError)
    await clients.ask("messages")
    await clients.sim.up("openai")
    assert clients.sim.base_url("openai") == address
    await clients.ask("chat")
    with pytest.raises(UsageError, match="no port of its own"):
        await clients.sim.down("groq")
    async with aiohttp.ClientSession() as http:
        for path, status in (("/_down/openai", 200), ("/_down/groq", 400), ("/_up/openai", 200)):
            async with http.post(clients.sim.url + path) as answer:
                assert answer.status == status
    await clients.ask("chat")


async def test_down_from_the_start() -> None:
    """`down` in a scenario holds from the first moment."""
    async with Simulator(scenario=Scenario(down=("openai",))) as sim, clients_of(sim) as clients:
        with pytest.raises(openai.APIConnectionError):
            await clients.ask("chat")


async def test_a_taken_port_is_a_usage_error() -> None:
    """It says which port and what to do; nothing stays open."""
    async with Simulator() as sim:
        port = int(sim.url.rpartition(":")[2])
        with pytest.raises(UsageError, match=f"port {port}"):
            async with Simulator(port=port):
                pass


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "example.org"])  # noqa: S104  it must be refused
def test_only_loopback_is_served(host: str) -> None:
    """Any other address is refused before a port is opened."""
    with pytest.raises(UsageError, match="loopback only"):
        serve(host=host)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal(sent: signal.Signals) -> None:
    """A real process answers on its port and ends at the signal, which it returns."""
    program = (
        "from promptkit.simulator.server import serve\n"
        "print(int(serve(port=0, latency='1', on_ready=lambda sim: print(sim.url, flush=True))))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  our own interpreter
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx2.get(f"{url}/_bill").json()["total_pico"] == 0
        process.send_signal(sent)
        assert process.stdout.readline().strip() == str(int(sent))
        assert process.wait(180) == 0
