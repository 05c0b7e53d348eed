"""One contender of `call_overhead.py`, in a process of its own: makes calls and prints what they took, as JSON.

    python benchmarks/contender.py NAME API BASE_URL CONCURRENCY CALLS [--limits]

Imports and the first calls are left out of the figures. CPU is the process's own, all threads;
`median_us` is how long one call took, `wall_us` the whole time divided by the calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

MODEL = "gpt-6-luna"
LIMIT = 600
SYSTEM = "You write hooks for short videos. " * 20
USER = "Brand: Barly {}. Product: barley protein bar. Audience: runners. Angle: proof."
TEMPLATE = f"""+++
[variables.number]
type = "integer"
[params]
max_output_tokens = {LIMIT}
+++
{{% message "system" %}}{SYSTEM}{{% endmessage %}}
{{% message "user" %}}{USER.format("{{ number }}")}{{% endmessage %}}
"""
CONFIG = f"""
env_file = ".env"
[budgets]
per_day_usd = 1000
[routes.default]
targets = ["openai/{MODEL}"]
[providers.openai]
base_url = "URL"
api = "API"
[providers.openai.limits]
concurrency = 1000
"""
LIMITS = """requests_per_minute = 10000000
requests_per_day = 1000000000
input_tokens_per_minute = 10000000000
output_tokens_per_minute = 10000000000
"""
"""More than any machine asks for: they are counted, and hold nothing back."""


def project(folder: Path, url: str, api: str) -> Path:
    """Set up a project at the static server; its configuration."""
    config = folder / "promptkit.toml"
    limits = LIMITS if "--limits" in sys.argv else ""
    config.write_text(CONFIG.replace("URL", url).replace("API", api) + limits)
    (folder / "templates" / "bench").mkdir(parents=True)
    (folder / "templates" / "bench" / "draft.jinja").write_text(TEMPLATE)
    (folder / ".env").touch(mode=0o600)
    (folder / ".env").write_text("OPENAI_API_KEY=sk-benchmark\n")
    return config


@dataclass(frozen=True)
class Contender:
    """How to make call number so and so, and how many attempts its books hold, where it keeps any."""

    call: Callable[[int], Awaitable[str]]
    rows: Callable[[], int] | None = None


def _messages(number: int) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER.format(number)}]


@contextlib.asynccontextmanager
async def aiohttp(url: str, api: str) -> AsyncIterator[Contender]:
    """The limit: bytes out, bytes in, chat only."""
    import aiohttp

    assert api == "chat"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call(number: int) -> str:
            body = {"model": MODEL, "messages": _messages(number), "max_completion_tokens": LIMIT}
            async with session.post(f"{url}/chat/completions", json=body) as reply:
                return json.loads(await reply.read())["choices"][0]["message"]["content"]

        yield Contender(call)


@contextlib.asynccontextmanager
async def openai(url: str, api: str) -> AsyncIterator[Contender]:
    """The SDK as it comes."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(api_key="none", base_url=url) as client:

        async def chat(number: int) -> str:
            reply = await client.chat.completions.create(
                model=MODEL, messages=_messages(number), max_completion_tokens=LIMIT
            )
            return reply.choices[0].message.content or ""

        async def responses(number: int) -> str:
            reply = await client.responses.create(
                model=MODEL, input=_messages(number), max_output_tokens=LIMIT, store=False
            )
            return reply.output_text

        yield Contender(chat if api == "chat" else responses)


@contextlib.asynccontextmanager
async def litellm(url: str, api: str) -> AsyncIterator[Contender]:
    """LiteLLM's Router with one deployment, chat only."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches one
    from litellm import Router

    assert api == "chat"
    deployment = {"model": f"openai/{MODEL}", "api_base": url, "api_key": "none"}
    router = Router(model_list=[{"model_name": "m", "litellm_params": deployment}])

    async def call(number: int) -> str:
        reply = await router.acompletion(model="m", messages=_messages(number), max_completion_tokens=LIMIT)
        return reply.choices[0].message.content

    yield Contender(call)


@contextlib.asynccontextmanager
async def promptkit(url: str, api: str) -> AsyncIterator[Contender]:
    """Everything on: a template rendered, a budget held, a reply priced, every attempt in the ledger."""
    from promptkit import AsyncPromptKit

    with tempfile.TemporaryDirectory() as name:
        config = project(Path(name), url, api)
        async with AsyncPromptKit(config) as kit:
            ledger = await kit.session.ledger()

            async def call(number: int) -> str:
                return (await kit.run("bench", {"number": number})).text

            yield Contender(call, lambda: ledger.reports.spent_total().attempts)


async def _run(call: Callable[[int], Awaitable[str]], concurrency: int, numbers: range) -> list[float]:
    """Make calls, so many at once; seconds a call."""
    waiting = iter(numbers)
    took: list[float] = []

    async def worker() -> None:
        for number in waiting:
            began = time.perf_counter()
            assert await call(number)
            took.append(time.perf_counter() - began)

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return took


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def main() -> None:
    """Warm up, measure, print."""
    name, api, url, concurrency, calls = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
    kinds = {kind.__name__: kind for kind in (aiohttp, openai, litellm, promptkit)}
    async with kinds[name](url, api) as contender:
        warm = max(2 * concurrency, 50)
        await _run(contender.call, concurrency, range(warm))
        cpu_s, began = _cpu_s(), time.perf_counter()
        took = await _run(contender.call, concurrency, range(warm, warm + calls))
        wall_s, cpu_s = time.perf_counter() - began, _cpu_s() - cpu_s
        rows = contender.rows() - warm if contender.rows else None
    figures = {
        "cpu_us": cpu_s / calls * 1e6,
        "wall_us": wall_s / calls * 1e6,
        "median_us": statistics.median(took) * 1e6,
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "rows": rows,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(main())
