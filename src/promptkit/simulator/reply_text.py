"""The text of simulated replies: readable prose, or JSON that matches a schema.

Everything is a pure function of the seed and the prompt, so the order of requests changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from math import ceil, floor
from random import Random
from typing import Any, Final, cast

from promptkit.types import Json, JsonObject

_BYTES_PER_TOKEN = 4
_MAX_DEPTH = 12
_OPENINGS = (
    "Here is a first take.",
    "Voilà une première version, à relire à voix haute.",
    "Let's keep it simple and true.",
    "D'accord, on part de là où vit le public.",
    "Short, warm and honest: that is the idea.",
)
_BODIES = (
    "{0} opens on a face, not on a logo, and lets {1} do the talking.",
    "People stop for {0} when the first second names their problem.",
    "Hold {0} close to the lens, smile, and say {1} in your own words.",
    "On montre {0} en gros plan, puis {1} répond à l'objection sans forcer.",
    "Nobody needs another promise about {0}; they need to see {1} work.",
    "Le café refroidit, {0} attend, et c'est là que {1} change la journée.",
    "Cut to the kitchen: {0} is on the table and {1} feels naïve but real.",
    "Each shot of {0} earns the next one, so {1} never sounds like a pitch.",
    "Garde {0} pour la fin: déjà vu, peut-être, mais jamais aussi clair que {1}.",
    "A friend would tell you about {0} just like that, then leave {1} to you.",
)
_CLOSINGS = (
    "Try it tonight ✨",
    "À toi de jouer 🎬",
    "That's the whole story.",
    "Ça suffit, on tourne !",
)
_FALLBACK = ("the product", "the moment", "the detail", "la lumière")
_WORD = re.compile(r"[^\W\d_]{5,24}")
_TOPIC_CHARACTERS = 2_000
_NOTED = re.compile(r"\{([^{}]*)\}\s*$")
_NOTE = re.compile(r'\b([a-z]+[A-Za-z]*): (-?\d+(?:\.\d+)?\b|"[a-z0-9-]+")')
_DULL = frozenset(
    [
        "about",
        "after",
        "avec",
        "cette",
        "comme",
        "could",
        "dans",
        "every",
        "from",
        "have",
        "leur",
        "nous",
        "other",
        "pour",
        "should",
        "that",
        "their",
        "there",
        "these",
        "vous",
        "which",
        "with",
        "would",
        "write",
        "your",
    ]
)


def digest(seed: int, *parts: str) -> bytes:
    """Return 32 bytes that depend only on the seed and the parts."""
    state = blake2b(str(seed).encode(), digest_size=32)
    for part in parts:
        state.update(b"\0")
        state.update(part.encode("utf-8", "surrogatepass"))
    return state.digest()


def count_tokens(text: str) -> int:
    """Return ceil(UTF-8 bytes / 4), the simulator's token count."""
    return tokens_of_bytes(len(text.encode("utf-8", "surrogatepass")))


def tokens_of_bytes(size: int) -> int:
    """Return ceil(size / 4)."""
    return -(-size // _BYTES_PER_TOKEN)


def cut(text: str, max_tokens: int) -> tuple[str, bool]:
    """Return the beginning of a text that fits, and whether something was cut off."""
    raw = text.encode("utf-8", "surrogatepass")
    limit = max_tokens * _BYTES_PER_TOKEN
    if len(raw) <= limit:
        return text, False
    return raw[:limit].decode("utf-8", "ignore"), True


def stop_at(text: str, stops: Sequence[str]) -> tuple[str, str | None]:
    """Return the text before its first stop sequence, and that sequence."""
    matches = [(at, stop) for stop in stops if stop and (at := text.find(stop)) >= 0]
    if not matches:
        return text, None
    at, stop = min(matches)
    return text[:at], stop


def prose(rng: Random, prompt: str) -> str:
    """Return a paragraph of 4 to 9 sentences with words from the end of the prompt."""
    candidates = dict.fromkeys(_WORD.findall(prompt[-_TOPIC_CHARACTERS:]))
    words = [word for word in candidates if word.lower() not in _DULL] or list(_FALLBACK)
    sentences = [rng.choice(_OPENINGS)]
    bodies = (rng.choice(_BODIES) for _ in range(rng.randint(2, 7)))
    sentences += [body.format(rng.choice(words), rng.choice(words)) for body in bodies]
    return " ".join([*sentences, rng.choice(_CLOSINGS)])


def fitting_json(rng: Random, prompt: str, schema: Mapping[str, Any]) -> str:
    """Return JSON text that matches a schema, with simple values in every property."""
    return json.dumps(_value(rng, prompt, schema, schema, 0), ensure_ascii=False)


def _value(rng: Random, prompt: str, schema: Any, root: Mapping[str, Any], depth: int) -> Json:
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return None
    schema = _with_noted_bounds(_resolved(cast("Mapping[str, Any]", schema), root))
    if "const" in schema or schema.get("enum"):
        return rng.choice(list(schema.get("enum") or [schema.get("const")]))
    kind = _kind(schema)
    if kind == "object":
        properties = cast("JsonObject", schema.get("properties") or {})
        return {name: _value(rng, prompt, each, root, depth + 1) for name, each in properties.items()}
    if kind == "array":
        item = schema.get("items", {})
        ids = _ids(item)
        if ids:
            return [_item(rng, prompt, item, root, name, depth) for name in ids]
        return [_value(rng, prompt, item, root, depth + 1) for _ in range(_length(schema))]
    plain = _PLAIN.get(kind)
    return _string(rng, prompt, schema) if plain is None else plain(rng, schema)


def _with_noted_bounds(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a schema with the bounds at the end of its description, such as `{maxLength: 60}`.

    The anthropic SDK writes bounds there that it can't send, and a good model follows them. The
    schema's own bounds take precedence.
    """
    noted = _NOTED.search(str(schema.get("description", "")))
    return (
        {**{word: json.loads(bound) for word, bound in _NOTE.findall(noted[1])}, **schema}
        if noted
        else schema
    )


def _ids(item: Any) -> Sequence[Json]:
    """Return the allowed ids if a list's items are objects with an `id`: the list needs one item per id."""
    fields: Any = cast("JsonObject", item).get("properties") if isinstance(item, Mapping) else None
    wanted: Any = cast("JsonObject", fields).get("id") if isinstance(fields, Mapping) else None
    if not isinstance(wanted, Mapping):
        return ()
    named = cast("JsonObject", wanted)
    return cast("list[Json]", named.get("enum") or ([named["const"]] if "const" in named else []))


def _item(rng: Random, prompt: str, item: Any, root: Mapping[str, Any], name: Json, depth: int) -> Json:
    """Return the item of an id; a plain text in it has the usual length."""
    fields = cast("JsonObject", item["properties"])
    members = {
        field: prose(rng, prompt)
        if each == {"type": "string"}
        else _value(rng, prompt, each, root, depth + 2)
        for field, each in fields.items()
        if field != "id"
    }
    return {"id": name, **members}


def spoiled(text: str, how: str) -> str:
    """Return a list by id with every second item `missing`, the first `repeated`, or one `extra`."""
    reply = cast("dict[str, list[dict[str, Json]]]", json.loads(text))
    spoil: Mapping[str, Callable[[list[dict[str, Json]]], list[dict[str, Json]]]] = {
        "missing": lambda items: items[::2],
        "repeated": lambda items: [*items, items[0]],
        "extra": lambda items: [*items, {**items[0], "id": "nobody"}],
    }
    return json.dumps({field: spoil[how](items) for field, items in reply.items()}, ensure_ascii=False)


def replies_by_id(schema: Mapping[str, Any]) -> bool:
    """Return whether a schema has only lists with one item per id."""
    fields = cast("JsonObject", schema.get("properties") or {})
    return bool(fields) and all(_ids(cast("JsonObject", each).get("items")) for each in fields.values())


def _length(schema: Mapping[str, Any]) -> int:
    count = int(schema.get("minItems", 2))
    return min(count, int(schema.get("maxItems", count)))


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    for _ in range(_MAX_DEPTH):
        reference = schema.get("$ref")
        choice = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
        if isinstance(reference, str):
            schema = _follow(reference, root)
        elif choice:
            schema = choice[0]
        else:
            break
    return schema


def _follow(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    node: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part and isinstance(node, Mapping):
            node = cast("Mapping[str, Any]", node).get(part, {})
    return cast("Mapping[str, Any]", node)


def _kind(schema: Mapping[str, Any]) -> str:
    kind: Any = schema.get("type", "object" if "properties" in schema else "string")
    return str(cast("list[str]", kind)[0] if isinstance(kind, list) else kind)


def _number(rng: Random, schema: Mapping[str, Any]) -> float:
    """Return a multiple of the step (default 1) within the bounds, or their middle if none fits."""
    step = schema.get("multipleOf", 1)
    under = [ceil(schema["minimum"] / step)] if "minimum" in schema else []
    under += [floor(schema["exclusiveMinimum"] / step) + 1] if "exclusiveMinimum" in schema else []
    over = [floor(schema["maximum"] / step)] if "maximum" in schema else []
    over += [ceil(schema["exclusiveMaximum"] / step) - 1] if "exclusiveMaximum" in schema else []
    low = max(under, default=min([0, *over]))
    high = min(over, default=low + 100)
    if low <= high:
        return rng.randint(low, high) * step
    bounds = [schema[word] for word in _BOUNDS if word in schema]
    return sum(bounds) / len(bounds)


_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
_FORMATS: Final[Mapping[str, tuple[str, ...]]] = {
    "date": ("2026-11-21", "2027-02-03"),
    "date-time": ("2026-11-21T10:00:00Z", "2027-02-03T18:30:00+01:00"),
    "time": ("10:00:00Z", "18:30:00+01:00"),
    "duration": ("PT30S", "P2D"),
    "email": ("lea@example.com", "studio@example.org"),
    "hostname": ("example.com", "www.example.org"),
    "uri": ("https://example.com/a", "https://example.org/b?c=1"),
    "uuid": ("6f1f3b52-7c0e-4b8a-9d5e-2f8f6d1c0a11", "0b9f1a3e-54c7-4f0e-8a57-3d2c1b0a9f88"),
    "ipv4": ("192.0.2.1", "198.51.100.7"),
    "ipv6": ("2001:db8::1", "2001:db8::7"),
}
_PLAIN: Final[Mapping[str, Callable[[Random, Mapping[str, Any]], Json]]] = {
    "integer": lambda rng, schema: int(_number(rng, schema)),
    "number": _number,
    "boolean": lambda rng, _: rng.choice([True, False]),
    "null": lambda _rng, _schema: None,
}


def _string(rng: Random, prompt: str, schema: Mapping[str, Any]) -> str:
    if schema.get("format") in _FORMATS:
        return rng.choice(_FORMATS[schema["format"]])
    text = prose(rng, prompt).split(". ")[1]
    short = text[: int(schema.get("maxLength", 120))]
    return short + "." * max(0, int(schema.get("minLength", 0)) - len(short))
