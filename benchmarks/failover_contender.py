"""One router of `failover.py`, in a process of its own: makes calls and prints what came of them, as JSON.

    python benchmarks/failover_contender.py promptkit|litellm SIMULATOR_URL CONCURRENCY CALLS

Imports are left out of the figures; what a router learns during the run is in them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

TARGETS = ("first", "second", "third")
INPUT_MTOK, OUTPUT_MTOK = 0.10, 0.50
OUTPUT_LIMIT = 64
Call = Callable[[int], Awaitable[bool]]
Spent = Callable[[], Awaitable[tuple[int, int]]]
"""What the router says was spent, in pico-USD: what it knows, and at most how much it doesn't."""

PROVIDER = """
adapter = "openai"
api = "chat"
base_url = "{url}/{name}/v1"
api_key_env = "FAILOVER_KEY"
[[models]]
id = "{name}-1"
context_window = 100000
max_output_tokens = 4096
[models.price]
input_mtok = {read}
output_mtok = {written}
"""
TEMPLATE = f"""+++
[variables.number]
type = "integer"
[params]
max_output_tokens = {OUTPUT_LIMIT}
+++
{{% message "user" %}}Write hook number {{{{ number }}}}.{{% endmessage %}}
"""


@contextlib.asynccontextmanager
async def promptkit(url: str) -> AsyncIterator[tuple[Call, Spent]]:
    """As it comes: one route over three targets."""
    import openai  # noqa: F401 - imports are left out of the figures, and promptkit's is a late one

    from promptkit import AsyncPromptKit
    from promptkit.errors import PromptKitError

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "templates" / "bench").mkdir(parents=True)
        (folder / "templates" / "bench" / "draft.jinja").write_text(TEMPLATE)
        (folder / "providers").mkdir()
        for target in TARGETS:
            text = PROVIDER.format(url=url, name=target, read=INPUT_MTOK, written=OUTPUT_MTOK)
            (folder / "providers" / f"{target}.toml").write_text(text)
        targets = [f"{target}/{target}-1" for target in TARGETS]
        (folder / "promptkit.toml").write_text(
            f'env_file = ".env"\n[budgets]\nper_day_usd = 1000\n[routes.default]\ntargets = {json.dumps(targets)}\n'
        )
        (folder / ".env").write_text("FAILOVER_KEY=sk-benchmark\n")
        (folder / ".env").chmod(0o600)
        async with AsyncPromptKit(folder / "promptkit.toml") as kit:

            async def call(number: int) -> bool:
                try:
                    await kit.run("bench", {"number": number})
                except PromptKitError:
                    return False
                return True

            async def spent() -> tuple[int, int]:
                money = (await kit.session.ledger()).reports.spent_total()
                return money.known_pico, money.at_most_unknown_pico

            await kit.session.engine()
            yield call, spent


@contextlib.asynccontextmanager
async def litellm(url: str) -> AsyncIterator[tuple[Call, Spent]]:
    """LiteLLM's Router: two retries, both other targets as fallbacks, told the same prices."""
    from litellm import Router

    router = Router(
        model_list=[
            {
                "model_name": target,
                "litellm_params": {
                    "model": f"openai/{target}-1",
                    "api_base": f"{url}/{target}/v1",
                    "api_key": "sk-benchmark",
                    "input_cost_per_token": INPUT_MTOK / 1e6,
                    "output_cost_per_token": OUTPUT_MTOK / 1e6,
                },
            }
            for target in TARGETS
        ],
        fallbacks=[{TARGETS[0]: list(TARGETS[1:])}],
        num_retries=2,
    )
    total = 0.0

    async def call(number: int) -> bool:
        nonlocal total
        messages = [{"role": "user", "content": f"Write hook number {number}."}]
        try:
            reply = await router.acompletion(
                model=TARGETS[0], messages=messages, max_completion_tokens=OUTPUT_LIMIT
            )
        except Exception:  # noqa: BLE001 - whatever it raises, the row is lost
            return False
        total += reply._hidden_params.get("response_cost") or 0.0  # noqa: SLF001 - where LiteLLM tells it
        return bool(reply.choices[0].message.content)

    async def spent() -> tuple[int, int]:
        return round(total * 1e12), 0

    yield call, spent


async def main() -> None:
    """Make the calls, print the figures."""
    name, url, concurrency, calls = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    numbers, ends = iter(range(calls)), list[float]()
    async with globals()[name](url) as (call, spent):
        began = time.perf_counter()

        async def work() -> None:
            for number in numbers:
                if await call(number):
                    ends.append(time.perf_counter() - began)

        await asyncio.gather(*(work() for _ in range(concurrency)))
        seconds = time.perf_counter() - began
        known, unknown = await spent()
    figures = {"answered": len(ends), "seconds": seconds, "first_s": min(ends, default=seconds)}
    print(json.dumps({**figures, "cost_pico": known, "unknown_pico": unknown}))


if __name__ == "__main__":
    asyncio.run(main())
