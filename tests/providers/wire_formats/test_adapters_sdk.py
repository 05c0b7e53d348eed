"""What the raw decoding says equals what the SDKs' own typed objects say of the same bytes.

The real clients read the fixtures from a loopback server over real sockets.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, cast

import anthropic
import openai
import pytest
from adapters_kit import FIXTURES, Replay, decode, decode_stream, fixture_names, headers_of
from anthropic.types import Message as AnthropicMessage
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types
from openai.types import CompletionUsage
from openai.types.responses import Response

from promptkit.types import Completion, Fault, Finish, Outcome, Usage

# google-genai derives from aiohttp's session, which aiohttp discourages.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

BROKEN: Final = Fault.BROKEN_REPLY

RESPONSES_ENDINGS: Final[dict[tuple[str, str | None], Finish | Fault]] = {
    ("completed", None): Finish.STOP,
    ("incomplete", "max_output_tokens"): Finish.LENGTH,
    ("incomplete", "content_filter"): Fault.CONTENT,
    ("incomplete", "steered"): BROKEN,
    ("cancelled", None): BROKEN,
}
CHAT_ENDINGS: Final = {
    "stop": Finish.STOP,
    "length": Finish.LENGTH,
    "content_filter": Fault.CONTENT,
    "tool_calls": BROKEN,
    "function_call": BROKEN,
}
ANTHROPIC_ENDINGS: Final = {
    "end_turn": Finish.STOP,
    "stop_sequence": Finish.STOP,
    "max_tokens": Finish.LENGTH,
    "model_context_window_exceeded": Finish.LENGTH,
    "refusal": Fault.CONTENT,
    "tool_use": BROKEN,
    "pause_turn": BROKEN,
}
GEMINI_ENDINGS: Final = {
    "STOP": Finish.STOP,
    "MAX_TOKENS": Finish.LENGTH,
    "SAFETY": Fault.CONTENT,
    "RECITATION": Fault.CONTENT,
    "MALFORMED_FUNCTION_CALL": BROKEN,
    None: BROKEN,
}

Said = tuple[str, Finish | Fault, Usage | None, str | None, str | None]
"""Text, ending, usage, model, tier."""


def names(family: str, ending: str, *, but: tuple[str, ...] = ()) -> list[str]:
    """The fixtures of a format, but for those that the SDK reads as no reply."""
    found = [name.split("/")[1] for name in fixture_names(ending) if name.startswith(family)]
    assert set(but) <= set(found)
    return [name for name in found if name not in but]


def said(outcome: Outcome) -> Said:
    ending = outcome.finish if isinstance(outcome, Completion) else outcome.fault
    return outcome.text, ending, outcome.usage, outcome.served_model, outcome.tier


def whole(replay: Replay, name: str) -> Said:
    replay.put((FIXTURES / f"{name}.json").read_bytes(), headers_of(name))
    return said(decode(name))


def streamed(replay: Replay, name: str) -> Said:
    headers = {**headers_of(name), "content-type": "text/event-stream"}
    replay.put((FIXTURES / f"{name}.sse").read_bytes(), headers)
    return said(decode_stream(name)[1])


async def drain(stream: AsyncIterator[object]) -> None:
    async for _event in stream:
        pass


def unless_empty(text: str, ending: Finish | Fault) -> Finish | Fault:
    return BROKEN if ending is Finish.STOP and not text.strip() else ending


# ------------------------------------------------------------------------------ OpenAI


@pytest.fixture
async def openai_client(replay: Replay) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(api_key="k", base_url=replay.url, max_retries=0) as client:
        yield client


def by_response(response: Response) -> Said:
    """What the typed response of the SDK says."""
    text = response.output_text
    refused = any(
        part.type == "refusal" for item in response.output if item.type == "message" for part in item.content
    )
    reason = response.incomplete_details.reason if response.incomplete_details else None
    ending = Fault.CONTENT if refused else RESPONSES_ENDINGS[response.status or "", reason]
    usage = response.usage and Usage(
        response.usage.input_tokens,
        response.usage.output_tokens,
        cache_read_tokens=response.usage.input_tokens_details.cached_tokens,
        cache_write_tokens=response.usage.input_tokens_details.cache_write_tokens,
        reasoning_tokens=response.usage.output_tokens_details.reasoning_tokens,
    )
    return text, unless_empty(text, ending), usage, str(response.model), response.service_tier


FAILED: Final = ("failed_server_error", "failed_rate_limit", "failed_policy_billed")


@pytest.mark.parametrize("name", names("openai_responses", ".json", but=FAILED))
async def test_responses(replay: Replay, openai_client: openai.AsyncOpenAI, name: str) -> None:
    """A whole response says the same to us and to the SDK."""
    ours = whole(replay, f"openai_responses/{name}")
    assert ours == by_response(await openai_client.responses.create(model="m", input="x"))


RESPONSE_ERRORS: Final = ("error_event", "error_event_overloaded", "failed", "no_end")


@pytest.mark.parametrize("name", names("openai_responses", ".sse", but=RESPONSE_ERRORS))
async def test_responses_stream(replay: Replay, openai_client: openai.AsyncOpenAI, name: str) -> None:
    """A streamed response says the same to us and to the SDK, delta by delta."""
    ours = streamed(replay, f"openai_responses/{name}")
    deltas: list[str] = []
    async with openai_client.responses.stream(model="m", input="x") as stream:
        async for event in stream:
            if event.type == "response.output_text.delta":
                deltas.append(event.delta)
            elif event.type in {"response.completed", "response.incomplete"}:
                assert ours == by_response(cast("Any", event).response)
    assert deltas == decode_stream(f"openai_responses/{name}")[0]


@pytest.mark.parametrize("name", [f"openai_responses/{name}" for name in FAILED])
async def test_responses_failed(replay: Replay, openai_client: openai.AsyncOpenAI, name: str) -> None:
    """A failed response names the code that the SDK names."""
    outcome = decode(name)
    whole(replay, name)
    response = await openai_client.responses.create(model="m", input="x")
    assert response.error is not None
    assert not isinstance(outcome, Completion)
    assert f"{response.error.code}: {response.error.message}" in outcome.detail


def by_usage(usage: CompletionUsage | None) -> Usage | None:
    if usage is None:
        return None
    given, made = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        cache_read_tokens=(given and given.cached_tokens) or 0,
        cache_write_tokens=(given and given.cache_write_tokens) or 0,
        reasoning_tokens=(made and made.reasoning_tokens) or 0,
    )


@pytest.mark.parametrize("name", names("openai_chat", ".json"))
async def test_chat(replay: Replay, openai_client: openai.AsyncOpenAI, name: str) -> None:
    """A whole chat completion says the same to us and to the SDK."""
    ours = whole(replay, f"openai_chat/{name}")
    typed = await openai_client.chat.completions.create(model="m", messages=[])
    choice = typed.choices[0]
    text = choice.message.content or ""
    ending = Fault.CONTENT if choice.message.refusal else CHAT_ENDINGS[choice.finish_reason]
    theirs = (text, unless_empty(text, ending), by_usage(typed.usage), typed.model, typed.service_tier)
    assert ours == theirs


CUT_CHATS: Final = ("no_end", "done_without_reason", "cut_before_usage", "error_midway")


@pytest.mark.parametrize("name", names("openai_chat", ".sse", but=CUT_CHATS))
async def test_chat_stream(replay: Replay, openai_client: openai.AsyncOpenAI, name: str) -> None:
    """A streamed chat completion says the same to us and to the SDK."""
    ours = streamed(replay, f"openai_chat/{name}")
    stream = await openai_client.chat.completions.create(model="m", messages=[], stream=True)
    chunks = [chunk async for chunk in stream]
    choices = [choice for chunk in chunks for choice in chunk.choices]
    text = "".join(choice.delta.content or "" for choice in choices)
    refused = any(choice.delta.refusal for choice in choices)
    reason = next(choice.finish_reason for choice in reversed(choices) if choice.finish_reason)
    ending = Fault.CONTENT if refused else CHAT_ENDINGS[reason]
    usage = next((by_usage(chunk.usage) for chunk in chunks if chunk.usage), None)
    assert ours == (text, unless_empty(text, ending), usage, chunks[-1].model, chunks[-1].service_tier)


@pytest.mark.parametrize("name", ["openai_responses/error_event_overloaded", "openai_chat/error_midway"])
async def test_openai_error_event(replay: Replay, openai_client: openai.AsyncOpenAI, name: str) -> None:
    """An error inside a stream is one to the SDK too, with the same message."""
    streamed(replay, name)
    stream: openai.AsyncStream[Any]
    if "chat" in name:
        stream = await openai_client.chat.completions.create(model="m", messages=[], stream=True)
    else:
        stream = await openai_client.responses.create(model="m", input="x", stream=True)
    with pytest.raises(openai.APIError) as caught:
        await drain(stream)
    outcome = decode_stream(name)[1]
    assert not isinstance(outcome, Completion)
    assert caught.value.message in outcome.detail


# --------------------------------------------------------------------------- Anthropic


@pytest.fixture
async def anthropic_client(replay: Replay) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(api_key="k", base_url=replay.url, max_retries=0) as client:
        yield client


def by_message(message: AnthropicMessage) -> Said:
    """What the typed message of the SDK says."""
    text = "".join(block.text for block in message.content if block.type == "text")
    usage = message.usage
    read = usage.cache_read_input_tokens or 0
    written = usage.cache_creation_input_tokens or 0
    normal = Usage(
        usage.input_tokens + read + written,
        usage.output_tokens,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=usage.cache_creation.ephemeral_1h_input_tokens if usage.cache_creation else 0,
        reasoning_tokens=usage.output_tokens_details.thinking_tokens if usage.output_tokens_details else 0,
    )
    ending = ANTHROPIC_ENDINGS[message.stop_reason or ""]
    return text, unless_empty(text, ending), normal, message.model, usage.service_tier


@pytest.mark.parametrize("name", names("anthropic_messages", ".json"))
async def test_messages(replay: Replay, anthropic_client: anthropic.AsyncAnthropic, name: str) -> None:
    """A whole message says the same to us and to the SDK."""
    ours = whole(replay, f"anthropic_messages/{name}")
    message = await anthropic_client.messages.create(model="m", max_tokens=9, messages=[])
    assert ours == by_message(message)


CUT_MESSAGES: Final = ("no_end", "overloaded_midway", "overloaded_at_once")


@pytest.mark.parametrize("name", names("anthropic_messages", ".sse", but=CUT_MESSAGES))
async def test_messages_stream(replay: Replay, anthropic_client: anthropic.AsyncAnthropic, name: str) -> None:
    """A streamed message says the same to us and to the SDK, piece by piece."""
    ours = streamed(replay, f"anthropic_messages/{name}")
    stream = anthropic_client.messages.stream(model="m", max_tokens=9, messages=[])
    async with stream as events:
        pieces = [piece async for piece in events.text_stream]
        message = await events.get_final_message()
    assert ours == by_message(message)
    assert pieces == decode_stream(f"anthropic_messages/{name}")[0]


async def test_messages_error_event(replay: Replay, anthropic_client: anthropic.AsyncAnthropic) -> None:
    """An error inside a stream is one to the SDK too, of the same type."""
    streamed(replay, "anthropic_messages/overloaded_midway")
    with pytest.raises(anthropic.APIStatusError) as caught:
        async with anthropic_client.messages.stream(model="m", max_tokens=9, messages=[]) as events:
            await events.get_final_message()
    outcome = decode_stream("anthropic_messages/overloaded_midway")[1]
    assert not isinstance(outcome, Completion)
    assert str(caught.value.type) in outcome.detail


# ------------------------------------------------------------------------------ Gemini


@pytest.fixture
async def gemini_client(replay: Replay) -> AsyncIterator[genai.Client]:
    options = genai_types.HttpOptions(
        base_url=replay.url,
        api_version="v1beta",
        retry_options=genai_types.HttpRetryOptions(attempts=1),
    )
    client = genai.Client(api_key="k", http_options=options)
    yield client
    await client.aio.aclose()
    client.close()


def models(client: genai.Client) -> Any:
    """Its methods, whose types name parts of packages that aren't installed."""
    return cast("Any", client.aio.models)


def by_generate(replies: list[genai_types.GenerateContentResponse]) -> Said:
    """What the typed responses of the SDK say, one or as many as were streamed."""
    text = "".join(reply.text or "" for reply in replies)
    last = replies[-1]
    reasons = [c.finish_reason for reply in replies for c in reply.candidates or [] if c.finish_reason]
    blocked = any(reply.prompt_feedback and reply.prompt_feedback.block_reason for reply in replies)
    ending = Fault.CONTENT if blocked else GEMINI_ENDINGS[reasons[-1].value if reasons else None]
    usage = last.usage_metadata
    normal = usage and Usage(
        usage.prompt_token_count or 0,
        (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0),
        cache_read_tokens=usage.cached_content_token_count or 0,
        reasoning_tokens=usage.thoughts_token_count or 0,
    )
    headers = last.sdk_http_response.headers if last.sdk_http_response else None
    tier = {key.lower(): value for key, value in (headers or {}).items()}["x-gemini-service-tier"]
    return text, unless_empty(text, ending), normal, last.model_version, tier


@pytest.mark.parametrize("name", names("gemini_generate", ".json"))
async def test_generate(replay: Replay, gemini_client: genai.Client, name: str) -> None:
    """A whole GenerateContentResponse says the same to us and to the SDK."""
    ours = whole(replay, f"gemini_generate/{name}")
    assert ours == by_generate([await models(gemini_client).generate_content(model="m", contents="x")])


CUT_GENERATES: Final = ("no_end", "error_event", "error_as_plain_json")


@pytest.mark.parametrize("name", names("gemini_generate", ".sse", but=CUT_GENERATES))
async def test_generate_stream(replay: Replay, gemini_client: genai.Client, name: str) -> None:
    """A stream of GenerateContentResponses says the same to us and to the SDK."""
    ours = streamed(replay, f"gemini_generate/{name}")
    stream = await models(gemini_client).generate_content_stream(model="m", contents="x")
    assert ours == by_generate([reply async for reply in stream])


@pytest.mark.parametrize("name", ["error_event", "error_as_plain_json"])
async def test_generate_error_in_stream(replay: Replay, gemini_client: genai.Client, name: str) -> None:
    """An error inside a stream is one to the SDK too, with the same status word."""
    streamed(replay, f"gemini_generate/{name}")
    stream = await models(gemini_client).generate_content_stream(model="m", contents="x")
    with pytest.raises(genai_errors.APIError) as caught:
        await drain(stream)
    outcome = decode_stream(f"gemini_generate/{name}")[1]
    assert not isinstance(outcome, Completion)
    assert f"{caught.value.code} {caught.value.status}: {caught.value.message}" == outcome.detail
