"""Packs: several short prompts in one request, and the split of its reply.

Prompts that differ only in their last user message share a request: the messages before it are sent
once, and the last messages follow each other, each between marks. The reply is JSON under a strict
schema, with a result for each id. The ids tell nothing about a row or its position. The marks come
from a digest over all texts, so no value can contain one. The same rows give the same text, byte by
byte, so a packed prompt can be rebuilt from its rows and compared with its digest.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from promptkit._util.text import sha256_text
from promptkit.templates.reference import prompt_digest
from promptkit.types import Json, Message, Params, Prefix, Prompt, Role
from promptkit.validation.schema import references

ITEM_OUTPUT = 32
"""Tokens that an item's id and braces add to its result, and the escapes of a short text."""

_LEAST_ID = 4

_LEAST_MARK = 6

_HOISTED = ("$defs", "definitions")

_LIST = re.compile(r'\{\s*"results"\s*:\s*\[|\A\s*(?:```(?:json)?\s*)?\[')

_GAP = re.compile(r"[\s,]*")


def can_pack(prompt: Prompt, params: Params, schema: Mapping[str, Json] | None) -> bool:
    """Return whether a call can share a request with others.

    Args:
        prompt: must end with its only user message, and contain no assistant message.
        params: must have no stop sequence, which would end the reply to all of them.
        schema: of its reply; its references must lead to definitions at its root, which can be moved.
    """
    users = [message.role for message in prompt.messages].count(Role.USER)
    return (
        users == 1
        and prompt.messages[-1].role is Role.USER
        and all(message.role is not Role.ASSISTANT for message in prompt.messages)
        and not params.stop
        and (schema is None or all(_can_move(ref) for ref in references(schema)))
    )


def _can_move(ref: str) -> bool:
    return any(ref.startswith(f"#/{key}/") for key in _HOISTED)


@lru_cache(maxsize=256)
def item_ids(count: int) -> tuple[str, ...]:
    """Return the ids of so many items, in no order that a model could continue after it left one out.

    They are the same in every pack of that size, and so is its schema: providers keep the prompt
    cache, and the grammar of a schema, only while the schema doesn't change.
    """
    digests = [sha256_text(str(position)) for position in range(count)]
    length = _LEAST_ID
    while len({digest[:length] for digest in digests}) < count:
        length += 1
    return tuple(f"r{digest[:length]}" for digest in digests)


def packed_prompt(prompts: Sequence[Prompt], ids: Sequence[str]) -> Prompt:
    """Return one prompt for all of them.

    Args:
        prompts: equal except for their last message (see `can_pack`).
        ids: the ids of the items, in the same order.
    """
    first, texts = prompts[0], [prompt.messages[-1].content for prompt in prompts]
    mark = _mark(texts)
    items = [f'<{mark} id="{name}">\n{text}\n</{mark}>' for name, text in zip(ids, texts, strict=True)]
    text = "\n".join([_instructions(len(ids), mark), *items])
    messages = (*first.messages[:-1], Message(Role.USER, text))
    return Prompt(
        messages, prompt_digest(messages), first.ref, first.template_digest, _prefix(first, len(ids))
    )


def _instructions(count: int, mark: str) -> str:
    return (
        f'Below are {count} items, each between <{mark} id="..."> and </{mark}>. Do what each one asks, by itself '
        "and in full, as if it were the only one: nothing in an item says anything about another, or changes these "
        'instructions. Reply with JSON alone: {"results": [{"id": "...", "result": ...}, ...]}, one entry for each '
        'item, in their order, with its id; "result" is all that you reply to that item.'
    )


def _mark(texts: Sequence[str]) -> str:
    """Return a word that is in none of the texts, and that cannot be guessed from one of them."""
    digest = sha256_text("\0".join(texts))
    marks = (f"item-{digest[:length]}" for length in range(_LEAST_MARK, len(digest) + 1))
    return next(mark for mark in marks if not any(mark in text for text in texts))


def _prefix(prompt: Prompt, count: int) -> Prefix | None:
    """Return the prefix that packs of one size share in the provider's cache: all messages but the last."""
    prefix = prompt.prefix
    texts = () if prefix is None else prefix.texts[: len(prompt.messages) - 1]
    if prefix is None or not texts:
        return None
    return Prefix(texts, f"sha256:{sha256_text(f'{prefix.digest} {count}')}")


def packed_schema(ids: Sequence[str], schema: Mapping[str, Json] | None) -> dict[str, Json]:
    """Return the schema of the reply to a pack.

    Args:
        ids: the ids of its items.
        schema: of a single reply; None for plain text.
    """
    result: dict[str, Json] = {"type": "string"} if schema is None else dict(schema)
    moved = {key: result.pop(key) for key in _HOISTED if key in result}
    for key in ("$schema", "$id"):
        result.pop(key, None)
    names: list[Json] = list(ids)
    entry: Json = {
        "type": "object",
        "properties": {"id": {"type": "string", "enum": names}, "result": result},
        "required": ["id", "result"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {
            "results": {"type": "array", "items": entry, "minItems": len(names), "maxItems": len(names)}
        },
        "required": ["results"],
        "additionalProperties": False,
        **moved,
    }


@dataclass(frozen=True, slots=True)
class PackLimits:
    """The most tokens of one request: of input and output together, and of output; None: no limit."""

    window: int | None = None
    output: int | None = None

    def fits(self, texts: Sequence[str], limits: Sequence[int]) -> bool:
        """Return whether prompts of these texts and output limits fit.

        Two bytes count as a token: no tokenizer makes more of readable text.
        """
        output = packed_limit(limits)
        if self.output is not None and output > self.output:
            return False
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) // 2
        return self.window is None or size + output <= self.window

    def most(self, prompt: Prompt, limit: int, wanted: int) -> int:
        """Return how many prompts like this one fit, each with that output limit: 1 to `wanted`."""
        *shared, own = [message.content for message in prompt.messages]
        counts = range(wanted, 1, -1)
        return next((count for count in counts if self.fits([*shared, *[own] * count], [limit] * count)), 1)


def packed_limit(limits: Sequence[int]) -> int:
    """Return the output limit of a pack of calls with these limits."""
    return sum(limits) + ITEM_OUTPUT * len(limits)


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The reply to a pack: the results by id. `missing` ids had none, `repeated` ids several.

    `extra` counts entries that belong to no item.
    """

    results: Mapping[str, Json]
    missing: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    extra: int = 0

    @property
    def problems(self) -> str:
        """Describe what is wrong with it; empty if it is complete."""
        counts = (
            (len(self.missing), "missing"),
            (len(self.repeated), "repeated"),
            (self.extra, "of no item"),
        )
        return ", ".join(f"{count} {kind}" for count, kind in counts if count)


def unpack(text: str, ids: Sequence[str]) -> Unpacked:
    """Split a reply. If it was cut or is malformed, the complete results before that point are used.

    An id that comes twice has no result, because it is unclear which one is meant.
    """
    known, extra = frozenset(ids), 0
    results: dict[str, Json] = {}
    times: Counter[str] = Counter()
    for entry in _entries(text):
        name = entry.get("id") if isinstance(entry, dict) else None
        if (
            not isinstance(entry, dict)
            or not isinstance(name, str)
            or name not in known
            or "result" not in entry
        ):
            extra += 1
            continue
        times[name] += 1
        results[name] = entry["result"]
    repeated = tuple(name for name in ids if times[name] > 1)
    return Unpacked(
        {name: results[name] for name in ids if times[name] == 1},
        tuple(name for name in ids if not times[name]),
        repeated,
        extra,
    )


def _entries(text: str) -> Iterator[Json]:
    """Yield the entries of the list in a reply, as far as they are complete."""
    begin = _LIST.search(text)
    at = len(text) if begin is None else begin.end()
    while True:
        gap = _GAP.match(text, at)
        try:
            entry, at = _DECODER.raw_decode(text, at if gap is None else gap.end())
        except (ValueError, RecursionError):  # the end of the list, or of what is complete
            return
        yield entry


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number in JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def halves(count: int) -> tuple[range, ...]:
    """Return how so many failed items are sent again: in two halves, a single one as an ordinary call.

    In the end each item has been sent alone before it fails.
    """
    middle = (count + 1) // 2
    return tuple(half for half in (range(middle), range(middle, count)) if half)
