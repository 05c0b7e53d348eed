"""The bill: what a provider would charge, request by request, in integer pico-USD."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from hashlib import sha256
from typing import Final

from promptkit.types import Json

from .models import Card, Tokens, card_of, price

_KEPT: Final = 200_000


@dataclass(slots=True)
class Line:
    """One request that reached a model.

    Attributes:
        request_id: what the reply's own request id says.
        pico: the price in pico-USD, 0 where it was not billed, None where the list has no rate.
        billed: whether the provider charges for it.
        delivered: whether the reply went out whole; a billed line that was not delivered is
            what a client can only know as an unknown outcome.
    """

    request_id: str
    provider: str
    model: str
    served_model: str
    tier: str | None
    tokens: Tokens
    pico: int | None
    billed: bool = True
    delivered: bool = True
    fault: str | None = None


@dataclass(slots=True)
class _Sum:
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    pico: int = 0
    unpriced: int = 0

    def add(self, line: Line) -> None:
        if not line.billed:
            return
        self.requests += 1
        self.input_tokens += line.tokens.input
        self.output_tokens += line.tokens.output
        if line.pico is None:
            self.unpriced += 1
        else:
            self.pico += line.pico


@dataclass(slots=True)
class Bill:
    """All lines so far: totals for ever, the lines themselves of the last 200,000 requests.

    Args:
        cards: rates of models that the literal list doesn't know, or overrides of it.
    """

    cards: Mapping[tuple[str, str], Card] = field(default_factory=dict[tuple[str, str], Card])
    lines: deque[Line] = field(default_factory=lambda: deque[Line](maxlen=_KEPT))
    _total: _Sum = field(default_factory=_Sum)
    _models: dict[str, dict[str, _Sum]] = field(default_factory=dict[str, dict[str, _Sum]])

    def price(self, provider: str, model: str, tokens: Tokens, tier: str | None, on: date) -> int | None:
        """Pico-USD by the scenario's rates, else by the literal list; None where neither knows."""
        card = self.cards.get((provider, model)) or card_of(provider, model, on)
        return None if card is None else price(card, tokens, tier)

    def add(self, line: Line) -> None:
        """Enter a line. `delivered` may still change; its price may not."""
        self.lines.append(line)
        self._total.add(line)
        self._models.setdefault(line.provider, {}).setdefault(line.model, _Sum()).add(line)

    @property
    def total_pico(self) -> int:
        """What all billed requests with a known rate come to."""
        return self._total.pico

    def as_json(self, *, lines: bool = True) -> dict[str, Json]:
        """`{"total_pico", "requests", "unpriced", "providers": {name: {..., "models"}}, "lines"}`."""
        told: list[Json] = [_line_json(line) for line in self.lines] if lines else []
        return {
            **_total_json(self._total),
            "providers": {
                name: {
                    "total_pico": sum(each.pico for each in models.values()),
                    "models": {model: _total_json(each) for model, each in models.items()},
                }
                for name, models in self._models.items()
            },
            "lines": told,
        }


def _total_json(total: _Sum) -> dict[str, Json]:
    return {
        "total_pico": total.pico,
        "requests": total.requests,
        "unpriced": total.unpriced,
        "input_tokens": total.input_tokens,
        "output_tokens": total.output_tokens,
    }


def _line_json(line: Line) -> dict[str, Json]:
    return {**asdict(line), "tokens": {**asdict(line.tokens), "input": line.tokens.input}}


_JOURNAL_KEPT = 200_000


_BODIES_KEPT = 1_000


_BODY_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Note:
    """One request. `time` is ISO 8601, UTC; `fault` what the script or a limit did to it.

    `status` is 0 where no status was ever sent (a reset, a stall). `retry_after_s` is the hint that went
    with it.
    """

    number: int
    time: str
    provider: str
    model: str
    path: str
    stream: bool
    status: int
    fault: str | None
    request_id: str
    bytes_in: int
    bytes_out: int
    input_tokens: int = 0
    output_tokens: int = 0
    prompt_sha256: str = ""
    prompt_chars: int = 0
    retry_after_s: float | None = None


def prompt_digest(prompt: str) -> str:
    """SHA-256 of the prompt's text, in hex."""
    return sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(slots=True)
class Journal:
    """The last 200,000 notes, and the bodies (64 KiB each at most) of the last 1,000 requests."""

    notes: deque[Note] = field(default_factory=lambda: deque[Note](maxlen=_JOURNAL_KEPT))
    count: int = 0
    _bodies: deque[tuple[int, bytes]] = field(
        default_factory=lambda: deque[tuple[int, bytes]](maxlen=_BODIES_KEPT)
    )

    def add(self, note: Note, body: bytes) -> None:
        """Enter a note; the body is kept apart, for whoever asks for bodies."""
        self.notes.append(note)
        self._bodies.append((note.number, body[:_BODY_BYTES]))

    def next_number(self) -> int:
        """The number of the next note, from 1."""
        self.count += 1
        return self.count

    def as_json(self, *, bodies: bool = False) -> list[dict[str, Json]]:
        """All notes, oldest first; with `bodies`, what came in where it is still kept."""
        kept = dict(self._bodies) if bodies else {}
        return list(self._rows(kept))

    def _rows(self, kept: dict[int, bytes]) -> Iterator[dict[str, Json]]:
        for note in self.notes:
            row = asdict(note)
            if note.number in kept:
                row["body"] = kept[note.number].decode("utf-8", "replace")
            yield row
