"""The official SDKs pointed at a simulator, their own retries off, and what they say in one shape."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types as gt

from promptkit.simulator import Simulator

GPT, CLAUDE, GEMINI = "gpt-6-luna", "claude-haiku-5-5", "gemini-2.5-flash-lite"


@dataclass(slots=True)
class Clients:
    """The SDKs. `ask` sends one prompt in a format and returns what the SDK returns."""

    sim: Simulator
    openai: openai.AsyncOpenAI
    anthropic: anthropic.AsyncAnthropic
    gemini: genai.Client

    async def ask(
        self, form: str, prompt: str = "Tell us about Barly coffee", limit: int = 400, **more: Any
    ) -> Any:
        match form:
            case "responses":
                return await self.openai.responses.create(
                    **{"model": GPT, "input": prompt, "max_output_tokens": limit, **more}
                )
            case "chat":
                messages = [{"role": "user", "content": prompt}]
                return await self.openai.chat.completions.create(
                    **{"model": GPT, "messages": messages, "max_completion_tokens": limit, **more}
                )
            case "messages":
                messages = [{"role": "user", "content": prompt}]
                return await self.anthropic.messages.create(
                    **{"model": CLAUDE, "messages": messages, "max_tokens": limit, **more}
                )
            case _:
                stream = more.pop("stream", False)
                model = more.pop("model", GEMINI)
                config = gt.GenerateContentConfig(max_output_tokens=limit, **more)
                models = self.gemini.aio.models
                call = models.generate_content_stream if stream else models.generate_content
                return await call(model=model, contents=prompt, config=config)


def open_clients(sim: Simulator, key: str = "sk-canary-0001") -> Clients:
    retry = gt.HttpRetryOptions(attempts=1)
    options = gt.HttpOptions(
        base_url=sim.base_url("gemini"), api_version="v1beta", timeout=5_000, retry_options=retry
    )
    return Clients(
        sim,
        openai.AsyncOpenAI(api_key=key, base_url=sim.base_url("openai"), max_retries=0, timeout=5),
        anthropic.AsyncAnthropic(api_key=key, base_url=sim.base_url("anthropic"), max_retries=0, timeout=5),
        genai.Client(api_key=key, http_options=options),
    )


async def close_clients(clients: Clients) -> None:
    await clients.openai.close()
    await clients.anthropic.close()
    await clients.gemini.aio.aclose()
    clients.gemini.close()


@asynccontextmanager
async def clients_of(sim: Simulator, key: str = "sk-canary-0001") -> AsyncIterator[Clients]:
    opened = open_clients(sim, key)
    try:
        yield opened
    finally:
        await close_clients(opened)


GOOGLE_WARNS = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
"""google-genai subclasses aiohttp's session, which aiohttp discourages; it is theirs to mend."""

FORMS = ("responses", "chat", "messages", "generate")


@dataclass(frozen=True, slots=True)
class Said:
    text: str
    end: str
    input: int
    output: int
    cached: int = 0
    reasoning: int = 0
    model: str = ""


def said(form: str, reply: Any) -> Said:
    match form:
        case "responses":
            usage = reply.usage
            end = reply.incomplete_details.reason if reply.incomplete_details else reply.status
            details = usage.input_tokens_details.cached_tokens, usage.output_tokens_details.reasoning_tokens
            return Said(
                reply.output_text, end, usage.input_tokens, usage.output_tokens, *details, reply.model
            )
        case "chat":
            usage, choice = reply.usage, reply.choices[0]
            details = (
                usage.prompt_tokens_details.cached_tokens,
                usage.completion_tokens_details.reasoning_tokens,
            )
            text = choice.message.content or ""
            return Said(
                text,
                choice.finish_reason,
                usage.prompt_tokens,
                usage.completion_tokens,
                *details,
                reply.model,
            )
        case "messages":
            usage = reply.usage
            text = "".join(block.text for block in reply.content if block.type == "text")
            read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
            tokens = usage.input_tokens + read + written, usage.output_tokens
            return Said(
                text,
                reply.stop_reason,
                *tokens,
                read,
                usage.output_tokens_details.thinking_tokens,
                reply.model,
            )
        case _:
            usage, candidate = reply.usage_metadata, reply.candidates[0]
            thoughts = usage.thoughts_token_count or 0
            output = (usage.candidates_token_count or 0) + thoughts
            cached = usage.cached_content_token_count or 0
            end = candidate.finish_reason.value if candidate.finish_reason else ""
            return Said(
                reply.text or "", end, usage.prompt_token_count, output, cached, thoughts, reply.model_version
            )


async def said_stream(form: str, stream: Any) -> Said:
    """Gather a raw stream, event by event."""
    events = [event async for event in stream]
    match form:
        case "responses":
            text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
            final = said(form, events[-1].response)
            assert text == final.text
            return final
        case "chat":
            text = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
            ends = [event.choices[0].finish_reason for event in events if event.choices]
            usage = events[-1].usage
            details = (
                usage.prompt_tokens_details.cached_tokens,
                usage.completion_tokens_details.reasoning_tokens,
            )
            return Said(
                text, ends[-1], usage.prompt_tokens, usage.completion_tokens, *details, events[-1].model
            )
        case "messages":
            text = "".join(
                event.delta.text
                for event in events
                if event.type == "content_block_delta" and event.delta.type == "text_delta"
            )
            start, delta = events[0].message, events[-2]
            assert events[-1].type == "message_stop"
            thinking = delta.usage.output_tokens_details.thinking_tokens
            tokens = start.usage.input_tokens, delta.usage.output_tokens
            return Said(text, delta.delta.stop_reason, *tokens, 0, thinking, start.model)
        case _:
            final = said(form, events[-1])
            text = "".join(event.text or "" for event in events)
            return Said(
                text, final.end, final.input, final.output, final.cached, final.reasoning, final.model
            )
