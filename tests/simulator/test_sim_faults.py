"""Every named fault, as the real SDKs meet it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import anthropic
import httpx2
import openai
import pytest
from google.genai import errors as ge
from sim_kit import FORMS, GOOGLE_WARNS, Clients, clients_of, said

from promptkit.errors import UsageError
from promptkit.simulator.faults import ERRORS, REPLY, WIRE, error_response, names, problem_with
from promptkit.simulator.models import ProviderFamily
from promptkit.simulator.scenario import FaultRule, Scenario, read_faults
from promptkit.simulator.server import Simulator

pytestmark = GOOGLE_WARNS

OPENAI_CLASSES: dict[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
}
ANTHROPIC_CLASSES: dict[int, type[anthropic.APIStatusError]] = {
    400: anthropic.BadRequestError,
    401: anthropic.AuthenticationError,
    402: anthropic.PaymentRequiredError,
    403: anthropic.PermissionDeniedError,
    404: anthropic.NotFoundError,
    408: anthropic.RequestTimeoutError,
    409: anthropic.ConflictError,
    413: anthropic.ContentTooLargeError,
    422: anthropic.UnprocessableEntityError,
    429: anthropic.RateLimitError,
    500: anthropic.InternalServerError,
    502: anthropic.InternalServerError,
    503: anthropic.ServiceUnavailableError,
    504: anthropic.GatewayTimeoutError,
    529: anthropic.OverloadedError,
}
FORM_OF = {
    ProviderFamily.OPENAI: "responses",
    ProviderFamily.ANTHROPIC: "messages",
    ProviderFamily.GEMINI: "generate",
}
STREAMED: dict[str, Any] = {"stream": True}


def expected(family: ProviderFamily, status: int) -> type[Exception]:
    match family:
        case ProviderFamily.OPENAI:
            return OPENAI_CLASSES.get(
                status, openai.InternalServerError if status >= 500 else openai.APIStatusError
            )
        case ProviderFamily.ANTHROPIC:
            return ANTHROPIC_CLASSES[status]
        case ProviderFamily.GEMINI:
            return ge.ServerError if status >= 500 else ge.ClientError


@pytest.mark.parametrize("name", ERRORS)
async def test_every_named_error_raises_the_sdks_own_class(clients: Clients, name: str) -> None:
    """Status, body and class of each named error are what the SDK knows; nothing is billed."""
    family, spec = ProviderFamily(name.partition(".")[0]), ERRORS[name]
    clients.sim.script([{"fault": name, "times": 1}])
    with pytest.raises(expected(family, spec.status)) as caught:
        await clients.ask(FORM_OF[family])
    error: Any = caught.value
    if spec.html:
        shown = str(error) if family is ProviderFamily.GEMINI else error.response.text
        assert f"<title>{spec.status}" in shown
    elif family is ProviderFamily.OPENAI:
        assert (error.type, error.code, error.status_code) == (spec.kind, spec.code, spec.status)
        assert error.request_id.startswith("req_")
    elif family is ProviderFamily.ANTHROPIC:
        # What the SDK has no word for (request_too_large) it still hands on in the body.
        assert error.body["error"]["type"] == spec.kind
        assert error.error_code == (spec.details[0]["error_code"] if spec.details else None)
    else:
        assert (error.code, error.status) == (spec.status, spec.kind)
    assert clients.sim.bill()["lines"] == []
    assert clients.sim.requests()[0]["fault"] == name
    await clients.ask(FORM_OF[family])


@pytest.mark.parametrize("status", [400, 402, 408, 418, 429, 499, 500, 503, 529])
@pytest.mark.parametrize("family", list(ProviderFamily))
async def test_any_status_comes_in_the_providers_shape(
    clients: Clients, family: ProviderFamily, status: int
) -> None:
    """`http.STATUS` is a plain error of that status, for whoever is asked."""
    clients.sim.script([f"http.{status}"])
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError, ge.APIError)) as caught:
        await clients.ask(FORM_OF[family])
    error: Any = caught.value
    assert getattr(error, "status_code", None) or error.code == status


def test_hints_are_said_where_each_provider_says_them() -> None:
    """Retry-After is a header, Gemini's RetryInfo a fractional duration in the body."""
    reply = error_response("openai.rate_limit", ProviderFamily.OPENAI, request_id="r", retry_after_s=2.5)
    assert reply.headers == {"retry-after": "2.5"}
    reply = error_response(
        "gemini.per_minute", ProviderFamily.GEMINI, request_id="r", retry_after_s=45.837906927
    )
    assert reply.headers == {}
    error = json.loads(reply.body)["error"]
    assert error["details"][-1]["retryDelay"] == "45.83790693s"
    assert "Please retry in 45.83790693s." in error["message"]
    assert "PerMinute" in error["details"][0]["violations"][0]["quotaId"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fault", "billed"), [("wire.reset_before", False), ("wire.reset_after", True)])
async def test_a_reset_reaches_the_client_as_a_broken_connection(
    clients: Clients,
    form: str,
    fault: str,
    billed: bool,  # noqa: FBT001  a case
    stream: bool,  # noqa: FBT001  a case
) -> None:
    """A reset breaks the exchange; only after reading is it on the bill, as not delivered."""
    clients.sim.script([{"fault": fault, "times": 1}])
    broken = (
        openai.APIConnectionError,
        anthropic.APIConnectionError,
        httpx2.TransportError,
        aiohttp.ClientError,
        OSError,
    )
    with pytest.raises(broken):
        async for _ in await clients.ask(form, **(STREAMED if stream else {})):
            pass
    lines: Any = clients.sim.bill()["lines"]
    assert [(line["billed"], line["delivered"]) for line in lines] == ([(True, False)] if billed else [])
    assert clients.sim.requests()[0]["status"] == 0


async def test_billing_of_a_broken_exchange_is_a_parameter(clients: Clients) -> None:
    """`billed` overrides the table: the line stays, at no cost, and doesn't count."""
    clients.sim.script([{"fault": "wire.reset_after", "billed": False, "times": 1}])
    with pytest.raises(openai.APIConnectionError):
        await clients.ask("chat")
    bill: Any = clients.sim.bill()
    assert (bill["lines"][0]["pico"], bill["lines"][0]["billed"], bill["total_pico"]) == (0, False, 0)


@pytest.mark.virtual_time
async def test_a_stall_is_never_answered(clients: Clients) -> None:
    """The client's own time-out ends it."""
    clients.sim.script(["wire.stall"])
    with pytest.raises(openai.APITimeoutError):
        await clients.openai.with_options(timeout=0.2).responses.create(model="gpt-6-luna", input="x")
    lines: Any = clients.sim.bill()["lines"]
    assert [(line["billed"], line["delivered"]) for line in lines] == [(False, False)]


@pytest.mark.virtual_time
async def test_a_client_that_leaves_while_the_model_works_is_billed() -> None:
    """An abandoned reply was made all the same: billed, not delivered."""
    async with Simulator(latency=500.0) as sim, clients_of(sim) as clients:
        with pytest.raises(openai.APITimeoutError):
            await clients.openai.with_options(timeout=0.1).responses.create(model="gpt-6-luna", input="x")
        lines: Any = sim.bill()["lines"]
        assert [(line["billed"], line["delivered"]) for line in lines] == [(True, False)]


@pytest.mark.virtual_time
async def test_a_slow_first_byte_is_late_and_whole(clients: Clients) -> None:
    """The reply comes, `seconds` late."""
    clients.sim.script([{"fault": "wire.slow_first_byte", "seconds": 0.15}])
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert said("chat", await clients.ask("chat")).end == "stop"
    assert loop.time() - begun >= 0.15


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", ["wire.cut_body", "wire.cut_stream", "wire.early_end", "wire.malformed"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_broken_reply_is_no_reply(clients: Clients, form: str, fault: str, stream: bool) -> None:  # noqa: FBT001  a case
    """Cut, ended early or malformed: the raw bytes can't be taken for a whole reply, and it is billed."""
    clients.sim.script([fault])
    whole: Any = clients.sim
    raw, broke = await raw_reply(whole, form, stream=stream)
    endings = {
        "responses": b"response.completed",
        "chat": b"[DONE]",
        "messages": b"message_stop",
        "generate": b"finishReason",
    }
    if fault in {"wire.cut_body", "wire.cut_stream"}:
        assert broke
    elif fault == "wire.early_end" and stream:
        assert not broke
        assert endings[form] not in raw
    elif stream:
        assert b'{"id": "broken"' in raw
    else:
        with pytest.raises(ValueError, match=r"Unterminated|Expecting|delimiter|Invalid"):
            json.loads(raw)
    lines: Any = clients.sim.bill()["lines"]
    assert [(line["billed"], line["delivered"]) for line in lines] == [(True, False)]


async def raw_reply(sim: Simulator, form: str, *, stream: bool) -> tuple[bytes, bool]:
    message = [{"role": "user", "content": "Tell us about Barly"}]
    bodies: dict[str, tuple[str, Any]] = {
        "responses": ("/v1/responses", {"model": "gpt-6-luna", "input": "Tell us", "stream": stream}),
        "chat": ("/v1/chat/completions", {"model": "gpt-6-luna", "messages": message, "stream": stream}),
        "messages": (
            "/v1/messages",
            {"model": "claude-haiku-5-5", "max_tokens": 99, "messages": message, "stream": stream},
        ),
        "generate": (
            f"/v1beta/models/gemini-3.8-flash:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}",
            {"contents": [{"role": "user", "parts": [{"text": "Tell us"}]}]},
        ),
    }
    path, body = bodies[form]
    got = b""
    async with aiohttp.ClientSession() as http:
        headers = {"authorization": "Bearer k", "anthropic-version": "2023-06-01"}
        async with http.post(sim.url + path, json=body, headers=headers) as answer:
            assert answer.status == 200
            try:
                async for chunk in answer.content.iter_any():
                    got += chunk
            except aiohttp.ClientPayloadError:
                return got, True
    return got, False


async def test_an_error_comes_inside_a_stream(clients: Clients) -> None:
    """Each SDK raises what it knows for an error event, after text has begun."""
    clients.sim.script(["wire.stream_error"])
    heard: list[Any] = []

    async def listen(form: str) -> None:
        async for event in await clients.ask(form, stream=True):
            heard.append(event)  # noqa: PERF401  what was heard before it broke is the point

    with pytest.raises(openai.APIError):
        await listen("responses")
    with pytest.raises(openai.APIError):
        await listen("chat")
    with pytest.raises(anthropic.APIStatusError) as caught:
        await listen("messages")
    assert (caught.value.status_code, caught.value.type) == (200, "overloaded_error")
    with pytest.raises(ge.APIError):
        await listen("generate")
    assert len(heard) > 10
    with pytest.raises(anthropic.OverloadedError):
        await clients.ask("messages")
    clients.sim.script([{"fault": "wire.stream_error", "error": "anthropic.timeout_504"}])
    with pytest.raises(anthropic.APIStatusError) as caught:
        await listen("messages")
    assert caught.value.type == "timeout_error"
    clients.sim.script([{"fault": "wire.stream_error", "error": "http.503"}])
    with pytest.raises(openai.APIError):
        await listen("chat")


async def test_refusals_and_filters_are_said_as_each_provider_does(clients: Clients) -> None:
    """A refusal is content, a stop reason or a finish reason; it is billed."""
    clients.sim.script(["reply.refusal"])
    reply = await clients.ask("responses")
    assert reply.output[0].content[0].type == "refusal"
    events = [event.type async for event in await clients.ask("responses", stream=True)]
    assert "response.refusal.delta" in events
    assert (await clients.ask("chat")).choices[0].message.refusal
    reply = await clients.ask("messages")
    assert (reply.stop_reason, reply.stop_details.type) == ("refusal", "refusal")
    assert (await clients.ask("generate")).candidates[0].finish_reason == "PROHIBITED_CONTENT"
    clients.sim.script(["reply.content_filter"])
    assert (await clients.ask("responses")).incomplete_details.reason == "content_filter"
    assert (await clients.ask("chat")).choices[0].finish_reason == "content_filter"
    assert (await clients.ask("messages")).stop_reason == "refusal"
    assert (await clients.ask("generate")).candidates[0].finish_reason == "SAFETY"
    assert clients.sim.bill()["requests"] == 9


async def test_a_blocked_prompt(clients: Clients) -> None:
    """Gemini answers with feedback and no candidate; the others with an error."""
    clients.sim.script(["reply.blocked_prompt"])
    reply = await clients.ask("generate")
    assert reply.candidates is None
    assert reply.prompt_feedback.block_reason == "PROHIBITED_CONTENT"
    with pytest.raises(openai.BadRequestError) as caught:
        await clients.ask("responses")
    assert caught.value.code == "invalid_prompt"
    with pytest.raises(anthropic.BadRequestError, match="content filtering"):
        await clients.ask("messages")
    lines: Any = clients.sim.bill()["lines"]
    assert [line["tokens"]["output"] for line in lines] == [0]


@pytest.mark.parametrize("form", FORMS)
async def test_truncated_empty_unknown_and_silent_replies(clients: Clients, form: str) -> None:
    """The replies that are not what they seem."""
    clients.sim.script(["reply.truncated"])
    assert said(form, await clients.ask(form)).end in {
        "max_output_tokens",
        "length",
        "max_tokens",
        "MAX_TOKENS",
    }
    clients.sim.script(["reply.empty"])
    empty = said(form, await clients.ask(form, limit=77))
    assert (empty.text, empty.output, empty.reasoning) == ("", 77, 77)
    clients.sim.script(["reply.unknown_model"])
    assert said(form, await clients.ask(form)).model == "mystery-model-9"
    clients.sim.script(["reply.no_usage"])
    reply = await clients.ask(form)
    assert getattr(reply, "usage", None) is None
    assert getattr(reply, "usage_metadata", None) is None
    async for _ in await clients.ask(form, stream=True):
        pass
    lines: Any = clients.sim.bill()["lines"]
    assert all(line["pico"] > 0 and line["delivered"] for line in lines)


async def test_rules_count(clients: Clients) -> None:
    """`after`, `every` and `times` count the requests that match; the first rule that strikes wins."""
    clients.sim.script(
        [{"fault": "openai.rate_limit", "after": 1, "every": 2, "times": 2}, "anthropic.overloaded_529"]
    )

    async def status(form: str) -> int:
        try:
            await clients.ask(form)
        except (openai.APIStatusError, anthropic.APIStatusError) as error:
            return error.status_code
        return 200

    assert [await status("chat") for _ in range(7)] == [200, 200, 429, 200, 429, 200, 200]
    assert await status("messages") == 529
    assert clients.sim.simulation.script.struck == (2, 1)


async def test_rules_match_model_key_and_stream(clients: Clients) -> None:
    """A rule strikes only what it names."""
    model = FaultRule("openai.not_found", model="gpt-6-astra")
    key = FaultRule("openai.unauthorized", key="sk-other")
    stream = FaultRule("http.503", provider="openai", stream=True)
    clients.sim.script([model, key, stream])
    await clients.ask("chat")
    with pytest.raises(openai.NotFoundError):
        await clients.ask("chat", model="gpt-6-astra")
    async with clients_of(clients.sim, "sk-other") as other:
        with pytest.raises(openai.AuthenticationError):
            await other.ask("chat")
    with pytest.raises(openai.InternalServerError):
        await clients.ask("chat", stream=True)
    await clients.ask("messages")


async def test_chance_is_drawn_from_seed_and_prompt() -> None:
    """The same prompts fail whatever their order; another seed fails others."""

    async def failed(seed: int, prompts: list[str]) -> set[str]:
        rules = (FaultRule("openai.server_error", probability=0.4),)
        async with Simulator(seed, scenario=Scenario(faults=rules)) as sim, clients_of(sim) as clients:
            asked = [clients.ask("chat", prompt) for prompt in prompts]
            replies = await asyncio.gather(*asked, return_exceptions=True)
        return {
            prompt for prompt, reply in zip(prompts, replies, strict=True) if isinstance(reply, Exception)
        }

    prompts = [f"row {number}" for number in range(40)]
    first = await failed(1, prompts)
    assert 5 < len(first) < 30
    assert first == await failed(1, prompts[::-1])
    assert first != await failed(2, prompts)


BAD_RULES: list[tuple[Any, str]] = [
    ({"fault": "openai.rate_limt"}, "did you mean 'openai.rate_limit'"),
    ({"fault": "nonsense"}, "unknown fault"),
    ({"fault": "http.200"}, "unknown fault"),
    ({"fault": "http.500", "tims": 1}, "tims"),
    ({"fault": "http.500", "times": 0}, "times"),
    ({"fault": "http.500", "after": -1}, "after"),
    ({"fault": "http.500", "every": 0}, "every"),
    ({"fault": "http.500", "probability": 1.5}, "probability"),
    ({"fault": "http.500", "at": 2}, "at must"),
    ({"fault": "http.500", "seconds": -1}, "seconds"),
    ({"fault": "http.500", "retry_after_s": -1}, "retry_after_s"),
    ({"fault": "wire.reset_before", "model": "x"}, "before the body is read"),
    ({"fault": "openai.rate_limit", "provider": "gemini"}, "the format of openai"),
    ({"fault": "wire.stream_error", "error": "reply.empty"}, "not an error response"),
    ({"fault": "wire.stream_error", "error": "openai.nope"}, "unknown fault"),
    ({}, "fault"),
    ("text", "dict"),
]


@pytest.mark.parametrize(("rule", "names_it"), BAD_RULES)
async def test_a_bad_script_is_refused_and_changes_nothing(
    clients: Clients, rule: Any, names_it: str
) -> None:
    """Over HTTP and in Python, a script that isn't one says what is wrong and leaves the old one."""
    clients.sim.script(["http.500"])
    with pytest.raises(UsageError) as caught:
        read_faults(rule if isinstance(rule, str) else [rule])
    assert names_it in caught.value.message
    async with (
        aiohttp.ClientSession() as http,
        http.post(clients.sim.url + "/_faults", json={"faults": [rule]}) as answer,
    ):
        assert answer.status == 400
        assert (await answer.json())["error"]["message"]
    assert [each.fault for each in clients.sim.simulation.script.rules] == ["http.500"]


async def test_the_script_over_http(clients: Clients) -> None:
    """POST sets it, GET tells it with its counts and without keys, DELETE clears it."""
    url = clients.sim.url + "/_faults"
    async with aiohttp.ClientSession() as http:
        rule = {"fault": "openai.rate_limit", "retry_after_s": 1.5, "key": "sk-canary-0001"}
        async with http.post(url, json=rule) as answer:
            assert answer.status == 200
        with pytest.raises(openai.RateLimitError) as caught:
            await clients.ask("chat")
        assert caught.value.response.headers["retry-after"] == "1.5"
        async with http.get(url) as answer:
            (told,) = (await answer.json())["faults"]
            assert (told["struck"], told["key"]) == (1, "***")
        async with http.post(url, data=b"{") as answer:
            assert answer.status == 400
        async with http.delete(url) as answer:
            assert (await answer.json())["faults"] == []
        async with http.put(url) as answer:
            assert answer.status == 404
        async with http.get(clients.sim.url + "/_bill") as answer:
            assert await answer.json() == clients.sim.bill()
        async with http.get(clients.sim.url + "/_bill?lines=0") as answer:
            assert (await answer.json())["lines"] == []
    await clients.ask("chat")


def test_every_name_is_known() -> None:
    """The three tables are what a script may name, and the table of the field is covered."""
    assert set(names()) == {*ERRORS, *WIRE, *REPLY}
    assert all(problem_with(name) is None for name in names())
    statuses = {spec.status for spec in ERRORS.values()}
    assert statuses >= {400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 502, 503, 504, 529}
