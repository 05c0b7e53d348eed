"""How long a reply takes: nothing, a fixed time, or what real models take, drawn from the seed."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from random import Random
from typing import Final

from .scenario import Latency

_FIRST_BYTE_S: Final = (log(0.45), 0.5)
_TOKENS_A_SECOND: Final = (log(80), 0.3)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds until the first byte, and seconds for the rest of the tokens."""

    first_s: float = 0.0
    rest_s: float = 0.0


AT_ONCE: Final = Pace()


def pace(latency: Latency, drawn: bytes, output_tokens: int) -> Pace:
    """The pace of one reply. Realistic: a lognormal first byte (median 450 ms), then about 80 tokens/s."""
    if latency is None:
        return AT_ONCE
    if latency != "realistic":
        return Pace(latency / 1000)
    rng = Random(int.from_bytes(drawn[8:16]))  # noqa: S311  a simulation, no secret
    return Pace(rng.lognormvariate(*_FIRST_BYTE_S), output_tokens / rng.lognormvariate(*_TOKENS_A_SECOND))
