"""What a recording leaves out. These run always: they need no key."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from live_recording import redact_body, redact_headers, redact_stream, redact_text

KEY = "sk-live-canary-0123456789"


def test_keys_and_account_ids_go() -> None:
    """A key echoed in an error, and ids that lead back to an account."""
    text = redact_text(f"Incorrect API key provided: {KEY}. See org-abcdef123 in req_0123456789ab", [KEY])
    assert text == "Incorrect API key provided: REDACTED. See org-redacted in req_redacted"


def test_a_body_keeps_its_shape() -> None:
    """Times and opaque texts are replaced by ones of the same type; all that is contract stays."""
    body = {
        "id": "chatcmpl-AbCdEf123456",
        "created": 1_800_000_000,
        "choices": [{"message": {"content": "Hi", "signature": "AAAA"}}],
        "usage": {"prompt_tokens": 9},
    }
    assert json.loads(redact_body(json.dumps(body).encode(), [])) == {
        "id": "chatcmpl-redacted",
        "created": 1_795_000_000,
        "choices": [{"message": {"content": "Hi", "signature": "redacted"}}],
        "usage": {"prompt_tokens": 9},
    }
    assert redact_body(f"<html>{KEY}</html>".encode(), [KEY]) == b"<html>REDACTED</html>"


def test_a_stream_keeps_its_events() -> None:
    """Event names, blank lines and line ends stay; data is redacted."""
    raw = b'event: a\r\ndata: {"id":"msg_0123456789","n":1}\r\n\r\ndata: [DONE]\n\n: ping\n'
    assert (
        redact_stream(raw, [])
        == b'event: a\r\ndata: {"id":"msg_redacted","n":1}\r\n\r\ndata: [DONE]\n\n: ping\n'
    )


def test_headers_are_a_list_of_what_may_stay() -> None:
    """Rate limits are contract; organisation, cookies and request ids are not."""
    headers = {
        "x-ratelimit-limit-requests": "500",
        "openai-organization": "acme",
        "set-cookie": "s",
        "retry-after": "2",
    }
    assert redact_headers(headers) == {"retry-after": "2", "x-ratelimit-limit-requests": "500"}


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_text_around_a_key_saves_it(before: str, after: str) -> None:
    """Wherever it stands."""
    body = json.dumps({"error": {"message": before + KEY + after}}).encode()
    assert KEY.encode() not in redact_body(body, [KEY])
