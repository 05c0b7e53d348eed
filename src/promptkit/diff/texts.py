"""How texts differ, line by line, message by message."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from promptkit.templates import Skeleton, Token, places, read_source
from promptkit.types import Message

FRAME: Final = "around the messages"


@dataclass(frozen=True, slots=True)
class TextDiff:
    """A text that changed: what it is, and its lines as in `diff -u`, without the file names.

    A text that is new or gone has all its lines as added or removed.
    """

    title: str
    lines: tuple[str, ...]


def compare(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[TextDiff, ...]:
    """The texts that differ, by title; in the order of the new side, then what is gone."""
    titles = dict.fromkeys((*new, *old))
    pairs = ((title, old.get(title), new.get(title)) for title in titles)
    return tuple(TextDiff(title, unified(one, two)) for title, one, two in pairs if one != two)


def unified(old: str | None, new: str | None) -> tuple[str, ...]:
    """The lines of `diff -u`; None is a text that isn't there."""
    before, after = ([] if text is None else text.split("\n") for text in (old, new))
    return tuple(difflib.unified_diff(before, after, lineterm="", n=3))[2:]


def rendered(messages: Iterable[Message]) -> dict[str, str]:
    """Messages by what they are called: `system message`, `user message 2`."""
    return _titled((message.role.value, message.content) for message in messages)


def sources(skeleton: Skeleton) -> dict[str, str]:
    """The parts of a skeleton's source: each message, what stands around them, each include.

    An include is called by its name without its version, so that two versions of it meet.
    """
    own, *included = skeleton.sources()
    inside, frame = _split(_body(own.text))
    found = _titled(inside)
    found[FRAME if inside else "text"] = frame
    for part in included:
        title = f"include {part.ref.partition('@')[0]}"
        found[f"include {part.ref}" if title in found else title] = _body(part.text)
    return found


def _titled(texts: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Each text under its role; the second of a role gets a number."""
    count = Counter[str]()
    found: dict[str, str] = {}
    for role, text in texts:
        count[role] += 1
        found[f"{role} message" + (f" {count[role]}" if count[role] > 1 else "")] = text
    return found


def _body(text: str) -> str:
    """A source without its front matter, which is told key by key."""
    return read_source(text, file="").body


def _split(body: str) -> tuple[list[tuple[str, str]], str]:
    """The text inside each message block with its role, and the body with each of them left out."""
    inside: list[tuple[str, str]] = []
    frame: list[str] = []
    end = 0
    for role, start, stop in _messages(body):
        inside.append((role, body[start:stop].strip("\n")))
        frame += (body[end:start], "…")
        end = stop
    return inside, "".join((*frame, body[end:]))


def _messages(body: str) -> Iterator[tuple[str, int, int]]:
    """The role of each message block, and where its text begins and ends."""
    tokens = list(places(body))
    for at, token in enumerate(tokens):
        if token.kind == "block_begin" and tokens[at + 1].text == "message":
            opened = next(i for i in range(at, len(tokens)) if tokens[i].kind == "block_end")
            closing = next(i for i in range(opened, len(tokens)) if _closes(tokens, i))
            role = "".join(each.text[1:-1] for each in tokens[at:opened] if each.kind == "string")
            yield role, tokens[opened].end, tokens[closing].start


def _closes(tokens: list[Token], at: int) -> bool:
    return tokens[at].kind == "block_begin" and tokens[at + 1].text == "endmessage"
