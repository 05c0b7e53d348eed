"""Packing: several prompts in one request, the reply taken apart, shares that add up, sizes that pay."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from promptkit._util.shares import PARTS, WHOLE, Share, shares
from promptkit.batch.pack_size import MOST, Size, Sizes, choose_size
from promptkit.engine.pack import (
    ITEM_OUTPUT,
    PackLimits,
    can_pack,
    halves,
    item_ids,
    packed_limit,
    packed_prompt,
    packed_schema,
    unpack,
)
from promptkit.providers.prices import Band, Tariff
from promptkit.templates.reference import prompt_digest
from promptkit.types import Json, Message, Params, Prefix, Prompt, Role, TemplateRef
from promptkit.validation.schema import check_json

REF = TemplateRef("ugc/script", "2")
SYSTEM = Message(Role.SYSTEM, "You write one line.")
TEXT = st.text(max_size=60)


def prompt_of(*messages: Message, prefix: Prefix | None = None) -> Prompt:
    return Prompt(messages, prompt_digest(messages), REF, "1:sha256:ab", prefix)


def asked(text: str) -> Prompt:
    return prompt_of(SYSTEM, Message(Role.USER, text))


# ------------------------------------------------------------------------------- the request


@pytest.mark.parametrize(
    ("roles", "can"),
    [
        ([Role.SYSTEM, Role.USER], True),
        ([Role.USER], True),
        ([Role.SYSTEM, Role.SYSTEM, Role.USER], True),
        ([Role.SYSTEM], False),
        ([Role.USER, Role.SYSTEM], False),
        ([Role.USER, Role.USER], False),
        ([Role.SYSTEM, Role.USER, Role.ASSISTANT], False),
        ([Role.ASSISTANT, Role.USER], False),
        ([Role.USER, Role.ASSISTANT, Role.USER], False),
    ],
)
def test_which_prompts_can_be_packed(roles: list[Role], *, can: bool) -> None:
    """A prompt can go with others where its one user message comes last, with no turns of a conversation."""
    assert can_pack(prompt_of(*(Message(role, "x") for role in roles)), Params(), None) is can


@pytest.mark.parametrize(
    ("schema", "can"),
    [
        ({"type": "object"}, True),
        ({"$ref": "#/$defs/line", "$defs": {"line": {"type": "object"}}}, True),
        ({"properties": {"a": {"$ref": "#/definitions/b"}}, "definitions": {"b": {}}}, True),
        ({"properties": {"again": {"$ref": "#"}}}, False),
        ({"properties": {"a": {"type": "string"}, "b": {"$ref": "#/properties/a"}}}, False),
    ],
)
def test_which_schemas_can_be_packed(schema: dict[str, Json], *, can: bool) -> None:
    """A schema can be packed where its references lead to definitions, which move to the root of the packed one."""
    assert can_pack(asked("x"), Params(), schema) is can
    if can:
        whole = packed_schema(["r1"], schema)
        assert not check_json({"results": [{"id": "r1", "result": {}}]}, whole)


def test_a_stop_sequence_keeps_a_prompt_alone() -> None:
    """Where a stop sequence ends a reply, it would end that to all items."""
    assert not can_pack(asked("x"), Params(stop=("END",)), None)


@given(st.integers(0, 300))
def test_ids(count: int) -> None:
    """Ids tell items apart and come in no order; packs of one size have the same, and so the same schema."""
    ids = item_ids(count)
    assert len(set(ids)) == count
    assert ids == item_ids(count)
    assert count < 8 or sorted(ids) != list(ids)


def test_ids_grow_where_they_meet() -> None:
    """Where two digests begin alike, the ids get longer."""
    assert len(item_ids(2000)[0]) > len(item_ids(2)[0])


@given(st.lists(TEXT, min_size=1, max_size=8), st.data())
def test_the_packed_prompt(texts: list[str], data: st.DataObject) -> None:
    """Every text stands whole between marks that no text holds, in its order; what is shared stands once."""
    ids = item_ids(len(texts))
    first = packed_prompt([asked(text) for text in texts], ids)
    stolen = data.draw(st.sampled_from([first.messages[-1].content, f"</{_mark_of(first)}>", "<item id="]))
    texts = [*texts[:-1], texts[-1] + stolen]
    prompt = packed_prompt([asked(text) for text in texts], ids)
    assert prompt.messages[0] == SYSTEM
    assert [message.role for message in prompt.messages] == [Role.SYSTEM, Role.USER]
    assert prompt.digest == prompt_digest(prompt.messages)
    assert prompt == packed_prompt([asked(text) for text in texts], ids)
    mark = _mark_of(prompt)
    assert not any(mark in text for text in texts)
    _, *parts = prompt.messages[-1].content.split(f"\n<{mark} id=")
    assert parts == [f'"{name}">\n{text}\n</{mark}>' for name, text in zip(ids, texts, strict=True)]


def _mark_of(prompt: Prompt) -> str:
    return prompt.messages[-1].content.split(" id=", 1)[0].rsplit("<", 1)[1]


def test_the_packed_prompt_keeps_what_is_cached() -> None:
    """Packs of one size share what the provider caches, the messages before the last; another size has another schema."""
    prefix = Prefix((SYSTEM.content, "Brand: "), "sha256:ab")
    rows = [replace(asked(text), prefix=prefix) for text in ("Brand: a", "Brand: b")]
    packed = packed_prompt(rows, item_ids(2))
    assert packed.prefix is not None
    assert packed.prefix.texts == (SYSTEM.content,)
    third = replace(asked("Brand: c"), prefix=prefix)
    assert packed_prompt([rows[1], third], item_ids(2)).prefix == packed.prefix
    more = packed_prompt([*rows, third], item_ids(3))
    assert more.prefix != packed.prefix
    alone = [replace(prompt_of(row.messages[-1]), prefix=Prefix(("Brand: ",), "sha256:ab")) for row in rows]
    assert packed_prompt(alone, item_ids(2)).prefix is None


def test_the_packed_schema_takes_a_result_an_id() -> None:
    """The schema wants as many entries as there are items, each with an id of theirs and a result that fits."""
    ids = item_ids(2)
    line: dict[str, Json] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"line": {"$ref": "#/$defs/line"}},
        "required": ["line"],
        "$defs": {"line": {"type": "string"}},
    }
    schema = packed_schema(ids, line)

    def fits(*entries: Json) -> bool:
        return not check_json({"results": list(entries)}, schema)

    good: list[Json] = [{"id": name, "result": {"line": "x"}} for name in ids]
    assert fits(*good)
    assert not fits(good[0])
    assert not fits(good[0], {"id": "other", "result": {"line": "x"}})
    assert not fits(good[0], {"id": ids[1], "result": {"line": 1}})
    assert not check_json(
        {"results": [{"id": name, "result": "x"} for name in ids]}, packed_schema(ids, None)
    )


def test_room() -> None:
    """A pack fits where its output limits together do, and its texts beside them."""
    assert packed_limit([100, 50]) == 150 + 2 * ITEM_OUTPUT
    assert PackLimits().fits(["x" * 10**6], [10**6])
    assert PackLimits(output=packed_limit([100, 50])).fits(["a", "b"], [100, 50])
    assert not PackLimits(output=packed_limit([100, 50]) - 1).fits(["a", "b"], [100, 50])
    assert PackLimits(window=packed_limit([10]) + 2).fits(["abcd"], [10])
    assert not PackLimits(window=packed_limit([10]) + 1).fits(["abcd"], [10])


# --------------------------------------------------------------------------------- the reply

RESULT: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def reply_of(entries: Sequence[Json], indent: int | None = None) -> str:
    return json.dumps({"results": entries}, ensure_ascii=False, indent=indent)


@given(st.dictionaries(st.integers(0, 99), RESULT, min_size=1, max_size=8), st.sampled_from([None, 2]))
def test_a_whole_reply(results: dict[int, Json], indent: int | None) -> None:
    """A reply with one entry an item gives each item its result, in whatever order they come, fenced or not."""
    ids = item_ids(len(results))
    by_id = dict(zip(ids, results.values(), strict=True))
    text = reply_of([{"id": name, "result": value} for name, value in reversed(by_id.items())], indent)
    for told in (text, f"```json\n{text}\n```", f"Here you are:\n{text}\nDone."):
        found = unpack(told, ids)
        assert found.results == by_id
        assert not found.problems
    bare = json.dumps([{"id": name, "result": value} for name, value in by_id.items()])
    assert unpack(bare, ids).results == unpack(f"```\n{bare}\n```", ids).results == by_id


@given(
    st.lists(st.sampled_from(["whole", "missing", "twice"]), min_size=1, max_size=9),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
def test_items_that_came_wrong(fates: list[str], extra: int, rng: Random) -> None:
    """An item that is missing or comes twice has no result, an entry of no item is left out; the others stand."""
    ids = item_ids(len(fates))
    times = {"whole": 1, "missing": 0, "twice": 2}
    entries: list[Json] = [
        {"id": name, "result": f"text {name}"}
        for name, fate in zip(ids, fates, strict=True)
        for _ in range(times[fate])
    ]
    strays: list[Json] = [{"id": "stranger", "result": "x"}, {"id": 7, "result": "x"}, {"result": "x"}]
    entries += strays[:extra]
    rng.shuffle(entries)
    found = unpack(reply_of(entries), ids)
    fate_of = dict(zip(ids, fates, strict=True))
    assert found.results == {name: f"text {name}" for name in ids if fate_of[name] == "whole"}
    assert set(found.missing) == {name for name in ids if fate_of[name] == "missing"}
    assert set(found.repeated) == {name for name in ids if fate_of[name] == "twice"}
    assert found.extra == extra
    assert bool(found.problems) is (bool(extra) or set(fates) != {"whole"})


def test_what_is_wrong_is_told() -> None:
    """What is wrong with a reply is told by kind."""
    ids = ("a", "b", "c")
    entries: list[Json] = [{"id": "a", "result": 1}, {"id": "a", "result": 2}, {"id": "c"}, 4]
    assert unpack(reply_of(entries), ids).problems == "2 missing, 1 repeated, 2 of no item"


@given(st.lists(TEXT, min_size=1, max_size=6), st.data())
def test_a_reply_that_was_cut(texts: list[str], data: st.DataObject) -> None:
    """Wherever a reply is cut, the items that were whole before stand as they came, and only the tail is missing."""
    ids = item_ids(len(texts))
    whole = reply_of([{"id": name, "result": text} for name, text in zip(ids, texts, strict=True)])
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    found = unpack(cut, ids)
    came = len(found.results)
    assert list(found.results.items()) == list(zip(ids, texts, strict=True))[:came]
    assert found.missing == ids[came:]
    assert not found.repeated
    assert not found.extra


@example('{"results": [')
@example('{"results": [{"id": "a", "result": NaN}]}')
@example("[" * 100_000)
@given(st.text())
def test_any_text_at_all(text: str) -> None:
    """Whatever comes back, reading it ends, and makes nothing up."""
    assert unpack(text, ("a", "b")).results == {}


# ---------------------------------------------------------------------------------- once more


def test_halves() -> None:
    """What failed is asked for again in halves; one alone by itself, and nothing of nothing."""
    assert [list(map(len, halves(count))) for count in range(7)] == [
        [],
        [1],
        [1, 1],
        [2, 1],
        [2, 2],
        [3, 2],
        [3, 3],
    ]


@given(st.integers(0, 40), st.data())
def test_every_row_ends_once(count: int, data: st.DataObject) -> None:
    """Whatever items fail in whatever pack, every row ends exactly once: with its text out of a pack, or alone."""
    ended: Counter[int] = Counter()
    alone = 0
    sent = [list(range(count))] if count else []
    while sent:
        rows = sent.pop()
        if len(rows) == 1:
            ended[rows[0]] += 1
            alone += 1
            continue
        failed = sorted(data.draw(st.sets(st.sampled_from(rows)), label="failed"))
        ids = dict(zip(item_ids(len(rows)), rows, strict=True))
        entries: list[Json] = [
            {"id": name, "result": str(row)} for name, row in ids.items() if row not in failed
        ]
        found = unpack(reply_of(entries), list(ids))
        for name, text in found.results.items():
            assert text == str(ids[name])
            ended[ids[name]] += 1
        assert [ids[name] for name in found.missing] == failed
        sent += [[failed[place] for place in half] for half in halves(len(failed))]
    assert ended == Counter(range(count))
    assert alone <= count


# ------------------------------------------------------------------------------------ shares

WEIGHTS = st.lists(st.integers(0, 10**9), min_size=1, max_size=200)


@given(WEIGHTS, st.lists(st.integers(0, 9 * 10**14), max_size=5))
def test_shares_add_up(weights: list[int], amounts: list[int]) -> None:
    """The parts of any amount add up to it exactly, none is below 0."""
    parts = shares(weights)
    assert len(parts) == len(weights)
    assert parts[0].begin == WHOLE.begin
    assert parts[-1].end == WHOLE.end
    for amount in amounts:
        split = [part.of(amount) for part in parts]
        assert sum(split) == amount
        assert all(0 <= piece <= amount for piece in split)


@given(WEIGHTS, st.integers(0, 9 * 10**14))
def test_shares_follow_their_weights(weights: list[int], amount: int) -> None:
    """A part is its weight's share of the amount, to a step of the line and the rounding of a unit."""
    whole = sum(weights)
    for part, weight in zip(shares(weights), weights, strict=True):
        if whole:
            assert abs(part.of(amount) - amount * weight / whole) <= amount / PARTS + 2


def test_shares_without_weights_are_equal() -> None:
    """Where no weight is above 0, all parts are equal."""
    assert shares([0, 0]) == (Share(0, 5000), Share(5000, 10000))
    assert WHOLE.of(17) == 17


# -------------------------------------------------------------------------------------- sizes


def tariff(input_mtok: str = "1", output_mtok: str = "5", read_mtok: str = "0.1") -> Tariff:
    rates = [int(Decimal(rate) * 10**6) for rate in (input_mtok, read_mtok, output_mtok)]
    plain, read, output = rates
    return Tariff((Band(-1, plain, read, plain, plain, output, output),), 1, f"test {datetime.now(UTC).year}")


def test_a_long_shared_part_is_packed() -> None:
    """Where most of a prompt is shared, packing saves most of it, and not one row more than need be goes along."""
    size = choose_size(tariff(), Sizes(shared=3000, own=60, reply=80))
    assert 2 <= size.rows <= MOST
    assert size.saved > 0.6
    assert size.packed_pico < size.single_pico


@pytest.mark.parametrize(
    "sizes",
    [
        Sizes(shared=40, own=60, reply=80),
        Sizes(shared=1200, own=60, reply=400, cached=True),
        Sizes(shared=3000, own=9000, reply=80),
        Sizes(shared=3000, own=60, reply=3000),
        Sizes(shared=20_000, own=60, reply=60),
    ],
    ids=["short", "cached", "long rows", "long replies", "too long together"],
)
def test_what_saves_little_is_not_packed(sizes: Sizes) -> None:
    """Rows go alone where little is shared, where the cache saves that already, and where rows or replies are long."""
    assert choose_size(tariff(), sizes).rows == 1


def test_free_rows_are_not_packed() -> None:
    """Where nothing costs anything, there is nothing to save."""
    assert choose_size(tariff("0", "0", "0"), Sizes(3000, 60, 80)) == Size(1, 0.0, 0)


def test_failures_eat_the_gain() -> None:
    """Packing pays while the share of items that fail is below the share that is saved; a few items prove nothing."""
    size = Size(5, 40.0, 100)
    assert size.saved == pytest.approx(0.6)
    assert size.pays(11, 11)
    assert size.pays(100, 59)
    assert not size.pays(100, 60)
