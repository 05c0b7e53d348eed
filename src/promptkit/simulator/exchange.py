"""One exchange: from the bytes of a request to the planned response, the bill and the journal.

No socket is used here; `delivery` sends the planned response.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import log
from random import Random
from time import monotonic

from promptkit.simulator import faults, rate_limits, reply_text

from .bill import Bill, BillLine, Journal, JournalEntry, prompt_digest
from .endpoints import Endpoint, check_key, check_request, find_model, key_of, read_body
from .formats import StreamEvents
from .formats.base import dumps
from .models import Models, ProviderFamily, SimModel, Tokens
from .prompt_cache import CacheLookup, PrefixCache
from .rate_limits import LimitExceeded, LimitUsage, RateLimits
from .reply_text import digest
from .requests import FinishReason, ModelReply, ModelRequest, RequestRefused
from .scenario import FaultRule, FaultScript, Latency, RequestTraits, Scenario

_MAX_PROMPTS = 500_000


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds until the first byte, and seconds for the rest of the tokens."""

    first_s: float = 0.0
    rest_s: float = 0.0


IMMEDIATE = Timing()


@dataclass(slots=True)
class PlannedResponse:
    """A response to send: a body or events, and the fault to apply while sending.

    `on_begin` is called at the first byte; `line` is marked as delivered at the last one.
    """

    status: int
    headers: dict[str, str]
    body: bytes = b""
    events: StreamEvents | None = None
    content_type: str = "application/json"
    wire_fault: FaultRule | None = None
    error_event: bytes = b""
    timing: Timing = IMMEDIATE
    line: BillLine | None = None
    on_begin: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """A request as it was received."""

    endpoint: Endpoint
    path: str
    headers: Mapping[str, str]
    raw: bytes


@dataclass(slots=True)
class _ExchangeState:
    """What is known about a request so far, for the journal and for error responses."""

    request_id: str
    request: ModelRequest | None = None
    model: str = ""
    fault: str | None = None
    usage: LimitUsage | None = None
    tokens: tuple[int, int] = (0, 0)
    hint_s: float | None = None


@dataclass(slots=True)
class Simulation:
    """The state of a simulator.

    Args:
        scenario: models, limits and faults.
        seed: decides every random choice.
        latency: how long replies take.
        strictly: validate bodies by the SDKs' types.
        wall: returns the time of day, UTC.
        clock: returns seconds of a steady clock.
    """

    scenario: Scenario = field(default_factory=Scenario)
    seed: int = 0
    latency: Latency = None
    strictly: bool = True
    wall: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = monotonic
    bill: Bill = field(init=False)
    journal: Journal = field(default_factory=Journal)
    script: FaultScript = field(init=False)
    models: Models = field(init=False)
    limits: RateLimits = field(init=False)
    cache: PrefixCache = field(default_factory=PrefixCache)
    _repetitions: dict[bytes, int] = field(default_factory=dict[bytes, int])

    def __post_init__(self) -> None:
        rules = {(rule.provider, rule.id): rule for rule in self.scenario.models}
        self.bill = Bill({key: rule.card for key, rule in rules.items() if rule.card is not None})
        self.models = Models({key: rule.model for key, rule in rules.items()})
        self.script = FaultScript(self.seed, self.scenario.faults)
        self.limits = RateLimits(self.scenario.limits)

    def before_reading(self, endpoint: Endpoint, path: str, headers: Mapping[str, str]) -> FaultRule | None:
        """Return the rule, if any, that breaks the connection before the body is read."""
        identity = f"head {self.journal.count}"
        traits = RequestTraits(endpoint.provider, key_of(headers), identity, endpoint.model)
        rule = self.script.before_reading(traits)
        if rule is not None:
            incoming = IncomingRequest(endpoint, path, headers, b"")
            self._record(incoming, _ExchangeState(self._id(endpoint, identity), fault=rule.fault), 0, 0)
        return rule

    def refuse(self, incoming: IncomingRequest, refused: RequestRefused) -> PlannedResponse:
        """Return the response to an error that is known before the body is read (too large)."""
        request_id = self._id(incoming.endpoint, f"request {self.journal.count}")
        state = _ExchangeState(request_id, fault=refused.fault)
        planned = self._error(incoming.endpoint, state, refused)
        self._record(incoming, state, planned.status, len(planned.body))
        return planned

    def respond(self, incoming: IncomingRequest) -> PlannedResponse:
        """Return the response to a POST, and record it in the bill and the journal."""
        state = _ExchangeState(self._id(incoming.endpoint, f"request {self.journal.count}"))
        try:
            planned = self._respond(incoming, state)
        except RequestRefused as refused:
            state.fault = state.fault or refused.fault
            planned = self._error(incoming.endpoint, state, refused)
        events = planned.events
        size = len(planned.body) if events is None else sum(map(len, (*events.head, *events.tail)))
        if planned.wire_fault is not None and planned.wire_fault.fault in ("wire.reset_after", "wire.stall"):
            self._record(incoming, state, 0, 0)
        else:
            self._record(incoming, state, planned.status, size)
        return planned

    def _respond(self, incoming: IncomingRequest, state: _ExchangeState) -> PlannedResponse:
        endpoint, key = incoming.endpoint, key_of(incoming.headers)
        check_key(endpoint, key, self.scenario.keys)
        request = read_body(endpoint, incoming.raw, incoming.headers, strictly=self.strictly)
        state.request, state.model = request, request.model
        model = find_model(endpoint, self.models, request.model)
        state.model = model.id
        check_request(endpoint, request, model, require_max_tokens=self.scenario.require_max_tokens)
        drawn = digest(self.seed, endpoint.provider, model.id, request.prompt)
        identity = f"{drawn.hex()} {self._repetition(drawn)}"
        state.request_id = self._id(endpoint, identity)
        rule = self.script.strike(
            RequestTraits(endpoint.provider, key, identity, request.model, request.stream)
        )
        state.fault = None if rule is None else rule.fault
        if rule is not None and rule.fault not in faults.WIRE and rule.fault not in faults.REPLY:
            raise _ScriptedError(rule)
        lookup = self._look_up(endpoint, key, request, model)
        reserved = request.max_tokens or model.max_output_tokens
        state.usage = self.limits.usage(endpoint.provider, model.id, key or "", self.clock())
        if state.usage is not None:
            exceeded = state.usage.admit(lookup.tokens.input, reserved, self.clock(), self.wall())
            if exceeded is not None:
                raise _OverLimit(endpoint.family, model.id, exceeded)
        draft = draft_reply(request, model, endpoint.family, lookup.tokens, drawn, rule)
        state.tokens = (draft.tokens.input, draft.tokens.output)
        if state.usage is not None:
            state.usage.settle(draft.tokens.input, reserved, draft.tokens.output)
        planned = self._plan(endpoint, request, state, draft, rule)
        planned.timing = timing(self.latency, digest(self.seed, "pace", identity), draft.tokens.output)
        planned.on_begin = lambda: self.cache.remember(lookup, self.clock())
        return planned

    def _repetition(self, drawn: bytes) -> int:
        """Return how often this prompt was sent, from 1."""
        if len(self._repetitions) >= _MAX_PROMPTS:
            self._repetitions.clear()
        count = self._repetitions[drawn] = self._repetitions.get(drawn, 0) + 1
        return count

    def _look_up(
        self, endpoint: Endpoint, key: str | None, request: ModelRequest, model: SimModel
    ) -> CacheLookup:
        prompt = request.prompt.encode("utf-8", "surrogatepass")
        scope = f"{endpoint.provider} {key} {model.id} {request.cache_key}"
        least = model.cache_min_tokens
        if self.scenario.prompt_cache and request.implicit_cache:
            return self.cache.implicit(scope, prompt, self.clock(), writes=model.cache_writes, least=least)
        marks = request.marks if self.scenario.prompt_cache else ()
        return self.cache.marked(scope, prompt, marks, self.clock(), least=least)

    def _plan(
        self,
        endpoint: Endpoint,
        request: ModelRequest,
        state: _ExchangeState,
        draft: DraftReply,
        rule: FaultRule | None,
    ) -> PlannedResponse:
        now = self.wall()
        wire_fault = rule if rule is not None and rule.fault in faults.WIRE else None
        line = BillLine(
            state.request_id,
            endpoint.provider,
            state.model,
            draft.served,
            request.tier,
            draft.tokens,
            self.bill.price(endpoint.provider, state.model, draft.tokens, request.tier, now.date()),
            fault=state.fault,
            delivered=False,
        )
        if wire_fault is not None:
            default = faults.WIRE[wire_fault.fault].billed
            line.billed = default if wire_fault.billed is None else wire_fault.billed
            line.pico = line.pico if line.billed else 0
        self.bill.add(line)
        reply = ModelReply(
            state.request_id,
            int(now.timestamp()),
            draft.served,
            draft.text,
            draft.end,
            draft.tokens if draft.has_usage else None,
            request.tier,
            draft.stop,
        )
        headers = self._headers(endpoint, state)
        if endpoint.family is ProviderFamily.GEMINI:
            headers["x-gemini-service-tier"] = request.tier or "standard"
        planned = PlannedResponse(200, headers, wire_fault=wire_fault, line=line)
        wire_format = endpoint.format
        assert wire_format is not None  # noqa: S101 - an endpoint that generates has a format
        if request.stream:
            planned.events = wire_format.events(request, reply)
            planned.content_type = "text/event-stream"
        else:
            planned.body = dumps(wire_format.whole(request, reply))
        if wire_fault is not None and wire_fault.fault == "wire.stream_error":
            spec, body = faults.stream_error(wire_fault.error, endpoint.family, state.request_id)
            planned.error_event = wire_format.error_event(body)
            if not request.stream:
                planned.status, planned.body, planned.wire_fault = spec.status, dumps(body), None
        return planned

    def _error(self, endpoint: Endpoint, state: _ExchangeState, refused: RequestRefused) -> PlannedResponse:
        if isinstance(refused, _ScriptedError):
            state.hint_s = refused.rule.retry_after_s
        elif isinstance(refused, _OverLimit):
            state.hint_s = round(refused.exceeded.wait_s, 3)
        error = faults.error_response(
            refused.fault,
            endpoint.family,
            request_id=_shown_id(endpoint.family, state.request_id),
            message=refused.message,
            code=refused.code,
            param=refused.param,
            retry_after_s=state.hint_s,
        )
        headers = {**self._headers(endpoint, state), **error.headers}
        return PlannedResponse(error.status, headers, error.body, content_type=error.content_type)

    def _headers(self, endpoint: Endpoint, state: _ExchangeState) -> dict[str, str]:
        headers = rate_limits.headers(endpoint.family, state.usage, self.wall())
        match endpoint.family:
            case ProviderFamily.OPENAI:
                headers |= {
                    "x-request-id": _shown_id(endpoint.family, state.request_id),
                    "openai-processing-ms": "7",
                    "openai-version": "2020-10-01",
                }
            case ProviderFamily.ANTHROPIC:
                headers |= {
                    "request-id": _shown_id(endpoint.family, state.request_id),
                    "anthropic-organization-id": "org_simulator",
                }
            case ProviderFamily.GEMINI:
                pass
        return headers

    def _id(self, endpoint: Endpoint, identity: str) -> str:
        return digest(self.seed, "id", endpoint.provider, identity).hex()[:24]

    def _record(self, incoming: IncomingRequest, state: _ExchangeState, status: int, bytes_out: int) -> None:
        request = state.request
        prompt = "" if request is None else request.prompt
        entry = JournalEntry(
            number=self.journal.next_number(),
            time=self.wall().isoformat(timespec="milliseconds"),
            provider=incoming.endpoint.provider,
            model=state.model,
            path=incoming.path,
            stream=incoming.endpoint.stream if request is None else request.stream,
            status=status,
            fault=state.fault,
            request_id=state.request_id,
            bytes_in=len(incoming.raw),
            bytes_out=bytes_out,
            input_tokens=state.tokens[0],
            output_tokens=state.tokens[1],
            prompt_sha256="" if request is None else prompt_digest(prompt),
            prompt_chars=len(prompt),
            retry_after_s=state.hint_s,
        )
        self.journal.add(entry, incoming.raw)


class _ScriptedError(RequestRefused):
    """An error of the script, with its rule."""

    def __init__(self, rule: FaultRule) -> None:
        super().__init__(rule.fault, rule.message)
        self.rule = rule


class _OverLimit(RequestRefused):
    """A request over a limit of the scenario."""

    def __init__(self, family: ProviderFamily, model: str, exceeded: LimitExceeded) -> None:
        span = "day" if exceeded.per_day else "min"
        message = (
            f"Rate limit reached for {model} on {exceeded.name} per {span}: Limit {exceeded.limit}. "
            f"Please try again in {exceeded.wait_s:.3f}s."
        )
        # The message of Gemini's fault table names the quota; the other two name the limit in the text.
        super().__init__(
            rate_limits.fault_of(family, exceeded), None if family is ProviderFamily.GEMINI else message
        )
        self.exceeded = exceeded


def _shown_id(family: ProviderFamily, request_id: str) -> str:
    return f"{'req_' if family is not ProviderFamily.GEMINI else ''}{request_id}"


_FIRST_BYTE_S = (log(0.45), 0.5)
_TOKENS_PER_SECOND = (log(80), 0.3)


def timing(latency: Latency, drawn: bytes, output_tokens: int) -> Timing:
    """Return the timing of a reply.

    Realistic is a lognormal first byte (median 450 ms), then about 80 tokens/s.
    """
    if latency is None:
        return IMMEDIATE
    if latency != "realistic":
        return Timing(latency / 1000)
    rng = Random(int.from_bytes(drawn[8:16]))  # noqa: S311 - a simulation, not a secret
    return Timing(rng.lognormvariate(*_FIRST_BYTE_S), output_tokens / rng.lognormvariate(*_TOKENS_PER_SECOND))


@dataclass(frozen=True, slots=True)
class DraftReply:
    """A reply without its id: `tokens` are billed, `has_usage` is whether the response contains them."""

    text: str
    end: FinishReason
    tokens: Tokens
    served: str
    stop: str | None = None
    has_usage: bool = True


_REFUSAL = "I'm sorry, but I can't help with that request."
_ITEMS = "reply.items_"
_UNKNOWN_MODEL = "mystery-model-9"


def draft_reply(
    request: ModelRequest,
    model: SimModel,
    family: ProviderFamily,
    tokens: Tokens,
    drawn: bytes,
    rule: FaultRule | None,
) -> DraftReply:
    """Return the reply to a request.

    Args:
        request: the request.
        model: its model.
        family: decides how a blocked prompt is answered.
        tokens: the input tokens.
        drawn: 32 bytes from the seed and the prompt.
        rule: a fault of the script.

    Raises:
        RequestRefused: the prompt is blocked, by a provider that answers with an error.
    """
    rng = Random(int.from_bytes(drawn[:8]))  # noqa: S311 - a simulation, not a secret
    limit = min(request.max_tokens or model.max_output_tokens, model.max_output_tokens)
    thinking = min(limit, max(1, int(request.thinking * (0.5 + rng.random())))) if request.thinking else 0
    text, stop = reply_text.stop_at(_full_text(rng, request, rule), request.stops)
    text, cut_off = reply_text.cut(text, limit - thinking)
    output = limit if cut_off else min(limit, thinking + reply_text.count_tokens(text))
    end = FinishReason.LENGTH if cut_off else FinishReason.STOP_SEQUENCE if stop else FinishReason.STOP
    spent = replace(tokens, output=output, reasoning=thinking)
    draft = DraftReply(text, end, spent, model.served, None if cut_off else stop)
    return draft if rule is None else _apply_fault(draft, rule.fault, limit, family)


def _full_text(rng: Random, request: ModelRequest, rule: FaultRule | None) -> str:
    fault = None if rule is None else rule.fault
    if rule is not None and fault == "reply.says":
        return rule.message or ""
    if request.schema is None or fault == "reply.not_json":
        return reply_text.prose(rng, request.topic)
    if fault == "reply.wrong_json":
        return '{"unasked": [null]}' if request.schema.get("type") == "object" else "{}"
    text = reply_text.fitting_json(rng, request.topic, request.schema)
    if fault is not None and fault.startswith(_ITEMS) and reply_text.replies_by_id(request.schema):
        return reply_text.spoiled(text, fault.removeprefix(_ITEMS))
    return text


def _apply_fault(  # noqa: PLR0911 - one return per fault
    draft: DraftReply, fault: str, limit: int, family: ProviderFamily
) -> DraftReply:
    """Return the reply as a `reply.*` fault changes it."""
    tokens, text = draft.tokens, draft.text
    match fault:
        case "reply.refusal":
            is_gemini = family is ProviderFamily.GEMINI
            refusal = "" if is_gemini else reply_text.cut(_REFUSAL, limit - tokens.reasoning)[0]
            return _with_text(draft, refusal, FinishReason.REFUSAL)
        case "reply.content_filter":
            return _with_text(draft, text[: len(text) // 2], FinishReason.FILTER)
        case "reply.truncated":
            return _with_text(draft, text[: max(1, len(text) // 2)], FinishReason.LENGTH)
        case "reply.empty":
            tokens = replace(tokens, output=limit, reasoning=limit)
            return replace(draft, text="", end=FinishReason.LENGTH, stop=None, tokens=tokens)
        case "reply.blocked_prompt":
            if family is ProviderFamily.OPENAI:
                raise RequestRefused("openai.content_policy")
            if family is ProviderFamily.ANTHROPIC:
                raise RequestRefused("anthropic.bad_request", "Output blocked by content filtering policy")
            tokens = replace(tokens, output=0, reasoning=0)
            return replace(draft, text="", end=FinishReason.BLOCKED, tokens=tokens)
        case "reply.unknown_model":
            return replace(draft, served=_UNKNOWN_MODEL)
        case "reply.no_usage":
            return replace(draft, has_usage=False)
        case _:
            return draft


def _with_text(draft: DraftReply, text: str, end: FinishReason) -> DraftReply:
    output = draft.tokens.reasoning + reply_text.count_tokens(text)
    return replace(draft, text=text, end=end, stop=None, tokens=replace(draft.tokens, output=output))
