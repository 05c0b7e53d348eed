"""Untrusted text (`untrusted = true`): printed in a block, refused if it imitates control markers.

The delimiters contain a digest of the text, so the same text is always printed the same way. A
delimiter that occurs in the text is not used.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from itertools import count
from typing import NoReturn, cast

from promptkit.errors import TemplateError
from promptkit.types import Kind, Value, Variable

TAG = "untrusted"
_DIGITS = 16
_CONTROL = re.compile(
    r"<[ \t]{0,4}\|[^<>|]{1,40}\|[ \t]{0,4}>"  # <|im_start|>, <|eot_id|>
    r"|<<[ \t]{0,4}/?SYS[ \t]{0,4}>>"
    r"|\[[ \t]{0,4}/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS)[ \t]{0,4}\]"
    r"|</?(?:start_of_turn|end_of_turn|start_header_id|end_header_id|bos|eos)>"
    rf"|<[ \t]{{0,4}}/?[ \t]{{0,4}}{TAG}\b[^<>]{{0,60}}>?",
    re.IGNORECASE,
)
"""Marks that chat formats of models are made of, and this module's own delimiters."""


_ROLE = re.compile(
    r"^[ \t>#*\-_\[(]{0,20}(?P<mark>(?:system|developer|assistant|human|user|ai)[\])*_ \t]{0,4}:"
    r"|(?:(?:new|additional|updated) )?(?:system )?(?:instruction|prompt)s?[ \t]{0,4}:)"
    r"|^#{1,6}[ \t]{0,4}(?:system|instructions?|response)\b",
    re.IGNORECASE | re.MULTILINE,
)


_ORDER = re.compile(
    r"\b(?:ignore|disregard|forget|override)\s{1,4}(?:(?:all|any|the|your|of|my|these|those)\s{1,4}){0,4}"
    r"(?:previous|prior|above|earlier|preceding|foregoing|system|your|instructions?)\b",
    re.IGNORECASE,
)


def imitation(text: str) -> str:
    """Return a control marker that a text imitates, as written; empty if there is none. Such a text is refused."""
    marker = _CONTROL.search(_plain(text))
    return marker[0] if marker else ""


def suspicion(text: str) -> str:
    """Return what looks like a role or an instruction; empty if nothing does. Honest texts may contain it."""
    plain = _plain(text)
    if role := _ROLE.search(plain):
        return (role["mark"] or role[0]).strip()
    order = _ORDER.search(plain)
    return order[0] if order else ""


def _plain(text: str) -> str:
    """Return a text as it reads: look-alike forms as plain letters, without invisible characters."""
    if text.isascii():
        return text
    folded = unicodedata.normalize("NFKC", text)
    return "".join(char for char in folded if unicodedata.category(char) != "Cf")


def block(text: str) -> str:
    """Return a text between its delimiters, each on a line of its own."""
    name = name_for(text)
    return f"<{name}>\n{text}\n</{name}>"


def name_for(text: str, *, digits: int = _DIGITS) -> str:
    """Return the first name made of the text's digest that does not occur in the text."""
    raw, folded = text.encode("utf-8", "surrogatepass"), text.lower()
    digests = (hashlib.sha256(b"%d\n%b" % (number, raw)).hexdigest()[:digits] for number in count())
    return f"{TAG}-{next(digest for digest in digests if digest not in folded)}"


class Untrusted:
    """A text from outside within a template: it prints as its block and can't be taken apart.

    It may be tested, compared, measured and printed. Trimming and truncating give such a text again.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return block(self.text)

    def __bool__(self) -> bool:
        return bool(self.text)

    def __len__(self) -> int:
        return len(self.text)

    def __contains__(self, part: object) -> bool:
        return isinstance(part, str) and part in self.text

    def __eq__(self, other: object) -> bool:
        return self.text == (other.text if isinstance(other, Untrusted) else other)

    def __hash__(self) -> int:
        return hash(self.text)

    def __iter__(self) -> NoReturn:
        raise changed("a loop")


def changed(by: str) -> TemplateError:
    """Return the error of an operation that would take untrusted text out of its block."""
    return TemplateError(
        f"untrusted text can't be changed by {by}: it would come out of its block",
        remedy="Print it as it is ({{ x }}); |trim, |truncate, |default, |length and tests do work.",
    )


def is_marked(variable: Variable) -> bool:
    """Return whether a variable is untrusted, or contains one that is."""
    inner = [*variable.fields.values(), *([] if variable.items is None else [variable.items])]
    return variable.untrusted or any(map(is_marked, inner))


def leaves(variable: Variable, value: Value, at: str = "") -> list[tuple[str, str]]:
    """Return the untrusted texts of a value, each with its path."""
    if variable.untrusted:
        return [(at, cast("str", value))]
    if variable.kind is Kind.OBJECT:
        members = cast("dict[str, Value]", value)
        return [
            leaf
            for name, member in members.items()
            for leaf in leaves(variable.fields[name], member, f"{at}.{name}")
        ]
    if variable.items is not None:
        items = cast("list[Value]", value)
        return [
            leaf
            for index, item in enumerate(items)
            for leaf in leaves(variable.items, item, f"{at}[{index}]")
        ]
    return []
