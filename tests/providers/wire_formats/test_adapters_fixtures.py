"""What every recorded reply means, spelled out."""

from __future__ import annotations

from typing import Final

import pytest
from adapters_kit import FIXTURES, adapter_of, decode, decode_stream, fixture_names, headers_of
from hypothesis import given, settings
from hypothesis import strategies as st

from promptkit.types import Completion, Failure, Fault, Finish, Outcome, TransportFailure, Usage

TEXT: Final = "Ton café préféré — 30 s, et le goût tient 😀."
A_LOT: Final = Usage(4096, 300, cache_read_tokens=3840, cache_write_tokens=128, reasoning_tokens=256)

Meaning = tuple[Finish | Fault, str, Usage | None]

WHOLE: Final[dict[str, Meaning]] = {
    "openai_responses/completed": (Finish.STOP, TEXT, Usage(36, 87)),
    "openai_responses/reasoned_and_cached": (Finish.STOP, "Hook: stop scrolling.", A_LOT),
    "openai_responses/two_messages": (Finish.STOP, "Let me think. Hook.", Usage(36, 87)),
    "openai_responses/flex": (Finish.STOP, "Cheap.", Usage(36, 87)),
    "openai_responses/refusal": (Fault.CONTENT, "", Usage(40, 9)),
    "openai_responses/text_then_refusal": (Fault.CONTENT, "Well, ", Usage(40, 9)),
    "openai_responses/cut_by_limit": (Finish.LENGTH, "The first thing to", Usage(36, 600)),
    "openai_responses/reasoning_ate_the_limit": (Finish.LENGTH, "", Usage(36, 600, reasoning_tokens=600)),
    "openai_responses/content_filter": (Fault.CONTENT, "Once upon", Usage(36, 87)),
    "openai_responses/steered": (Fault.BROKEN_REPLY, "Once upon", Usage(36, 87)),
    "openai_responses/empty": (Fault.BROKEN_REPLY, "", Usage(36, 1)),
    "openai_responses/cancelled": (Fault.BROKEN_REPLY, "", Usage(36, 87)),
    "openai_responses/failed_server_error": (Fault.TRANSIENT, "", None),
    "openai_responses/failed_rate_limit": (Fault.RATE_LIMIT, "", None),
    "openai_responses/failed_policy_billed": (Fault.CONTENT, "", Usage(40, 3)),
    "openai_chat/stop": (Finish.STOP, TEXT, Usage(19, 10)),
    "openai_chat/reasoned_and_cached": (Finish.STOP, "Hook.", A_LOT),
    "openai_chat/flex": (Finish.STOP, "Cheap.", Usage(19, 10)),
    "openai_chat/cut_by_limit": (Finish.LENGTH, "The first thing to", Usage(19, 600)),
    "openai_chat/reasoning_ate_the_limit": (Finish.LENGTH, "", Usage(19, 600, reasoning_tokens=600)),
    "openai_chat/reasoning_ate_the_limit_null": (Finish.LENGTH, "", Usage(19, 600, reasoning_tokens=600)),
    "openai_chat/refusal": (Fault.CONTENT, "", Usage(19, 10)),
    "openai_chat/content_filter": (Fault.CONTENT, "Once upon", Usage(19, 10)),
    "openai_chat/tool_calls": (Fault.BROKEN_REPLY, "", Usage(19, 10)),
    "openai_chat/function_call": (Fault.BROKEN_REPLY, "", Usage(19, 10)),
    "openai_chat/empty": (Fault.BROKEN_REPLY, " \n", Usage(19, 10)),
    "openai_chat/plain_host": (Finish.STOP, "A plain host.", Usage(5, 4)),
    "openai_chat/no_usage": (Finish.STOP, "A plain host.", None),
    "anthropic_messages/end_turn": (Finish.STOP, TEXT, Usage(25, 15)),
    "anthropic_messages/two_blocks_with_thinking": (
        Finish.STOP,
        "Hook: stop scrolling.",
        Usage(25, 120, reasoning_tokens=90),
    ),
    "anthropic_messages/cached": (
        Finish.STOP,
        "Cheap.",
        Usage(6156, 30, cache_read_tokens=4096, cache_write_tokens=2048, cache_write_1h_tokens=1024),
    ),
    "anthropic_messages/batch_tier": (Finish.STOP, "Slow.", Usage(25, 15)),
    "anthropic_messages/stop_sequence": (Finish.STOP, "One, two", Usage(25, 15)),
    "anthropic_messages/cut_by_limit": (Finish.LENGTH, "The first thing to", Usage(25, 600)),
    "anthropic_messages/thinking_ate_the_limit": (Finish.LENGTH, "", Usage(25, 600, reasoning_tokens=600)),
    "anthropic_messages/context_window": (Finish.LENGTH, "The first", Usage(25, 15)),
    "anthropic_messages/refusal": (Fault.CONTENT, "", Usage(25, 1)),
    "anthropic_messages/refusal_midway": (Fault.CONTENT, "Step one: ", Usage(25, 15)),
    "anthropic_messages/tool_use": (Fault.BROKEN_REPLY, "", Usage(25, 15)),
    "anthropic_messages/pause_turn": (Fault.BROKEN_REPLY, "Searching", Usage(25, 15)),
    "anthropic_messages/empty": (Fault.BROKEN_REPLY, "", Usage(25, 3)),
    "gemini_generate/stop": (Finish.STOP, TEXT, Usage(8, 12)),
    "gemini_generate/thoughts_and_cache": (
        Finish.STOP,
        "Hook: stop scrolling.",
        Usage(4096, 102, cache_read_tokens=3840, reasoning_tokens=90),
    ),
    "gemini_generate/cut_by_limit": (Finish.LENGTH, "The first thing to", Usage(8, 600)),
    "gemini_generate/thoughts_ate_the_limit": (Finish.LENGTH, "", Usage(8, 600, reasoning_tokens=600)),
    "gemini_generate/safety": (Fault.CONTENT, "", Usage(8, 0)),
    "gemini_generate/recitation_midway": (Fault.CONTENT, "It was the best of times", Usage(8, 12)),
    "gemini_generate/finish_message": (Fault.BROKEN_REPLY, "", Usage(8, 0)),
    "gemini_generate/blocked_prompt": (Fault.CONTENT, "", Usage(8, 0)),
    "gemini_generate/no_candidates": (Fault.BROKEN_REPLY, "", Usage(8, 0)),
    "gemini_generate/empty": (Fault.BROKEN_REPLY, "", Usage(8, 0)),
    "gemini_generate/no_usage": (Finish.STOP, "Free.", None),
}

STREAMED: Final[dict[str, Meaning]] = {
    "openai_responses/completed": (Finish.STOP, TEXT, Usage(36, 87)),
    "openai_responses/refusal": (Fault.CONTENT, "", Usage(36, 87)),
    "openai_responses/cut_by_limit": (Finish.LENGTH, "The first", Usage(36, 16)),
    "openai_responses/failed": (Fault.TRANSIENT, "The fi", None),
    "openai_responses/error_event": (Fault.RATE_LIMIT, "Ton café ", None),
    "openai_responses/error_event_overloaded": (Fault.RATE_LIMIT, "", None),
    "openai_responses/no_end": (Fault.BROKEN_REPLY, "Ton café ", None),
    "openai_chat/stop": (Finish.STOP, TEXT, Usage(19, 14, cache_read_tokens=16)),
    "openai_chat/cut_by_limit": (Finish.LENGTH, "Ton café ", Usage(19, 3)),
    "openai_chat/reasoning_ate_the_limit": (Finish.LENGTH, "", Usage(19, 600, reasoning_tokens=600)),
    "openai_chat/refusal": (Fault.CONTENT, "", Usage(19, 5)),
    "openai_chat/content_filter": (Fault.CONTENT, "Ton café ", Usage(19, 5)),
    "openai_chat/no_done": (Finish.STOP, TEXT, Usage(19, 14)),
    "openai_chat/no_usage": (Finish.STOP, TEXT, None),
    "openai_chat/no_end": (Fault.BROKEN_REPLY, TEXT, None),
    "openai_chat/cut_before_usage": (Fault.BROKEN_REPLY, TEXT, None),
    "openai_chat/done_without_reason": (Fault.BROKEN_REPLY, TEXT, None),
    "openai_chat/error_midway": (Fault.TRANSIENT, "Ton café ", None),
    "openai_chat/crlf_and_comments": (Finish.STOP, TEXT, Usage(19, 14)),
    "anthropic_messages/end_turn": (
        Finish.STOP,
        TEXT,
        Usage(6156, 15, cache_read_tokens=4096, cache_write_tokens=2048, cache_write_1h_tokens=1024),
    ),
    "anthropic_messages/late_usage": (Finish.STOP, TEXT, Usage(47, 15, cache_read_tokens=7)),
    "anthropic_messages/thinking": (Finish.STOP, "Hook.", Usage(25, 80, reasoning_tokens=70)),
    "anthropic_messages/cut_by_limit": (Finish.LENGTH, "The first", Usage(25, 16)),
    "anthropic_messages/thinking_ate_the_limit": (Finish.LENGTH, "", Usage(25, 600, reasoning_tokens=600)),
    "anthropic_messages/refusal": (Fault.CONTENT, "Step one", Usage(25, 4)),
    "anthropic_messages/overloaded_midway": (Fault.TRANSIENT, "Ton café ", None),
    "anthropic_messages/overloaded_at_once": (Fault.TRANSIENT, "", None),
    "anthropic_messages/no_end": (Fault.BROKEN_REPLY, TEXT, None),
    "gemini_generate/stop": (
        Finish.STOP,
        TEXT,
        Usage(8, 42, cache_read_tokens=4, reasoning_tokens=30),
    ),
    "gemini_generate/usage_after_the_end": (Finish.STOP, "Hook.", Usage(8, 3)),
    "gemini_generate/cut_by_limit": (Finish.LENGTH, "The first", Usage(8, 16)),
    "gemini_generate/thoughts_ate_the_limit": (Finish.LENGTH, "", Usage(8, 600, reasoning_tokens=600)),
    "gemini_generate/safety_midway": (Fault.CONTENT, "Well, ", Usage(8, 2)),
    "gemini_generate/blocked_prompt": (Fault.CONTENT, "", Usage(8, 0)),
    "gemini_generate/error_event": (Fault.TRANSIENT, "Well, ", None),
    "gemini_generate/error_as_plain_json": (Fault.TRANSIENT, "Well, ", None),
    "gemini_generate/no_end": (Fault.BROKEN_REPLY, "Ton café préféré", None),
}


def meaning(outcome: Outcome) -> Meaning:
    ending = outcome.finish if isinstance(outcome, Completion) else outcome.fault
    return ending, outcome.text, outcome.usage


def test_every_fixture_has_its_meaning_spelled_out() -> None:
    """No recorded reply is left unread."""
    assert sorted(WHOLE) == fixture_names(".json")
    assert sorted(STREAMED) == fixture_names(".sse")


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_reply_means_what_it_says(name: str) -> None:
    """Text, ending and usage of each recorded reply are read and normalised."""
    assert meaning(decode(name)) == WHOLE[name]


@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_means_what_it_says(name: str) -> None:
    """Text, ending and usage of each recorded stream are read; its pieces make up its text."""
    texts, outcome = decode_stream(name)
    assert meaning(outcome) == STREAMED[name]
    assert "".join(texts) == outcome.text


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("anthropic_messages/no_end", Usage(25, 15)),
        ("gemini_generate/no_end", Usage(8, 12)),
        ("openai_responses/no_end", None),
        ("openai_chat/no_end", None),
    ],
)
def test_what_a_cut_stream_has_told_of_its_tokens(name: str, told: Usage | None) -> None:
    """Anthropic and Gemini count while they speak; of a stream that is cut it is no usage yet."""
    decoder = adapter_of(name).stream(headers_of(name))
    assert decoder.so_far() is None
    decoder.feed((FIXTURES / f"{name}.sse").read_bytes())
    assert decoder.so_far() == told
    assert decoder.end().usage is None


@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_cut_into_bytes_means_the_same(name: str) -> None:
    """Pieces may end anywhere: inside a character, a line end, an event."""
    assert decode_stream(name, piece=1) == decode_stream(name)


@settings(max_examples=25, deadline=None)
@given(name=st.sampled_from(sorted(STREAMED)), piece=st.integers(2, 700))
def test_any_cut_of_a_stream_means_the_same(name: str, piece: int) -> None:
    """However a stream is cut, the same bytes give the same outcome."""
    assert decode_stream(name, piece=piece) == decode_stream(name)


@pytest.mark.parametrize("name", STREAMED)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_stream_that_stops_early_never_succeeds_with_less(name: str, data: st.DataObject) -> None:
    """A stream cut at any byte is the whole reply or a failure, never a shorter success."""
    raw_length = len(_raw(name))
    end = data.draw(st.integers(0, raw_length))
    decoder = adapter_of(name).stream(headers_of(name))
    decoder.feed(_raw(name)[:end])
    outcome = decoder.end(TransportFailure(sent=True, detail="connection reset"))
    if isinstance(outcome, Completion):
        assert outcome.text == STREAMED[name][1]
    else:
        assert outcome.fault in {STREAMED[name][0], Fault.BROKEN_REPLY, Fault.UNKNOWN_OUTCOME}
        assert outcome.billed or outcome.text == ""


def _raw(name: str) -> bytes:
    return (FIXTURES / f"{name}.sse").read_bytes()


@pytest.mark.parametrize(
    ("name", "served_model", "tier", "request_id"),
    [
        ("openai_responses/flex", "gpt-6-luna-2026-09-01", "flex", "req_header"),
        ("openai_chat/stop", "gpt-6-luna-2026-09-01", "default", "req_header"),
        ("openai_chat/plain_host", "smollm2-135m", None, "req_header"),
        ("anthropic_messages/batch_tier", "claude-haiku-5-5-20260901", "batch", "req_header"),
        ("gemini_generate/stop", "gemini-2.5-flash-lite", "standard", "mPq2aN2xKb"),
    ],
)
def test_a_reply_says_who_served_it(name: str, served_model: str, tier: str | None, request_id: str) -> None:
    """The served model, its tier and the request's id come along, from the headers or the body."""
    outcome = decode(name)
    assert (outcome.served_model, outcome.tier, outcome.request_id) == (served_model, tier, request_id)


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("openai_responses/refusal", "I can't help with that."),
        ("openai_responses/content_filter", "the response is incomplete: content_filter"),
        ("openai_responses/cancelled", "the response is cancelled"),
        ("openai_responses/failed_rate_limit", "429 rate_limit_exceeded: Rate limit reached."),
        ("openai_chat/refusal", "I'm sorry, I can't assist with that."),
        ("openai_chat/tool_calls", "finish_reason is tool_calls"),
        ("anthropic_messages/refusal", "stop_reason is refusal: cyber: It could enable cyber harm."),
        ("gemini_generate/safety", "finishReason is SAFETY"),
        ("gemini_generate/finish_message", "Malformed function call: print("),
        ("gemini_generate/blocked_prompt", "the prompt was blocked: PROHIBITED_CONTENT"),
        ("gemini_generate/empty", "the reply ended by itself and is empty"),
    ],
)
def test_a_failure_tells_the_providers_own_words(name: str, detail: str) -> None:
    """The detail of a failed reply is what the provider said about it."""
    outcome = decode(name)
    assert isinstance(outcome, Failure)
    assert detail in outcome.detail


def test_a_refused_reply_was_billed() -> None:
    """A refusal is a failure that costs: its usage is kept with it."""
    outcome = decode("openai_chat/refusal")
    assert isinstance(outcome, Failure)
    assert outcome.billed
    assert outcome.usage == Usage(19, 10)


def test_an_error_inside_a_200_keeps_its_hint() -> None:
    """The wait that a failed response names in its text is obeyed."""
    outcome = decode("openai_responses/failed_rate_limit")
    assert isinstance(outcome, Failure)
    assert outcome.retry_after_s == 1.5
    assert not outcome.billed


@pytest.mark.parametrize("name", ["anthropic_messages/overloaded_midway", "openai_chat/error_midway"])
def test_an_error_inside_a_stream_may_have_been_billed(name: str) -> None:
    """A stream that had begun was at work: what failed in it may be on the bill."""
    outcome = decode_stream(name)[1]
    assert isinstance(outcome, Failure)
    assert outcome.billed
    assert outcome.served_model is not None


def test_an_error_at_once_was_not_billed() -> None:
    """An error as the first event of a stream is like an error status."""
    outcome = decode_stream("anthropic_messages/overloaded_at_once")[1]
    assert isinstance(outcome, Failure)
    assert not outcome.billed
