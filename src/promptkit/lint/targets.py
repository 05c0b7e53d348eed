"""Rules on the models of the route: PK5xx."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from promptkit.tokens import estimate_text_tokens
from promptkit.types import Kind, Variable

from .findings import Spot, World
from .subject import Subject

_CHARACTERS_PER_TOKEN: Final = 3
"""Dense text: figures, marks, languages other than English."""

_NEAR: Final = 0.8


def gone(subject: Subject, world: World) -> Iterator[Spot]:
    """A model on the route that its provider no longer has."""
    for target in world.route.targets:
        if target in world.gone:
            yield Spot(
                f"{target}, on the route {world.route.name!r}, is gone: its provider said so when last asked",
                subject.file,
                1,
                "Name another model in the route; promptkit providers list shows those that are known.",
            )


def near_window(subject: Subject, world: World) -> Iterator[Spot]:
    """A prompt that may come near the context window of a model, by the bounds of its variables."""
    limit = subject.spec.params.max_output_tokens or world.route.max_output_tokens
    tokens = _longest(subject)
    for target, _, model in world.pairs():
        window = model.context_window
        if window is not None and tokens + limit > window * _NEAR:
            yield Spot(
                f"up to about {tokens:,} tokens of prompt and {limit:,} of answer, and {target} takes {window:,} in all",
                subject.file,
                subject.key_line("variables", ""),
                "Lower max_length of the longest variables, or choose a model with a larger window.",
            )


def _longest(subject: Subject) -> int:
    """The tokens of the prompt with every variable as long as it may be; without bound, it counts nothing."""
    variables = subject.spec.variables
    printed = Counter(piece.variable for piece in subject.flow if piece.variable in variables)
    text = sum(estimate_text_tokens(piece.text) for piece in subject.flow)
    # Of an object each field is printed by itself: together they are the object, once.
    return text + sum(
        _most(variables[name]) * (1 if variables[name].kind is Kind.OBJECT else times)
        for name, times in printed.items()
    )


def _most(variable: Variable) -> int:
    match variable.kind:
        case Kind.STRING:
            return (variable.max_length or 0) // _CHARACTERS_PER_TOKEN
        case Kind.LIST if variable.items is not None:
            return (variable.max_length or 0) * _most(variable.items)
        case Kind.OBJECT:
            return sum(map(_most, variable.fields.values()))
        case _:
            return 0
