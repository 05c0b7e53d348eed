"""What goes on the wire: valid by the SDKs' own parameter types, and nothing that a model rejects."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Any, Final, cast

import pytest
from adapters_kit import FORMATS, SYSTEM_AND_USER, Replay, call, headers_of, prompt, provider
from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from google import genai
from google.genai import types as genai_types
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)
from openai.types.responses.response_create_params import (
    ResponseCreateParamsNonStreaming,
    ResponseCreateParamsStreaming,
)
from pydantic import ConfigDict, TypeAdapter, with_config

from promptkit.errors import ConfigError
from promptkit.providers.params import DEFAULT_MAX_OUTPUT_TOKENS, output_limit
from promptkit.providers.wire_formats import ADAPTERS, for_provider
from promptkit.types import (
    Call,
    Failure,
    Fault,
    JsonObject,
    Model,
    OnReject,
    Params,
    Prompt,
    Reasoning,
    Role,
    WireRequest,
)

# google-genai derives from aiohttp's session, which aiohttp discourages.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

SCHEMA: Final[JsonObject] = {
    "type": "object",
    "properties": {"hook": {"type": "string"}},
    "required": ["hook"],
    "additionalProperties": False,
}

WORDS: Final = {
    Reasoning.OFF: "none",
    Reasoning.LOW: "low",
    Reasoning.MEDIUM: "medium",
    Reasoning.HIGH: "high",
}

EVERYTHING: Final = Params(
    max_output_tokens=4000,
    reasoning=Reasoning.MEDIUM,
    temperature=0.5,
    top_p=0.9,
    top_k=40,
    frequency_penalty=0.1,
    presence_penalty=0.2,
    seed=7,
    stop=("END",),
)


def strict(params: object) -> TypeAdapter[Any]:
    """A type of parameters that refuses unknown keys."""
    return TypeAdapter(with_config(ConfigDict(extra="forbid"))(cast("Any", params)))


TYPES: Final = {
    "openai_responses": (strict(ResponseCreateParamsNonStreaming), strict(ResponseCreateParamsStreaming)),
    "openai_chat": (strict(CompletionCreateParamsNonStreaming), strict(CompletionCreateParamsStreaming)),
    "anthropic_messages": (strict(MessageCreateParamsNonStreaming), strict(MessageCreateParamsStreaming)),
}


def forced(value: object) -> object:
    """The same with iterables, which pydantic validates only when they are read, made lists."""
    if isinstance(value, dict):
        return {key: forced(item) for key, item in cast("dict[str, object]", value).items()}
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value
    return [forced(item) for item in cast("Iterable[object]", value)]


def encode(form: str, asked: Call, model: Model) -> WireRequest:
    family, api = FORMATS[form]
    request = ADAPTERS[family, api].encode(asked, provider(family, api), model)
    assert isinstance(request, WireRequest)
    return request


def body_of(form: str, asked: Call, model: Model | None = None) -> JsonObject:
    body = json.loads(encode(form, asked, model or Model("m", reasoning=WORDS)).body)
    assert isinstance(body, dict)
    return cast("JsonObject", body)


def refused(form: str, asked: Call, model: Model) -> Failure:
    family, api = FORMATS[form]
    failure = ADAPTERS[family, api].encode(asked, provider(family, api), model)
    assert isinstance(failure, Failure)
    return failure


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
prompts = st.lists(st.tuples(st.sampled_from(Role), text), min_size=1, max_size=4).map(
    lambda said: prompt(*said)
)
params = st.builds(
    Params,
    max_output_tokens=st.none() | st.integers(1, 9000),
    reasoning=st.none() | st.sampled_from(Reasoning),
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    top_k=st.none() | st.integers(1, 99),
    frequency_penalty=st.none() | st.floats(-2, 2),
    presence_penalty=st.none() | st.floats(-2, 2),
    seed=st.none() | st.integers(0, 1 << 31),
    stop=st.lists(text, max_size=2).map(tuple),
)
models = st.builds(
    Model,
    id=st.just("m"),
    max_output_tokens=st.none() | st.integers(1, 9000),
    rejects=st.frozensets(st.sampled_from(["temperature", "top_k", "seed", "stop", "reasoning", "prefill"])),
    reasoning=st.sampled_from([None, WORDS, {Reasoning.LOW: 512, Reasoning.HIGH: 4096, Reasoning.OFF: 0}]),
)


@pytest.mark.parametrize("form", TYPES)
@settings(max_examples=60, deadline=None)
@given(
    said=prompts,
    params=params,
    model=models,
    schema=st.sampled_from([None, SCHEMA]),
    tier=st.sampled_from([None, "flex", "batch", "priority"]),
    stream=st.booleans(),
)
def test_every_body_is_valid_by_the_sdks_own_types(  # noqa: PLR0913 (hypothesis draws what a call has)
    *,
    form: str,
    said: Prompt,
    params: Params,
    model: Model,
    schema: JsonObject | None,
    tier: str | None,
    stream: bool,
) -> None:
    """The SDK's own parameter types find no unknown key and no wrong type, and lose nothing."""
    body = body_of(form, Call(said, params, schema, tier, stream), model)
    assert forced(TYPES[form][stream].validate_python(body)) == body


def test_a_response_is_not_stored_and_keeps_the_order_of_its_messages() -> None:
    """System messages are input items in their own place, not one string of instructions."""
    asked = prompt((Role.SYSTEM, "a"), (Role.USER, "b"), (Role.ASSISTANT, "c"), (Role.SYSTEM, "d"))
    body = body_of("openai_responses", call(asked=asked))
    assert body["store"] is False
    assert "instructions" not in body
    assert [(item["role"], item["content"]) for item in body["input"]] == [
        ("system", "a"),
        ("user", "b"),
        ("assistant", "c"),
        ("system", "d"),
    ]


def test_text_goes_as_utf8() -> None:
    """A body is bytes of UTF-8 without needless spaces or escapes."""
    request = encode("openai_chat", call(), Model("m"))
    assert "Café « Barly » 😀".encode() in request.body
    assert b'","' in request.body
    assert b": " not in request.body


@pytest.mark.parametrize("form", FORMATS)
def test_half_a_surrogate_pair_is_refused(form: str) -> None:
    """Text that UTF-8 can't say is refused before anything is sent."""
    failure = refused(form, call(asked=prompt((Role.USER, "half \ud83d"))), Model("m"))
    assert failure.fault is Fault.INVALID_REQUEST
    assert not failure.billed


def test_a_number_that_json_cannot_say_is_refused() -> None:
    """NaN is no temperature."""
    failure = refused("openai_chat", call(Params(temperature=float("nan"))), Model("m"))
    assert failure.fault is Fault.INVALID_REQUEST


@pytest.mark.parametrize(
    ("form", "where"),
    [
        ("openai_responses", ("max_output_tokens",)),
        ("openai_chat", ("max_completion_tokens",)),
        ("anthropic_messages", ("max_tokens",)),
        ("gemini_generate", ("generationConfig", "maxOutputTokens")),
    ],
)
@pytest.mark.parametrize(("asked", "sent"), [(None, DEFAULT_MAX_OUTPUT_TOKENS), (600, 600), (9000, 5000)])
def test_the_output_limit_is_always_sent(
    form: str, where: tuple[str, ...], asked: int | None, sent: int
) -> None:
    """A budget's ceiling stands on the output limit, so no request goes without one."""
    model = Model("m", max_output_tokens=5000)
    value: Any = body_of(form, call(Params(asked)), model)
    for key in where:
        value = value[key]
    assert value == sent == output_limit(Params(asked), model)


def test_a_clamped_output_limit_is_said() -> None:
    """Asking for more than the model gives is a warning, not a failure."""
    request = encode("openai_chat", call(Params(9000)), Model("m", max_output_tokens=5000))
    assert request.warnings == ("max_output_tokens = 5000: m gives no more",)


def test_an_older_host_has_its_own_name_for_the_output_limit() -> None:
    """Hosts that only know `max_tokens` get that."""
    older = replace(provider("openai", "chat"), max_tokens_field="max_tokens")
    request = ADAPTERS["openai", "chat"].encode(call(), older, Model("m"))
    assert isinstance(request, WireRequest)
    assert json.loads(request.body)["max_tokens"] == 600


@pytest.mark.parametrize(
    ("form", "path", "streamed"),
    [
        ("openai_responses", "/responses", "/responses"),
        ("openai_chat", "/chat/completions", "/chat/completions"),
        ("anthropic_messages", "/v1/messages", "/v1/messages"),
        ("gemini_generate", "/models/m:generateContent", "/models/m:streamGenerateContent?alt=sse"),
    ],
)
def test_the_path_of_a_call(form: str, path: str, streamed: str) -> None:
    """Each format has its path below the provider's address."""
    whole = encode(form, call(), Model("m"))
    stream = encode(form, replace(call(), stream=True), Model("m"))
    assert (whole.path, whole.stream, stream.path, stream.stream) == (path, False, streamed, True)


def test_a_tuned_gemini_model_names_its_own_collection() -> None:
    """A model id with a slash is a path of its own."""
    request = encode("gemini_generate", call(), Model("tunedModels/barly 1"))
    assert request.path == "/tunedModels/barly%201:generateContent"


def test_a_streamed_chat_asks_for_its_usage() -> None:
    """A chat stream tells no usage unless asked."""
    body = body_of("openai_chat", replace(call(), stream=True))
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


LEFT_OUT: Final = {
    "openai_responses": ("top_k", "frequency_penalty", "presence_penalty", "seed", "stop"),
    "openai_chat": ("top_k",),
    "anthropic_messages": (
        "temperature",
        "top_p",
        "top_k",
        "frequency_penalty",
        "presence_penalty",
        "seed",
    ),
    "gemini_generate": (),
}


@pytest.mark.parametrize("form", FORMATS)
def test_what_a_format_has_no_word_for_is_left_out_and_said(form: str) -> None:
    """A parameter that the wire format doesn't know is dropped with a warning each."""
    warnings = encode(form, call(EVERYTHING), Model("m", reasoning=WORDS)).warnings
    assert [warning.split()[-1] for warning in warnings] == list(LEFT_OUT[form])


@pytest.mark.parametrize("form", FORMATS)
def test_what_a_model_rejects_is_left_out_and_said(form: str) -> None:
    """A parameter that the model rejects is not sent, and the warning names it."""
    rejecting = Model("m", rejects=frozenset({"stop"}))
    request = encode(form, call(Params(stop=("END",))), rejecting)
    assert b"END" not in request.body
    assert request.warnings == ("left out: m rejects stop",)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("params", "why"),
    [
        (Params(stop=("END",)), "m rejects stop"),
        (Params(reasoning=Reasoning.HIGH), "m has no reasoning level high"),
    ],
)
def test_a_model_may_refuse_what_it_rejects(form: str, params: Params, why: str) -> None:
    """With `on_reject = refuse` nothing is sent, and the failure says why."""
    strict_model = Model("m", rejects=frozenset({"stop"}), on_reject=OnReject.REFUSE)
    failure = refused(form, call(params), strict_model)
    assert failure.fault is Fault.INVALID_REQUEST
    assert why in failure.detail


NUMBERS: Final = {Reasoning.OFF: 0, Reasoning.LOW: 2000, Reasoning.HIGH: 8000}


@pytest.mark.parametrize(
    ("form", "level", "words", "expected"),
    [
        ("openai_responses", Reasoning.LOW, WORDS, {"reasoning": {"effort": "low"}}),
        ("openai_responses", Reasoning.OFF, WORDS, {"reasoning": {"effort": "none"}}),
        ("openai_chat", Reasoning.HIGH, WORDS, {"reasoning_effort": "high"}),
        ("openai_chat", Reasoning.OFF, None, {}),
        (
            "anthropic_messages",
            Reasoning.LOW,
            WORDS,
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        ),
        (
            "anthropic_messages",
            Reasoning.LOW,
            {Reasoning.LOW: "adaptive"},
            {"thinking": {"type": "adaptive"}},
        ),
        (
            "anthropic_messages",
            Reasoning.OFF,
            {Reasoning.OFF: "disabled"},
            {"thinking": {"type": "disabled"}},
        ),
        ("anthropic_messages", Reasoning.OFF, NUMBERS, {"thinking": {"type": "disabled"}}),
        (
            "anthropic_messages",
            Reasoning.LOW,
            NUMBERS,
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        ),
        (
            "anthropic_messages",
            Reasoning.HIGH,
            NUMBERS,
            {"thinking": {"type": "enabled", "budget_tokens": 3000}},
        ),
        ("gemini_generate", Reasoning.LOW, WORDS, {"thinkingConfig": {"thinkingLevel": "LOW"}}),
        ("gemini_generate", Reasoning.LOW, NUMBERS, {"thinkingConfig": {"thinkingBudget": 2000}}),
        ("gemini_generate", Reasoning.HIGH, NUMBERS, {"thinkingConfig": {"thinkingBudget": 3000}}),
        ("gemini_generate", Reasoning.OFF, NUMBERS, {"thinkingConfig": {"thinkingBudget": 0}}),
    ],
)
def test_a_level_of_reasoning_in_each_formats_words(
    form: str, level: Reasoning, words: dict[Reasoning, str | int] | None, expected: JsonObject
) -> None:
    """A level becomes the model's word or budget, and a budget leaves half of the limit to the answer."""
    body = body_of(form, call(Params(6000, level)), Model("m", reasoning=words))
    body = body.get("generationConfig", body)
    names = ("reasoning", "reasoning_effort", "thinking", "output_config", "thinkingConfig")
    assert {name: body[name] for name in names if name in body} == expected


@pytest.mark.parametrize(("form", "least"), [("anthropic_messages", 2048), ("gemini_generate", 1024)])
def test_reasoning_that_would_leave_no_room_is_switched_off(form: str, least: int) -> None:
    """Below twice the smallest budget the model is told not to reason, and the user is told too."""
    request = encode(
        form,
        call(Params(least - 1, Reasoning.LOW)),
        Model("m", max_output_tokens=least - 1, reasoning=NUMBERS),
    )
    assert b'"disabled"' in request.body or b'"thinkingBudget":0' in request.body
    assert request.warnings == (f"left out: reasoning, for which m needs max_output_tokens >= {least}",)


def test_a_shortened_budget_of_reasoning_is_said() -> None:
    """A budget that was cut to half of the output limit gives a warning."""
    request = encode("gemini_generate", call(Params(6000, Reasoning.HIGH)), Model("m", reasoning=NUMBERS))
    assert request.warnings == ("reasoning takes 3000 tokens, half of max_output_tokens, not 8000",)


@pytest.mark.parametrize("form", ["openai_responses", "openai_chat"])
@pytest.mark.parametrize("level", [Reasoning.OFF, Reasoning.LOW])
def test_openai_takes_no_budget_of_reasoning(form: str, level: Reasoning) -> None:
    """A number where the format wants a word is left out and said."""
    request = encode(form, call(Params(6000, level)), Model("m", reasoning=NUMBERS))
    assert b"reasoning" not in request.body
    assert "takes no budget of reasoning tokens" in request.warnings[0]


def test_a_model_may_reject_reasoning_itself() -> None:
    """`reasoning` among the rejects leaves the level out."""
    model = Model("m", rejects=frozenset({"reasoning"}), reasoning=WORDS)
    request = encode("openai_chat", call(Params(reasoning=Reasoning.LOW)), model)
    assert request.warnings == ("left out: m rejects reasoning",)


@pytest.mark.parametrize(
    ("form", "path"),
    [
        ("openai_responses", ("text", "format", "schema")),
        ("openai_chat", ("response_format", "json_schema", "schema")),
        ("anthropic_messages", ("output_config", "format", "schema")),
        ("gemini_generate", ("generationConfig", "responseJsonSchema")),
    ],
)
def test_a_schema_goes_in_each_formats_own_form(form: str, path: tuple[str, ...]) -> None:
    """Structured output is asked for natively."""
    value: Any = body_of(form, replace(call(), schema=SCHEMA))
    for key in path:
        value = value[key]
    assert value == SCHEMA


@pytest.mark.parametrize(
    ("schema", "strict_mode"),
    [
        (SCHEMA, True),
        ({**SCHEMA, "additionalProperties": True}, False),
        ({**SCHEMA, "required": []}, True),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, True),
        ({"type": "object", "properties": {"a": {"type": "object"}}}, False),
        ({"type": "object", "properties": {"a": {}}}, False),
        ({"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}}, False),
        ({"anyOf": [SCHEMA, {"type": "null"}]}, False),
    ],
)
def test_a_schema_is_strict_where_openai_can_hold_it(schema: JsonObject, *, strict_mode: bool) -> None:
    """What is optional may be null there instead; what is open, untyped or no object can't be strict."""
    body = body_of("openai_chat", replace(call(), schema=schema))
    assert body["response_format"]["json_schema"]["strict"] is strict_mode


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ("openai_responses", "service_tier"),
        ("openai_chat", "service_tier"),
        ("gemini_generate", "serviceTier"),
    ],
)
def test_a_service_tier_is_asked_for(form: str, field: str) -> None:
    """Flex is a field of the request; batch is another way to send."""
    assert body_of(form, replace(call(), tier="flex"))[field] == "flex"
    assert field not in body_of(form, replace(call(), tier="batch"))


def test_a_tier_that_a_format_lacks_is_left_out_and_said() -> None:
    """Anthropic has no flex."""
    request = encode("anthropic_messages", replace(call(), tier="flex"), Model("m"))
    assert b"tier" not in request.body
    assert request.warnings == ("left out: Anthropic Messages has no service tier flex",)
    assert (
        b'"service_tier":"auto"'
        in encode("anthropic_messages", replace(call(), tier="auto"), Model("m")).body
    )


LATER_SYSTEM: Final = prompt((Role.SYSTEM, "a"), (Role.USER, "b"), (Role.ASSISTANT, "c"), (Role.SYSTEM, "d"))


@pytest.mark.parametrize("form", ["anthropic_messages", "gemini_generate"])
def test_a_later_system_message_moves_to_the_front(form: str) -> None:
    """Where its own place isn't valid for every model, it goes before the conversation, and is said."""
    request = encode(form, call(asked=LATER_SYSTEM), Model("m"))
    body = json.loads(request.body)
    system = body.get("system") or body["systemInstruction"]["parts"]
    assert [part["text"] for part in system] == ["a", "d"]
    assert [turn["role"] for turn in body.get("messages") or body["contents"]] in (
        ["user", "assistant"],
        ["user", "model"],
    )
    assert request.warnings == ("1 later system message(s) sent before the conversation",)


@pytest.mark.parametrize("form", ["anthropic_messages", "gemini_generate"])
def test_a_lone_system_message_is_said_by_the_user(form: str) -> None:
    """A conversation needs a turn: without one, the system message is it."""
    request = encode(form, call(asked=prompt((Role.SYSTEM, "a"))), Model("m"))
    body = json.loads(request.body)
    assert "system" not in body
    assert "systemInstruction" not in body
    assert [turn["role"] for turn in body.get("messages") or body["contents"]] == ["user"]
    assert len(request.warnings) == 1


def test_the_adapter_of_a_provider() -> None:
    """The embedded model speaks Chat Completions; an unknown format is a configuration error."""
    assert for_provider(provider("local", "chat")) is ADAPTERS["openai", "chat"]
    with pytest.raises(ConfigError, match="no adapter 'cohere'"):
        for_provider(provider("cohere", "chat"))


@pytest.fixture
async def gemini(replay: Replay) -> AsyncIterator[Any]:
    name = "gemini_generate/stop"
    replay.put(b'{"candidates":[]}', headers_of(name))
    options = genai_types.HttpOptions(
        base_url=replay.url,
        api_version="v1beta",
        retry_options=genai_types.HttpRetryOptions(attempts=1),
    )
    client = genai.Client(api_key="k", http_options=options)
    yield client.aio.models
    await client.aio.aclose()
    client.close()


@pytest.mark.parametrize("level", [Reasoning.LOW, Reasoning.HIGH])
async def test_a_gemini_body_is_what_the_sdk_itself_would_send(
    replay: Replay, gemini: Any, level: Reasoning
) -> None:
    """google-genai, asked for the same, writes the same JSON to the same path."""
    words: dict[Reasoning, str | int] = {Reasoning.LOW: 1500, Reasoning.HIGH: "high"}
    asked = Call(SYSTEM_AND_USER, replace(EVERYTHING, reasoning=level), SCHEMA, "flex")
    request = encode("gemini_generate", asked, Model("gemini-x", reasoning=words))
    thinking = (
        genai_types.ThinkingConfig(thinking_budget=1500)
        if level is Reasoning.LOW
        else genai_types.ThinkingConfig(thinking_level=genai_types.ThinkingLevel.HIGH)
    )
    system = genai_types.Content(parts=[genai_types.Part(text="You write hooks.")])
    turn = genai_types.Content(role="user", parts=[genai_types.Part(text="Café « Barly » 😀")])
    config = genai_types.GenerateContentConfig(
        system_instruction=system,
        max_output_tokens=4000,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        seed=7,
        stop_sequences=["END"],
        thinking_config=thinking,
        response_mime_type="application/json",
        response_json_schema=SCHEMA,
        service_tier=genai_types.ServiceTier.FLEX,
    )
    await gemini.generate_content(model="gemini-x", contents=[turn], config=config)
    # The SDK leaves Python's spelling inside thinkingConfig; Google's JSON takes both.
    theirs = replay.asked.replace(b"thinking_budget", b"thinkingBudget")
    theirs = theirs.replace(b"thinking_level", b"thinkingLevel")
    assert json.loads(theirs) == json.loads(request.body)
    assert replay.path == "/v1beta" + request.path


BEGUN = prompt((Role.USER, "Write a hook."), (Role.ASSISTANT, "Hook:"))


@pytest.mark.parametrize("form", FORMATS)
def test_a_begun_answer(form: str) -> None:
    """An assistant message at the end is sent as it is; a model that rejects prefill goes without it."""
    assert b"Hook:" in encode(form, call(asked=BEGUN), Model("m")).body
    rejecting = Model("m", rejects=frozenset({"prefill"}))
    without = encode(form, call(asked=BEGUN), rejecting)
    assert b"Hook:" not in without.body
    assert without.warnings == ("left out: m rejects prefill (an assistant message at the end)",)
    assert encode(form, call(), rejecting).warnings == ()


@pytest.mark.parametrize("form", FORMATS)
def test_a_begun_answer_refused(form: str) -> None:
    """Where a model is to refuse what it rejects, a begun answer sends nothing."""
    model = Model("m", rejects=frozenset({"prefill"}), on_reject=OnReject.REFUSE)
    assert "rejects prefill" in refused(form, call(asked=BEGUN), model).detail
