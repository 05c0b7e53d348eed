"""Keys: found in three places, and given out only for the address they may go to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn, Self

from promptkit.catalog import Place
from promptkit.errors import ConfigError
from promptkit.types import Provider

CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
"""Where systemd puts a unit's credentials: one file per name."""

_SHORTEST_SECRET = 8
"""Shorter values aren't scrubbed from texts: they would be found everywhere."""


class Keys:
    """The keys by provider name. They are in no repr, no pickle and no copy.

    Args:
        by_provider: the key of each provider that may use one.
        seen: all values that must be scrubbed from texts, those that may not be used included.
    """

    __slots__ = ("_by_provider", "_seen")

    def __init__(self, by_provider: Mapping[str, str], seen: Iterable[str] = ()) -> None:
        self._by_provider = dict(by_provider)
        self._seen = tuple(dict.fromkeys([*self._by_provider.values(), *seen]))

    def get(self, provider: Provider) -> str | None:
        """The provider's key; None where it has none or may not be sent one."""
        return self._by_provider.get(provider.name) if provider.key_allowed else None

    def usable(self, provider: Provider) -> bool:
        """Whether calls can go there: it has a key, or needs none."""
        return provider.api_key_env is None or self.get(provider) is not None

    def known(self) -> tuple[str, ...]:
        """The names of the providers with a usable key, sorted."""
        return tuple(sorted(self._by_provider))

    def secrets(self) -> tuple[str, ...]:
        """Every key that was found, for scrubbing it from texts; the longest first."""
        long = (secret for secret in self._seen if len(secret) >= _SHORTEST_SECRET)
        return tuple(sorted(long, key=len, reverse=True))

    def __repr__(self) -> str:
        return f"Keys({', '.join(self.known())})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys are not pickled")


@dataclass(frozen=True, slots=True)
class Found:
    """A key and whose it is. `problem` says why it can't be one."""

    secret: str = field(repr=False)
    place: Place
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class KeySources:
    """Where keys are looked up, in this order: environment, credentials folder, env file."""

    environment: Mapping[str, str] = field(repr=False)
    credentials: Path | None
    env_file: Mapping[str, str] = field(repr=False)
    env_file_place: Place

    def found(self, variable: str) -> Iterator[Found]:
        """Every value of a variable, first choice first; an empty one counts as absent."""
        if not variable:
            return
        for value, place in (
            (self.environment.get(variable), Place.OWN),
            (self._credential(variable), Place.OWN),
            (self.env_file.get(variable), self.env_file_place),
        ):
            secret = (value or "").strip()
            if secret:
                yield Found(secret, place, _problem(variable, secret))

    def _credential(self, variable: str) -> str | None:
        if self.credentials is None:
            return None
        file = self.credentials / variable
        try:
            return file.read_text("utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError):
            raise ConfigError("this credential can't be read as text", file=file) from None


def _problem(variable: str, secret: str) -> str | None:
    """Characters that no header can carry: sent, they would come back inside an error message."""
    fine = secret.isascii() and secret.isprintable() and " " not in secret
    return None if fine else f"{variable} holds characters that no key has"
