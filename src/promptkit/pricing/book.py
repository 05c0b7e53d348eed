"""The price book: finds the card of a model, keeps it, and prices calls by it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from promptkit.types import Basis, Cost, Model, Provider, Usage

from .compile import from_list, from_override
from .rates import RateCard

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot

_KEPT: Final = 4096
"""Names of served models come from the network: past so many answers, the book starts afresh."""

_SNAPSHOT: Final = re.compile(r"[-@:](\d{4}-\d\d-\d\d|\d{8}|\d{4}|\d{3}|latest)")


class _Entry(NamedTuple):
    """A remembered answer, good for the provider and model it was given for."""

    provider: Provider
    asked: Model
    card: RateCard | None
    basis: Basis

    def answers(self, provider: Provider, asked: Model, at: datetime) -> bool:
        # An open catalog makes its models as they are named: equal ones, not the same one.
        same = self.asked is asked or self.asked == asked
        return same and self.provider is provider and (self.card is None or self.card.holds_at(at))


class Prices:
    """Prices of all models, compiled when first asked for and again when a card's interval ends."""

    __slots__ = ("_entries", "_list")

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str, str | None], _Entry] = {}
        self._list: DataSnapshot | None = None

    def card(self, provider: Provider, model: Model, at: datetime) -> RateCard | None:
        """The rates of a model for a request made at `at`; None where no source knows it.

        A provider file's own price wins over genai-prices.
        """
        return self._entry(provider, model, model.id, at).card

    def cost(
        self,
        provider: Provider,
        asked: Model,
        usage: Usage | None,
        served_model: str | None,
        tier: str | None,
        at: datetime,
    ) -> Cost | None:
        """Price a reply by the model and tier that it says served it.

        Args:
            provider: who answered.
            asked: the model that was asked for; its price serves where the served one is unknown
                or not named, and the basis then is ASKED.
            usage: the tokens, or None where the provider did not say.
            served_model: the reply's word for the model.
            tier: the reply's word for the service tier.
            at: when the request was made.

        Returns:
            The cost, or None where usage or price is unknown.
        """
        entry = self._entry(provider, asked, served_model, at)
        if usage is None or entry.card is None:
            return None
        tariff = entry.card.tariff(tier)
        if tariff is None:
            return None
        pico = tariff.pico(usage)
        return Cost(pico, tariff.source, entry.basis, tariff.cache_saved_pico(usage, pico))

    def ceiling_pico(
        self,
        provider: Provider,
        model: Model,
        input_tokens: int,
        max_output_tokens: int,
        at: datetime,
        tier: str | None = None,
    ) -> int | None:
        """The most that a call within these sizes can cost, in pico-USD; None where no price is known.

        It holds for the model and tier asked for: a provider that serves another may pass it.
        """
        card = self.card(provider, model, at)
        tariff = None if card is None else card.tariff(tier)
        return None if tariff is None else tariff.ceiling_pico(input_tokens, max_output_tokens)

    def _entry(self, provider: Provider, asked: Model, served: str | None, at: datetime) -> _Entry:
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        key = (provider.name, asked.id, served)
        entry = self._entries.get(key)
        if entry is None or not entry.answers(provider, asked, at):
            if len(self._entries) >= _KEPT:
                self._entries.clear()
            entry = self._entries[key] = self._find(provider, asked, served, at)
        return entry

    def _find(self, provider: Provider, asked: Model, served: str | None, at: datetime) -> _Entry:
        if served is not None:
            model = _served_model(provider, asked, _plain(served))
            card = self._compile(provider, model, at)
            if card is not None or model is asked:
                return _Entry(provider, asked, card, Basis.SERVED)
        return _Entry(provider, asked, self._compile(provider, asked, at), Basis.ASKED)

    def _compile(self, provider: Provider, model: Model, at: datetime) -> RateCard | None:
        if model.price is not None:
            return from_override(model.price, f"providers/{provider.name}.toml")
        if provider.price_provider is None:
            return None
        return self._from_list(provider.price_provider, _plain(model.price_ref or model.id), at)

    def _from_list(self, provider_id: str, ref: str, at: datetime) -> RateCard | None:
        # Imported here: it costs 0.15 s of start-up alone, 0.03 s once an SDK is loaded.
        import genai_prices
        from genai_prices.data import providers
        from genai_prices.data_snapshot import DataSnapshot

        if self._list is None:
            # The bundled table, never one that somebody's updater fetched: the source names a version.
            self._list = DataSnapshot(providers=providers, from_auto_update=False)
        try:
            owner, info = self._list.find_provider_model(ref, None, provider_id, None)
        except LookupError:
            return None
        own = any(info is model for model in owner.models)
        return from_list(info, at, f"genai-prices {genai_prices.__version__}", variants=own)


def _served_model(provider: Provider, asked: Model, served: str) -> Model:
    """The provider's model of that name, or of which it is a dated snapshot; else one known by name."""
    if served in (asked.id, _plain(asked.id)):
        return asked
    if served in provider.models:
        return provider.models[served]
    for model in (asked, *provider.models.values()):
        # A price that the user stated holds for all snapshots of its model.
        if model.price is not None and _is_snapshot(served, _plain(model.id)):
            return model
    return replace(provider.open_model or Model(""), id=served)


def _is_snapshot(served: str, model: str) -> bool:
    return served.startswith(model) and _SNAPSHOT.fullmatch(served, len(model)) is not None


def _plain(model: str) -> str:
    """Gemini's `models/` prefix is no part of the name."""
    return model.removeprefix("models/")
