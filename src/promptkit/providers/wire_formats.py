"""Wire formats: `encode(call)` to a request, `decode(reply)` to an outcome, and streams.

Adapters are pure: no clock, no network. They normalise what providers count differently
(see `types.Usage`) and turn every reply into a `Completion` or a `Failure`:

- text that ended by itself is a completion; text that hit its limit is one with `Finish.LENGTH`,
  even if reasoning took all tokens;
- a refusal or safety block is `Fault.CONTENT`;
- a reply that is cut, malformed, empty, or ends in an unexpected way (tools) is
  `Fault.BROKEN_REPLY`, and was or may have been billed;
- `routing.faults.classify` names an error, inside a 200 and inside a stream too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from promptkit.errors import ConfigError
from promptkit.types import Json, Provider

from .adapter import Adapter
from .anthropic import AnthropicMessages
from .gemini import GeminiGenerate
from .openai import OpenAIChat, OpenAIResponses
from .schemas import adapted

_CHAT = OpenAIChat()

ADAPTERS: Mapping[tuple[str, str], Adapter] = {
    ("openai", "responses"): OpenAIResponses(),
    ("openai", "chat"): _CHAT,
    ("anthropic", "messages"): AnthropicMessages(),
    ("gemini", "generate"): GeminiGenerate(),
    ("local", "chat"): _CHAT,
}
"""The adapters by `Provider.adapter` and `Provider.api`."""


def sent_schema(schema: Mapping[str, Json] | None, provider: Provider) -> Mapping[str, Json] | None:
    """Return a call's schema as it is sent to a provider, or the template's if that is longer."""
    if schema is None:
        return None
    form = adapted(schema, provider.adapter)
    return max(form.schema, schema, key=lambda candidate: len(json.dumps(candidate, indent=4)))


def for_provider(provider: Provider) -> Adapter:
    """Return the adapter of a provider's wire format.

    Raises:
        ConfigError: there is none.
    """
    adapter = ADAPTERS.get((provider.adapter, provider.api))
    if adapter is None:
        known = ", ".join(f"{family}/{api}" for family, api in ADAPTERS)
        raise ConfigError(
            f"provider {provider.name}: no adapter {provider.adapter!r} with api {provider.api!r}",
            remedy=f"one of {known}",
        )
    return adapter
