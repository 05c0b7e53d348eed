"""How long a provider asks to be left alone: every place where it may stand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.routing.faults import Signal
from promptkit.routing.hints import duration_s, retry_after_s
from promptkit.types import Json

DATE = {"date": "Sun, 22 Nov 2026 12:00:00 GMT"}


def hint(
    family: str = "openai",
    status: int = 429,
    message: str = "",
    details: Json = None,
    /,
    **headers: str,
) -> float | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return retry_after_s(Signal(family, status, None, None, message, details, DATE | named))


def info(kind: str, **members: Json) -> Json:
    return [{"@type": f"type.googleapis.com/google.rpc.{kind}", **members}]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("17", 17.0),
        ("0.5", 0.5),
        (" 20 ", 20.0),
        ("Sun, 22 Nov 2026 12:01:30 GMT", 90.0),
        ("Sun, 22 Nov 2026 13:01:30 +0100", 90.0),
        ("Sun, 22 Nov 2026 12:01:30 -0000", 90.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("-5", None),
        ("nan", None),
        ("inf", None),
        ("1795219200", None),
        ("soon", None),
        ("", None),
        ("Sun, 99 Nov 2026 12:00:00 GMT", None),
    ],
)
def test_retry_after(header: str, seconds: float | None) -> None:
    """Seconds or a date, measured by the reply's own clock; nonsense is no hint."""
    assert hint(retry_after=header) == seconds


def test_a_date_without_the_replys_own_is_no_hint() -> None:
    """This room has no clock to measure it by."""
    signal = Signal("openai", 503, headers={"retry-after": "Sun, 22 Nov 2026 12:01:30 GMT"})
    assert retry_after_s(signal) is None


def test_milliseconds_are_more_exact() -> None:
    """`retry-after-ms` goes before `retry-after`; where it is nonsense, the other serves."""
    assert hint(retry_after="2", retry_after_ms="1500") == 1.5
    assert hint(retry_after="2", retry_after_ms="-1") == 2.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("250ms", 0.25),
        ("1h2m3.5s", 3723.5),
        ("45.837906927s", 45.837906927),
        ("2d", 172800.0),
        ("500µs", 0.0005),
        ("12", 12.0),
        ("", None),
        ("-1s", None),
        ("1 week", None),
        ("s", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    """Durations as Go and Google write them, or bare seconds."""
    assert duration_s(text) == (None if seconds is None else pytest.approx(seconds))


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_a_duration_in_pieces_adds_up(hours: int, minutes: int, seconds: int, milliseconds: int) -> None:
    """However a duration is put together, it means the sum of its pieces."""
    text = f"{hours}h{minutes}m{seconds}s{milliseconds}ms"
    assert duration_s(text) == pytest.approx(hours * 3600 + minutes * 60 + seconds + milliseconds / 1000)


def test_gemini_retry_info() -> None:
    """The delay of RetryInfo, in fractions of a second."""
    assert hint("gemini", 429, "", info("RetryInfo", retryDelay="45.837906927s")) == pytest.approx(
        45.837906927
    )
    assert hint("gemini", 429, "", info("RetryInfo", retryDelay=36)) is None


def test_gemini_quota_reset_delay() -> None:
    """ErrorInfo's metadata names the delay where RetryInfo is missing."""
    details = info("ErrorInfo", reason="X", metadata={"quotaResetDelay": "1m2.5s", "n": 1})
    assert hint("gemini", 429, "", details) == 62.5
    assert hint("gemini", 429, "", info("ErrorInfo", metadata="x")) is None


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Quota exceeded. Please retry in 45.8s.", 45.8),
        ("Rate limit reached. Please try again in 6m0s. Visit ...", 360.0),
        ("Please try again in 250ms.", 0.25),
        ("Please try again later.", None),
    ],
)
def test_the_message_itself(message: str, seconds: float | None) -> None:
    """The text is read last, and only where it names a time."""
    assert hint("gemini", 429, message) == seconds
    assert hint("gemini", 429, message, retry_after="3") == 3.0


def test_anthropic_resets() -> None:
    """The latest reset among the limits that are used up, absolute and by the reply's clock."""
    headers = {
        "anthropic_ratelimit_requests_remaining": "0",
        "anthropic_ratelimit_requests_reset": "2026-11-22T12:00:10Z",
        "anthropic_ratelimit_input_tokens_remaining": "0",
        "anthropic_ratelimit_input_tokens_reset": "2026-11-22T12:00:25",
        "anthropic_ratelimit_output_tokens_remaining": "900",
        "anthropic_ratelimit_output_tokens_reset": "2026-11-22T12:55:00Z",
    }
    assert hint("anthropic", **headers) == 25.0
    assert hint("anthropic", 500, **headers) is None
    assert hint("anthropic", **headers, retry_after="4") == 4.0
    assert hint("anthropic", anthropic_ratelimit_requests_reset="tomorrow") is None


def test_openai_resets() -> None:
    """Relative resets; a limit that isn't used up, or that says -1, tells nothing."""
    headers = {
        "x_ratelimit_remaining_requests": "0",
        "x_ratelimit_reset_requests": "1s",
        "x_ratelimit_remaining_tokens": "12",
        "x_ratelimit_reset_tokens": "6m0s",
    }
    assert hint(**headers) == 1.0
    assert hint(x_ratelimit_reset_tokens="6m0s") == 360.0
    assert hint(x_ratelimit_reset_tokens="6m0s", x_ratelimit_remaining_tokens="-1") is None
    assert hint(x_ratelimit_reset_tokens="-1") is None


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Sun, 22 Nov 2026 12:00:00 GMT", 8.5 * 86400),
        ("Thu, 31 Dec 2026 23:59:00 GMT", 60.0),
        ("Thu, 31 Dec 2026 23:00:00 -0500", 31 * 86400 - 4 * 3600),
        ("Mon, 01 Feb 2027 00:00:00 GMT", 28 * 86400),
    ],
)
def test_anthropics_monthly_limit_opens_on_the_first(date: str, seconds: float) -> None:
    """Without a retry-after, the month's end is computed from the reply's date."""
    cause: Json = {"error_code": "enforced_spend_limit_reached"}
    assert retry_after_s(Signal("anthropic", 429, details=cause, headers={"date": date})) == seconds
    assert retry_after_s(Signal("anthropic", 429, details=cause)) is None


def test_anthropic_names_the_day_on_which_access_is_back() -> None:
    """A customer's own limit says so in its message."""
    message = (
        "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
    )
    assert hint("anthropic", 400, message) == 8.5 * 86400
    assert hint("anthropic", 400, message.replace("2026-12-01", "2026-13-01")) is None


@pytest.mark.parametrize(
    ("date", "hours"),
    [
        ("Sun, 22 Nov 2026 12:00:00 GMT", 20.0),
        ("Sun, 22 Nov 2026 07:30:00 GMT", 0.5),
        ("Sun, 22 Nov 2026 08:00:00 GMT", 24.0),
    ],
)
def test_geminis_daily_quota_opens_at_midnight_in_california(date: str, hours: float) -> None:
    """The RetryInfo that comes with a daily quota names seconds, which would only be refused again."""
    details: Json = [
        {"@type": "x/google.rpc.QuotaFailure", "violations": [{"quotaId": "RequestsPerDay"}]},
        {"@type": "x/google.rpc.RetryInfo", "retryDelay": "12s"},
    ]
    assert retry_after_s(Signal("gemini", 429, details=details, headers={"date": date})) == hours * 3600
    assert retry_after_s(Signal("gemini", 429, details=details)) == 12.0
