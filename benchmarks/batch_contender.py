"""One contender of `batch.py`: turns the rows of a table into text, as a script of a night would.

    python benchmarks/batch_contender.py NAME BASE_URL CONCURRENCY ROWS.csv OUT.jsonl

It is measured from outside, as a process: from its start to its end, imports and all.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from contender import LIMIT, MODEL, SYSTEM, USER, project

MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]


def _messages(number: str) -> list[dict[str, str]]:
    return [MESSAGES[0], {"role": "user", "content": USER.format(number)}]


def openai(url: str, concurrency: int, rows: Path, out: Path) -> None:
    """The loop that everybody writes first: workers over the bare SDK, a line a reply, no books."""
    from openai import AsyncOpenAI

    async def work() -> None:
        with rows.open(newline="", encoding="utf-8") as source, out.open("w", encoding="utf-8") as target:
            waiting: Iterator[dict[str, str]] = csv.DictReader(source)
            async with AsyncOpenAI(api_key="none", base_url=url) as client:

                async def worker() -> None:
                    for row in waiting:
                        reply: Any = await client.chat.completions.create(
                            model=MODEL,
                            messages=_messages(row["number"]),  # pyright: ignore[reportArgumentType] - plain dicts do
                            max_completion_tokens=LIMIT,
                        )
                        text = reply.choices[0].message.content
                        target.write(json.dumps({**row, "text": text}) + "\n")

                await asyncio.gather(*(worker() for _ in range(concurrency)))

    asyncio.run(work())


def curator(url: str, concurrency: int, rows: Path, out: Path) -> None:
    """bespokelabs-curator: rows in, rows out, replies cached on disk, its progress and telemetry off."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ |= {
            "CURATOR_CACHE_DIR": cache,
            "CURATOR_DISABLE_RICH_DISPLAY": "1",
            "CURATOR_VIEWER": "0",
            "TELEMETRY_ENABLED": "false",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "TIKTOKEN_CACHE_DIR": _tokenizers(),
            "OPENAI_API_KEY": "none",
        }
        from bespokelabs import curator as peer  # pyright: ignore[reportMissingImports] - in its own environment

        with rows.open(newline="", encoding="utf-8") as source:
            table = list(csv.DictReader(source))

        class Hooks(peer.LLM):  # pyright: ignore[reportUnknownMemberType, reportUntypedBaseClass]
            def prompt(self, row: dict[str, str]) -> list[dict[str, str]]:
                return _messages(row["number"])

            def parse(self, row: dict[str, str], response: str) -> dict[str, str]:
                return {**row, "text": response}

        hooks: Any = Hooks(
            model_name="gpt-4o-mini",  # it wants one that it has a price for
            backend="openai",
            generation_params={"max_completion_tokens": LIMIT},
            backend_params={
                "base_url": url,
                "max_concurrent_requests": concurrency,
                "max_requests_per_minute": 10_000_000,
                "max_tokens_per_minute": 1_000_000_000_000,
            },
        )
        made = hooks(table)
        getattr(made, "dataset", made).to_json(str(out))


def _tokenizers() -> str:
    """Where LiteLLM, which curator brings, has the vocabulary that tiktoken would else fetch."""
    found = find_spec("litellm")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent / "litellm_core_utils" / "tokenizers")


def promptkit(url: str, concurrency: int, rows: Path, out: Path) -> None:
    """The command: validated, budgeted, priced, every attempt and reply in the ledger, output in input order."""
    with tempfile.TemporaryDirectory() as folder:
        project(Path(folder), url, "chat")
        config = Path(folder) / "promptkit.toml"
        program = Path(sys.executable).with_name("promptkit")
        command = (program, "batch", "bench@draft", rows, "-o", out, "--quiet")
        options = ("--config", config, "--concurrency", str(concurrency), "--budget", "1000")
        subprocess.run([*command, *options], check=True)


if __name__ == "__main__":
    name, url, concurrency, rows, out = sys.argv[1:6]
    kinds = {kind.__name__: kind for kind in (openai, curator, promptkit)}
    kinds[name](url, int(concurrency), Path(rows), Path(out))
