"""The money of a scope, and what one commit does to it. Pure: no SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest

from promptkit.types import Scope

from .records import Refused, SoftPassed

UNCAPPED = 2**63 - 1
"""The cap of a scope that is only counted: the largest value of a column."""


@dataclass(frozen=True, slots=True)
class Account:
    """The money of one scope: `spent + reserved <= cap + over` at all times.

    `over_pico` is the amount above the cap that was not admitted under it;
    `stopped_cap_pico` is the cap up to which an overrun stops the scope.
    """

    cap_pico: int
    spent_pico: int = 0
    reserved_pico: int = 0
    over_pico: int = 0
    stopped_cap_pico: int | None = None

    @property
    def used_pico(self) -> int:
        """Spent and reserved together."""
        return self.spent_pico + self.reserved_pico

    @property
    def stopped(self) -> bool:
        """Whether a bill above the max cost stopped it, and the cap wasn't raised since."""
        return (
            self.stopped_cap_pico is not None
            and self.cap_pico <= self.stopped_cap_pico
            and self.cap_pico != UNCAPPED
        )

    def under(self, scope: Scope) -> Account:
        """Return the account under the cap that a scope has now."""
        return self.recapped(UNCAPPED if scope.cap_pico is None else scope.cap_pico)

    def recapped(self, cap_pico: int) -> Account:
        """Return the account under another cap. If the cap is below the used amount, the rest is `over_pico`."""
        if cap_pico == self.cap_pico:
            return self
        return replace(self, cap_pico=cap_pico, over_pico=max(0, self.used_pico - cap_pico))

    def reserving(self, max_cost_pico: int) -> Account:
        """Return the account with one more reservation, which must fit."""
        reserved_pico = self.reserved_pico + max_cost_pico
        return Account(self.cap_pico, self.spent_pico, reserved_pico, self.over_pico, self.stopped_cap_pico)

    def settled(self, max_cost_pico: int | None, charged_pico: int, under_pico: int | None = None) -> Account:
        """Return the account with a reservation turned into money spent; a bill above the max cost stops it.

        Without a max cost (no price was known, and the user allowed that) nothing was reserved and
        nothing stops. `under_pico` is the cap that the attempt was admitted under: a process with
        another cap may have written the account since, and both processes must stop.
        """
        reserved = max_cost_pico or 0
        spent_pico, reserved_pico = self.spent_pico + charged_pico, self.reserved_pico - reserved
        beyond = max(0, spent_pico + reserved_pico - self.cap_pico)
        stopped = self.stopped_cap_pico
        if overran(max_cost_pico, charged_pico):
            caps = (self.cap_pico, under_pico, stopped)
            stopped = max((pico for pico in caps if pico is not None and pico != UNCAPPED), default=None)
        # Only a charge above the reservation may raise what the CHECK allows.
        over_pico = beyond if charged_pico > reserved else min(self.over_pico, beyond)
        return Account(self.cap_pico, spent_pico, reserved_pico, over_pico, stopped)


def overran(max_cost_pico: int | None, charged_pico: int) -> bool:
    """Return whether a provider billed above the max cost."""
    return max_cost_pico is not None and charged_pico > max_cost_pico


def refusal(account: Account, scope: str, max_cost_pico: int) -> Refused | None:
    """Return why this account has no room for a reservation; None if it has."""
    if not account.stopped and account.used_pico + max_cost_pico <= account.cap_pico:
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
    """The accounts that one commit touches, and how they change.

    Args:
        accounts: the scopes as they are on disk; a scope that is missing is new.
    """

    __slots__ = ("_before", "accounts")

    def __init__(self, accounts: Mapping[str, Account]) -> None:
        self._before = accounts
        self.accounts = dict(accounts)

    def admit(self, scopes: tuple[Scope, ...], max_cost_pico: int) -> Refused | None:
        """Reserve the max cost in all scopes; or in none, and return the refusal.

        If several scopes refuse, one that waiting can't help comes first.
        """
        accounts = self.accounts
        refused: Refused | None = None
        for scope in scopes:
            account = (accounts.get(scope.key) or Account(UNCAPPED)).under(scope)
            accounts[scope.key] = account
            refusing = refusal(account, scope.key, max_cost_pico)
            if refusing is not None and (refused is None or not refusing.may_free):
                refused = refusing
        if refused is None:
            for scope in scopes:
                accounts[scope.key] = accounts[scope.key].reserving(max_cost_pico)
        return refused

    def settle(
        self,
        scopes: tuple[str, ...],
        max_cost_pico: int | None,
        charged_pico: int,
        caps: tuple[int | None, ...] = (),
    ) -> tuple[str, ...]:
        """Turn a reservation into money spent; return the scopes that it stopped.

        Args:
            scopes: the scopes with the reservation.
            max_cost_pico: the reserved amount; None if no price was known.
            charged_pico: the amount to charge.
            caps: the caps that it was admitted under, scope by scope, if known.
        """
        accounts = self.accounts
        for key, cap_pico in zip_longest(scopes, caps):
            accounts[key] = accounts[key].settled(max_cost_pico, charged_pico, cap_pico)
        if not overran(max_cost_pico, charged_pico):
            return ()
        own = zip_longest(scopes, caps)
        return tuple(key for key, cap_pico in own if accounts[key].stopped or cap_pico is not None)

    def soft(self, scopes: tuple[Scope, ...]) -> tuple[SoftPassed, ...]:
        """Return the scopes whose soft cap is reached."""
        spent = {scope: self.accounts[scope.key].spent_pico for scope in scopes}
        return tuple(
            SoftPassed(scope.key, scope.soft_pico, pico)
            for scope, pico in spent.items()
            if scope.soft_pico is not None and pico >= scope.soft_pico
        )

    def new(self) -> dict[str, Account]:
        """Return the accounts that aren't on disk yet."""
        return {key: account for key, account in self.accounts.items() if key not in self._before}

    def changed(self) -> dict[str, Account]:
        """Return the accounts that differ from those on disk."""
        before = self._before
        return {key: now for key, now in self.accounts.items() if key in before and before[key] != now}
