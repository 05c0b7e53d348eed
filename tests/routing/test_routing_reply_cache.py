"""The reply cache's decisions: which calls are the same, how old a reply may be, which one serves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from promptkit.errors import UsageError
from promptkit.routing.reply_cache import CachedReply, choose, key_of, read_age
from promptkit.types import Call, Message, Params, Prompt, Role, Target, TemplateRef

CALL = Call(
    Prompt((Message(Role.USER, "x"),), "sha256:0", TemplateRef("a/b", "1"), "1:sha256:0"),
    Params(max_output_tokens=9),
)
LUNA, HAIKU = Target("openai", "luna"), Target("anthropic", "haiku")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("30m", 1800), ("12 H", 43_200), ("7d", 604_800), ("2w", 1_209_600), ("0", 0)],
)
def test_an_age_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    """In seconds; 0 is an age that no reply has."""
    assert read_age(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "7 days", "-1d", "1.5h", "7d12h"])
def test_what_is_no_age_is_refused(text: str) -> None:
    """The error says what one looks like."""
    with pytest.raises(UsageError, match="7d, 12h, 30m"):
        read_age(text)


def test_all_that_shapes_a_reply_is_in_the_key() -> None:
    """Prompt, every parameter, schema and tier; not how it is sent, nor by which template."""
    others = [
        replace(CALL, prompt=replace(CALL.prompt, digest="sha256:1")),
        replace(CALL, params=Params(max_output_tokens=10)),
        replace(CALL, params=Params(max_output_tokens=9, temperature=0.5)),
        replace(CALL, params=Params(max_output_tokens=9, stop=("x",))),
        replace(CALL, schema={"type": "object"}),
        replace(CALL, tier="flex"),
    ]
    keys = {key_of(call) for call in (CALL, *others)}
    assert len(keys) == len(others) + 1
    assert all(0 <= key < 2**63 for key in keys)
    same = replace(CALL, stream=True, prompt=replace(CALL.prompt, template_digest="1:sha256:9"))
    assert key_of(same) == key_of(CALL)


def test_the_first_target_that_has_a_reply_serves_its_newest() -> None:
    """What no target of the plan gave serves nobody."""
    one, two, three = (
        CachedReply(1, LUNA, "old", None, 5),
        CachedReply(2, LUNA, "new", None, 5),
        CachedReply(3, HAIKU, "other", None, None),
    )
    newest_first = (three, two, one)
    assert choose(newest_first, [LUNA, HAIKU]) is two
    assert choose(newest_first, [HAIKU, LUNA]) is three
    assert choose(newest_first, [Target("gemini", "flash"), HAIKU]) is three
    assert choose(newest_first, [Target("gemini", "flash")]) is None
    assert choose((), [LUNA]) is None
