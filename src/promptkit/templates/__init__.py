"""Skeletons: references, front matter, digests and rendering. Pure: no disk, clock, network or chance.

A source is read (`read_source`), compiled (`compile_source`), joined with what its includes
mean (`Part.join`) and wrapped as a `Skeleton`, which binds variables and renders.
"""

from .check import Findings, Place, check
from .compiler import Compiled, body_key, compile_source
from .digests import epoch_of, normalise, prompt_digest, template_digest
from .epoch import EPOCH
from .pinning import pin
from .places import Token, places
from .reference import DRAFT, HASH, is_pinned, parse_ref, version_of
from .schema import variables_schema
from .skeleton import Part, Skeleton, StoredSource
from .source import Source, read_source
from .syntax import Lexeme, lexemes_of
from .variables import expected

__all__ = [
    "DRAFT",
    "EPOCH",
    "HASH",
    "Compiled",
    "Findings",
    "Lexeme",
    "Part",
    "Place",
    "Skeleton",
    "Source",
    "StoredSource",
    "Token",
    "body_key",
    "check",
    "compile_source",
    "epoch_of",
    "expected",
    "is_pinned",
    "lexemes_of",
    "normalise",
    "parse_ref",
    "pin",
    "places",
    "prompt_digest",
    "read_source",
    "template_digest",
    "variables_schema",
    "version_of",
]
