"""Wire formats: `encode(call)` to a request, `decode(reply)` to an outcome, and streams.

Adapters are pure: no clock, no network. They normalise what the providers count differently
(see `types.Usage`) and turn whatever a reply says into a `Completion` or a `Failure`:

- text that ended by itself is a completion, and one that hit its limit is one with
  `Finish.LENGTH`, even where reasoning left no room for a word;
- a refusal or safety block is `Fault.CONTENT`;
- a reply that is cut, malformed, empty, or ends in a way that nobody asked for (tools) is
  `Fault.BROKEN_REPLY`, and was or may have been billed;
- an error is named by `routing.faults.classify`, inside a 200 and inside a stream too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from promptkit.errors import ConfigError
from promptkit.types import Json, Provider

from .adapter import Adapter
from .anthropic import AnthropicMessages
from .gemini import GeminiGenerate
from .openai_chat import OpenAIChat
from .openai_responses import OpenAIResponses
from .schemas import adapted

_CHAT: Final = OpenAIChat()


ADAPTERS: Final[Mapping[tuple[str, str], Adapter]] = {
    ("openai", "responses"): OpenAIResponses(),
    ("openai", "chat"): _CHAT,
    ("anthropic", "messages"): AnthropicMessages(),
    ("gemini", "generate"): GeminiGenerate(),
    ("local", "chat"): _CHAT,
}
"""The adapters by `Provider.adapter` and `Provider.api`."""


def sent_schema(schema: Mapping[str, Json] | None, provider: Provider) -> Mapping[str, Json] | None:
    """A call's schema as it is sent to a provider, which may be longer than the template's."""
    if schema is None:
        return None
    form = adapted(schema, provider.adapter)
    return max(form.schema, schema, key=lambda one: len(json.dumps(one, indent=4)))


def for_provider(provider: Provider) -> Adapter:
    """The adapter that speaks a provider's wire format.

    Raises:
        ConfigError: there is none.
    """
    adapter = ADAPTERS.get((provider.adapter, provider.api))
    if adapter is None:
        known = ", ".join(f"{family}/{api}" for family, api in ADAPTERS)
        what = f"provider {provider.name}: no adapter {provider.adapter!r} with api {provider.api!r}"
        raise ConfigError(what, remedy=f"one of {known}")
    return adapter
