"""One tiny call to each real provider, whole and streamed, recorded as a contract fixture.

Opt-in: `PROMPTKIT_LIVE=1` and the provider's key in the environment. The calls cost well under
a cent in all; what they can cost at most is said first. Recordings lie in tests/live/recorded/.
"""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from live_recording import redact_body, redact_headers, redact_stream

from promptkit.engine.context import load_settings
from promptkit.providers.prices import Prices
from promptkit.providers.tokens import max_input_tokens
from promptkit.providers.transport import WireStream, open_transport
from promptkit.providers.wire_formats import for_provider
from promptkit.routing.catalog import Catalog
from promptkit.types import (
    Call,
    Completion,
    Message,
    Params,
    Prompt,
    Reasoning,
    Role,
    Target,
    TemplateRef,
    WireReply,
    usd,
)

RECORDED = Path(__file__).parent / "recorded"
TARGETS = (
    Target("openai", "gpt-6-luna"),
    Target("anthropic", "claude-haiku-5-5"),
    Target("gemini", "gemini-2.5-flash-lite"),
)
PROMPT = Prompt(
    (Message(Role.SYSTEM, "Answer with one word."), Message(Role.USER, "The colour of a clear sky at noon?")),
    "sha256:live",
    TemplateRef("live"),
    "live",
)
LIMIT = 64
MOST_PICO = 10**10
"""One cent in all."""

pytestmark = pytest.mark.skipif(
    os.environ.get("PROMPTKIT_LIVE") != "1", reason="opt-in: PROMPTKIT_LIVE=1 and keys"
)


def catalog() -> Catalog:
    return load_settings().catalog


def call(*, stream: bool) -> Call:
    return Call(PROMPT, Params(max_output_tokens=LIMIT, reasoning=Reasoning.OFF), stream=stream)


def test_the_price_is_said_first(capsys: pytest.CaptureFixture[str]) -> None:
    """All calls of this module together stay below a cent."""
    now, total = datetime.now(UTC), 0
    for target in TARGETS:
        provider, model = catalog().pair(target)
        most = Prices().max_cost_pico(provider, model, max_input_tokens(PROMPT), LIMIT, now)
        assert most is not None
        total += 2 * most
    with capsys.disabled():
        print(f"\nlive calls cost at most ${usd(total):f}")  # noqa: T201 - the user is to see it
    assert total <= MOST_PICO


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("target", TARGETS, ids=str)
async def test_a_real_reply_is_understood(target: Target, *, stream: bool) -> None:
    """Text, usage, served model and a clean ending; the redacted reply is kept."""
    provider, model = catalog().pair(target)
    key = os.environ.get(provider.api_key_env or "")
    if not key:
        pytest.skip(f"{provider.api_key_env} is not set")
    adapter = for_provider(provider)
    request = adapter.encode(call(stream=stream), provider, model)
    assert not hasattr(request, "fault"), request
    transport = open_transport(provider, key)
    folder = RECORDED / f"{provider.adapter}_{provider.api}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if stream:
            async with transport.stream(request, 60) as reply:  # pyright: ignore[reportArgumentType] - checked above
                assert isinstance(reply, WireStream), reply
                decoder = adapter.stream(reply.headers)
                raw = b""
                async for chunk in reply.chunks:
                    raw += chunk
                    decoder.feed(chunk)
                outcome = decoder.end()
            (folder / "live.sse").write_bytes(redact_stream(raw, [key]))
        else:
            answer = await transport.send(request, 60)  # pyright: ignore[reportArgumentType] - checked above
            assert isinstance(answer, WireReply), answer
            outcome = adapter.decode(answer)
            (folder / "live.json").write_bytes(redact_body(answer.body, [key]))
            await asyncio.to_thread(
                (folder / "live.headers.json").write_text,
                json.dumps(redact_headers(answer.headers), indent=1) + "\n",
            )
    finally:
        await transport.aclose()
    assert isinstance(outcome, Completion), outcome
    assert outcome.text.strip()
    assert outcome.usage is not None
    assert outcome.served_model
