"""The money of a scope, and what one commit does to it. Pure: no SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest

from promptkit.types import Scope

from .records import Refused, SoftPassed

UNCAPPED = 2**63 - 1
"""What stands as the cap of a scope that is only counted: the largest that a column holds."""


@dataclass(frozen=True, slots=True)
class Account:
    """The money of one scope: `spent + held <= cap + over` at all times.

    `over_pico` is what stands above the cap without having been admitted under it;
    `stopped_cap_pico` is the cap up to which an overrun has stopped the scope.
    """

    cap_pico: int
    spent_pico: int = 0
    reserved_pico: int = 0
    over_pico: int = 0
    stopped_cap_pico: int | None = None

    @property
    def taken_pico(self) -> int:
        """Spent and held together."""
        return self.spent_pico + self.reserved_pico

    @property
    def stopped(self) -> bool:
        """Whether a bill above its ceiling stopped it, and the cap wasn't raised since."""
        return (
            self.stopped_cap_pico is not None
            and self.cap_pico <= self.stopped_cap_pico
            and self.cap_pico != UNCAPPED
        )

    def under(self, scope: Scope) -> Account:
        """The same under the cap that a scope has now."""
        return self.recapped(UNCAPPED if scope.cap_pico is None else scope.cap_pico)

    def recapped(self, cap_pico: int) -> Account:
        """The same under another cap; a cap below what is taken leaves the rest standing over it."""
        if cap_pico == self.cap_pico:
            return self
        return replace(self, cap_pico=cap_pico, over_pico=max(0, self.taken_pico - cap_pico))

    def holding(self, max_cost_pico: int) -> Account:
        """The same with one more hold, which must fit."""
        return replace(self, reserved_pico=self.reserved_pico + max_cost_pico)

    def settled(self, max_cost_pico: int | None, charged_pico: int, under_pico: int | None = None) -> Account:
        """The same with a hold turned into money spent; a bill above its ceiling stops the scope.

        No ceiling (no price was known, and the user allowed that) held nothing and stops nothing.
        `under_pico` is the cap that the hold was admitted under: of two processes with different
        caps the other may have been here since, and both are to stop.
        """
        held = max_cost_pico or 0
        spent_pico, reserved_pico = self.spent_pico + charged_pico, self.reserved_pico - held
        beyond = max(0, spent_pico + reserved_pico - self.cap_pico)
        stopped = self.stopped_cap_pico
        if overran(max_cost_pico, charged_pico):
            caps = (self.cap_pico, under_pico, stopped)
            stopped = max((pico for pico in caps if pico is not None and pico != UNCAPPED), default=None)
        # Only a charge above what was held may lift what the CHECK allows.
        over_pico = beyond if charged_pico > held else min(self.over_pico, beyond)
        return Account(self.cap_pico, spent_pico, reserved_pico, over_pico, stopped)


def overran(max_cost_pico: int | None, charged_pico: int) -> bool:
    """Whether a provider billed above the ceiling."""
    return max_cost_pico is not None and charged_pico > max_cost_pico


def refusal(account: Account, scope: str, max_cost_pico: int) -> Refused | None:
    """Why this account has no room for a hold, or None where it has."""
    if not account.stopped and account.taken_pico + max_cost_pico <= account.cap_pico:
        return None
    return Refused(
        scope_key=scope,
        cap_pico=account.cap_pico,
        spent_pico=account.spent_pico,
        reserved_pico=account.reserved_pico,
        may_free=not account.stopped and account.spent_pico + max_cost_pico <= account.cap_pico,
        stopped=account.stopped,
    )


class Book:
    """The accounts that one group of writes touches, and how they change.

    Args:
        accounts: the scopes as they stand on disk; a scope that is missing is new.
    """

    __slots__ = ("_before", "accounts")

    def __init__(self, accounts: Mapping[str, Account]) -> None:
        self._before = accounts
        self.accounts = dict(accounts)

    def admit(self, scopes: tuple[Scope, ...], max_cost_pico: int) -> Refused | None:
        """Hold the ceiling in all scopes, or in none and say why.

        Where several scopes refuse, one that waiting can't help comes first.
        """
        accounts = self.accounts
        refused: Refused | None = None
        for scope in scopes:
            account = (accounts.get(scope.key) or Account(UNCAPPED)).under(scope)
            accounts[scope.key] = account
            no = refusal(account, scope.key, max_cost_pico)
            if no is not None and (refused is None or not no.may_free):
                refused = no
        if refused is None:
            for scope in scopes:
                accounts[scope.key] = accounts[scope.key].holding(max_cost_pico)
        return refused

    def settle(
        self,
        scopes: tuple[str, ...],
        max_cost_pico: int | None,
        charged_pico: int,
        caps: tuple[int | None, ...] = (),
    ) -> tuple[str, ...]:
        """Turn a hold into money spent; returns the scopes that it stopped.

        Args:
            scopes: where it is held.
            max_cost_pico: how much; None: no price was known.
            charged_pico: what it came to.
            caps: those that it was admitted under, scope by scope, where that is known.
        """
        accounts = self.accounts
        for key, cap_pico in zip_longest(scopes, caps):
            accounts[key] = accounts[key].settled(max_cost_pico, charged_pico, cap_pico)
        if not overran(max_cost_pico, charged_pico):
            return ()
        own = zip_longest(scopes, caps)
        return tuple(key for key, cap_pico in own if accounts[key].stopped or cap_pico is not None)

    def soft(self, scopes: tuple[Scope, ...]) -> tuple[SoftPassed, ...]:
        """Those of the scopes whose soft cap is reached."""
        spent = {scope: self.accounts[scope.key].spent_pico for scope in scopes}
        return tuple(
            SoftPassed(scope.key, scope.soft_pico, pico)
            for scope, pico in spent.items()
            if scope.soft_pico is not None and pico >= scope.soft_pico
        )

    def new(self) -> dict[str, Account]:
        """The accounts that aren't on disk yet."""
        return {key: account for key, account in self.accounts.items() if key not in self._before}

    def changed(self) -> dict[str, Account]:
        """The accounts on disk that stand otherwise now."""
        before = self._before
        return {key: now for key, now in self.accounts.items() if key in before and before[key] != now}
