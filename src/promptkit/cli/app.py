"""The commands, put together."""

from __future__ import annotations

from . import making
from .face import Commands

_COMMANDS = Commands()
making.register(_COMMANDS)

app = _COMMANDS.typer
