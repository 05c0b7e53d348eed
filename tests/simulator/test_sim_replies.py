"""Replies through the real SDKs, whole and streamed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import openai
import pytest
from sim_kit import FORMS, GOOGLE_WARNS, Clients, clients_of, said, said_stream

from promptkit.simulator.scenario import Scenario
from promptkit.simulator.server import Simulator

pytestmark = GOOGLE_WARNS

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 30},
        "beats": {"type": "array", "items": {"$ref": "#/$defs/beat"}, "minItems": 3},
        "mood": {"enum": ["warm", "dry"]},
        "length": {"type": "integer", "minimum": 20, "maximum": 40},
        "paid": {"type": "boolean"},
    },
    "required": ["title", "beats", "mood", "length", "paid"],
    "additionalProperties": False,
    "$defs": {
        "beat": {
            "type": "object",
            "properties": {"line": {"type": "string"}},
            "required": ["line"],
            "additionalProperties": False,
        }
    },
}
ASK_JSON: dict[str, dict[str, Any]] = {
    "responses": {
        "text": {"format": {"type": "json_schema", "name": "beats", "schema": SCHEMA, "strict": True}}
    },
    "chat": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "b", "schema": SCHEMA, "strict": True},
        }
    },
    "messages": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    "generate": {"response_mime_type": "application/json", "response_json_schema": SCHEMA},
}
THINK: dict[str, dict[str, Any]] = {
    "responses": {"reasoning": {"effort": "low"}},
    "chat": {"reasoning_effort": "low"},
    "messages": {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
    "generate": {"thinking_config": {"thinking_budget": 256}},
}
STREAM: dict[str, dict[str, Any]] = {
    "responses": {"stream": True},
    "chat": {"stream": True, "stream_options": {"include_usage": True}},
    "messages": {"stream": True},
    "generate": {"stream": True},
}
LENGTH = {
    "responses": "max_output_tokens",
    "chat": "length",
    "messages": "max_tokens",
    "generate": "MAX_TOKENS",
}
DONE = {"responses": "completed", "chat": "stop", "messages": "end_turn", "generate": "STOP"}


@pytest.mark.parametrize("form", FORMS)
async def test_a_whole_reply_and_its_stream_say_the_same(clients: Clients, form: str) -> None:
    """Text, end, usage and served model agree between a whole reply and its stream."""
    whole = said(form, await clients.ask(form))
    streamed = await said_stream(form, await clients.ask(form, **STREAM[form]))
    assert whole == streamed
    assert whole.end == DONE[form]
    assert "Barly" in whole.text or "coffee" in whole.text
    assert whole.input == -(-len("Tell us about Barly coffee") // 4)
    assert whole.output == -(-len(whole.text.encode()) // 4)


@pytest.mark.parametrize("form", FORMS)
async def test_a_reply_ends_at_its_limit(clients: Clients, form: str) -> None:
    """A reply longer than the output limit is cut there, and says so."""
    reply = said(form, await clients.ask(form, limit=9))
    assert (reply.end, reply.output) == (LENGTH[form], 9)
    assert 0 < len(reply.text.encode()) <= 36


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_is_told_and_counts_as_output(clients: Clients, form: str, stream: bool) -> None:  # noqa: FBT001  a case
    """Reasoning tokens are told apart and are part of the output."""
    more = {**THINK[form], **(STREAM[form] if stream else {})}
    raw = await clients.ask(form, limit=2000, **more)
    reply = await said_stream(form, raw) if stream else said(form, raw)
    assert reply.reasoning > 0
    assert reply.output == reply.reasoning + -(-len(reply.text.encode()) // 4)


@pytest.mark.parametrize("form", FORMS)
async def test_a_schema_is_answered_with_json_that_fits(clients: Clients, form: str) -> None:
    """A structured reply has every property, of its type and within its bounds."""
    value = json.loads(said(form, await clients.ask(form, limit=2000, **ASK_JSON[form])).text)
    assert set(value) == set(SCHEMA["properties"])
    assert len(value["title"]) <= 30
    assert len(value["beats"]) == 3
    assert all(isinstance(beat["line"], str) for beat in value["beats"])
    assert value["mood"] in {"warm", "dry"}
    assert 20 <= value["length"] <= 40
    assert isinstance(value["paid"], bool)


async def test_stop_sequences_end_a_reply(clients: Clients) -> None:
    """The text ends before the stop sequence, which Anthropic names."""
    whole = said("messages", await clients.ask("messages"))
    word = whole.text.split()[3]
    reply = await clients.ask("messages", stop_sequences=[word])
    assert (reply.stop_reason, reply.stop_sequence) == ("stop_sequence", word)
    assert whole.text.startswith(reply.content[0].text)
    gemini = said("generate", await clients.ask("generate", stop_sequences=[". "]))
    assert gemini.end == "STOP"
    assert ". " not in gemini.text


async def test_the_tier_is_echoed(clients: Clients) -> None:
    """OpenAI says the tier in the reply, Gemini in a header, Anthropic in its usage."""
    assert (await clients.ask("responses", service_tier="flex")).service_tier == "flex"
    assert (await clients.ask("chat")).service_tier == "default"
    reply = await clients.ask("generate", service_tier="flex")
    assert reply.sdk_http_response.headers["x-gemini-service-tier"] == "flex"
    assert (await clients.ask("messages")).usage.service_tier == "standard"


async def test_the_same_seed_gives_the_same_replies_in_any_order() -> None:
    """Replies, usage and request ids depend on seed and prompt, not on arrival."""

    async def run(seed: int, prompts: list[str]) -> dict[str, tuple[str, str]]:
        async with Simulator(seed, scenario=Scenario(prompt_cache=False)) as sim, clients_of(sim) as clients:
            replies = await asyncio.gather(*(clients.ask("responses", prompt) for prompt in prompts))
            return {p: (r.output_text, r.id) for p, r in zip(prompts, replies, strict=True)}

    prompts = [f"brief number {number} for Lumen skincare" for number in range(20)]
    first = await run(3, prompts)
    assert first == await run(3, prompts[::-1])
    assert len({text for text, _ in first.values()}) > 15
    assert first != await run(4, prompts)


async def test_other_hosts_stand_behind_a_path(clients: Clients) -> None:
    """An OpenAI-compatible host is told apart by its path, takes any model and may ask for no key."""
    url = clients.sim.base_url("groq")
    assert url.endswith("/groq/v1")
    async with openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=0) as groq:
        messages: Any = [{"role": "user", "content": "hello"}]
        reply = await groq.chat.completions.create(
            model="llama-9", messages=messages, max_tokens=50, temperature=0.5
        )
    assert reply.model == "llama-9"
    bill: Any = clients.sim.bill()
    assert bill["providers"]["groq"]["models"]["llama-9"]["unpriced"] == 1
    assert bill["lines"][0]["pico"] is None
    async with aiohttp.ClientSession() as http:
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        async with http.post(f"{clients.sim.url}/ollama/v1/chat/completions", json=body) as answer:
            assert answer.status == 200


async def test_models_are_listed(clients: Clients) -> None:
    """Each SDK lists and finds its own models, on own ports and on the common one."""
    assert "gpt-6-luna" in [model.id async for model in clients.openai.models.list()]
    assert "claude-opus-5-5" in [model.id async for model in clients.anthropic.models.list()]
    listed = await clients.gemini.aio.models.list()
    assert "models/gemini-3.8-flash" in [model.name async for model in listed]
    assert (await clients.openai.models.retrieve("gpt-6-luna")).owned_by == "openai"
    with pytest.raises(openai.NotFoundError):
        await clients.openai.models.retrieve("gpt-2")
    async with aiohttp.ClientSession() as http:
        for headers, first in (
            ({"authorization": "Bearer k"}, "gpt-6-luna"),
            ({"x-api-key": "k", "anthropic-version": "2023-06-01"}, "claude-haiku-5-5"),
        ):
            async with http.get(f"{clients.sim.url}/v1/models", headers=headers) as answer:
                assert (await answer.json())["data"][0]["id"] == first
        async with http.get(f"{clients.sim.url}/v1/models", headers={"x-goog-api-key": "k"}) as answer:
            assert (await answer.json())["models"][0]["name"].startswith("models/gemini")
        async with http.get(f"{clients.sim.url}/v1/models") as answer:
            assert answer.status == 401
        async with http.get(f"{clients.sim.url}/v1/nothing") as answer:
            assert answer.status == 404
        async with http.get(f"{clients.sim.url}/v1/responses") as answer:
            assert answer.status == 404


@pytest.mark.virtual_time
async def test_latency_is_real_time_and_drawn_from_the_seed() -> None:
    """A fixed latency holds back each reply; a realistic one also paces the stream."""
    loop = asyncio.get_running_loop()
    async with Simulator(latency=60.0) as sim, clients_of(sim) as clients:
        begun = loop.time()
        await clients.ask("chat")
        assert loop.time() - begun >= 0.06
    async with Simulator(latency="realistic") as sim, clients_of(sim) as clients:
        begun = loop.time()
        stream = await clients.ask("chat", limit=20, stream=True)
        first = None
        async for _ in stream:
            first = first or loop.time()
        assert first is not None
        assert first - begun > 0.05
        assert loop.time() - first > 0.02
        await clients.ask("chat", limit=20)
