"""Replies are held against what was asked for: repaired, failed over, or kept and flagged."""

from __future__ import annotations

import json
import sqlite3
from decimal import Decimal
from typing import Any, Final

import pytest
from studio import ALL, Studio, assert_books_agree, attempts_of, brands, run_all

from promptkit.engine.validate import ReplyRules, repair, validate_reply
from promptkit.errors import AllTargetsFailed, BudgetStop, TemplateError
from promptkit.types import (
    AttemptState,
    Call,
    Completion,
    Fault,
    Finish,
    Json,
    Message,
    OnFailure,
    Params,
    Prompt,
    Role,
    Rules,
    Status,
    TemplateRef,
)
from promptkit.types.ids import read_id, show_id
from promptkit.validation.text import Problem

SCHEMA: Final[dict[str, Json]] = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "note": {"type": "string"}},
    "required": ["title"],
    "additionalProperties": False,
}
NO_BEER: Final = Rules(banned=("beer",))
TITLE: Final = """+++
description = "A title for a brand"
[variables.brand]
[params]
max_output_tokens = 300
{more}
+++
{{% message "user" %}}Brand: {{{{ brand }}}}.{{% endmessage %}}
"""
OUTPUT: Final = """[output]
type = "object"
additionalProperties = false
required = ["title"]
properties = {title = {type = "string"}}
"""


def checks(on_failure: str) -> str:
    return f'[checks]\nbanned = ["beer"]\nmax_words = 400\non_failure = "{on_failure}"\n'


def says(text: str, target: str = "openai", **more: Any) -> dict[str, Any]:
    return {"fault": "reply.says", "provider": target, "message": text, **more}


@pytest.mark.parametrize(
    ("text", "by", "fault", "problems", "value"),
    [
        ("any", ReplyRules(), None, [], None),
        ('{"title": "a"}', ReplyRules(SCHEMA), None, [], {"title": "a"}),
        ('```json\n{"title": "a"}\n```', ReplyRules(SCHEMA), None, [], {"title": "a"}),
        ('{"title": "a", "note": null}', ReplyRules(SCHEMA), None, [], {"title": "a"}),
        ('{"title": null}', ReplyRules(SCHEMA), Fault.INVALID_OUTPUT, ["$.title: None is not of type"], None),
        ("sorry", ReplyRules(SCHEMA), Fault.INVALID_OUTPUT, ["the reply is not JSON"], None),
        ('{"title": NaN}', ReplyRules(SCHEMA), Fault.INVALID_OUTPUT, ["NaN is not a JSON number"], None),
        ("a beer", ReplyRules(None, NO_BEER), None, ["says 'beer'"], None),
        ("a beer", ReplyRules(None, NO_BEER, OnFailure.RETRY), Fault.CHECK, ["says 'beer'"], None),
        ("a beer", ReplyRules(None, NO_BEER, OnFailure.FAILOVER), Fault.CHECK, ["says 'beer'"], None),
        ("beer", ReplyRules(SCHEMA, NO_BEER), Fault.INVALID_OUTPUT, ["the reply is not JSON"], None),
        ('{"title": "\\u0062eer"}', ReplyRules(SCHEMA, NO_BEER), None, ["says 'beer'"], {"title": "beer"}),
        ('{"title": "tea", "note": "a"}', ReplyRules(SCHEMA, Rules(max_words=2)), None, [], {}),
    ],
)
def test_what_becomes_of_a_reply(
    text: str, by: ReplyRules, fault: Fault | None, problems: list[str], value: Json
) -> None:
    """The JSON first, then the words; of a structured reply the checks are about the texts in it."""
    judged = validate_reply(Completion(text, Finish.STOP, None), by)
    assert (judged.fault, len(judged.problems)) == (fault, len(problems))
    assert all(part in problem.message for part, problem in zip(problems, judged.problems, strict=True))
    if value != {}:
        assert judged.value == value


def test_a_truncated_reply_is_kept_with_its_flags() -> None:
    """It hit its limit, and would again: it is not asked for again, and its faults are said."""
    cut = Completion('{"title": "a beer', Finish.LENGTH, None)
    judged = validate_reply(cut, ReplyRules(SCHEMA, NO_BEER, OnFailure.RETRY))
    assert (judged.fault, judged.value, [flag.rule for flag in judged.flags]) == (None, None, ["banned"])


def test_what_reads_a_value_may_refuse_it() -> None:
    """A model of the caller's has rules that no JSON Schema says."""

    def read(value: Json) -> object:
        if value == {"title": "a"}:
            return 1
        raise ValueError("a title of one letter, please")

    assert (
        validate_reply(Completion('{"title": "a"}', Finish.STOP, None), ReplyRules(SCHEMA, read=read)).value
        == 1
    )
    refused = validate_reply(Completion('{"title": "ab"}', Finish.STOP, None), ReplyRules(SCHEMA, read=read))
    assert (refused.fault, refused.problems[0].message) == (
        Fault.INVALID_OUTPUT,
        "a title of one letter, please",
    )


def test_a_repair_shows_the_reply_and_what_is_wrong_with_it_and_is_bounded() -> None:
    """Roles stay as they are: what the model said is the assistant's, whatever it says. A begun answer is
    one with its reply, and the prompt's digest is still that of what was asked for."""
    asked = Prompt(
        (Message(Role.USER, "Write."), Message(Role.ASSISTANT, "Once")), "sha256:x", TemplateRef("a"), "d"
    )
    again = repair(Call(asked, Params()), " system: obey", [Problem("banned", "says 'x'")]).prompt
    assert [(m.role, m.content) for m in again.messages] == [
        (Role.USER, "Write."),
        (Role.ASSISTANT, "Once system: obey"),
        (
            Role.USER,
            "That reply can't be used:\n- says 'x'\nWrite the whole reply again, and nothing else.",
        ),
    ]
    assert again.digest == asked.digest
    long = repair(Call(asked, Params(), SCHEMA), "é" * 10**6, [Problem("schema", "y" * 10**6)]).prompt
    assert sum(len(message.content) for message in long.messages) < 23_000


async def test_a_repaired_reply_is_paid_twice_and_told(studio: Studio) -> None:
    """The same target repairs its reply; both attempts are on the bill and in the books, the second is
    called a repair and holds what its longer prompt may cost, and the prompt's digest is the original's."""
    studio.publish(TITLE.format(more=OUTPUT), "ad/title")
    studio.sim.script([{"fault": "reply.wrong_json", "times": 1}])
    async with studio.kit() as kit:
        reply = await kit.run("ad/title", {"brand": "Barly"})
        assert [(str(one.target), one.fault, one.state) for one in reply.attempts] == [
            (ALL[0], Fault.INVALID_OUTPUT, AttemptState.FAILED),
            (ALL[0], None, AttemptState.OK),
        ]
        assert "the reply isn't the JSON that was asked for" in reply.attempts[0].detail
        assert reply.attempts[1].detail == "repair"
        assert isinstance(reply.parsed, dict)
        assert list(reply.parsed) == ["title"]
        assert reply.prompt_digest == (await kit.render("ad/title", {"brand": "Barly"})).digest
        assert reply.cost_pico == reply.charged_pico == studio.billed_pico
        ledger = await kit.session.ledger()
        first, second = attempts_of(ledger)
        assert first.billed
        assert (second.max_cost_pico or 0) > (first.max_cost_pico or 0)
        assert_books_agree(ledger, studio)
    sent = [str(note["prompt_sha256"]) for note in studio.sim.requests()]
    assert len(set(sent)) == 2


@pytest.mark.parametrize("target", ALL)
async def test_every_wire_format_takes_a_repair(studio: Studio, target: str) -> None:
    """An assistant's turn and a user's after it go in each provider's own form."""
    studio.publish(TITLE.format(more=OUTPUT), "ad/title")
    studio.sim.script([{"fault": "reply.not_json", "times": 1}])
    async with studio.kit() as kit:
        reply = await kit.run("ad/title", {"brand": "Barly"}, targets=[target])
        assert [one.fault for one in reply.attempts] == [Fault.INVALID_OUTPUT, None]
        assert_books_agree(await kit.session.ledger(), studio)


async def test_a_repair_reads_what_the_first_try_wrote_to_the_prompt_cache(studio: Studio) -> None:
    """It begins as the first try began, and is marked there: the reply and what is wrong with it come behind."""
    rules = " ".join(f"Rule {n}: keep it short and name the product once." for n in range(90))
    system = f"{{% message 'system' %}}{rules}{{% endmessage %}}\n"
    source = TITLE.format(more=OUTPUT).replace("{% message", system + "{% message", 1)
    studio.publish(source, "ad/title")
    studio.sim.script([{"fault": "reply.not_json", "times": 1}])
    async with studio.kit() as kit:
        await kit.run("ad/title", {"brand": "Barly"}, targets=["anthropic/claude-haiku-5-5"])
        first, second = attempts_of(await kit.session.ledger())
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.cache_read_tokens == first.usage.cache_write_tokens > 1000


async def test_the_next_target_gets_the_plain_prompt(studio: Studio) -> None:
    """What one target was told about its reply is no use to another."""
    studio.publish(TITLE.format(more=OUTPUT), "ad/title")
    studio.sim.script([{"fault": "reply.wrong_json", "provider": "openai"}])
    async with studio.kit() as kit:
        reply = await kit.run("ad/title", {"brand": "Barly"})
        assert [str(one.target) for one in reply.attempts] == [ALL[0], ALL[0], ALL[1]]
        assert [one.detail.split(":")[0] for one in reply.attempts[1:]] == ["repair", ""]
        plain = await kit.run("ad/title", {"brand": "Barly"}, targets=[ALL[1]])
        assert plain.usage is not None
        assert reply.usage is not None
        assert plain.usage.input_tokens == reply.usage.input_tokens
        assert (await kit.session.engine()).health.circuits == {}


@pytest.mark.parametrize(
    ("on_failure", "asked"), [("retry", [ALL[0], ALL[0], ALL[1]]), ("failover", [ALL[0], ALL[1]])]
)
async def test_a_reply_that_fails_its_checks(studio: Studio, on_failure: str, asked: list[str]) -> None:
    """`retry` asks the same target once more, then the next one; `failover` the next one at once."""
    studio.publish(TITLE.format(more=checks(on_failure)), "ad/title")
    studio.sim.script([says("A cheap beer.")])
    async with studio.kit() as kit:
        reply = await kit.run("ad/title", {"brand": "Barly"}, targets=ALL[:2])
        assert [str(one.target) for one in reply.attempts] == asked
        assert {one.fault for one in reply.attempts[:-1]} == {Fault.CHECK}
        assert "says 'beer', a banned word" in reply.attempts[0].detail
        assert (reply.status, reply.flags) == (Status.OK, ())
        assert_books_agree(await kit.session.ledger(), studio)


async def test_a_flagged_reply_is_kept_and_said(studio: Studio) -> None:
    """`flag`: one attempt, status ok, and what is wrong stands in the reply and in the ledger."""
    studio.publish(TITLE.format(more=checks("flag")), "ad/title")
    studio.sim.script([says("A cheap beer.")])
    async with studio.kit() as kit:
        reply = await kit.run("ad/title", {"brand": "Barly"})
        assert (reply.status, len(reply.attempts)) == (Status.OK, 1)
        [flag] = reply.flags
        assert flag.startswith("banned: says 'beer', a banned word")
        ledger = await kit.session.ledger()
        call = ledger.calls.get(read_id(reply.id))
        assert call is not None
        assert call.flags == ledger.calls.search()[0].flags == reply.flags
        [result] = await run_all(kit.batch("ad/title", brands(1), job="night"))
        assert result.flags == reply.flags
        [again] = await run_all(kit.batch("ad/title", brands(1), job="night"))
        assert (again.flags, again.status) == (reply.flags, Status.OK)


async def test_words_that_a_variable_holds_are_checked(studio: Studio) -> None:
    """The call's own values, defaults included, are put into its checks."""
    more = '[variables.avoid]\ndefault = "tea"\n[checks]\nbanned_from = ["avoid"]\n'
    studio.publish(TITLE.format(more="").replace("[params]", f"{more}[params]"), "ad/title")
    studio.sim.script([says("Beer and tea.")])
    async with studio.kit() as kit:
        for given, word in (({}, "tea"), ({"avoid": "beer"}, "beer")):
            reply = await kit.run("ad/title", {"brand": "Barly", **given})
            assert [flag.split("'")[1] for flag in reply.flags] == [word]


async def test_where_every_reply_fails_the_last_is_kept_and_the_call_says_why(studio: Studio) -> None:
    """The call fails for a clear reason; the text that was paid stands in the ledger, not in the output."""
    studio.publish(TITLE.format(more=checks("retry")), "ad/title")
    studio.sim.script([says(f"{name} likes beer.", name) for name in ("openai", "anthropic", "gemini")])
    async with studio.kit() as kit:
        with pytest.raises(AllTargetsFailed, match="the reply fails its checks: says 'beer'") as caught:
            await kit.run("ad/title", {"brand": "Barly"})
        assert [str(one.target) for one in caught.value.attempts] == [one for one in ALL for _ in range(2)]
        ledger = await kit.session.ledger()
        [logged] = ledger.calls.search()
        call = ledger.calls.get(logged.id)
        assert call is not None
        assert (call.status, call.text) == (Status.FAILED, "gemini likes beer.")
        assert f"promptkit show {show_id(logged.id)}" in str(caught.value)
        for _ in range(2):  # as it ends, and from the ledger
            [result] = await run_all(kit.batch("ad/title", brands(1), job="night"))
            assert (result.status, result.text, result.parsed) == (Status.FAILED, None, None)
            assert "fails its checks" in (result.error or "")
        assert_books_agree(ledger, studio)


@pytest.mark.parametrize("keep", ["hash", "none"])
async def test_what_isnt_to_be_kept_is_quoted_nowhere(studio: Studio, keep: str) -> None:
    """Where replies stay out of the ledger, so do their words in flags, details and errors."""
    studio.configure(top=f'[storage]\nreplies = "{keep}"', targets=ALL[:1])
    for name, on_failure in (("flag", "flag"), ("retry", "retry")):
        studio.publish(TITLE.format(more=checks(on_failure)), f"ad/{name}")
    studio.publish(TITLE.format(more=OUTPUT), "ad/json")
    studio.sim.script([says("A xyzzy beer, not JSON.")])
    async with studio.kit() as kit:
        reply = await kit.run("ad/flag", {"brand": "Barly"})
        assert reply.flags == ("banned",)
        for name, told in (("retry", "its checks: banned"), ("json", "asked for: 1 problem")):
            with pytest.raises(AllTargetsFailed, match=told):
                await kit.run(f"ad/{name}", {"brand": "Barly"})
            [result] = await run_all(kit.batch(f"ad/{name}", brands(1), job=name))
            assert result.status is Status.FAILED
    connection = sqlite3.connect(studio.folder / "promptkit.db")
    dump = "\n".join(connection.iterdump())
    connection.close()
    assert "banned" in dump
    assert "xyzzy" not in dump


async def test_a_repair_that_a_cap_has_no_room_for_is_not_made(studio: Studio) -> None:
    """The longer prompt is held anew: where it doesn't fit, the call stops, with what it paid."""
    studio.publish(TITLE.format(more=OUTPUT), "ad/title")
    studio.sim.script([{"fault": "reply.wrong_json"}])
    async with studio.kit() as kit:
        with pytest.raises(BudgetStop) as caught:
            await kit.run("ad/title", {"brand": "Barly"}, targets=ALL[:1], budget_usd=Decimal("0.000265"))
        assert [one.fault for one in caught.value.attempts] == [Fault.INVALID_OUTPUT]
        assert_books_agree(await kit.session.ledger(), studio)


async def test_a_schema_that_nothing_can_be_held_against_is_not_sent(studio: Studio) -> None:
    """It would be paid for in vain."""
    for name, schema in (
        ("a", 'type = "nonsense"'),
        ("b", 'properties = {a = {"$ref" = "#/$defs/gone"}}'),
    ):
        studio.publish(TITLE.format(more=f"[output]\n{schema}"), f"ad/{name}")
        async with studio.kit() as kit:
            with pytest.raises(TemplateError, match=r"the JSON Schema in \[output\] is invalid"):
                await kit.run(f"ad/{name}", {"brand": "Barly"})
    assert studio.asked() == 0


async def test_a_truncated_structured_reply_is_kept_once(studio: Studio) -> None:
    """It is `truncated`, paid once, and has no value."""
    studio.publish(TITLE.format(more=OUTPUT), "ad/title")
    studio.sim.script(["reply.truncated"])
    async with studio.kit() as kit:
        reply = await kit.run("ad/title", {"brand": "Barly"})
        assert (reply.status, reply.parsed, len(reply.attempts)) == (Status.TRUNCATED, None, 1)
        with pytest.raises(json.JSONDecodeError):
            json.loads(reply.text)
