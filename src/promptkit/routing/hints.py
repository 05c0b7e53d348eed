"""Retry-after hints: how long a provider asks to wait, in seconds, from headers, details and message.

Absolute times are compared with the reply's own Date header: this module has no clock, and a
wrong clock on either side does no harm. A value that makes no sense (negative, not a number, beyond
32 days) is ignored, and the next source is read: clamping a misread epoch to a month would skip
a target for a month.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from email.utils import parsedate_to_datetime

from promptkit.types import Json

from .faults import Signal, details_of, is_daily_quota, status_of, texts_of, words

_LONGEST_S = 32 * 86400.0
"""A monthly limit may name up to 31 days."""

_UNITS_S = {
    "d": 86400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}

_PIECE = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(ms|us|µs|ns|d|h|m|s)")

_DURATION = re.compile(rf"(?:{_PIECE.pattern})+")

_RETRY_IN = re.compile(rf"(?:retry|try again) in ((?:{_PIECE.pattern})+)", re.IGNORECASE)

_REGAIN = re.compile(r"regain access on (\d{4}-\d\d-\d\d)")

_DAILY_RESET_UTC = time(8, tzinfo=UTC)
"""Gemini's days end at midnight in California: 08:00 UTC, or 07:00 in summer. Never early."""

_ANTHROPIC_RESET = re.compile(r"anthropic-ratelimit-(.+)-reset")

_OPENAI_RESET = re.compile(r"x-ratelimit-reset-(.+)")


def retry_after_s(signal: Signal) -> float | None:
    """Return how long the provider asks to wait, in seconds from this reply; None without a hint."""
    hints = (source(signal) for source in _SOURCES)
    return next((hint for hint in hints if hint is not None and _is_sane(hint)), None)


def duration_s(text: str) -> float | None:
    """Read a duration such as `1s`, `6m0s`, `250ms`, `45.837906927s` or a bare number of seconds."""
    text = text.strip()
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNITS_S[unit] for number, unit in _PIECE.findall(text))
    try:
        return float(text)
    except ValueError:
        return None


def _is_sane(hint_s: float) -> bool:
    return math.isfinite(hint_s) and 0 <= hint_s <= _LONGEST_S


def _now(signal: Signal) -> datetime | None:
    """Return the time of the reply by the provider's clock."""
    return _http_date(signal.headers.get("date", ""))


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _until(moment: datetime | None, signal: Signal) -> float | None:
    """Return the seconds from the reply to a time; 0 if it has passed."""
    now = _now(signal)
    return None if moment is None or now is None else max((moment - now).total_seconds(), 0.0)


def _month_end(signal: Signal) -> float | None:
    """Return the seconds to 00:00 UTC on the 1st, when Anthropic's monthly limit begins anew."""
    now = _now(signal)
    if now is None or "enforced_spend_limit_reached" not in words(signal):
        return None
    next_month = (now.astimezone(UTC).replace(day=1) + timedelta(days=32)).replace(day=1)
    return _until(datetime.combine(next_month.date(), time(tzinfo=UTC)), signal)


def _regained_access(signal: Signal) -> float | None:
    """Return the seconds to the day on which Anthropic resets a customer's own limit."""
    match = _REGAIN.search(signal.message)
    return _until(_rfc3339(match[1]), signal) if match else None


def _daily_reset(signal: Signal) -> float | None:
    """Return the seconds to Gemini's next day; a daily quota's RetryInfo names seconds, which are too few."""
    now = _now(signal)
    if now is None or status_of(signal) != 429 or not is_daily_quota(signal):  # noqa: PLR2004
        return None
    reset = datetime.combine(now.astimezone(UTC).date(), _DAILY_RESET_UTC)
    return _until(reset if reset > now else reset + timedelta(days=1), signal)


def _retry_after_ms(signal: Signal) -> float | None:
    milliseconds = _number(signal.headers.get("retry-after-ms", ""))
    return None if milliseconds is None else milliseconds / 1000


def _retry_after(signal: Signal) -> float | None:
    header = signal.headers.get("retry-after", "")
    seconds = _number(header)
    return _until(_http_date(header), signal) if seconds is None else seconds


def _retry_info(signal: Signal) -> float | None:
    return _first_duration(info.get("retryDelay") for info in details_of(signal, "google.rpc.RetryInfo"))


def _quota_reset_delay(signal: Signal) -> float | None:
    infos = details_of(signal, "google.rpc.ErrorInfo")
    return _first_duration(texts_of(info.get("metadata")).get("quotaResetDelay") for info in infos)


def _resets(signal: Signal) -> float | None:
    """Return the longest reset of the limits that are used up; every reply has them, so only on 429."""
    if status_of(signal) != 429:  # noqa: PLR2004
        return None
    hints = [*_anthropic_resets(signal), *_openai_resets(signal)]
    return max((hint for hint in hints if hint is not None and _is_sane(hint)), default=None)


def _anthropic_resets(signal: Signal) -> Iterator[float | None]:
    for name, value in signal.headers.items():
        match = _ANTHROPIC_RESET.fullmatch(name)
        if match and _is_used_up(signal.headers.get(f"anthropic-ratelimit-{match[1]}-remaining")):
            yield _until(_rfc3339(value), signal)


def _openai_resets(signal: Signal) -> Iterator[float | None]:
    for name, value in signal.headers.items():
        match = _OPENAI_RESET.fullmatch(name)
        if match and _is_used_up(signal.headers.get(f"x-ratelimit-remaining-{match[1]}")):
            yield duration_s(value)


def _is_used_up(remaining: str | None) -> bool:
    """Return whether a limit may be used up: no count may mean so; -1 means that there is no limit."""
    return remaining is None or remaining.strip() == "0"


def _text(signal: Signal) -> float | None:
    """Read the message itself, such as `Please retry in 45.8s` or `Please try again in 6m0s`."""
    match = _RETRY_IN.search(signal.message)
    return duration_s(match[1]) if match else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _rfc3339(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _first_duration(values: Iterator[Json]) -> float | None:
    durations = (duration_s(value) for value in values if isinstance(value, str))
    return next((seconds for seconds in durations if seconds is not None), None)


_SOURCES: tuple[Callable[[Signal], float | None], ...] = (
    _month_end,
    _regained_access,
    _daily_reset,
    _retry_after_ms,
    _retry_after,
    _retry_info,
    _quota_reset_delay,
    _resets,
    _text,
)
"""The sources of a hint, the most reliable first."""
