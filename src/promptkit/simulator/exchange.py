"""One exchange, thought through: from the bytes of a request to what should go back, and the books.

No socket is touched here; `delivery` puts the result on the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import log
from random import Random
from time import monotonic
from typing import Final

from promptkit.simulator import faults, limits
from promptkit.simulator import text as words_of

from .bill import Bill, Journal, Line, Note, prompt_digest
from .formats import Events
from .formats.base import dumps
from .models import Family, Models, SimModel, Tokens
from .prompt_cache import Lookup, PrefixCache
from .requests import Answer, Asked, End, Refused
from .routes import Place, check_asked, check_key, find_model, key_of, read_body
from .scenario import FaultRule, Latency, Scenario, Script, Sighting
from .text import digest

_TURNS_KEPT: Final = 500_000


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds until the first byte, and seconds for the rest of the tokens."""

    first_s: float = 0.0
    rest_s: float = 0.0


AT_ONCE: Final = Pace()


@dataclass(slots=True)
class Delivery:
    """What should go back: a body or events, and what goes wrong on the way.

    `on_begin` is called when the first byte leaves, `line` is marked delivered when the last does.
    """

    status: int
    headers: dict[str, str]
    body: bytes = b""
    events: Events | None = None
    content_type: str = "application/json"
    trick: FaultRule | None = None
    error_event: bytes = b""
    pace: Pace = AT_ONCE
    line: Line | None = None
    on_begin: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Visit:
    """A request as it came: `own` is the provider whose port it came in by."""

    place: Place
    path: str
    headers: Mapping[str, str]
    raw: bytes


@dataclass(slots=True)
class _Facts:
    """What is known about a request so far, for the journal and for error replies."""

    request_id: str
    asked: Asked | None = None
    model: str = ""
    fault: str | None = None
    gauge: limits.Gauge | None = None
    tokens: tuple[int, int] = (0, 0)
    hint_s: float | None = None


@dataclass(slots=True)
class World:
    """All state of a simulator.

    Args:
        scenario: what is scripted.
        seed: what every choice is drawn from.
        latency: how long replies take.
        strictly: validate bodies by the SDKs' types.
        wall: the time of day, UTC.
        clock: seconds of a steady clock.
    """

    scenario: Scenario = field(default_factory=Scenario)
    seed: int = 0
    latency: Latency = None
    strictly: bool = True
    wall: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = monotonic
    bill: Bill = field(init=False)
    journal: Journal = field(default_factory=Journal)
    script: Script = field(init=False)
    models: Models = field(init=False)
    limits: limits.Limits = field(init=False)
    cache: PrefixCache = field(default_factory=PrefixCache)
    _turns: dict[bytes, int] = field(default_factory=dict[bytes, int])

    def __post_init__(self) -> None:
        rules = self.scenario.models
        cards = {(rule.provider, rule.id): rule.card for rule in rules}
        self.bill = Bill({place: card for place, card in cards.items() if card is not None})
        self.models = Models({(rule.provider, rule.id): rule.model for rule in rules})
        self.script = Script(self.seed, self.scenario.faults)
        self.limits = limits.Limits(self.scenario.limits)

    def before_reading(self, place: Place, path: str, headers: Mapping[str, str]) -> FaultRule | None:
        """The rule, if any, that breaks the connection before the body is read."""
        key = key_of(headers)
        number = self.journal.count
        rule = self.script.before_reading(Sighting(place.provider, key, f"head {number}", place.model))
        if rule is not None:
            visit = Visit(place, path, headers, b"")
            self._note(visit, _Facts(self._id(place, f"head {number}"), fault=rule.fault), 0, 0)
        return rule

    def answer(self, visit: Visit) -> Delivery:
        """Decide what goes back for a POST that was read, and enter it in the books."""
        place = visit.place
        facts = _Facts(self._id(place, f"request {self.journal.count}"))
        try:
            delivery = self._answer(visit, facts)
        except Refused as refused:
            facts.fault = facts.fault or refused.fault
            delivery = self._error(place, facts, refused)
        size = (
            len(delivery.body)
            if delivery.events is None
            else sum(map(len, (*delivery.events.head, *delivery.events.tail)))
        )
        silent = delivery.trick is not None and delivery.trick.fault in ("wire.reset_after", "wire.stall")
        self._note(visit, facts, 0 if silent else delivery.status, 0 if silent else size)
        return delivery

    def refuse(self, visit: Visit, refused: Refused) -> Delivery:
        """An error that was found before the body could be read (too large)."""
        facts = _Facts(self._id(visit.place, f"request {self.journal.count}"), fault=refused.fault)
        delivery = self._error(visit.place, facts, refused)
        self._note(visit, facts, delivery.status, len(delivery.body))
        return delivery

    def _answer(self, visit: Visit, facts: _Facts) -> Delivery:
        place, key = visit.place, key_of(visit.headers)
        check_key(place, key, self.scenario.keys)
        asked = read_body(place, visit.raw, visit.headers, strictly=self.strictly)
        facts.asked, facts.model = asked, asked.model
        model = find_model(place, self.models, asked.model)
        facts.model = model.id
        check_asked(place, asked, model, require_max_tokens=self.scenario.require_max_tokens)
        drawn = digest(self.seed, place.provider, model.id, asked.prompt)
        identity = f"{drawn.hex()} {self._turn(drawn)}"
        facts.request_id = self._id(place, identity)
        rule = self.script.strike(Sighting(place.provider, key, identity, asked.model, asked.stream))
        facts.fault = None if rule is None else rule.fault
        _raise_scripted(rule)
        lookup = self._look_up(place, key, asked, model)
        facts.gauge = self._admit(place, key, asked, model, lookup)
        made = draft(asked, model, place.family, lookup.tokens, drawn, rule)
        facts.tokens = (made.tokens.input, made.tokens.output)
        if facts.gauge is not None:
            facts.gauge.settle(made.tokens.input, _reserved(asked, model), made.tokens.output)
        delivery = self._deliver(visit.place, asked, facts, made, rule)
        delivery.pace = pace(self.latency, digest(self.seed, "pace", identity), made.tokens.output)
        delivery.on_begin = lambda: self.cache.remember(lookup, self.clock())
        return delivery

    def _deliver(
        self, place: Place, asked: Asked, facts: _Facts, made: Draft, rule: FaultRule | None
    ) -> Delivery:
        now = self.wall()
        trick = rule if rule is not None and rule.fault in faults.WIRE else None
        pico = self.bill.price(place.provider, facts.model, made.tokens, asked.tier, now.date())
        line = Line(
            facts.request_id,
            place.provider,
            facts.model,
            made.served,
            asked.tier,
            made.tokens,
            pico,
            fault=facts.fault,
            delivered=False,
        )
        if trick is not None:
            line.billed = faults.WIRE[trick.fault].billed if trick.billed is None else trick.billed
            line.pico = pico if line.billed else 0
        self.bill.add(line)
        told = made.tokens if made.told else None
        answer = Answer(
            facts.request_id,
            int(now.timestamp()),
            made.served,
            made.text,
            made.end,
            told,
            asked.tier,
            made.stop,
        )
        headers = {**self._headers(place, facts), **_tier_header(place, asked)}
        delivery = Delivery(200, headers, trick=trick, line=line)
        form = place.format
        assert form is not None  # noqa: S101  a place that generates has a format
        if asked.stream:
            delivery.events = form.events(asked, answer)
            delivery.content_type = "text/event-stream"
        else:
            delivery.body = dumps(form.whole(asked, answer))
        if trick is not None and trick.fault == "wire.stream_error":
            spec, body = faults.stream_error(trick.error, place.family, facts.request_id)
            delivery.error_event = form.error_event(body)
            if not asked.stream:
                delivery.status, delivery.body, delivery.trick = spec.status, dumps(body), None
        return delivery

    def _look_up(self, place: Place, key: str | None, asked: Asked, model: SimModel) -> Lookup:
        prompt = asked.prompt.encode("utf-8", "surrogatepass")
        scope = f"{place.provider} {key} {model.id} {asked.cache_key}"
        marks, implicit = (asked.marks, asked.implicit_cache) if self.scenario.prompt_cache else ((), False)
        least = model.cache_min_tokens
        if implicit:
            return self.cache.implicit(scope, prompt, self.clock(), writes=model.cache_writes, least=least)
        return self.cache.marked(scope, prompt, marks, self.clock(), least=least)

    def _admit(
        self, place: Place, key: str | None, asked: Asked, model: SimModel, lookup: Lookup
    ) -> limits.Gauge | None:
        gauge = self.limits.gauge(place.provider, model.id, key or "", self.clock())
        if gauge is None:
            return None
        over = gauge.take(lookup.tokens.input, _reserved(asked, model), self.clock(), self.wall())
        if over is None:
            return gauge
        raise _Over(limits.fault_of(place.family, over), place.family, model.id, over, gauge)

    def _error(self, place: Place, facts: _Facts, refused: Refused) -> Delivery:
        hint = None
        if isinstance(refused, _Scripted):
            hint = refused.rule.retry_after_s
        elif isinstance(refused, _Over):
            hint, facts.gauge = round(refused.over.wait_s, 3), refused.gauge
        facts.hint_s = hint
        reply = faults.error_reply(
            refused.fault,
            place.family,
            request_id=_shown_id(place.family, facts.request_id),
            message=refused.message,
            code=refused.code,
            param=refused.param,
            retry_after_s=hint,
        )
        headers = {**self._headers(place, facts), **reply.headers}
        return Delivery(reply.status, headers, reply.body, content_type=reply.content_type)

    def _headers(self, place: Place, facts: _Facts) -> dict[str, str]:
        said = limits.headers(place.family, facts.gauge, self.wall())
        match place.family:
            case Family.OPENAI:
                said |= {
                    "x-request-id": _shown_id(place.family, facts.request_id),
                    "openai-processing-ms": "7",
                    "openai-version": "2020-10-01",
                }
            case Family.ANTHROPIC:
                said |= {
                    "request-id": _shown_id(place.family, facts.request_id),
                    "anthropic-organization-id": "org_simulator",
                }
            case Family.GEMINI:
                pass
        return said

    def _id(self, place: Place, identity: str) -> str:
        return digest(self.seed, "id", place.provider, identity).hex()[:24]

    def _turn(self, drawn: bytes) -> int:
        if len(self._turns) >= _TURNS_KEPT:
            self._turns.clear()
        turn = self._turns[drawn] = self._turns.get(drawn, 0) + 1
        return turn

    def _note(self, visit: Visit, facts: _Facts, status: int, bytes_out: int) -> None:
        asked = facts.asked
        prompt = "" if asked is None else asked.prompt
        note = Note(
            number=self.journal.next_number(),
            time=self.wall().isoformat(timespec="milliseconds"),
            provider=visit.place.provider,
            model=facts.model,
            path=visit.path,
            stream=visit.place.stream if asked is None else asked.stream,
            status=status,
            fault=facts.fault,
            request_id=facts.request_id,
            bytes_in=len(visit.raw),
            bytes_out=bytes_out,
            input_tokens=facts.tokens[0],
            output_tokens=facts.tokens[1],
            prompt_sha256="" if asked is None else prompt_digest(prompt),
            prompt_chars=len(prompt),
            retry_after_s=facts.hint_s,
        )
        self.journal.add(note, visit.raw)


def _reserved(asked: Asked, model: SimModel) -> int:
    return asked.max_tokens or model.max_output_tokens


class _Scripted(Refused):
    """An error that the script wants; it carries its rule."""

    def __init__(self, fault: str, message: str | None, rule: FaultRule) -> None:
        super().__init__(fault, message)
        self.rule = rule


class _Over(Refused):
    """A request over a limit of the scenario."""

    def __init__(
        self, fault: str, family: Family, model: str, over: limits.Over, gauge: limits.Gauge
    ) -> None:
        span = "day" if over.per_day else "min"
        message = f"Rate limit reached for {model} on {over.name} per {span}: Limit {over.limit}. Please try again in {over.wait_s:.3f}s."
        # Gemini's own table words name the quota; the other two say the limit in the text.
        super().__init__(fault, None if family is Family.GEMINI else message)
        self.over = over
        self.gauge = gauge


def _raise_scripted(rule: FaultRule | None) -> None:
    if rule is None or rule.fault in faults.WIRE or rule.fault in faults.REPLY:
        return
    raise _Scripted(rule.fault, rule.message, rule)


def _shown_id(family: Family, request_id: str) -> str:
    return f"{'req_' if family is not Family.GEMINI else ''}{request_id}"


def _tier_header(place: Place, asked: Asked) -> dict[str, str]:
    return {"x-gemini-service-tier": asked.tier or "standard"} if place.family is Family.GEMINI else {}


_FIRST_BYTE_S: Final = (log(0.45), 0.5)


_TOKENS_A_SECOND: Final = (log(80), 0.3)


def pace(latency: Latency, drawn: bytes, output_tokens: int) -> Pace:
    """The pace of one reply. Realistic: a lognormal first byte (median 450 ms), then about 80 tokens/s."""
    if latency is None:
        return AT_ONCE
    if latency != "realistic":
        return Pace(latency / 1000)
    rng = Random(int.from_bytes(drawn[8:16]))  # noqa: S311  a simulation, no secret
    return Pace(rng.lognormvariate(*_FIRST_BYTE_S), output_tokens / rng.lognormvariate(*_TOKENS_A_SECOND))


_SORRY: Final = "I'm sorry, but I can't help with that request."


_ITEMS: Final = "reply.items_"


_MYSTERY: Final = "mystery-model-9"


@dataclass(frozen=True, slots=True)
class Draft:
    """A reply before it has an id: `tokens` is what is billed, `told` whether the reply says so."""

    text: str
    end: End
    tokens: Tokens
    served: str
    stop: str | None = None
    told: bool = True


def draft(
    asked: Asked,
    model: SimModel,
    family: Family,
    tokens: Tokens,
    drawn: bytes,
    rule: FaultRule | None,
) -> Draft:
    """The reply. `tokens` has the input; `drawn` are 32 bytes of the seed and prompt.

    Raises:
        Refused: the prompt is blocked, by a provider that answers so with an error.
    """
    rng = Random(int.from_bytes(drawn[:8]))  # noqa: S311  a simulation, no secret
    limit = min(asked.max_tokens or model.max_output_tokens, model.max_output_tokens)
    thinking = min(limit, max(1, int(asked.thinking * (0.5 + rng.random())))) if asked.thinking else 0
    wanted = _wanted(rng, asked, rule)
    wanted, stop = words_of.stop_at(wanted, asked.stops)
    text, cut_off = words_of.cut(wanted, limit - thinking)
    output = limit if cut_off else min(limit, thinking + words_of.count_tokens(text))
    end = End.LENGTH if cut_off else End.STOP_SEQUENCE if stop else End.STOP
    spent = replace(tokens, output=output, reasoning=thinking)
    plain = Draft(text, end, spent, model.served, None if cut_off else stop)
    change = None if rule is None else _CHANGES.get(rule.fault)
    return change(plain, limit, family) if change else plain


def _wanted(rng: Random, asked: Asked, rule: FaultRule | None) -> str:
    fault = None if rule is None else rule.fault
    if rule is not None and fault == "reply.says":
        return rule.message or ""
    if asked.schema is None or fault == "reply.not_json":
        return words_of.prose(rng, asked.topic)
    if fault == "reply.wrong_json":
        return '{"unasked": [null]}' if asked.schema.get("type") == "object" else "{}"
    said = words_of.fitting_json(rng, asked.topic, asked.schema)
    if fault is not None and fault.startswith(_ITEMS) and words_of.answers_by_id(asked.schema):
        return words_of.spoiled(said, fault.removeprefix(_ITEMS))
    return said


def _said(plain: Draft, text: str, end: End) -> Draft:
    output = plain.tokens.reasoning + words_of.count_tokens(text)
    return replace(plain, text=text, end=end, stop=None, tokens=replace(plain.tokens, output=output))


def _refusal(plain: Draft, limit: int, family: Family) -> Draft:
    text = "" if family is Family.GEMINI else words_of.cut(_SORRY, limit - plain.tokens.reasoning)[0]
    return _said(plain, text, End.REFUSAL)


def _filtered(plain: Draft, limit: int, family: Family) -> Draft:  # noqa: ARG001  one signature for all changes
    return _said(plain, plain.text[: len(plain.text) // 2], End.FILTER)


def _blocked(plain: Draft, limit: int, family: Family) -> Draft:  # noqa: ARG001  one signature for all changes
    match family:
        case Family.OPENAI:
            raise Refused("openai.content_policy")
        case Family.ANTHROPIC:
            raise Refused("anthropic.bad_request", "Output blocked by content filtering policy")
        case Family.GEMINI:
            return replace(
                plain, text="", end=End.BLOCKED, tokens=replace(plain.tokens, output=0, reasoning=0)
            )


def _truncated(plain: Draft, limit: int, family: Family) -> Draft:  # noqa: ARG001  one signature for all changes
    return _said(plain, plain.text[: max(1, len(plain.text) // 2)], End.LENGTH)


def _empty(plain: Draft, limit: int, family: Family) -> Draft:  # noqa: ARG001  one signature for all changes
    tokens = replace(plain.tokens, output=limit, reasoning=limit)
    return replace(plain, text="", end=End.LENGTH, stop=None, tokens=tokens)


_CHANGES: Final[dict[str, Callable[[Draft, int, Family], Draft]]] = {
    "reply.refusal": _refusal,
    "reply.content_filter": _filtered,
    "reply.blocked_prompt": _blocked,
    "reply.truncated": _truncated,
    "reply.empty": _empty,
    "reply.unknown_model": lambda plain, _limit, _family: replace(plain, served=_MYSTERY),
    "reply.no_usage": lambda plain, _limit, _family: replace(plain, told=False),
}
