"""Template folders: which versions there are, whether their seals hold, and the skeletons in them.

`Library` reads; a `Desk` is what `begin`, `publish`, `promote` and `rollback` write to.
"""

from .beginning import Begun, begin
from .bytecode import Bytecode
from .desk import Desk, Gate, open_gate
from .labels import Moved, Signature, promote, rollback
from .publishing import Published, publish
from .shelf import Library, TemplateEntry
from .versions import LabelMove, Versions

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
