"""What changed between two front matters: any two values as JSON, told apart key by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum, StrEnum
from typing import Any, cast

from promptkit.types import Json, TemplateSpec


class How(StrEnum):
    """What became of a key."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Change:
    """A key that is new, gone or changed: `("variables", "brand", "max_length")`, 80, 120.

    `old` is None where it was added, `new` where it was removed.
    """

    path: tuple[str, ...]
    how: How
    old: Json = None
    new: Json = None


def spec_changes(old: TemplateSpec, new: TemplateSpec) -> tuple[Change, ...]:
    """What changed in the front matter: description, variables, parameters, output schema, all else."""
    return tuple(changes(plain(old), plain(new)))


def changes(old: Json, new: Json, path: tuple[str, ...] = ()) -> Iterator[Change]:
    """What changed between two JSON values; lists are told whole."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            here = (*path, key)
            if key not in new:
                yield Change(here, How.REMOVED, old=old[key])
            elif key not in old:
                yield Change(here, How.ADDED, new=new[key])
            else:
                yield from changes(old[key], new[key], here)
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield Change(path, How.CHANGED, old, new)


def plain(value: object) -> Json:
    """A value of the front matter as JSON; what stands at its default is left out."""
    if is_dataclass(value):
        told: Mapping[str, Any] = {
            field.name: getattr(value, field.name)
            for field in fields(value)
            if not _is_default(field, getattr(value, field.name))
        }
        return plain(told)
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [plain(item) for item in cast("list[object]", value)]
        return sorted(items, key=str) if isinstance(value, (set, frozenset)) else items
    return cast("Json", value) if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _is_default(field: Field[Any], value: object) -> bool:
    if field.default_factory is not MISSING:
        return value == field.default_factory()
    return field.default is not MISSING and value == field.default
