"""One attempt: its request, sent whole or streamed, and what its end means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from promptkit.ledger.records import AttemptEnd, AttemptStart
from promptkit.providers.adapter import StreamDecoder
from promptkit.providers.replies import from_transport_failure
from promptkit.providers.tokens import estimate_input_tokens, estimate_text_tokens
from promptkit.providers.transport import StreamBroken, WireStream
from promptkit.types import (
    Attempt,
    AttemptState,
    Call,
    Completion,
    Cost,
    Estimate,
    Failure,
    Fault,
    Finish,
    Outcome,
    TransportFailure,
    Usage,
    WireRequest,
)

from .endpoints import Endpoint

OnHeaders = Callable[[Mapping[str, str]], None]
"""Gets the headers of a response as soon as they arrive."""

STOPPED = "stopped while it was under way"

CANCELLED = Failure(Fault.UNKNOWN_OUTCOME, STOPPED, billed=True)
"""The outcome of a request whose caller was cancelled."""

_REDACTED = "[key]"

_SHORTEST_PART = 8
"""This many first characters of a key, at the end of a text that was cut, are still redacted."""


class Exchange:
    """A request that is sent, and answered by a whole response.

    Args:
        endpoint: where it is sent.
        call: what is asked.
        wire: the request as it is sent.
        on_headers: gets the headers of the response.
    """

    def __init__(self, endpoint: Endpoint, call: Call, wire: WireRequest, on_headers: OnHeaders) -> None:
        self.endpoint = endpoint
        self._call = call
        self._wire = wire
        self._on_headers = on_headers
        self._now_s = asyncio.get_running_loop().time
        self._began_s = self._now_s()

    @property
    def elapsed_s(self) -> float:
        """Return the seconds since it was sent."""
        return self._now_s() - self._began_s

    @property
    def first_byte_s(self) -> float | None:
        """Return the seconds to the first word of a stream; None where there was none."""
        return None

    async def send(self) -> Outcome:
        """Send the request, and return its outcome."""
        response = await self.endpoint.transport.send(self._wire, self.endpoint.provider.timeout_s)
        if isinstance(response, TransportFailure):
            return from_transport_failure(response)
        self._on_headers(response.headers)
        return self.endpoint.adapter.decode(response)

    def cancelled(self) -> Failure:
        """Return the outcome after the caller was cancelled."""
        return CANCELLED

    def usage_so_far(self) -> Usage | None:
        """Estimate the usage of a stream that ended before its usage was reported; None where none began."""
        return None


class StreamingExchange(Exchange):
    """A request whose reply is passed on as it arrives.

    White space before the first word is delayed: until that word nothing was shown, and the call
    can fail over unnoticed. Reasoning is never passed on.

    Args:
        endpoint: where it is sent.
        call: what is asked.
        wire: the request as it is sent; it asks for a stream.
        on_headers: gets the headers of the response.
        listen: gets each piece of the text.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        call: Call,
        wire: WireRequest,
        on_headers: OnHeaders,
        listen: Callable[[str], None],
    ) -> None:
        super().__init__(endpoint, call, wire, on_headers)
        self._listen = listen
        self._decoder: StreamDecoder | None = None
        self._pieces: list[str] = []
        self._first_byte_s: float | None = None

    @property
    def first_byte_s(self) -> float | None:
        """Return the seconds to the first word; None where it never came."""
        return self._first_byte_s

    async def send(self) -> Outcome:
        """Send the request, pass its text on, and return its outcome."""
        endpoint, broken = self.endpoint, None
        async with endpoint.transport.stream(self._wire, endpoint.provider.timeout_s) as response:
            if isinstance(response, TransportFailure):
                return from_transport_failure(response)
            self._on_headers(response.headers)
            if not isinstance(response, WireStream):
                return endpoint.adapter.decode(response)
            self._decoder = endpoint.adapter.stream(response.headers)
            try:
                async for chunk in response.chunks:
                    self._pass_on(self._decoder.feed(chunk))
            except StreamBroken as error:
                broken = error.failure
        return self._marked(self._decoder.end(broken))

    def _pass_on(self, pieces: Iterable[str]) -> None:
        for piece in pieces:
            self._pieces.append(piece)
            if self._first_byte_s is not None:
                self._listen(piece)
            elif piece.strip():
                self._first_byte_s = self.elapsed_s
                self._listen("".join(self._pieces))

    def _marked(self, outcome: Outcome) -> Outcome:
        """Mark an outcome as shown: no second attempt can replace what the caller has read."""
        if self._first_byte_s is None:
            return outcome
        if isinstance(outcome, Failure):
            return replace(outcome, text="".join(self._pieces), billed=True, shown=True)
        return replace(outcome, shown=True)

    def cancelled(self) -> Failure:
        """Return the outcome after the caller was cancelled, with what had arrived."""
        if self._decoder is None:
            return CANCELLED
        known = self._decoder.end(TransportFailure(sent=True, detail=STOPPED))
        return replace(
            CANCELLED,
            status=200,
            usage=known.usage,
            served_model=known.served_model,
            tier=known.tier,
            request_id=known.request_id,
            text="".join(self._pieces),
            shown=self._first_byte_s is not None,
        )

    def usage_so_far(self) -> Usage | None:
        """Estimate the usage: the prompt that was sent, and the text that arrived."""
        if self._decoder is None:
            return None
        text_tokens = estimate_text_tokens("".join(self._pieces))
        usage = self._decoder.so_far()
        if usage is None:
            return Usage(estimate_input_tokens(self._call.prompt, self._call.schema), text_tokens)
        # A count that is reported early does not grow with the text.
        return replace(usage, output_tokens=max(usage.output_tokens, usage.reasoning_tokens + text_tokens))


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """An attempt that has ended and is not written yet."""

    attempt: Attempt
    outcome: Outcome
    ended_us: int

    @property
    def record(self) -> AttemptEnd:
        """Return what the ledger keeps of it."""
        attempt, outcome = self.attempt, self.outcome
        failure = outcome if isinstance(outcome, Failure) else None
        retry_after_s = failure.retry_after_s if failure else None
        return AttemptEnd(
            id=attempt.id,
            state=attempt.state,
            charged_pico=attempt.charged_pico,
            ended_us=self.ended_us,
            fault=attempt.fault,
            detail=attempt.detail,
            usage=attempt.usage,
            cost=attempt.cost,
            served_model=attempt.served_model,
            tier=outcome.tier,
            request_id=attempt.request_id,
            latency_us=us_of(attempt.latency_s),
            first_byte_us=None if attempt.first_byte_s is None else us_of(attempt.first_byte_s),
            estimate=attempt.estimate,
            billed=failure is None or failure.billed,
            http_status=failure.status if failure else None,
            retry_after_us=None if retry_after_s is None else us_of(retry_after_s),
        )


def end_attempt(  # noqa: PLR0913 - the facts of an attempt
    start: AttemptStart,
    outcome: Outcome,
    cost: Cost | None,
    latency_s: float,
    *,
    first_byte_s: float | None = None,
    estimate: Estimate | None = None,
    note: str = "",
) -> Attempt:
    """Return the attempt as it ended: charged at its cost, or at its max cost where that is unknown.

    Args:
        start: the attempt as it began.
        outcome: what came of it.
        cost: its cost, None where that is unknown.
        latency_s: seconds from sending to the last byte.
        first_byte_s: seconds from sending to the first word of a stream.
        estimate: the estimated usage and cost, where both are unknown.
        note: what its detail begins with.
    """
    failure = outcome if isinstance(outcome, Failure) else None
    return Attempt(
        id=start.id,
        target=start.target,
        state=state_of(outcome),
        fault=failure.fault if failure else None,
        detail=": ".join(part for part in (note, failure.detail if failure else "") if part),
        usage=outcome.usage,
        cost=cost,
        charged_pico=(start.max_cost_pico or 0) if cost is None else cost.pico,
        latency_s=latency_s,
        first_byte_s=first_byte_s,
        request_id=outcome.request_id,
        served_model=outcome.served_model,
        estimate=estimate,
    )


def state_of(outcome: Outcome) -> AttemptState:
    """Return the state of an attempt with this outcome."""
    if isinstance(outcome, Completion):
        return AttemptState.OK if outcome.finish is Finish.STOP else AttemptState.TRUNCATED
    return AttemptState.UNKNOWN if outcome.fault is Fault.UNKNOWN_OUTCOME else AttemptState.FAILED


def us_of(seconds: float) -> int:
    """Convert seconds to whole microseconds, as the ledger stores them."""
    return int(seconds * 1_000_000)


def without_secrets(failure: Failure, secrets: Sequence[str]) -> Failure:
    """Return the failure with every key redacted: a host may echo what it was sent."""
    clean = replace(
        failure,
        detail=redacted(failure.detail, secrets) or "",
        text=redacted(failure.text, secrets) or "",
        served_model=redacted(failure.served_model, secrets),
        tier=redacted(failure.tier, secrets),
        request_id=redacted(failure.request_id, secrets),
    )
    return failure if clean == failure else clean


def redacted(text: str | None, secrets: Sequence[str]) -> str | None:
    """Return a text without the secrets, and without the part of one that a cut left at its end."""
    if not text:
        return text
    for secret in secrets:
        text = text.replace(secret, _REDACTED)
        cut = text.removesuffix("…")
        if len(cut) < len(text):
            lengths = range(len(secret) - 1, _SHORTEST_PART - 1, -1)
            part = next((length for length in lengths if cut.endswith(secret[:length])), 0)
            text = f"{cut[:-part]}{_REDACTED}…" if part else text
    return text
