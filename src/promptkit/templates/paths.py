"""Ways into a variable: `brand.name`, and each item of a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from jinja2 import nodes

from promptkit.types import Kind, Variable

from .methods import ATTRIBUTES

Path: TypeAlias = tuple[str, ...]
"""A variable and the way into it: `("brand", "name")`; `*` stands for each item of a list."""

EACH: Final = "*"


def path_of(node: nodes.Node) -> Path | None:
    """The path that an expression is: names and constant keys only; None for any other."""
    match node:
        case nodes.Name():
            return (node.name,)
        case nodes.Getattr():
            inner, key = path_of(node.node), node.attr
        case nodes.Getitem(arg=nodes.Const(value=str() as key)):
            inner = path_of(node.node)
        case nodes.Getitem(arg=nodes.Const(value=int())):
            inner, key = path_of(node.node), EACH
        case _:
            return None
    return None if inner is None else (*inner, key)


def unknown_field(variables: Mapping[str, Variable], path: Path) -> str | None:
    """The first part of a path that names no field of a declared object; None where all is well."""
    variable = variables.get(path[0])
    for part in path[1:]:
        if variable is None:
            return None
        if part == EACH:
            variable = variable.items
        elif variable.kind is not Kind.OBJECT or part in ATTRIBUTES["dict"]:
            return None
        elif part not in variable.fields:
            return part
        else:
            variable = variable.fields[part]
    return None
