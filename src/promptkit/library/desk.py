"""A studio's own templates: which folders may be written to, and what is checked before they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from promptkit.errors import TemplateError, TemplateNotFound
from promptkit.templates import Skeleton

from .home import Home
from .shelf import Library

Gate: TypeAlias = Callable[[Skeleton], Sequence[str]]
"""A check before a step: the problems it finds, one text each; where there is none, the step happens."""


def open_gate(_skeleton: Skeleton) -> Sequence[str]:
    """The gate that refuses nothing."""
    return ()


def refuse(what: str, problems: Sequence[str], file: str) -> None:
    """Raise what a gate found.

    Raises:
        TemplateError: there are problems; it tells all of them.
    """
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise TemplateError(f"{what}:{listed}", file=file)


@dataclass(frozen=True, slots=True)
class Desk:
    """A studio's own templates, to be worked on.

    `folders` are those of the library's that may be written to; new templates go into the first.
    """

    library: Library
    folders: Sequence[Path]

    def find(self, name: str) -> Home | None:
        """A template of any folder, or None."""
        try:
            return self.library.home(name)
        except TemplateNotFound:
            return None

    def has(self, home: Home) -> bool:
        """Whether a template is one of the studio's own."""
        return any(home.path == folder / home.name for folder in self.folders)

    def owned(self, name: str) -> Home:
        """A template of the studio's own, as it is on disk now.

        Raises:
            TemplateNotFound: there is none of that name.
            TemplateError: it is shipped, not the studio's.
        """
        home = self.library.home(name)
        if not self.has(home):
            raise TemplateError(
                f"{home.name} is shipped with promptkit and stays as it is",
                file=home.path,
                remedy=f"Bring it into your project: promptkit templates new {home.name} --from {home.name}",
            )
        return home
