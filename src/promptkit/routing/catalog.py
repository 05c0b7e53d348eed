"""The catalog of providers and models, and how targets are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from promptkit.errors import UsageError, closest
from promptkit.types import Model, Provider, Target


def parse_target(text: str) -> Target:
    """Split `provider/model` at its first `/` (model ids may hold more of them).

    Raises:
        UsageError: it has no `/`, or nothing on one side.
    """
    provider, slash, model = text.strip().partition("/")
    if not (slash and provider and model):
        raise UsageError(
            f"{text!r} is not a target",
            remedy="Write provider/model, for example openai/gpt-6-luna.",
        )
    return Target(provider, model)


@dataclass(frozen=True, slots=True, repr=False)
class Catalog:
    """The providers by name."""

    providers: Mapping[str, Provider] = field(default_factory=dict[str, Provider])

    def __repr__(self) -> str:
        return f"Catalog({', '.join(self.providers)})"

    def provider(self, name: str) -> Provider:
        """Return the provider of that name.

        Raises:
            UsageError: unknown, with the closest name.
        """
        try:
            return self.providers[name]
        except KeyError:
            raise UsageError(f"unknown provider {name!r}", remedy=closest(name, self.providers)) from None

    def model(self, target: Target) -> Model:
        """Return the model of a target.

        Raises:
            UsageError: unknown provider or model, with the closest name.
        """
        return self.pair(target)[1]

    def pair(self, target: Target) -> tuple[Provider, Model]:
        """Return the provider and the model of a target.

        Raises:
            UsageError: unknown provider or model, with the closest name.
        """
        provider = self.provider(target.provider)
        model = provider.models.get(target.model)
        if model is not None:
            return provider, model
        if provider.open_models:
            return provider, dataclasses.replace(provider.open_model or Model(""), id=target.model)
        raise UsageError(
            f"{provider.name} has no model {target.model!r}",
            remedy=f"{closest(target.model, provider.models)} A new one is declared in promptkit.toml: "
            f'[[providers.{provider.name}.models]] with id = "{target.model}".',
        )
