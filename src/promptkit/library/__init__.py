"""Template folders: which versions there are, whether their seals hold, and the skeletons in them.

`Library` reads; a `Desk` is what `begin`, `publish`, `promote` and `rollback` write to. What
writes is loaded when it is first named: making texts never needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from .bytecode import Bytecode
from .listing import TemplateEntry
from .shelf import Library
from .versions import LabelMove, Versions

if TYPE_CHECKING:
    from .beginning import Begun, begin
    from .desk import Desk, Gate, open_gate
    from .labels import Moved, Signature, promote, rollback
    from .publishing import Published, publish

__all__ = [
    "Begun",
    "Bytecode",
    "Desk",
    "Gate",
    "LabelMove",
    "Library",
    "Moved",
    "Published",
    "Signature",
    "TemplateEntry",
    "Versions",
    "begin",
    "open_gate",
    "promote",
    "publish",
    "rollback",
]

_WRITING: Final = {
    "Begun": ".beginning",
    "begin": ".beginning",
    "Desk": ".desk",
    "Gate": ".desk",
    "open_gate": ".desk",
    "Moved": ".labels",
    "Signature": ".labels",
    "promote": ".labels",
    "rollback": ".labels",
    "Published": ".publishing",
    "publish": ".publishing",
}


def __getattr__(name: str) -> Any:
    if name not in _WRITING:
        raise AttributeError(name)
    return getattr(import_module(_WRITING[name], __name__), name)
