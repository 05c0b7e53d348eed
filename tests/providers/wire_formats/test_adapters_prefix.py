"""What prompts have in common is marked for Anthropic, steered for OpenAI, and left alone for Gemini."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from adapters_kit import call, prompt, provider

from promptkit.providers.wire_formats import ADAPTERS
from promptkit.types import Model, Params, Prefix, Prompt, Provider, Role, WireRequest

RULES = "Keep the sentences short and plain. " * 200
OTHER = "Name the product only once. " * 200
MODEL = Model("m-1")
EPHEMERAL = {"type": "ephemeral"}


def shared(*said: tuple[Role, str], texts: tuple[str, ...]) -> Prompt:
    return replace(prompt(*said), prefix=Prefix(texts, "sha256:" + "ab" * 32))


def body(family: str, api: str, asked: Prompt, host: Provider | None = None, model: Model = MODEL) -> Any:
    host = host or replace(provider(family, api), prompt_cache=True)
    wire = ADAPTERS[family, api].encode(call(Params(max_output_tokens=9), asked), host, model)
    assert isinstance(wire, WireRequest)
    return json.loads(wire.body)


def two() -> Prompt:
    return shared((Role.SYSTEM, RULES), (Role.USER, OTHER + "Brand: Barly"), texts=(RULES, OTHER + "Brand:"))


def test_anthropic_gets_a_mark_where_each_stable_message_ends() -> None:
    """The marked text and the rest are the same text, split where the beginning ends."""
    sent = body("anthropic", "messages", two())
    assert sent["system"] == [{"type": "text", "text": RULES, "cache_control": EPHEMERAL}]
    assert sent["messages"][0]["content"] == [
        {"type": "text", "text": OTHER + "Brand:", "cache_control": EPHEMERAL},
        {"type": "text", "text": " Barly"},
    ]


def test_anthropic_gets_four_marks_at_most() -> None:
    """Of more stable messages the last four are marked."""
    said = [(Role.SYSTEM, RULES)] * 3 + [(Role.USER, RULES), (Role.ASSISTANT, "ok"), (Role.USER, OTHER)]
    sent = body("anthropic", "messages", shared(*said, texts=tuple(text for _, text in said)))
    assert json.dumps(sent).count("cache_control") == 4
    assert "cache_control" not in sent["system"][1]
    assert sent["messages"][2]["content"][0]["cache_control"] == EPHEMERAL


@pytest.mark.parametrize("api", [("anthropic", "messages"), ("openai", "responses"), ("openai", "chat")])
def test_what_a_cache_does_not_keep_is_sent_plain(api: tuple[str, str]) -> None:
    """Below the model's least length, with no prefix, or where the provider file doesn't switch it on."""
    plain = body(*api, replace(two(), prefix=None))
    assert body(*api, two(), provider(*api)) == plain
    assert body(*api, two(), model=Model("m-1", cache_min_tokens=100_000)) == plain
    assert "cache" not in json.dumps(plain)


def test_anthropic_marks_no_message_that_is_moved() -> None:
    """A later system message goes to the front: what follows it isn't where it was."""
    asked = shared((Role.USER, RULES), (Role.SYSTEM, OTHER), (Role.USER, "x"), texts=(RULES, OTHER))
    assert "cache_control" not in json.dumps(body("anthropic", "messages", asked))


@pytest.mark.parametrize("api", ["responses", "chat"])
def test_openai_gets_a_key_that_calls_with_one_beginning_share(api: str) -> None:
    """Other values, the same key; another beginning, another key; the prompt is sent as it is."""
    sent = body("openai", api, two())
    assert sent["prompt_cache_key"] == "ab" * 16
    plain = body("openai", api, replace(two(), prefix=None))
    assert {name: value for name, value in sent.items() if name != "prompt_cache_key"} == plain


def test_gemini_prompts_are_the_same_bytes_up_to_what_differs() -> None:
    """Its caching is implicit: nothing is sent for it, and nothing that changes comes first."""
    host = replace(provider("gemini", "generate"), prompt_cache=True)
    ends = ("Barly", "Acme")
    bodies = [
        ADAPTERS["gemini", "generate"].encode(
            call(asked=shared((Role.SYSTEM, RULES), (Role.USER, OTHER + end), texts=(RULES, OTHER))),
            host,
            MODEL,
        )
        for end in ends
    ]
    cut = [
        wire.body.partition(end.encode())
        for wire, end in zip(bodies, ends, strict=True)
        if isinstance(wire, WireRequest)
    ]
    assert cut[0][0] == cut[1][0]
    assert cut[0][2] == cut[1][2]
    assert OTHER.encode() in cut[0][0]
    assert RULES.encode() in cut[0][2]  # the system instruction, a member of its own
