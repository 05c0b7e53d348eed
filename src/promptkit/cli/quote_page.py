"""A quote as people and programs read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptkit.batch.columns import usd_text
from promptkit.errors import ExitCode, counted
from promptkit.routing.budgets import scope_words
from promptkit.types import Json, dollars

from .face import Face
from .times import lasting

if TYPE_CHECKING:
    from promptkit.batch.estimates import Figures
    from promptkit.batch.pack_size import Packing
    from promptkit.batch.quote import Need, Quote


def show_quote(face: Face, quote: Quote) -> int:
    """Print a quote; returns what the batch would exit with before its first call, 1 where rows are invalid."""
    if face.as_json:
        face.print_json(quote_json(quote))
    else:
        _print(face, quote)
    if quote.short:
        return ExitCode.BUDGET
    return ExitCode.SOME_FAILED if quote.counts.invalid else ExitCode.OK


def _print(face: Face, quote: Quote) -> None:
    face.print(f"{quote.template}: {_counts(quote)}")
    if quote.counts.to_send:
        face.print("")
        face.table(
            (*_COLUMNS[:1], ">rows", ">answers", *_COLUMNS[1:]),
            [
                (str(one.target), f"{one.rows:,}", f"{one.replies:,}", *_cells(one.figures))
                for one in quote.targets
            ],
        )
        for line in (*_caching(quote), ""):
            face.print(line)
        face.table(
            ("strategy", "asked first", *_COLUMNS[3:]),
            [
                (
                    f"{one.strategy} *" if one.strategy in quote.strategy.split() else one.strategy,
                    ", ".join(map(str, one.first)),
                    *_cells(one.figures)[2:],
                )
                for one in quote.strategies
            ],
        )
        face.print("\n" + "\n".join(_words(quote)))
    face.print("nothing was sent")


_COLUMNS = ("target", ">tokens in", ">tokens out", ">low", ">expected", ">worst", ">time")


def _counts(quote: Quote) -> str:
    counts = quote.counts
    told = [f"{counted(counts.rows, 'row')}, {counts.to_send:,} to send"]
    if counts.done:
        told.append(f"{counts.done:,} done already")
    if counts.invalid:
        told.append(f"{counts.invalid:,} invalid")
    if counts.duplicates:
        told.append(f"{counts.duplicates:,} the same as one before")
    return ", ".join(told)


def _cells(figures: Figures) -> tuple[str, ...]:
    return (
        f"{figures.input_tokens:,}",
        f"{figures.output_tokens:,}",
        dollars(figures.low_pico),
        dollars(figures.expected_pico),
        dollars(figures.worst_pico),
        _time(figures),
    )


def _time(figures: Figures) -> str:
    if figures.timed:
        return lasting(figures.duration_s)
    return f"over {lasting(figures.duration_s)}" if figures.duration_s else "unknown"


def _words(quote: Quote) -> list[str]:
    figures = quote.figures
    basis = (
        f"by {counted(quote.replies, 'answer')} of this template in the ledger"
        if quote.replies
        else "no answer of this template is known yet: each is taken to be half as long as it may be"
    )
    cost = (
        f"expected {dollars(figures.expected_pico)}, low {dollars(figures.low_pico)}, "
        f"at most {dollars(figures.worst_pico)} for one attempt a row ({basis})"
    )
    cap = f"a budget of {dollars(figures.worst_pico)} surely fits; {dollars(quote.usual_pico)} usually does"
    packing = [] if quote.packing is None else [_packing(quote.packing)]
    return [cost, cap, *packing, *map(_need, quote.needs)]


def _packing(packing: Packing) -> str:
    asked = f"--pack {_pack_said(packing)}"
    if packing.reason:
        return f"{asked} sends each row alone: {packing.reason}"
    saves = packing.saves_pico
    size = f"{asked} sends up to {counted(packing.size, 'row')} a request"
    if saves is None:
        return f"{size}; what that saves can't be said without a price"
    what = f"saves {dollars(saves)}" if saves >= 0 else f"costs {dollars(-saves)} more"
    packed, alone = packing.per_row(packing.packed_pico), packing.per_row(packing.single_pico)
    return f"{size} and {what}: a row costs about {dollars(packed)} instead of {dollars(alone)}"


def _pack_said(packing: Packing) -> int | str:
    return "auto" if packing.requested is None else packing.requested


def _caching(quote: Quote) -> list[str]:
    """What prompt caching does to the expected cost, for each target where it does anything."""
    saved = [(one.target, one.figures.cache_saved_pico) for one in quote.targets]
    return [
        f"prompt caching: about {dollars(abs(pico))} {'less' if pico > 0 else 'more'} at {target}"
        for target, pico in saved
        if pico
    ]


def _need(need: Need) -> str:
    room = f"{scope_words(need.scope)}: {dollars(need.left_pico)} left of {dollars(need.cap_pico)}"
    if need.worst_pico is None:
        return f"{room}; whether that fits can't be said without a price"
    return (
        f"{room}: fits" if need.fits else f"{room}: may not fit; batch wants --until-budget, or a higher cap"
    )


def quote_json(quote: Quote) -> dict[str, Json]:
    """A quote for programs."""
    counts, figures = quote.counts, quote.figures
    return {
        "template": quote.template,
        "template_digest": quote.template_digest,
        "job": quote.job,
        "rows": counts.rows,
        "to_send": counts.to_send,
        "done": counts.done,
        "invalid": counts.invalid,
        "duplicates": counts.duplicates,
        "strategy": quote.strategy,
        **_figures_json(figures),
        "budget_usd": {"sure": usd_text(figures.worst_pico), "usual": usd_text(quote.usual_pico)},
        "answers": quote.replies,
        "targets": [
            {
                "target": str(one.target),
                "rows": one.rows,
                "answers": one.replies,
                **_figures_json(one.figures),
            }
            for one in quote.targets
        ],
        "strategies": [
            {
                "strategy": one.strategy,
                "first": [str(target) for target in one.first],
                **_figures_json(one.figures),
            }
            for one in quote.strategies
        ],
        "caps": [
            {
                "scope": need.scope,
                "cap_usd": usd_text(need.cap_pico),
                "left_usd": usd_text(need.left_pico),
                "worst_usd": usd_text(need.worst_pico),
                "fits": need.fits,
            }
            for need in quote.needs
        ],
        "packing": None if quote.packing is None else _packing_json(quote.packing),
        "manner": quote.notice or None,
    }


def _packing_json(packing: Packing) -> dict[str, Json]:
    return {
        "pack": _pack_said(packing),
        "targets": [str(target) for target in packing.targets],
        "rows": packing.size,
        "requests": packing.requests,
        "row_usd": {
            "packed": usd_text(packing.per_row(packing.packed_pico)),
            "alone": usd_text(packing.per_row(packing.single_pico)),
        },
        "saves_usd": usd_text(packing.saves_pico),
        "why": packing.reason or None,
    }


def _figures_json(figures: Figures) -> dict[str, Json]:
    return {
        "input_tokens": figures.input_tokens,
        "output_tokens": figures.output_tokens,
        "low_usd": usd_text(figures.low_pico),
        "expected_usd": usd_text(figures.expected_pico),
        "worst_usd": usd_text(figures.worst_pico),
        "cache_saves_usd": usd_text(figures.cache_saved_pico),
        "duration_s": round(figures.duration_s, 1) if figures.timed else None,
        "limits_s": round(figures.duration_s, 1),
    }
