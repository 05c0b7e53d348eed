"""Snapshots: the text of a rendered prompt, kept beside the tests and compared line by line."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Final

from promptkit.errors import TemplateError
from promptkit.types import Prompt

FOLDER: Final = "snapshots"


_SHOWN: Final = 12


_DIFFERS: Final = (
    "it isn't what the snapshot says; if it is meant, `promptkit templates test --update` keeps it:"
)


def show(prompt: Prompt) -> str:
    """A prompt as a snapshot keeps it, as `promptkit render` prints it."""
    return "\n\n".join(f"--- {message.role} ---\n{message.content}" for message in prompt.messages) + "\n"


def difference(kept: str, now: str) -> str:
    """How a prompt differs from what was kept, the first lines of it; empty where it doesn't."""
    if kept.strip("\n") == now.strip("\n"):
        return ""
    lines = list(
        difflib.unified_diff(
            kept.strip("\n").split("\n"), now.strip("\n").split("\n"), "snapshot", "now", n=1, lineterm=""
        )
    )[2:]
    more = len(lines) - _SHOWN
    shown = lines[:_SHOWN] + ([f"… {more} more lines"] if more > 0 else [])
    return "\n".join([_DIFFERS, *shown])


def file_of(tests: Path, slug: str) -> Path:
    """Where a test's snapshot is kept."""
    return tests.parent / FOLDER / f"{slug}.txt"


def read(path: Path) -> str | None:
    """A snapshot that was kept, None where there is none.

    Raises:
        TemplateError: it can't be read.
    """
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as cause:
        raise TemplateError(f"the snapshot can't be read: {cause}", file=path) from None


def rewrite(tests: Path, kept: str, now: str) -> bool:
    """Put a new text in the place of one that stands in tests.toml itself.

    Returns:
        Whether it was done: the old one must stand between triple quotes, as it is and only once,
        and the new one must need no escapes.

    Raises:
        TemplateError: the file can't be written.
    """
    text = read(tests) or ""
    places = [(quotes, f"{quotes}\n{kept}{quotes}") for quotes in ('"""', "'''")]
    found = [(quotes, place) for quotes, place in places if text.count(place) == 1]
    if len(found) != 1 or "\\" in now or '"""' in now or "'''" in now:
        return False
    ((quotes, place),) = found
    write(tests, text.replace(place, f"{quotes}\n{now}{quotes}"))
    return True


def write(path: Path, text: str) -> None:
    """Keep a snapshot.

    Raises:
        TemplateError: it can't be written.
    """
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8", newline="\n")
    except OSError as cause:
        raise TemplateError(f"the snapshot can't be written: {cause.strerror}", file=path) from None
