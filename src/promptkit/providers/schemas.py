"""JSON Schemas as each wire format's structured output accepts them.

A bound that a format has no word for goes into the description, where the model may follow
it; every reply is validated against the whole schema. Sources, 2026-11: the schema
transforms of the openai and anthropic SDKs, the reference of Gemini's `responseJsonSchema`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from promptkit._util.text import shortened
from promptkit.types import Json
from promptkit.validation.schema import follow, references

Node = dict[str, Json]


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


_SILENT = _words(
    "$schema $id $anchor $comment $defs definitions default examples deprecated readOnly writeOnly"
)
"""Words that don't restrict the value."""

_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Dialect:
    """The part of JSON Schema that a wire format's structured output accepts.

    Attributes:
        words: the words of a node that it accepts besides its structure.
        formats: the formats of strings that it knows, None for any.
        closed: an object has only the fields that are named.
        complete: every field is required; an optional one may be null instead.
        type_lists: `type` may be a list.
        literals: it has `const`, and `enum` of anything but text and numbers.
        at_most_one_item: it accepts only 0 and 1 for `minItems`.
        object_root: the whole reply is an object.
        recursive: a reference may lead back to itself.
    """

    words: frozenset[str]
    formats: frozenset[str] | None = None
    closed: bool = False
    complete: bool = False
    type_lists: bool = True
    literals: bool = True
    at_most_one_item: bool = False
    object_root: bool = False
    recursive: bool = True


_OPENAI = Dialect(
    words=_words(
        "pattern format multipleOf maximum exclusiveMaximum minimum exclusiveMinimum minItems maxItems"
    ),
    formats=_words("date-time time date duration email hostname ipv4 ipv6 uuid"),
    closed=True,
    complete=True,
    object_root=True,
)

DIALECTS: Mapping[str, Dialect] = {
    "openai": _OPENAI,
    "local": Dialect(_OPENAI.words, _OPENAI.formats, closed=True, complete=True),
    "anthropic": Dialect(
        words=frozenset({"format", "minItems"}),
        formats=_words("date-time time date duration email hostname uri ipv4 ipv6 uuid"),
        closed=True,
        type_lists=False,
        at_most_one_item=True,
        object_root=True,
        recursive=False,
    ),
    "gemini": Dialect(
        words=_words("format minItems maxItems minimum maximum prefixItems"),
        literals=False,
    ),
}
"""By the adapter's family."""


@dataclass(frozen=True, slots=True)
class Adapted:
    """A schema as it is sent. `whole`: every part of its structure could be expressed."""

    schema: Mapping[str, Json]
    whole: bool


def adapted(schema: Mapping[str, Json], family: str) -> Adapted:
    """Convert a schema to the dialect of a wire format.

    Args:
        schema: as the template has it.
        family: a key of `DIALECTS`.
    """
    return _adapted(json.dumps(schema, ensure_ascii=False), family)


@lru_cache(maxsize=256)
def _adapted(plain: str, family: str) -> Adapted:
    root: Node = json.loads(plain)
    writer = _Writer(root, DIALECTS[family])
    return Adapted(writer.root(), writer.whole)


def not_taken(schema: Mapping[str, Json], family: str) -> Iterator[str]:
    """Describe what a wire format's structured output can't express in any way.

    Args:
        schema: the whole schema.
        family: a key of `DIALECTS`.
    """
    dialect = DIALECTS[family]
    kind = _without_ref(schema).get("type")
    if dialect.object_root and kind != "object":
        yield f'the root of the schema must have type = "object", not {kind!r}'
    for ref in dict.fromkeys(references(schema)):
        if not ref.startswith("#"):
            yield f"the reference {ref!r} leads outside of the schema"
        elif not dialect.recursive and _is_circular(schema, ref):
            yield f"the reference {ref!r} leads back to itself"


def _without_ref(schema: Mapping[str, Json]) -> Mapping[str, Json]:
    """Follow a root that is only a reference."""
    ref = schema.get("$ref")
    return (follow(ref, schema) if isinstance(ref, str) and ref != "#" else None) or schema


def _is_circular(schema: Mapping[str, Json], ref: str) -> bool:
    """Return whether the target of a reference leads back to the same reference."""
    seen: set[str] = set()
    pending = [ref]
    while pending:
        target = pending.pop()
        # The root contains every reference, so it is only looked for by name.
        inner = set(references({} if target == "#" else follow(target, schema) or {}))
        if ref in inner:
            return True
        pending += inner - seen
        seen |= inner
    return ref == "#"


class _Writer:
    """A writer of the nodes of one schema in a dialect."""

    def __init__(self, root: Node, dialect: Dialect) -> None:
        self._root = root
        self._dialect = dialect
        self.whole = True

    def root(self) -> Node:
        """Convert the whole schema."""
        top: Node = {**self._root, **_without_ref(self._root)}
        top.pop("$ref", None)
        written = self.node(top)
        kept = {
            name: self.node(each)
            for key in ("$defs", "definitions")
            for name, each in _members(self._root, key).items()
        }
        if self._dialect.object_root and written.get("type") != "object":
            self.whole = False
        return {**written, "$defs": dict(kept)} if kept else written

    def node(self, node: Json) -> Node:
        """Convert a part of it."""
        if not isinstance(node, dict):
            return self._anything()
        ref = node.get("$ref")
        if isinstance(ref, str):
            return self._reference(ref, node)
        node = self._merged(node)
        kind = node.get("type")
        if isinstance(kind, list) and not self._dialect.type_lists:
            node = {**_annotations(node), "anyOf": [{**_constraints(node), "type": name} for name in kind]}
            kind = None
        written: Node = {}
        left: Node = {key: value for key, value in node.items() if key not in _SILENT}
        choice = left.pop("anyOf", None) or left.pop("oneOf", None)
        if isinstance(choice, list):
            written["anyOf"] = [self.node(item) for item in choice]
        self._take_literals(left, written)
        if kind is not None and not (written.keys() & {"anyOf"}):
            written["type"] = left["type"]
        left.pop("type", None)
        if kind == "object" or "properties" in left:
            self._take_object(left, written)
        if kind == "array" or "items" in left:
            self._take_array(left, written)
        if not written:
            written = self._anything()
        return self._noted(left, written)

    def _anything(self) -> Node:
        """Convert a node that allows any value."""
        if self._dialect.closed:
            self.whole = False
        return {}

    def _reference(self, ref: str, node: Node) -> Node:
        """Convert a reference, which must be alone in its node: other words go around it."""
        name = ref.removeprefix("#/$defs/").removeprefix("#/definitions/")
        if "/" in name:  # into the middle of a definition: repeated here
            self.whole = self.whole and not _is_circular(self._root, ref)
            target = follow(ref, self._root)
            if target is None or _is_circular(self._root, ref):
                return {"$ref": ref}
            return self.node({**target, **{key: item for key, item in node.items() if key != "$ref"}})
        written: Node = {"$ref": ref if name == ref else f"#/$defs/{name}"}
        beside: Node = {key: item for key, item in node.items() if key not in _SILENT and key != "$ref"}
        return self._noted(beside, {"anyOf": [written]}) if beside else written

    def _merged(self, node: Node) -> Node:
        """Merge a node's `allOf` into the node itself."""
        parts = node.get("allOf")
        if not isinstance(parts, list):
            return node
        merged: Node = {key: item for key, item in node.items() if key != "allOf"}
        for part in parts:
            ref = part.get("$ref") if isinstance(part, dict) else None
            if isinstance(ref, str) and _is_circular(self._root, ref):
                self.whole = False
                continue
            target = follow(ref, self._root) if isinstance(ref, str) else part
            merged = _joined(merged, self._merged(dict(target)) if isinstance(target, Mapping) else {})
        return merged

    def _take_literals(self, left: Node, written: Node) -> None:
        values = left.pop("enum", None)
        if "const" in left:
            values = [left.pop("const")]
        if not isinstance(values, list) or "anyOf" in written:
            return
        plain = all(isinstance(item, str | int | float) and not isinstance(item, bool) for item in values)
        if not self._dialect.literals and not plain:
            left["enum"] = values
        elif len(values) == 1 and self._dialect.literals:
            written["const"] = values[0]
        else:
            written["enum"] = values
        kinds: list[Json] = [*dict.fromkeys(_KINDS.get(type(item), "object") for item in values)]
        if "type" not in left and (self._dialect.type_lists or len(kinds) == 1):
            written["type"] = kinds[0] if len(kinds) == 1 else kinds

    def _take_object(self, left: Node, written: Node) -> None:
        fields = _members(left, "properties")
        left.pop("properties", None)
        required = left.pop("required", [])
        needed = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
        explicit = "additionalProperties" in left
        others = left.pop("additionalProperties", True)
        written.setdefault("type", "object")
        written["properties"] = {name: self._field(each, name in needed) for name, each in fields.items()}
        if not self._dialect.closed:
            written["additionalProperties"] = others if isinstance(others, bool) else self.node(others)
            written["required"] = list(needed)
            return
        if isinstance(others, dict) or (others is True and (explicit or not fields)):
            self.whole = False
        written["additionalProperties"] = False
        names = fields if self._dialect.complete else [name for name in needed if name in fields]
        written["required"] = list(names)

    def _field(self, node: Json, needed: bool) -> Json:  # noqa: FBT001 - whether it is required
        written = self.node(node)
        if needed or not self._dialect.complete or _takes_null(written):
            return written
        return {"anyOf": [written, {"type": "null"}]}

    def _take_array(self, left: Node, written: Node) -> None:
        written.setdefault("type", "array")
        if "items" in left:
            written["items"] = self.node(left.pop("items"))
        elif self._dialect.closed:
            self._anything()
        before = left.get("prefixItems")
        if isinstance(before, list) and "prefixItems" in self._dialect.words:
            written["prefixItems"] = [self.node(item) for item in before]
            del left["prefixItems"]

    def _noted(self, left: Node, written: Node) -> Node:
        """Add the words that the dialect accepts; put the others into the description."""
        notes: list[str] = []
        for word in (*_ANNOTATIONS, *sorted(left.keys() - {*_ANNOTATIONS})):
            value = left.get(word)
            if word in _ANNOTATIONS and isinstance(value, str) and value:
                written[word] = value
            elif word in left and word not in _ANNOTATIONS:
                if self._takes(word, value):
                    written[word] = value
                else:
                    notes.append(f"{word}: {json.dumps(value, ensure_ascii=False)}")
        if notes:
            note = shortened(f"{{{', '.join(notes)}}}", _SHOWN)
            description = written.get("description")
            written["description"] = f"{description}\n\n{note}" if description else note
        return written

    def _takes(self, word: str, value: Json) -> bool:
        dialect = self._dialect
        if word == "format":
            return dialect.formats is None or value in dialect.formats
        if word == "minItems" and dialect.at_most_one_item:
            return value in (0, 1)
        return word in dialect.words


_ANNOTATIONS = ("title", "description")

_KINDS: Mapping[type, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
    list: "array",
}


def _annotations(node: Node) -> Node:
    return {key: node[key] for key in _ANNOTATIONS if key in node}


def _constraints(node: Node) -> Node:
    return {key: item for key, item in node.items() if key not in _ANNOTATIONS}


def _members(node: Node, key: str) -> Node:
    value = node.get(key)
    return value if isinstance(value, dict) else {}


def _joined(node: Node, other: Node) -> Node:
    """Join two nodes: the fields and required names of both; else the first node's value wins."""
    joined = {**other, **node}
    for key in ("properties", "$defs"):
        if key in node and key in other:
            joined[key] = {**_members(other, key), **_members(node, key)}
    required = [*_names(node), *_names(other)]
    if required:
        joined["required"] = list(dict.fromkeys(required))
    return joined


def _names(node: Node) -> list[Json]:
    value = node.get("required")
    return value if isinstance(value, list) else []


def _takes_null(node: Node) -> bool:
    kind = node.get("type")
    if kind == "null" or (isinstance(kind, list) and "null" in kind):
        return True
    choices = node.get("anyOf")
    return isinstance(choices, list) and any(
        isinstance(choice, dict) and _takes_null(choice) for choice in choices
    )
