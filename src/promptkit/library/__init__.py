"""Template folders: which versions there are, whether their seals hold, and the skeletons in them."""

from .bytecode import Bytecode
from .shelf import Library, TemplateEntry
from .versions import LabelMove, Versions

__all__ = ["Bytecode", "LabelMove", "Library", "TemplateEntry", "Versions"]
