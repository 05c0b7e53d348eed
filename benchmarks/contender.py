"""One contender of `call_overhead.py`, in a process of its own: makes calls and prints what they took, as JSON.

    python benchmarks/contender.py NAME BASE_URL CONCURRENCY CALLS

Imports and the first calls are left out of the figures; CPU is the process's own, all threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

MODEL = "gpt-6-luna"
SYSTEM = "You write hooks for short videos. " * 20
Call = Callable[[int], Awaitable[str]]


def _messages(number: int) -> list[dict[str, str]]:
    user = f"Brand: Barly {number}. Product: barley protein bar. Audience: runners. Angle: proof."
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]


@contextlib.asynccontextmanager
async def aiohttp(url: str) -> AsyncIterator[Call]:
    """The limit: bytes out, bytes in."""
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call(number: int) -> str:
            body = {"model": MODEL, "messages": _messages(number), "max_completion_tokens": 600}
            async with session.post(f"{url}/chat/completions", json=body) as reply:
                return json.loads(await reply.read())["choices"][0]["message"]["content"]

        yield call


@contextlib.asynccontextmanager
async def openai(url: str) -> AsyncIterator[Call]:
    """The SDK as it comes."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(api_key="none", base_url=url) as client:

        async def call(number: int) -> str:
            reply = await client.chat.completions.create(
                model=MODEL, messages=_messages(number), max_completion_tokens=600
            )
            return reply.choices[0].message.content or ""

        yield call


@contextlib.asynccontextmanager
async def litellm(url: str) -> AsyncIterator[Call]:
    """LiteLLM's Router with one deployment."""
    from litellm import Router

    router = Router(
        model_list=[
            {
                "model_name": "m",
                "litellm_params": {"model": f"openai/{MODEL}", "api_base": url, "api_key": "none"},
            }
        ]
    )

    async def call(number: int) -> str:
        reply = await router.acompletion(model="m", messages=_messages(number), max_completion_tokens=600)
        return reply.choices[0].message.content

    yield call


TEMPLATE = f"""+++
[variables.number]
type = "integer"
[params]
max_output_tokens = 600
+++
{{% message "system" %}}{SYSTEM}{{% endmessage %}}
{{% message "user" %}}Brand: Barly {{{{ number }}}}. Product: barley protein bar. Audience: runners. Angle: proof.{{% endmessage %}}
"""


@contextlib.asynccontextmanager
async def promptkit(url: str) -> AsyncIterator[Call]:
    """Everything on: a skeleton rendered, a budget held, a reply priced, every attempt in the ledger."""
    from promptkit import AsyncPromptKit

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "templates" / "bench").mkdir(parents=True)
        (folder / "templates" / "bench" / "draft.jinja").write_text(TEMPLATE)
        (folder / "promptkit.toml").write_text(
            f'env_file = ".env"\n[budgets]\nper_day_usd = 1000\n'
            f'[routes.default]\ntargets = ["openai/{MODEL}"]\n[providers.openai]\nbase_url = "{url}"\napi = "chat"\n'
        )
        (folder / ".env").write_text("OPENAI_API_KEY=sk-benchmark\n")
        (folder / ".env").chmod(0o600)
        async with AsyncPromptKit(folder / "promptkit.toml") as kit:

            async def call(number: int) -> str:
                return (await kit.run("bench", {"number": number})).text

            yield call
            ledger = await kit.session.ledger()
            promptkit.rows = ledger.spent_total().attempts  # type: ignore[attr-defined]


async def _run(call: Call, concurrency: int, calls: int, first: int) -> list[float]:
    """Make calls, so many at once; seconds a call."""
    numbers = iter(range(first, first + calls))
    took: list[float] = []

    async def worker() -> None:
        for number in numbers:
            began = time.perf_counter()
            assert await call(number)
            took.append(time.perf_counter() - began)

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return took


async def main() -> None:
    """Warm up, measure, print."""
    name, url, concurrency, calls = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    async with globals()[name](url) as call:
        warm = max(2 * concurrency, 50)
        await _run(call, concurrency, warm, 0)
        before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        took = await _run(call, concurrency, calls, warm)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures = {
        "cpu_us": cpu / calls * 1e6,
        "wall_us": wall / calls * 1e6,
        "median_us": statistics.median(took) * 1e6,
        "rss_mib": after.ru_maxrss / 1024,
    }
    if name == "promptkit":
        figures["ledger_rows"] = promptkit.rows - warm  # type: ignore[attr-defined]
    print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(main())
