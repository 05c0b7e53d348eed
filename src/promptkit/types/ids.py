"""Ids: 63 bits, made by this process, ordered by time, shown in base32.

The layout is 42 bits of milliseconds since the epoch (good until the year 2109) and 21 bits
that start at random each millisecond and count up within it. Ids of one process never repeat, and
those of two processes almost never collide.
"""

from __future__ import annotations

from collections.abc import Callable

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: no i, l, o, u
_VALUES = {char: value for value, char in enumerate(_ALPHABET)}

_TAIL_BITS = 21
_LENGTH = 13  # ceil(63 / 5)


class IdMaker:
    """A generator of ids.

    Args:
        now_ms: returns milliseconds since the epoch.
        random_bits: returns an integer of that many random bits.
    """

    __slots__ = ("_last", "_now_ms", "_random_bits")

    def __init__(self, now_ms: Callable[[], int], random_bits: Callable[[int], int]) -> None:
        self._now_ms = now_ms
        self._random_bits = random_bits
        self._last = 0

    def __call__(self) -> int:
        """Return the next id: always greater than the one before, even if the clock steps back."""
        # Half of the tail's range is kept free to count up in.
        fresh = (self._now_ms() << _TAIL_BITS) | self._random_bits(_TAIL_BITS - 1)
        self._last = max(fresh, self._last + 1)
        return self._last


def show_id(number: int) -> str:
    """Format an id for people: 13 characters of base32."""
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range((_LENGTH - 1) * 5, -1, -5))


def id_range(prefix: str) -> tuple[int, int]:
    """Return the first and the last id whose text begins with a prefix.

    Raises:
        ValueError: no id begins with it.
    """
    if not 0 < len(prefix) <= _LENGTH:
        message = f"not an id: {prefix!r}"
        raise ValueError(message)
    low = read_id(prefix.ljust(_LENGTH, _ALPHABET[0]))
    return low, low | ((1 << (5 * (_LENGTH - len(prefix)))) - 1)


def read_id(text: str) -> int:
    """Read an id (case does not matter).

    Raises:
        ValueError: the text is not an id.
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
