"""The official SDKs pointed at a simulator, their own retries off, and what they say in one shape."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types as gt

from promptkit.simulator.server import Simulator

GPT, CLAUDE, GEMINI = "gpt-6-luna", "claude-haiku-5-5", "gemini-2.5-flash-lite"


class Clients:
    """The SDKs, each made when it is first asked. `ask` returns what the SDK returns."""

    def __init__(self, sim: Simulator, key: str) -> None:
        self.sim = sim
        self._key = key

    @cached_property
    def openai(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            api_key=self._key, base_url=self.sim.base_url("openai"), max_retries=0, timeout=60
        )

    @cached_property
    def anthropic(self) -> anthropic.AsyncAnthropic:
        return anthropic.AsyncAnthropic(
            api_key=self._key, base_url=self.sim.base_url("anthropic"), max_retries=0, timeout=60
        )

    @cached_property
    def gemini(self) -> genai.Client:
        options = gt.HttpOptions(
            base_url=self.sim.base_url("gemini"),
            api_version="v1beta",
            timeout=60_000,
            retry_options=gt.HttpRetryOptions(attempts=1),
        )
        return genai.Client(api_key=self._key, http_options=options)

    async def close(self) -> None:
        if "openai" in vars(self):
            await self.openai.close()
        if "anthropic" in vars(self):
            await self.anthropic.close()
        if "gemini" in vars(self):
            await self.gemini.aio.aclose()
            self.gemini.close()

    async def ask(
        self, form: str, prompt: str = "Tell us about Barly coffee", limit: int = 400, **more: Any
    ) -> Any:
        """Send one prompt in a format; `more` goes to the SDK as it is and may override anything."""
        if form == "generate":
            return await self._generate(prompt, limit, **more)
        messages = [{"role": "user", "content": prompt}]
        create: Any
        match form:
            case "responses":
                create = self.openai.responses.create
                said = {"model": GPT, "input": prompt, "max_output_tokens": limit}
            case "chat":
                create = self.openai.chat.completions.create
                said = {"model": GPT, "messages": messages, "max_completion_tokens": limit}
            case _:
                create = self.anthropic.messages.create
                said = {"model": CLAUDE, "messages": messages, "max_tokens": limit}
        return await create(**{**said, **more})

    async def _generate(
        self, prompt: str, limit: int, *, model: str = GEMINI, stream: bool = False, **more: Any
    ) -> Any:
        config = gt.GenerateContentConfig(max_output_tokens=limit, **more)
        models: Any = self.gemini.aio.models
        call = models.generate_content_stream if stream else models.generate_content
        return await call(model=model, contents=prompt, config=config)


@asynccontextmanager
async def clients_of(sim: Simulator, key: str = "sk-canary-0001") -> AsyncGenerator[Clients]:
    opened = Clients(sim, key)
    try:
        yield opened
    finally:
        await opened.close()


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
