"""Ids made by the client: 63 bits, ordered by time, shown in base32.

The layout is 42 bits of milliseconds since the epoch (good until the year 2109) and 21 bits
that start at random each millisecond and count up within it, so that ids of one process
never repeat and those of two processes all but never meet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: no i, l, o, u


_VALUES: Final = {char: value for value, char in enumerate(_ALPHABET)}


_TAIL_BITS: Final = 21


_TAIL_MASK: Final = (1 << _TAIL_BITS) - 1


_LENGTH: Final = 13  # ceil(63 / 5)


class IdMaker:
    """Makes ids; `now_ms` and `random_bits` come in from the edge.

    Args:
        now_ms: milliseconds since the epoch.
        random_bits: an integer of that many random bits.
    """

    __slots__ = ("_last", "_now_ms", "_random_bits")

    def __init__(self, now_ms: Callable[[], int], random_bits: Callable[[int], int]) -> None:
        self._now_ms = now_ms
        self._random_bits = random_bits
        self._last = 0

    def __call__(self) -> int:
        """The next id: always greater than the one before, even when the clock steps back."""
        # Half of the tail's range is kept free to count up in.
        fresh = (self._now_ms() << _TAIL_BITS) | self._random_bits(_TAIL_BITS - 1)
        self._last = max(fresh, self._last + 1)
        return self._last


def show_id(number: int) -> str:
    """An id as people read it: 13 characters of base32."""
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range((_LENGTH - 1) * 5, -1, -5))


def id_range(prefix: str) -> tuple[int, int]:
    """The first and the last id whose text begins so.

    Raises:
        ValueError: no id begins so.
    """
    if not 0 < len(prefix) <= _LENGTH:
        message = f"not an id: {prefix!r}"
        raise ValueError(message)
    low = read_id(prefix.ljust(_LENGTH, _ALPHABET[0]))
    return low, low | ((1 << (5 * (_LENGTH - len(prefix)))) - 1)


def read_id(text: str) -> int:
    """The id behind its text (case does not matter).

    Raises:
        ValueError: it is not such a text.
    """
    if len(text) != _LENGTH or any(char not in _VALUES for char in text.lower()):
        message = f"not an id: {text!r}"
        raise ValueError(message)
    number = 0
    for char in text.lower():
        number = number << 5 | _VALUES[char]
    if number >> 63:
        message = f"not an id: {text!r}"
        raise ValueError(message)
    return number
