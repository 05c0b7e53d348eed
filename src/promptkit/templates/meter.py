"""What one rendering has used up, and may still use.

Two counters bound a rendering. *Steps* count template nodes each time they are evaluated and
items each time they are walked. *Characters* count all text that is made, also in between, so
that what is alive at any moment is bounded too. Whatever could grow asks before it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from typing import Any, Final, TypeAlias, cast

from jinja2.runtime import Context as JinjaContext
from jinja2.runtime import Undefined

from promptkit.errors import RenderLimit, TemplateError
from promptkit.types import Message

from .untrusted import Untrusted, changed

MAX_STEPS: Final = 500_000
MAX_CHARACTERS: Final = 10_000_000
MAX_DEPTH: Final = 40
MAX_BITS: Final = 128

FILTER_STEPS: Final = 4
CALL_STEPS: Final = 8
CONTAINER_STEPS: Final = 4
"""What these take, measured in nodes of a template."""

METER: Final = " meter"
"""Where a context keeps its meter: no template can write a name with a space in it."""

CONTAINERS: Final = (list, tuple, dict)
_READ: Final = (str, *CONTAINERS)
Container: TypeAlias = "list[object] | tuple[object, ...] | dict[object, object]"


class Meter:
    """The counters of one rendering, and the messages it has collected."""

    __slots__ = ("characters", "depth", "in_message", "messages", "steps")

    def __init__(self) -> None:
        self.steps = MAX_STEPS
        self.characters = MAX_CHARACTERS
        self.depth = MAX_DEPTH
        self.in_message = False
        self.messages: list[Message] = []

    def step(self, count: int = 1) -> None:
        """Use up steps.

        Raises:
            RenderLimit: none are left.
        """
        self.steps -= count
        if self.steps < 0:
            raise RenderLimit(
                f"rendering takes more than {MAX_STEPS:,} steps",
                remedy="Loop over less: every item of every loop counts, in nested loops too.",
            )

    def room_for_steps(self, count: int) -> None:
        """Refuse what would take that many steps, before it runs."""
        if count > self.steps:
            self.step(count)

    def room(self, size: int) -> None:
        """Refuse what would make that many characters, before it runs.

        Raises:
            RenderLimit: too few are left.
        """
        if size > self.characters:
            raise RenderLimit(
                f"rendering makes more than {MAX_CHARACTERS:,} characters, counting text made in between",
                remedy="Shorten the values, or give the variable a max_length.",
            )

    def made(self, text: str) -> str:
        """Count text that was made."""
        self.characters -= len(text)
        if self.characters < 0:
            self.room(0)
        return text

    def concat(self, pieces: Iterable[str]) -> str:
        """Join captured output: what Jinja's own code calls for every captured block."""
        parts = pieces if isinstance(pieces, list) else list(pieces)
        size = sum(map(len, parts))
        self.characters -= size
        if self.characters < 0:
            self.room(size)
        return "".join(parts)

    def text(self, value: Any) -> str:
        """A plain value as text.

        Raises:
            TemplateError: None, a list or anything else that would print as Python.
        """
        kind = value.__class__
        if kind is str:
            return value
        if kind is int or kind is float or kind is bool:
            text = str(value)
            self.characters -= len(text)
            return text if self.characters >= 0 else self.made(text)
        if isinstance(value, Undefined):
            return str(value)  # raises, naming what is undefined
        if kind is Untrusted:
            return self.made(str(value))
        raise _unprintable(value)

    def bare(self, value: Any, by: str) -> str:
        """A plain value as text that will be changed, which untrusted text may not be.

        Raises:
            TemplateError: it is untrusted, or would print as Python.
        """
        if value.__class__ is Untrusted:
            raise changed(by)
        return self.text(value)

    def keep(self, value: Any) -> Any:
        """Count a result that was just made, whatever it is; a lazy one becomes a list."""
        kind = value.__class__
        if kind is str:
            self.made(value)
        elif kind is int:
            if value.bit_length() > MAX_BITS:
                raise RenderLimit(f"a number beyond {MAX_BITS} bits", remedy="Keep numbers small.")
        elif is_container(value):
            self.weigh(value)
        elif hasattr(value, "__next__"):
            return self.keep(self.items(value))
        return value

    def weigh(self, value: Container) -> None:
        """Walk a container that was just made: lists in lists may share members and explode."""
        pending: list[Container] = [value]
        while pending:
            top = pending.pop()
            self.step(len(top) + CONTAINER_STEPS)
            members = top.values() if isinstance(top, dict) else top
            pending.extend(cast("Container", item) for item in members if isinstance(item, CONTAINERS))

    def items(self, value: object) -> list[object]:
        """The items of anything that can be walked, as a list."""
        if isinstance(value, Sized):
            self.room_for_steps(len(value))
        if not isinstance(value, Iterable):
            raise TemplateError(
                f"{describe(value)} has no items", remedy="Only lists, text, ranges and mappings do."
            )
        found: list[object] = []
        for item in cast("Iterable[object]", value):
            self.step()
            found.append(item)
        return found

    def scan(self, value: object) -> None:
        """Count the time that reading a value from end to end takes."""
        if isinstance(value, _READ):
            self.step(len(cast("Sized", value)) >> 6)


def is_container(value: Any) -> bool:
    """Whether it is a list, a tuple or a mapping."""
    return isinstance(value, CONTAINERS)


def describe(value: object) -> str:
    """What a value is, in the words of the front matter."""
    if value is None:
        return "None"
    names: Mapping[type, str] = {
        str: "text",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        list: "a list",
        tuple: "a list",
        dict: "a mapping",
        range: "a range",
        Untrusted: "untrusted text",
    }
    return names.get(type(value), f"a {type(value).__name__}")


def _unprintable(value: object) -> TemplateError:
    if value is None:
        return TemplateError(
            "None would print as the word None",
            remedy="Test it first ({% if x is not none %}), or give the variable a default.",
        )
    return TemplateError(
        f"{describe(value)} can't be printed as it is",
        remedy="Join a list ({{ items|join(', ') }}), loop over it, or use |tojson.",
    )


class Context(JinjaContext):
    """Jinja's context with the rendering's meter at hand."""

    meter: Meter

    def __init__(
        self,
        environment: Any,
        parent: dict[str, Any],
        name: str | None,
        blocks: Any,
        globals: Any = None,  # noqa: A002 - Jinja's name
    ) -> None:
        super().__init__(environment, parent, name, blocks, globals)
        self.meter = parent[METER]
