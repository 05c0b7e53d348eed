"""The estimate of a batch: `plan` and `batch --dry-run` print it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from promptkit.cli.output import Table, duration, listed, plain, to_json, usd_text
from promptkit.errors import ExitCode, counted
from promptkit.routing.budgets import scope_words
from promptkit.types import Json, dollars

if TYPE_CHECKING:
    from promptkit.batch.estimates import Figures
    from promptkit.batch.pack_size import Packing
    from promptkit.batch.quote import Need, Quote
    from promptkit.cli.command import Cli

_COLUMNS = (
    "target",
    ">rows",
    ">replies",
    ">tokens in",
    ">tokens out",
    ">low",
    ">expected",
    ">worst",
    ">time",
)


def print_quote(cli: Cli, quote: Quote) -> int:
    """Print an estimate; return the exit code: 6 if the batch would not start, 1 if rows are invalid."""
    if cli.as_json:
        cli.print_json(quote_json(quote))
    else:
        cli.print("\n".join(_lines(quote, color=cli.color)))
    if quote.short:
        return ExitCode.BUDGET
    return ExitCode.SOME_FAILED if quote.counts.invalid else ExitCode.OK


def _lines(quote: Quote, *, color: bool) -> Iterator[str]:
    yield f"{quote.template}: {_counts_text(quote)}"
    if quote.counts.to_send:
        yield ""
        yield Table(
            _COLUMNS,
            [
                (str(row.target), f"{row.rows:,}", f"{row.replies:,}", *_cells(row.figures))
                for row in quote.targets
            ],
        ).text(color=color)
        yield from _prompt_cache_lines(quote)
        yield ""
        yield Table(
            ("strategy", "first target", *_COLUMNS[5:]),
            [
                (
                    f"{row.strategy} *" if row.strategy in quote.strategy.split() else row.strategy,
                    ", ".join(map(str, row.first)),
                    *_cells(row.figures)[2:],
                )
                for row in quote.strategies
            ],
        ).text(color=color)
        yield ""
        yield from _cost_lines(quote)
    yield "nothing was sent"


def _counts_text(quote: Quote) -> str:
    counts = quote.counts
    return listed(
        (
            f"{counted(counts.rows, 'row')}, {counts.to_send:,} to send",
            f"{counts.done:,} already done" if counts.done else "",
            f"{counts.invalid:,} invalid" if counts.invalid else "",
            f"{counts.duplicates:,} identical to an earlier row" if counts.duplicates else "",
        )
    )


def _cells(figures: Figures) -> tuple[str, ...]:
    return (
        f"{figures.input_tokens:,}",
        f"{figures.output_tokens:,}",
        dollars(figures.low_pico),
        dollars(figures.expected_pico),
        dollars(figures.worst_pico),
        _time_text(figures),
    )


def _time_text(figures: Figures) -> str:
    if figures.timed:
        return duration(figures.duration_s)
    return f"over {duration(figures.duration_s)}" if figures.duration_s else "unknown"


def _prompt_cache_lines(quote: Quote) -> Iterator[str]:
    """Yield what prompt caching does to the expected cost, for each target that it affects."""
    for row in quote.targets:
        if pico := row.figures.cache_saved_pico:
            yield f"prompt caching: about {dollars(abs(pico))} {'less' if pico > 0 else 'more'} at {row.target}"


def _cost_lines(quote: Quote) -> Iterator[str]:
    figures = quote.figures
    basis = (
        f"based on {counted(quote.replies, 'reply', 'replies')} of this template in the ledger"
        if quote.replies
        else "without known replies of this template: assumed to be half as long as the output limit"
    )
    yield (
        f"expected {dollars(figures.expected_pico)}, low {dollars(figures.low_pico)}, "
        f"at most {dollars(figures.worst_pico)} for one attempt per row ({basis})"
    )
    yield (
        f"a budget of {dollars(figures.worst_pico)} always suffices; {dollars(quote.usual_pico)} usually does"
    )
    if quote.packing is not None:
        yield _packing_text(quote.packing)
    yield from map(_need_text, quote.needs)


def _packing_text(packing: Packing) -> str:
    option = f"--pack {_pack_option(packing)}"
    if packing.reason:
        return f"{option} sends each row alone: {packing.reason}"
    saves = packing.saves_pico
    size = f"{option} sends up to {counted(packing.size, 'row')} per request"
    if saves is None:
        return f"{size}; the saving is unknown without a price"
    effect = f"saves {dollars(saves)}" if saves >= 0 else f"costs {dollars(-saves)} more"
    packed, alone = packing.per_row(packing.packed_pico), packing.per_row(packing.single_pico)
    return f"{size} and {effect}: a row costs about {dollars(packed)} instead of {dollars(alone)}"


def _pack_option(packing: Packing) -> int | str:
    return "auto" if packing.requested is None else packing.requested


def _need_text(need: Need) -> str:
    left = f"{scope_words(need.scope)}: {dollars(need.left_pico)} left of {dollars(need.cap_pico)}"
    if need.worst_pico is None:
        return f"{left}; without a price, it is unknown whether it fits"
    if need.fits:
        return f"{left}: fits"
    return f"{left}: may not fit; batch needs --until-budget, or a higher cap"


# -------------------------------------------------------------------------------------- JSON


def quote_json(quote: Quote) -> dict[str, Json]:
    """Return an estimate as JSON."""
    return {
        "template": quote.template,
        "template_digest": quote.template_digest,
        "job": quote.job,
        **to_json(quote.counts),
        "strategy": quote.strategy,
        **_figures_json(quote.figures),
        "budget_usd": {"sure": usd_text(quote.figures.worst_pico), "usual": usd_text(quote.usual_pico)},
        "answers": quote.replies,
        "targets": [to_json(row, ("figures",), **_figures_json(row.figures)) for row in quote.targets],
        "strategies": [to_json(row, ("figures",), **_figures_json(row.figures)) for row in quote.strategies],
        "caps": [to_json(need, fits=need.fits) for need in quote.needs],
        "packing": None if quote.packing is None else _packing_json(quote.packing),
        "manner": quote.notice or None,
    }


def _packing_json(packing: Packing) -> dict[str, Json]:
    return {
        "pack": _pack_option(packing),
        "targets": plain(packing.targets),
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
    return to_json(
        figures,
        ("high_pico", "timed", "cache_saved_pico"),
        cache_saves_usd=usd_text(figures.cache_saved_pico),
        duration_s=round(figures.duration_s, 1) if figures.timed else None,
        limits_s=round(figures.duration_s, 1),
    )
