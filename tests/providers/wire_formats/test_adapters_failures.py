"""Errors, breaks and malformed replies: a value each, never an exception, never a success."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from adapters_kit import FIXTURES, FORMATS, adapter_of
from google.genai.types import BlockedReason, FinishReason
from hypothesis import given, settings
from hypothesis import strategies as st

from promptkit.providers.gemini import ENDINGS
from promptkit.providers.replies import from_transport_failure
from promptkit.providers.wire_formats import ADAPTERS
from promptkit.types import (
    Completion,
    Failure,
    Fault,
    Finish,
    JsonObject,
    Outcome,
    TransportFailure,
    WireReply,
)

DATE = "Sun, 22 Nov 2026 00:00:00 GMT"


def reply(form: str, body: object, status: int = 200, **headers: str) -> Outcome:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ADAPTERS[FORMATS[form]].decode(WireReply(status, named, raw))


def failure(form: str, body: object, status: int = 200, **headers: str) -> Failure:
    outcome = reply(form, body, status, **headers)
    assert isinstance(outcome, Failure)
    return outcome


@pytest.mark.parametrize(
    ("form", "status", "body", "fault", "detail"),
    [
        (
            "openai_responses",
            429,
            {
                "error": {
                    "message": "You exceeded your current quota.",
                    "type": "insufficient_quota",
                    "code": "insufficient_quota",
                }
            },
            Fault.QUOTA,
            "429 insufficient_quota: You exceeded your current quota.",
        ),
        (
            "openai_chat",
            400,
            {"error": {"message": "No.", "type": "invalid_request_error", "param": "n", "code": None}},
            Fault.INVALID_REQUEST,
            "400 invalid_request_error: No.",
        ),
        # Mistral, FastAPI, NVIDIA, Ollama, a proxy
        (
            "openai_chat",
            422,
            {"object": "error", "message": {"detail": [{"msg": "bad"}]}, "type": "invalid_request_error"},
            Fault.INVALID_REQUEST,
            '422 invalid_request_error: {"detail": [{"msg": "bad"}]}',
        ),
        ("openai_chat", 404, {"detail": "Not Found"}, Fault.MODEL_GONE, "404: Not Found"),
        ("openai_chat", 404, {"status": 404, "title": "Not Found"}, Fault.MODEL_GONE, "404: Not Found"),
        ("openai_chat", 404, {"error": "model 'x' not found"}, Fault.MODEL_GONE, "404: model 'x' not found"),
        (
            "openai_chat",
            502,
            b"<html>\n <h1>Bad Gateway</h1>",
            Fault.TRANSIENT,
            "502: <html> <h1>Bad Gateway</h1>",
        ),
        ("openai_chat", 503, b"", Fault.TRANSIENT, "503"),
        (
            "anthropic_messages",
            529,
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            Fault.TRANSIENT,
            "529 overloaded_error: Overloaded",
        ),
        (
            "gemini_generate",
            429,
            [{"error": {"code": 429, "message": "Quota.", "status": "RESOURCE_EXHAUSTED"}}],
            Fault.RATE_LIMIT,
            "429 RESOURCE_EXHAUSTED: Quota.",
        ),
    ],
)
def test_an_error_status_becomes_a_failure(
    form: str, status: int, body: object, fault: Fault, detail: str
) -> None:
    """Status, the exact word and the message are told in one line; nothing was billed."""
    failed = failure(form, body, status)
    assert (failed.fault, failed.detail, failed.status) == (fault, detail, status)
    assert not failed.billed


def test_an_error_keeps_the_hint_and_the_request_id() -> None:
    """The wait that the reply names and the id for support come with the failure."""
    body = {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "Slow."},
        "request_id": "req_body",
    }
    failed = failure("anthropic_messages", body, 429, retry_after="17")
    assert (failed.retry_after_s, failed.request_id) == (17.0, "req_body")
    assert failure("anthropic_messages", body, 429, request_id="req_head").request_id == "req_head"


def test_a_long_message_is_cut() -> None:
    """A provider's essay doesn't fill the ledger."""
    failed = failure("openai_chat", {"error": {"message": "x" * 5000}}, 500)
    assert len(failed.detail) < 450
    assert failed.detail.endswith("…")


@pytest.mark.parametrize(
    ("form", "body", "fault"),
    [
        ("openai_chat", {"error": {"code": 429, "message": "Rate limited"}}, Fault.RATE_LIMIT),
        ("openai_chat", {"error": {"message": "overloaded"}}, Fault.TRANSIENT),
        ("openai_responses", {"error": {"type": "invalid_request_error"}}, Fault.INVALID_REQUEST),
        ("anthropic_messages", {"type": "error", "error": {"type": "api_error"}}, Fault.TRANSIENT),
        ("gemini_generate", {"error": {"code": 403, "status": "PERMISSION_DENIED"}}, Fault.AUTH),
        ("gemini_generate", [{"error": {"status": "UNAVAILABLE"}}], Fault.TRANSIENT),
    ],
)
def test_a_200_whose_body_is_an_error_is_an_error(form: str, body: object, fault: Fault) -> None:
    """Some hosts say 200 and then what went wrong."""
    failed = failure(form, body)
    assert failed.fault is fault
    assert not failed.billed


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b"[1, 2]", b"[1]", b'"text"', b"\xff\xfe{}", b"[" * 100_000, b"{}"]
)
def test_a_malformed_200_is_a_broken_reply(form: str, body: bytes) -> None:
    """A success that can't be read is a failure, which may be on the bill."""
    failed = failure(form, body, x_request_id="req_1")
    assert failed.fault is Fault.BROKEN_REPLY
    assert failed.billed
    assert failed.request_id == "req_1"


@pytest.mark.parametrize("form", FORMATS)
def test_a_malformed_event_breaks_the_stream(form: str) -> None:
    """What came before a broken event is kept as text of a failure."""
    decoder = ADAPTERS[FORMATS[form]].stream()
    assert decoder.feed(b"data: {broken\n\ndata: {}\n\n") == []
    failed = decoder.end()
    assert isinstance(failed, Failure)
    assert failed.fault is Fault.BROKEN_REPLY
    assert failed.billed


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "choices",
                    "message",
                    "content",
                    "parts",
                    "text",
                    "output",
                    "usage",
                    "input_tokens",
                    "output_tokens",
                    "type",
                    "status",
                    "candidates",
                    "finishReason",
                    "usageMetadata",
                    "promptTokenCount",
                    "delta",
                    "index",
                    "response",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=150, deadline=None)
@given(value=json_values, status=st.sampled_from([200, 400, 429, 500]))
def test_no_json_makes_decoding_raise(form: str, value: object, status: int) -> None:
    """Whatever JSON comes, the outcome is a value; a success has a text."""
    raw = json.dumps(value).encode()
    outcome = reply(form, raw, status, date=DATE)
    decoder = ADAPTERS[FORMATS[form]].stream()
    decoder.feed(b"data: " + raw + b"\n\n")
    for found in (outcome, decoder.end()):
        if isinstance(found, Completion):
            assert found.text.strip() or found.finish is Finish.LENGTH
        if found.usage is not None:
            assert found.usage.output_tokens >= 0


@pytest.mark.parametrize("form", FORMATS)
def test_a_whole_reply_where_a_stream_was_asked_for_is_read(form: str) -> None:
    """A host that doesn't stream answers with one JSON object."""
    bodies: dict[str, JsonObject] = {
        "openai_responses": {
            "status": "completed",
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}],
        },
        "openai_chat": {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]},
        "anthropic_messages": {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn"},
        "gemini_generate": {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}]},
    }
    decoder = ADAPTERS[FORMATS[form]].stream()
    decoder.feed(json.dumps(bodies[form], indent=2).encode())
    outcome = decoder.end()
    assert isinstance(outcome, Completion)
    assert outcome.text == "Hi"


def test_plain_json_after_events_that_is_no_error_changes_nothing() -> None:
    """A stream that had begun still lacks its end."""
    decoder = ADAPTERS["openai", "chat"].stream()
    decoder.feed(b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n{"note": 1}\n')
    outcome = decoder.end()
    assert isinstance(outcome, Failure)
    assert outcome.fault is Fault.BROKEN_REPLY


def test_a_request_that_was_never_sent_is_transient() -> None:
    """A refused connection costs nothing and may be tried again."""
    failed = from_transport_failure(TransportFailure(sent=False, detail="connection refused"))
    assert (failed.fault, failed.billed) == (Fault.TRANSIENT, False)


def test_a_request_without_an_answer_has_an_unknown_outcome() -> None:
    """What was sent may be on the bill, though nothing came back."""
    failed = from_transport_failure(TransportFailure(sent=True, detail="read time-out"))
    assert (failed.fault, failed.billed) == (Fault.UNKNOWN_OUTCOME, True)


def test_a_stream_that_breaks_before_its_first_event_has_an_unknown_outcome() -> None:
    """Headers alone are no reply."""
    outcome = ADAPTERS["openai", "chat"].stream().end(TransportFailure(sent=True, detail="reset"))
    assert isinstance(outcome, Failure)
    assert (outcome.fault, outcome.billed) == (Fault.UNKNOWN_OUTCOME, True)


def test_a_stream_that_is_cut_tells_what_had_arrived() -> None:
    """A reply cut on the wire is a failure with its text, and may be on the bill."""
    decoder = ADAPTERS["openai", "chat"].stream()
    decoder.feed(b'data: {"model":"m","choices":[{"delta":{"content":"Hi"}}]}\n\n')
    outcome = decoder.end(TransportFailure(sent=True, detail="reset"))
    assert isinstance(outcome, Failure)
    assert (outcome.fault, outcome.text, outcome.billed) == (Fault.BROKEN_REPLY, "Hi", True)
    assert outcome.detail == "the stream was cut: reset"
    assert outcome.served_model == "m"


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (TransportFailure(sent=True, detail="reset"), "the stream was cut: reset"),
        (None, "the stream ended before its last event"),
    ],
)
@pytest.mark.parametrize("name", ["openai_chat", "openai_responses", "anthropic_messages", "gemini_generate"])
def test_a_stream_that_is_cut_within_an_event_says_that_it_was_cut(
    name: str, broken: TransportFailure | None, told: str
) -> None:
    """The half event is no event: it isn't blamed for being no JSON."""
    raw = (FIXTURES / f"{name}/no_end.sse").read_bytes().replace(b"\r\n", b"\n")
    second = raw.index(b"data:", raw.index(b"\n\n", raw.index(b"data:")))
    decoder = adapter_of(f"{name}/no_end").stream()
    decoder.feed(raw[: second + len('data: {"mod')])
    outcome = decoder.end(broken)
    assert isinstance(outcome, Failure)
    assert (outcome.fault, outcome.detail) == (Fault.BROKEN_REPLY, told)


def test_an_event_that_is_no_json_is_blamed_where_it_is_whole() -> None:
    """What the host wrote wrongly is told apart from what the wire lost."""
    decoder = ADAPTERS["openai", "chat"].stream()
    decoder.feed(b"data: {oops\n\n")
    outcome = decoder.end()
    assert isinstance(outcome, Failure)
    assert outcome.detail == "an event of the stream is not a JSON object"


def test_what_comes_after_the_end_counts_no_more() -> None:
    """A reply that was whole stays whole, whatever happens to its connection then."""
    decoder = ADAPTERS["openai", "chat"].stream()
    decoder.feed(b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
    assert decoder.feed(b'data: {"choices":[{"delta":{"content":" more"}}]}\n\n') == []
    outcome = decoder.end(TransportFailure(sent=True, detail="reset"))
    assert isinstance(outcome, Completion)
    assert outcome.text == "Hi"


def test_adapters_load_no_sdk() -> None:
    """Adapters are pure: a command that only encodes pays for no SDK and no HTTP client."""
    code = "import sys, promptkit.providers.wire_formats; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    heavy = {"openai", "anthropic", "google.genai", "pydantic", "httpx", "httpx2", "aiohttp", "asyncio"}
    assert heavy.isdisjoint(run.stdout.split())


# ---------------------------------------------------------------- the words of each format


@pytest.mark.parametrize("reason", FinishReason)
def test_every_finish_reason_of_gemini_is_known(reason: FinishReason) -> None:
    """Each reason in the SDK's list has its meaning here."""
    assert reason.value in ENDINGS


@pytest.mark.parametrize("reason", ENDINGS)
def test_a_finish_reason_of_gemini(reason: str) -> None:
    """A reply with text ends as its reason says."""
    body = {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": reason}]}
    outcome = reply("gemini_generate", body)
    assert (outcome.finish if isinstance(outcome, Completion) else outcome.fault) is ENDINGS[reason]


@pytest.mark.parametrize("reason", BlockedReason)
def test_every_block_of_a_prompt_is_a_refusal(reason: BlockedReason) -> None:
    """Without candidates, the reason of the block is the answer."""
    failed = failure("gemini_generate", {"promptFeedback": {"blockReason": reason.value}, "candidates": None})
    assert failed.fault is Fault.CONTENT
    assert reason.value in failed.detail


@pytest.mark.parametrize(
    ("reason", "ending"),
    [
        ("stop", Finish.STOP),
        ("eos", Finish.STOP),
        ("length", Finish.LENGTH),
        ("model_length", Finish.LENGTH),
        ("content_filter", Fault.CONTENT),
        ("insufficient_system_resource", Fault.TRANSIENT),
        ("error", Fault.TRANSIENT),
        ("tool_calls", Fault.BROKEN_REPLY),
        ("something new", Fault.BROKEN_REPLY),
        (None, Fault.BROKEN_REPLY),
    ],
)
def test_a_finish_reason_of_chat(reason: str | None, ending: Finish | Fault) -> None:
    """OpenAI's words and those of its imitators; an unknown one is no success."""
    outcome = reply("openai_chat", {"choices": [{"message": {"content": "Hi"}, "finish_reason": reason}]})
    assert (outcome.finish if isinstance(outcome, Completion) else outcome.fault) is ending


def test_an_unknown_stop_reason_of_anthropic_is_no_success() -> None:
    """A word that we don't know is a broken reply, told."""
    failed = failure(
        "anthropic_messages", {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "new"}
    )
    assert (failed.fault, failed.detail) == (Fault.BROKEN_REPLY, "stop_reason is new")


def test_content_in_parts_is_joined() -> None:
    """Mistral's reasoning models give their thinking and their text in parts."""
    content = [{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "Hi"}]
    outcome = reply("openai_chat", {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]})
    assert outcome.text == "Hi"


def test_reasoning_that_is_counted_beside_the_completion_is_part_of_the_output() -> None:
    """More reasoning than completion means that the host counts them apart."""
    usage = {
        "prompt_tokens": 5,
        "completion_tokens": 4,
        "completion_tokens_details": {"reasoning_tokens": 90},
    }
    body = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], "usage": usage}
    outcome = reply("openai_chat", body)
    assert outcome.usage is not None
    assert (outcome.usage.output_tokens, outcome.usage.reasoning_tokens) == (94, 90)
