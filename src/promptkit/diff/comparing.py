"""Two versions of a skeleton side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from promptkit.errors import TemplateError
from promptkit.pricing import Tariff
from promptkit.templates import Skeleton
from promptkit.tokens import estimate_input_tokens
from promptkit.types import Prompt, Target, Usage

from .changes import Change, spec_changes
from .examples import Example, completed
from .texts import TextDiff, compare, rendered, sources


@dataclass(frozen=True, slots=True)
class Offer:
    """What a target takes for a call: its rates (None where unknown) and its output limit for each side."""

    target: Target
    tariff: Tariff | None
    limits: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rendering:
    """An example on both sides: which messages differ, and about how many input tokens each side has.

    `made_up` are required variables that the example lacks; `problems` says of each side why it
    can't be rendered, or is None.
    """

    example: str
    made_up: tuple[str, ...]
    texts: tuple[TextDiff, ...]
    tokens: tuple[int | None, int | None]
    problems: tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class Bill:
    """What a call costs at a target, before and after, in pico-USD; None where it isn't known.

    `input_pico` is the estimated input uncached, `most_pico` with the whole output limit added.
    """

    target: Target
    input_pico: tuple[int | None, int | None]
    most_pico: tuple[int | None, int | None]
    limits: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Diff:
    """Two versions side by side; `tokens` are the mean over the examples that both render."""

    old: Skeleton
    new: Skeleton
    spec: tuple[Change, ...]
    sources: tuple[TextDiff, ...]
    renderings: tuple[Rendering, ...]
    tokens: tuple[int | None, int | None]
    bills: tuple[Bill, ...]

    @property
    def is_same(self) -> bool:
        """Whether nothing differs, includes and all."""
        return self.old.digest == self.new.digest


def diff(old: Skeleton, new: Skeleton, examples: Sequence[Example], offers: Sequence[Offer]) -> Diff:
    """Compare two versions.

    Args:
        old: the one before.
        new: the one after.
        examples: what both are rendered with.
        offers: the targets of a route.
    """
    renderings = tuple(_rendering(old, new, example) for example in examples)
    tokens = _mean(renderings)
    return Diff(
        old,
        new,
        spec_changes(old.spec, new.spec),
        compare(sources(old), sources(new)),
        renderings,
        tokens,
        tuple(_bill(offer, tokens) for offer in offers),
    )


def _rendering(old: Skeleton, new: Skeleton, example: Example) -> Rendering:
    sides = [_render(skeleton, example) for skeleton in (old, new)]
    prompts = [prompt for prompt, _, _ in sides]
    told = [{} if prompt is None else rendered(prompt.messages) for prompt in prompts]
    counts = [
        None if prompt is None else estimate_input_tokens(prompt, skeleton.spec.output)
        for prompt, skeleton in zip(prompts, (old, new), strict=True)
    ]
    return Rendering(
        example.name,
        tuple(dict.fromkeys((*sides[0][1], *sides[1][1]))),
        compare(*told) if all(prompts) else (),
        (counts[0], counts[1]),
        (sides[0][2], sides[1][2]),
    )


def _render(skeleton: Skeleton, example: Example) -> tuple[Prompt | None, tuple[str, ...], str | None]:
    """The prompt, what was made up for it, and why there is none."""
    values, made_up = completed(example, skeleton.spec.variables)
    try:
        return skeleton.render(skeleton.bind(values)), made_up, None
    except TemplateError as cause:
        return None, made_up, cause.what


def _mean(renderings: Sequence[Rendering]) -> tuple[int | None, int | None]:
    pairs = [(old, new) for old, new in (each.tokens for each in renderings) if None not in {old, new}]
    if not pairs:
        return None, None
    old, new = (round(sum(side[index] or 0 for side in pairs) / len(pairs)) for index in (0, 1))
    return old, new


def _bill(offer: Offer, tokens: tuple[int | None, int | None]) -> Bill:
    inputs = [_pico(offer.tariff, count, 0) for count in tokens]
    most = [_pico(offer.tariff, count, limit) for count, limit in zip(tokens, offer.limits, strict=True)]
    return Bill(offer.target, (inputs[0], inputs[1]), (most[0], most[1]), offer.limits)


def _pico(tariff: Tariff | None, input_tokens: int | None, output_tokens: int) -> int | None:
    if tariff is None or input_tokens is None:
        return None
    return tariff.pico(Usage(input_tokens, output_tokens))
