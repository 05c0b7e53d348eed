"""An attempt on the wire: asked for whole, or read as it comes and passed on piece by piece."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from promptkit._util.shares import Share
from promptkit.config.keys import Keys
from promptkit.config.settings import Keep, Kept, Settings, Storage
from promptkit.ledger.records import AttemptEnd, AttemptStart, CallEnd, CallStart, RowEnd
from promptkit.providers.adapter import Adapter, StreamDecoder
from promptkit.providers.replies import from_transport_failure
from promptkit.providers.tokens import estimate_input_tokens, estimate_text_tokens
from promptkit.providers.transport import StreamBroken, Transport, WireStream, open_transport
from promptkit.providers.wire_formats import for_provider
from promptkit.routing.catalog import Catalog
from promptkit.routing.flow import GaveUp, Verdict
from promptkit.routing.reply_cache import key_of
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
    Model,
    Outcome,
    Provider,
    Target,
    TransportFailure,
    Usage,
    WireRequest,
)

from .calls import CallRequest, row_stays, status_of, text_of
from .judge import Hearing

Heard = Callable[[Mapping[str, str]], None]
"""Is told the headers of an answer, as soon as they are there."""


STOPPED: Final = "stopped while it was under way"


class Exchange:
    """A request that is sent and answered whole.

    Args:
        lane: where it goes.
        wire: what is sent.
        heard: is told the answer's headers.
    """

    def __init__(self, lane: Lane, wire: WireRequest, heard: Heard) -> None:
        self._lane = lane
        self._wire = wire
        self._heard = heard
        self._steady = asyncio.get_running_loop().time
        self._began_s = self._steady()

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was sent."""
        return self._steady() - self._began_s

    @property
    def first_byte_s(self) -> float | None:
        """Seconds to the first word of a stream."""
        return None

    async def take(self) -> Outcome:
        """Send the request, and read what comes of it."""
        reply = await self._lane.transport.send(self._wire, self._lane.provider.timeout_s)
        if isinstance(reply, TransportFailure):
            return from_transport_failure(reply)
        self._heard(reply.headers)
        return self._lane.adapter.decode(reply)

    def given_up(self) -> Failure:
        """What the going of its caller leaves."""
        return Failure(Fault.UNKNOWN_OUTCOME, STOPPED, billed=True)

    def usage_so_far(self, call: Call) -> Usage | None:
        """About what a stream has taken that ended before its usage was told; None where none began."""
        del call
        return None


class Streaming(Exchange):
    """A request whose answer is passed on as it comes.

    White space before the first word is held back: until that nothing has been shown, and the
    call can go on elsewhere without anybody's notice. Reasoning is never passed on.

    Args:
        lane: where it goes.
        wire: what is sent; it asks for a stream.
        heard: is told the answer's headers.
        listen: is told each piece of the text.
    """

    def __init__(self, lane: Lane, wire: WireRequest, heard: Heard, listen: Callable[[str], None]) -> None:
        super().__init__(lane, wire, heard)
        self._listen = listen
        self._decoder: StreamDecoder | None = None
        self._said: list[str] = []
        self._first_byte_s: float | None = None

    @property
    def first_byte_s(self) -> float | None:
        """Seconds to the first word; None where it never came."""
        return self._first_byte_s

    async def take(self) -> Outcome:
        """Send the request, and pass on what comes of it."""
        lane, broken = self._lane, None
        async with lane.transport.stream(self._wire, lane.provider.timeout_s) as start:
            if isinstance(start, TransportFailure):
                return from_transport_failure(start)
            self._heard(start.headers)
            if not isinstance(start, WireStream):
                return lane.adapter.decode(start)
            self._decoder = lane.adapter.stream(start.headers)
            try:
                async for chunk in start.chunks:
                    self._pass_on(self._decoder.feed(chunk))
            except StreamBroken as error:
                broken = error.failure
        return self._marked(self._decoder.end(broken))

    def given_up(self) -> Failure:
        """What the going of its caller leaves: what had arrived, and what the answer said of itself."""
        lost = super().given_up()
        if self._decoder is None:
            return lost
        known = self._decoder.end(TransportFailure(sent=True, detail=STOPPED))
        return replace(
            lost,
            status=200,
            usage=known.usage,
            served_model=known.served_model,
            tier=known.tier,
            request_id=known.request_id,
            text="".join(self._said),
            shown=self._first_byte_s is not None,
        )

    def usage_so_far(self, call: Call) -> Usage | None:
        """About what it has taken: what was sent, as far as it told its count, and what arrived."""
        if self._decoder is None:
            return None
        heard = estimate_text_tokens("".join(self._said))
        told = self._decoder.so_far()
        if told is None:
            return Usage(estimate_input_tokens(call.prompt, call.schema), heard)
        # A count that was told early stands still while the text goes on.
        return replace(told, output_tokens=max(told.output_tokens, told.reasoning_tokens + heard))

    def _pass_on(self, pieces: Iterable[str]) -> None:
        for piece in pieces:
            self._said.append(piece)
            if self._first_byte_s is not None:
                self._listen(piece)
            elif piece.strip():
                self._first_byte_s = self.elapsed_s
                self._listen("".join(self._said))

    def _marked(self, outcome: Outcome) -> Outcome:
        """A failure after the first word can't be made good behind the caller's back."""
        if self._first_byte_s is None:
            return outcome
        if isinstance(outcome, Failure):
            return replace(outcome, text="".join(self._said), billed=True, shown=True)
        return replace(outcome, shown=True)


_BLOT: Final = "[key]"


_LEAST: Final = 8
"""So many first characters of a key, at the end of a text that was cut, are still blotted out."""


@dataclass(frozen=True, slots=True)
class Settled:
    """An attempt that has ended, before it is written."""

    attempt: Attempt
    outcome: Outcome
    end: AttemptEnd


def settle(  # noqa: PLR0913 - what the books say of an attempt
    start: AttemptStart,
    outcome: Outcome,
    cost: Cost | None,
    latency_s: float,
    ended_us: int,
    *,
    first_byte_s: float | None = None,
    estimate: Estimate | None = None,
    note: str = "",
) -> Settled:
    """Settle an attempt: its cost, or its ceiling where that is unknown.

    Args:
        start: as it was opened.
        outcome: what came of it.
        cost: what it cost, None where nobody knows.
        latency_s: from sending to the last byte.
        ended_us: when it ended.
        first_byte_s: from sending to the first word of a stream.
        estimate: about what it took, where nobody knows.
        note: what its detail begins with.
    """
    failure = outcome if isinstance(outcome, Failure) else None
    charged = (start.max_cost_pico or 0) if cost is None else cost.pico
    state = state_of(outcome)
    attempt = Attempt(
        id=start.id,
        target=start.target,
        state=state,
        fault=failure.fault if failure else None,
        detail=": ".join(told for told in (note, failure.detail if failure else "") if told),
        usage=outcome.usage,
        cost=cost,
        charged_pico=charged,
        latency_s=latency_s,
        first_byte_s=first_byte_s,
        request_id=outcome.request_id,
        served_model=outcome.served_model,
        estimate=estimate,
    )
    hint_s = failure.retry_after_s if failure else None
    end = AttemptEnd(
        id=start.id,
        state=state,
        charged_pico=charged,
        ended_us=ended_us,
        fault=attempt.fault,
        detail=attempt.detail,
        usage=outcome.usage,
        cost=cost,
        served_model=outcome.served_model,
        tier=outcome.tier,
        request_id=outcome.request_id,
        latency_us=int(latency_s * 1e6),
        first_byte_us=None if first_byte_s is None else int(first_byte_s * 1e6),
        estimate=estimate,
        billed=failure is None or failure.billed,
        http_status=failure.status if failure else None,
        retry_after_us=None if hint_s is None else int(hint_s * 1e6),
    )
    return Settled(attempt, outcome, end)


def state_of(outcome: Outcome) -> AttemptState:
    """What became of the attempt."""
    if isinstance(outcome, Completion):
        return AttemptState.OK if outcome.finish is Finish.STOP else AttemptState.TRUNCATED
    return AttemptState.UNKNOWN if outcome.fault is Fault.UNKNOWN_OUTCOME else AttemptState.FAILED


def without_secrets(failure: Failure, secrets: Sequence[str]) -> Failure:
    """The same failure with every key blotted out: a host may echo what it was sent."""
    clean = replace(
        failure,
        detail=blotted(failure.detail, secrets) or "",
        text=blotted(failure.text, secrets) or "",
        served_model=blotted(failure.served_model, secrets),
        tier=blotted(failure.tier, secrets),
        request_id=blotted(failure.request_id, secrets),
    )
    return failure if clean == failure else clean


def accounts_of(catalog: Catalog, keys: Keys) -> dict[str, str]:
    """The accounts in use, by provider, as `address:key`: each a fingerprint that can't be turned back.

    A part is empty where there is none; who has neither is the empty account.
    """
    return {
        provider.name: account_of(provider.base_url, keys.get(provider))
        for provider in catalog.providers.values()
    }


def account_of(base_url: str | None, key: str | None) -> str:
    """What tells one account from another in the ledger; another address is another account."""
    return f"{_fingerprint(base_url)}:{_fingerprint(key)}" if base_url or key else ""


def _fingerprint(text: str | None) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""


def blotted(text: str | None, secrets: Sequence[str]) -> str | None:
    """A text without the secrets, nor what a cut left of one at its end."""
    if not text:
        return text
    for secret in secrets:
        text = text.replace(secret, _BLOT)
        cut = text.removesuffix("…")
        if len(cut) < len(text):
            lengths = range(len(secret) - 1, _LEAST - 1, -1)
            part = next((length for length in lengths if cut.endswith(secret[:length])), 0)
            text = f"{cut[:-part]}{_BLOT}…" if part else text
    return text


@dataclass(frozen=True, slots=True)
class Lane:
    """What it takes to ask one target."""

    provider: Provider
    model: Model
    adapter: Adapter
    transport: Transport


class Lanes:
    """The lanes of a process, each opened when it is first asked for.

    Args:
        settings: providers and keys.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lanes: dict[Target, Lane] = {}
        self._transports: dict[str, Transport] = {}

    def to(self, target: Target) -> Lane:
        """The lane to a target.

        Raises:
            ConfigError: its transport can't be opened.
        """
        lane = self._lanes.get(target)
        if lane is None:
            provider, model = self._settings.catalog.pair(target)
            transport = self._transports.get(provider.name)
            if transport is None:
                transport = open_transport(provider, self._settings.keys.get(provider))
                self._transports[provider.name] = transport
            lane = Lane(provider, model, for_provider(provider), transport)
            self._lanes[target] = lane
        return lane

    async def aclose(self) -> None:
        """Close every transport."""
        transports, self._transports = self._transports, {}
        self._lanes.clear()
        await asyncio.gather(*(transport.aclose() for transport in transports.values()))


@dataclass(slots=True)
class ActiveCall:
    """A call under way."""

    work: CallRequest
    started_s: float
    hearing: Hearing
    kept: Kept
    """What the settings keep of it."""
    begun: bool = False
    """The call stands in the ledger."""
    closed: bool = False
    """Its end does, too."""
    refused_by: str | None = None
    """The scope that had no room for it."""
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    members: tuple[ActiveCall, ...] = ()
    """Of a call that carries a pack: the calls of its rows. What stands below is theirs."""
    verdict: Verdict | None = None
    """How it ended, once the pack has."""
    share: Share | None = None
    ask_again: bool = False
    """The pack brought it no reply, and it is to be asked for again with fewer others, or alone."""

    @classmethod
    def of(cls, work: CallRequest, started_s: float, storage: Storage) -> ActiveCall:
        """A call that begins; where replies aren't kept in full, the books say no word of one."""
        kept = storage.of(work.tags)
        hearing = Hearing(work.call, work.judge, kept.replies is Keep.FULL)
        members = tuple(cls.of(member, started_s, storage) for member in work.members)
        return cls(work, started_s, hearing, kept, members=members)


def us_of(seconds: float) -> int:
    """Seconds as the books have them: whole microseconds."""
    return int(seconds * 1_000_000)


def call_start(making: ActiveCall, kept: Kept) -> CallStart:
    """The call as it begins; variables that the settings keep out are left out."""
    work = making.work
    prompt = work.call.prompt
    return CallStart(
        id=work.id,
        template_digest=prompt.template_digest,
        template_ref=str(prompt.ref),
        prompt_digest=prompt.digest,
        variables=work.variables if kept.variables is Keep.FULL and not work.members else None,
        tags=work.tags,
        parent_id=work.parent_id,
        deliverable=work.deliverable,
        job_id=work.job_id,
        row_id=work.row_id,
        route=work.route,
        pack_items=len(work.members) or None,
        cache_key=None if work.cache_s is None else key_of(work.call),
        started_us=us_of(making.started_s),
    )


def call_end(
    making: ActiveCall, verdict: Verdict, kept: Kept, ended_us: int, *, stopped: bool = False
) -> tuple[CallEnd, RowEnd | None]:
    """The call as it ends, and its row, unless that still waits.

    Args:
        making: the call.
        verdict: how its flow ended.
        kept: what the settings keep of it.
        ended_us: when.
        stopped: whether its caller went away: the row waits then, if it may be sent again.
    """
    work, status = making.work, status_of(verdict)
    gave_up = isinstance(verdict, GaveUp)
    text = text_of(verdict)
    if gave_up and not text:
        text = making.hearing.rejected or ""  # it was paid
    came = not gave_up or bool(text)
    # A job's output is written from the ledger: until then it keeps the texts of its rows.
    keeps_text = came and (kept.replies is Keep.FULL or (work.row_id is not None and not gave_up))
    keeps_digest = came and kept.replies is not Keep.NONE
    end = CallEnd(
        id=work.id,
        status=status,
        ended_us=ended_us,
        error=verdict.why if gave_up else None,
        text=text if keeps_text else None,
        text_sha256=hashlib.sha256(text.encode()).hexdigest() if keeps_digest else None,
        finish=None if gave_up else verdict.completion.finish,
        flags=() if gave_up else making.hearing.flags,
    )
    waits = work.plan.resend_unknown if stopped else row_stays(verdict, making.attempts, work.plan)
    if work.row_id is None or waits:
        return end, None
    return end, RowEnd(work.row_id, status, ended_us, work.id, end.error)
