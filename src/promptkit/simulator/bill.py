"""What a simulator records: the bill in integer pico-USD, and the journal of requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from hashlib import sha256

from promptkit.types import Json

from .models import Card, Tokens, card_of, price

_MAX_ENTRIES = 200_000
_MAX_BODIES = 1_000
_MAX_BODY_BYTES = 65_536


@dataclass(slots=True)
class BillLine:
    """A request that reached a model.

    Attributes:
        request_id: the request id in the response.
        pico: the price in pico-USD, 0 if it was not billed, None if the rate is unknown.
        billed: whether the provider charges for it.
        delivered: whether the response was sent whole. For the client, a billed line that was not
            delivered is an unknown outcome.
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
class _BillTotal:
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    pico: int = 0
    unpriced: int = 0

    def add(self, line: BillLine) -> None:
        if not line.billed:
            return
        self.requests += 1
        self.input_tokens += line.tokens.input
        self.output_tokens += line.tokens.output
        if line.pico is None:
            self.unpriced += 1
        else:
            self.pico += line.pico

    def as_json(self) -> dict[str, Json]:
        return {
            "total_pico": self.pico,
            "requests": self.requests,
            "unpriced": self.unpriced,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
        }


@dataclass(slots=True)
class Bill:
    """The totals of all requests, and the lines of the last 200,000.

    Args:
        cards: rates of models that the price list doesn't have, or other rates for them.
    """

    cards: Mapping[tuple[str, str], Card] = field(default_factory=dict[tuple[str, str], Card])
    lines: deque[BillLine] = field(default_factory=lambda: deque[BillLine](maxlen=_MAX_ENTRIES))
    _total: _BillTotal = field(default_factory=_BillTotal)
    _models: dict[str, dict[str, _BillTotal]] = field(default_factory=dict[str, dict[str, _BillTotal]])

    def price(self, provider: str, model: str, tokens: Tokens, tier: str | None, on: date) -> int | None:
        """Return pico-USD by the scenario's rates, else by the price list; None if neither has the model."""
        card = self.cards.get((provider, model)) or card_of(provider, model, on)
        return None if card is None else price(card, tokens, tier)

    def add(self, line: BillLine) -> None:
        """Add a line. Its `delivered` may still change, its price may not."""
        self.lines.append(line)
        self._total.add(line)
        self._models.setdefault(line.provider, {}).setdefault(line.model, _BillTotal()).add(line)

    @property
    def total_pico(self) -> int:
        """The sum of all billed requests with a known rate."""
        return self._total.pico

    def as_json(self, *, lines: bool = True) -> dict[str, Json]:
        """Return `{"total_pico", "requests", "unpriced", "providers": {name: {..., "models"}}, "lines"}`."""
        return {
            **self._total.as_json(),
            "providers": {
                name: {
                    "total_pico": sum(total.pico for total in models.values()),
                    "models": {model: total.as_json() for model, total in models.items()},
                }
                for name, models in self._models.items()
            },
            "lines": [
                {**asdict(line), "tokens": {**asdict(line.tokens), "input": line.tokens.input}}
                for line in (self.lines if lines else ())
            ],
        }


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A request. `time` is ISO 8601, UTC; `fault` is the script's or a limit's effect on it.

    `status` is 0 if no status was sent (a reset, a stall). `retry_after_s` is the retry-after hint
    of the response.
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
    """Return the SHA-256 of a prompt's text, in hex."""
    return sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(slots=True)
class Journal:
    """The last 200,000 requests, and the bodies (at most 64 KiB each) of the last 1,000."""

    entries: deque[JournalEntry] = field(default_factory=lambda: deque[JournalEntry](maxlen=_MAX_ENTRIES))
    count: int = 0
    _bodies: deque[tuple[int, bytes]] = field(
        default_factory=lambda: deque[tuple[int, bytes]](maxlen=_MAX_BODIES)
    )

    def next_number(self) -> int:
        """Return the number of the next entry, from 1."""
        self.count += 1
        return self.count

    def add(self, entry: JournalEntry, body: bytes) -> None:
        """Add an entry and its body."""
        self.entries.append(entry)
        self._bodies.append((entry.number, body[:_MAX_BODY_BYTES]))

    def as_json(self, *, bodies: bool = False) -> list[dict[str, Json]]:
        """Return all entries, oldest first; with `bodies`, those that are still stored."""
        stored = dict(self._bodies) if bodies else {}
        rows: list[dict[str, Json]] = []
        for entry in self.entries:
            row = asdict(entry)
            if entry.number in stored:
                row["body"] = stored[entry.number].decode("utf-8", "replace")
            rows.append(row)
        return rows
