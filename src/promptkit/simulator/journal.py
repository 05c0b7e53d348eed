"""The journal of requests: no key, no auth header, and prompts only as a digest and a length."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256

from promptkit.types import Json

_KEPT = 200_000
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

    notes: deque[Note] = field(default_factory=lambda: deque[Note](maxlen=_KEPT))
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
