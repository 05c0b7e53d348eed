"""What the simulator refuses, and in whose words."""

from __future__ import annotations

import io
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
from google.genai import errors as ge
from sim_kit import CLAUDE, FORMS, GEMINI, GOOGLE_WARNS, GPT, Clients, clients_of

from promptkit.simulator.scenario import FaultRule, ModelRule, Scenario
from promptkit.simulator.server import Simulator

pytestmark = GOOGLE_WARNS

PATHS = {
    "responses": "/v1/responses",
    "chat": "/v1/chat/completions",
    "messages": "/v1/messages",
    "generate": f"/v1beta/models/{GEMINI}:generateContent",
}
GOOD: dict[str, dict[str, Any]] = {
    "responses": {
        "model": GPT,
        "input": [{"role": "user", "content": "hi"}],
        "max_output_tokens": 20,
        "store": False,
    },
    "chat": {"model": GPT, "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 20},
    "messages": {"model": CLAUDE, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20},
    "generate": {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "generationConfig": {"maxOutputTokens": 9},
    },
}
HEADERS = {"authorization": "Bearer sk-canary-0002", "anthropic-version": "2023-06-01"}


async def post(
    sim: Simulator, form: str, body: Any, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    sent = HEADERS if headers is None else headers
    async with aiohttp.ClientSession() as http:
        data: dict[str, Any] = {"data": io.BytesIO(body)} if isinstance(body, bytes) else {"json": body}
        async with http.post(sim.url + PATHS[form], headers=sent, **data) as answer:
            return answer.status, await answer.json()


def message(said: Any) -> str:
    return said["error"]["message"]


@pytest.mark.parametrize("form", FORMS)
async def test_what_the_sdks_send_is_accepted(form: str) -> None:
    """The plain body of each format passes, with a bearer token as with the family's own header."""
    async with Simulator() as sim:
        assert (await post(sim, form, GOOD[form]))[0] == 200
        for name in ("x-api-key", "x-goog-api-key"):
            headers = {name: "k", "anthropic-version": "2023-06-01"}
            assert (await post(sim, form, GOOD[form], headers))[0] == 200
        # Validation, unlike reading, can be switched off.
    async with Simulator(strict=False) as sim:
        assert (await post(sim, form, {**GOOD[form], "temprature": 1}))[0] == 200


@pytest.mark.parametrize("form", FORMS)
async def test_a_misspelt_parameter_is_named(form: str) -> None:
    """An unknown key is a 400 that names it, at the top and deep inside a lazy list."""
    async with Simulator() as sim:
        status, said = await post(sim, form, {**GOOD[form], "temprature": 1})
        assert (status, "temprature" in message(said)) == (400, True)
        deep = {**GOOD[form]}
        name = next(each for each in ("input", "messages", "contents") if each in deep)
        deep[name] = [{**deep[name][0], "contnt": 1}]
        status, said = await post(sim, form, deep)
        assert (status, "contnt" in message(said)) == (400, True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'{"model": 3}'])
async def test_a_body_that_is_none_is_a_400(form: str, body: bytes) -> None:
    """Broken JSON, a list, stray bytes and wrong types are answered in the provider's own shape."""
    for strict in (True, False):
        async with Simulator(strict=strict) as sim:
            status, said = await post(sim, form, body)
            assert (status, "error" in said) == (400, True)


BAD: list[tuple[str, dict[str, Any], int, str]] = [
    ("responses", {"model": "gpt-2"}, 404, "gpt-2"),
    ("chat", {"model": "gpt-2"}, 404, "gpt-2"),
    ("messages", {"model": "claude-1"}, 404, "claude-1"),
    ("responses", {"temperature": 0.5}, 400, "'temperature' is not supported"),
    ("chat", {"temperature": 0.5}, 400, "'temperature' is not supported"),
    ("chat", {"max_tokens": 5}, 400, "max_completion_tokens"),
    ("messages", {"temperature": 0.5}, 400, "temperature: Extra inputs"),
    ("responses", {"reasoning": {"effort": "minimal"}}, 400, "minimal"),
    ("responses", {"max_output_tokens": 0}, 400, "max_tokens"),
    ("messages", {"max_tokens": 0}, 400, "max_tokens"),
    ("messages", {"max_tokens": None}, 400, "max_tokens"),
    ("messages", {"max_tokens": 999_999}, 400, "max_tokens"),
    ("messages", {"messages": []}, 400, "at least one"),
    ("messages", {"messages": [{"role": "user", "content": ""}]}, 400, "non-empty"),
    ("messages", {"thinking": {"type": "enabled", "budget_tokens": 10}}, 400, "1024"),
    ("messages", {"thinking": {"type": "enabled", "budget_tokens": 4096}}, 400, "greater than"),
    (
        "messages",
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        400,
        "additional",
    ),
    (
        "responses",
        {
            "text": {
                "format": {"type": "json_schema", "name": "x", "strict": True, "schema": {"type": "object"}}
            }
        },
        400,
        "additionalProperties",
    ),
    ("generate", {"contents": []}, 400, "contents"),
    ("generate", {"generationConfig": {"thinkingConfig": {"thinkingLevel": "LOWW"}}}, 400, "LOWW"),
    ("generate", {"generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW"}}}, 400, "not supported"),
    (
        "generate",
        {"generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW", "thinkingBudget": 4}}},
        400,
        "only one",
    ),
    ("generate", {"generationConfig": {"responseJsonSchema": {"type": "object"}}}, 400, "mime"),
    ("generate", {"generationConfig": {"maxOutputToken": 4}}, 400, "maxOutputToken"),
]


@pytest.mark.parametrize(("form", "change", "status", "names"), BAD)
async def test_what_a_provider_rejects(form: str, change: dict[str, Any], status: int, names: str) -> None:
    """Parameters, sizes and models that the real one rejects are rejected, by name."""
    body = {**GOOD[form], **change}
    async with Simulator() as sim:
        got, said = await post(sim, form, {name: value for name, value in body.items() if value is not None})
        assert got == status
        assert names in message(said)
        assert sim.bill()["requests"] == 0


async def test_too_many_cache_marks_are_refused() -> None:
    """Anthropic takes four cache breakpoints."""
    block = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
    async with Simulator() as sim:
        status, said = await post(sim, "messages", {**GOOD["messages"], "system": [block] * 5})
        assert (status, "maximum of 4" in message(said)) == (400, True)


async def test_a_key_must_be_there_and_be_the_right_one() -> None:
    """No key and a wrong key are refused as each provider does it; Google answers a wrong key with 400."""
    allowed: tuple[str, ...] = ("sk-good",)
    keys: dict[str, tuple[str, ...]] = dict.fromkeys(("openai", "anthropic", "gemini"), allowed)
    async with Simulator(scenario=Scenario(keys=keys)) as sim:
        async with clients_of(sim, "sk-canary-bad") as bad:
            with pytest.raises(openai.AuthenticationError) as first:
                await bad.ask("chat")
            assert first.value.code == "invalid_api_key"
            with pytest.raises(anthropic.AuthenticationError):
                await bad.ask("messages")
            with pytest.raises(ge.ClientError) as google:
                await bad.ask("generate")
            error: Any = google.value
            assert error.details["error"]["details"][0]["reason"] == "API_KEY_INVALID"
        async with clients_of(sim, "sk-good") as good:
            await good.ask("chat")
        assert "sk-canary-bad" not in str(sim.requests(bodies=True))
        assert (await post(sim, "responses", GOOD["responses"], {}))[0] == 401
        version = {"anthropic-version": "2023-06-01"}
        assert (await post(sim, "messages", GOOD["messages"], version))[0] == 401
        assert (await post(sim, "generate", GOOD["generate"], {}))[0] == 403
        key = {"x-api-key": "sk-good"}
        assert (await post(sim, "messages", GOOD["messages"], key))[1]["error"]["message"].startswith(
            "anthropic-version"
        )


async def test_windows_and_limits_of_the_scenario() -> None:
    """A prompt beyond the window is each provider's own error; a limit can be demanded of all."""
    small = tuple(
        ModelRule(provider, name, context_window=50)
        for provider, name in (("openai", GPT), ("anthropic", CLAUDE), ("gemini", GEMINI))
    )
    async with (
        Simulator(scenario=Scenario(models=small, require_max_tokens=True)) as sim,
        clients_of(sim) as clients,
    ):
        with pytest.raises(openai.BadRequestError) as first:
            await clients.ask("responses", "x" * 201)
        assert first.value.code == "context_length_exceeded"
        with pytest.raises(anthropic.BadRequestError, match="prompt is too long: 51 tokens > 50 maximum"):
            await clients.ask("messages", "x" * 201)
        with pytest.raises(ge.ClientError, match="exceeds the maximum number of tokens"):
            await clients.ask("generate", "x" * 201)
        status, said = await post(sim, "chat", {"model": GPT, "messages": GOOD["chat"]["messages"]})
        assert (status, "output limit" in message(said)) == (400, True)


async def test_a_huge_body_is_a_413() -> None:
    """More than 32 MB is refused unread."""
    async with Simulator() as sim:
        status, said = await post(sim, "messages", b"x" * (33 * 1024 * 1024))
        assert (status, said["error"]["type"]) == (413, "request_too_large")
        assert sim.requests()[0]["status"] == 413


async def test_the_journal_keeps_no_key_and_no_prompt(clients: Clients) -> None:
    """Prompts are a digest and a length unless bodies are asked for; keys are nowhere."""
    clients.sim.script([FaultRule("http.500", key="sk-canary-0001", after=5)])
    await clients.ask("chat", "a very private prompt")
    plain, full = str(clients.sim.requests()), str(clients.sim.requests(bodies=True))
    assert "private" not in plain
    assert "private" in full
    assert (await post(clients.sim, "messages", b"x" * 100_000))[0] == 400
    assert len(str(clients.sim.requests(bodies=True)[1]["body"])) == 65_536
    assert clients.sim.requests()[0]["prompt_chars"] == len("a very private prompt")
    async with aiohttp.ClientSession() as http:
        for page in ("/_requests?bodies=1", "/_bill", "/_faults"):
            async with http.get(clients.sim.url + page) as answer:
                assert "canary" not in await answer.text()
    assert "canary" not in repr(clients.sim.simulation.script.rules)
