"""The command `compare`: the same rows by several targets or versions, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from promptkit.cli import option_texts, options
from promptkit.errors import ExitCode, UsageError, counted
from promptkit.types import dollars

from .face import Face

if TYPE_CHECKING:
    from promptkit.engine.context import Session
    from promptkit.reports.compare import ComparisonEstimate, ComparisonRun
    from promptkit.reports.comparison import Comparison


Columns = Annotated[
    list[str] | None,
    typer.Option("--targets", metavar="A,B,C", help="A column for each: PROVIDER/MODEL, by commas."),
]


Versions = Annotated[
    list[str] | None,
    typer.Option(
        "--versions", metavar="1,2", help="A column for each version: 2, draft, a label, by commas."
    ),
]


Head = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="The first N rows of the table.")]


Page = Annotated[
    Path | None,
    typer.Option("-o", "--out", metavar="FILE.html", help="Write a page to read and to pass on, too."),
]


Name = Annotated[
    str | None,
    typer.Option(
        "--job",
        metavar="NAME",
        help="The comparison's name; {date} expands. Else derived from REF and ROWS. Another name pays again.",
    ),
]


AtOnce = Annotated[
    int,
    typer.Option("--concurrency", metavar="N", min=1, max=1000, help="Rows under way at once, a column."),
]


_HANDFUL: Final = 5


def compare(
    face: Face,
    ref: options.Ref,
    rows: options.Rows,
    targets: Columns = None,
    versions: Versions = None,
    limit: Head = _HANDFUL,
    out: Page = None,
    job: Name = None,
    concurrency: AtOnce = 4,
    retry_failed: options.RetryFailed = False,
    map_: options.Map = None,
    var: options.Vars = None,
    vars_: options.VarsFile = None,
    tag: options.RowTags = None,
    route: options.RouteName = None,
    budget: options.Budget = None,
) -> int:
    """Make the same texts by several targets or versions, side by side.

    Each target gets each row, without failover to another one; with --versions alone all versions go
    over one route. What it will cost is said first. Every text is a call in the ledger with the tag
    compare=NAME; the same command again shows what is there and makes what is missing, so that
    nothing is paid twice.

    Examples:
        promptkit compare ugc/hooks rows.csv --targets openai/gpt-6-luna,anthropic/claude-haiku-5-5
        promptkit compare ugc/script rows.csv --versions 1,draft --limit 10 -o compare.html --budget 0.50
        promptkit compare ugc/hooks rows.csv --targets openai/gpt-6-luna,gemini/gemini-2.5-flash-lite --json
    """
    from promptkit.batch.input import HeadSource, source_of
    from promptkit.batch.options import job_name
    from promptkit.batch.output import check_out
    from promptkit.reports.compare import TAG, CompareOptions, ComparisonRun, columns_of
    from promptkit.templates.reference import parse_ref

    tags = option_texts.read_tags(tag)
    if TAG in tags:
        raise UsageError(f"the tag {TAG!r} is the comparison's own name", remedy=f"--job {tags[TAG]}")
    session = face.session()
    columns = columns_of(session, ref, _listed(versions), _listed(targets), route=route, tags=tags)
    if out is not None:
        check_out(out, rows)
    head = HeadSource(source_of(rows, None), limit)
    if not head.records:
        raise UsageError(f"{rows} has no rows")
    if not head.is_all:
        face.say(f"the first {counted(limit, 'row')} of {rows}: --limit N takes more")
    comparing = ComparisonRun(
        session,
        job_name(job, parse_ref(ref).name, head.name, None, session.today()),
        head,
        columns,
        CompareOptions(
            mapping=option_texts.read_mapping(map_),
            constants=option_texts.read_variables(var, vars_),
            tags=tags,
            cap_pico=option_texts.read_cap(budget),
            concurrency=concurrency,
            retry_failed=retry_failed,
            by_rules=route is None and not targets,
        ),
    )
    return asyncio.run(_conduct(face, session, comparing, out))


def _listed(texts: Sequence[str] | None) -> tuple[str, ...]:
    """`A,B` and `A` `B` alike."""
    return tuple(part for text in texts or () for one in text.split(",") if (part := one.strip()))


@dataclass(frozen=True, slots=True)
class _Delivery:
    """Where the comparison goes."""

    face: Face
    session: Session
    comparing: ComparisonRun
    out: Path | None

    async def give(self, *, anew: bool) -> Comparison:
        """Print it and write the page; texts that may not be kept go afterwards."""
        from .comparison import comparison_json, print_comparison

        ledger = await self.session.ledger()
        found = self.comparing.read(ledger)
        if self.face.as_json:
            self.face.print_json(comparison_json(found, self.out))
        else:
            print_comparison(self.face, found, whole=self.out is None)
        if self.out is not None:
            self._write(found, erased=self.comparing.erased(ledger), out=self.out, anew=anew)
        await self.comparing.forget()
        return found

    def _write(self, found: Comparison, *, erased: int, out: Path, anew: bool) -> None:
        """Write the page, unless what stands there has texts that are kept nowhere else.

        Raises:
            OutputError: it can't be written, or may not be overwritten.
        """
        from promptkit._util.files import replacing
        from promptkit.errors import OutputError

        from .comparison_html import page

        if erased and out.is_file():
            if anew:
                raise OutputError(
                    f"stands already, and {erased:,} of the texts in it are kept nowhere else",
                    file=out,
                    remedy="Write the page to another file with -o.",
                )
            self.face.say(f"{out} stands as it was: its texts are kept nowhere else")
            return
        made = page(found, self.session.settings.timezone, self.session.now())
        try:
            with replacing(out) as file:
                file.write(made.encode(errors="replace"))
        except OSError as cause:
            raise OutputError(
                f"can't be written: {cause.strerror}",
                file=out,
                remedy="The texts are in the ledger: the same command writes them and pays nothing.",
            ) from cause
        self.face.say(f"{out} shows {counted(len(found.rows), 'row')} side by side")


async def _conduct(face: Face, session: Session, comparing: ComparisonRun, out: Path | None) -> int:
    from .conduct import Halting
    from .pace import Pace
    from .progress import following

    halting = Halting(comparing, face)
    try:
        with halting.listening():
            offer = await comparing.prepare()
            face.say(_price(offer))
            pace = Pace(offer.cells, offer.cells - offer.calls, offer.calls, offer.spent_pico)
            with following(face, pace, rows_on_terminal=False) as note:
                await comparing.run(note)
            found = await _Delivery(face, session, comparing, out).give(anew=bool(offer.calls))
            return halting.code or await _end(face, session, comparing, found)
    except asyncio.CancelledError:
        if halting.by is None:
            raise
        face.say("stopped; calls in flight are recorded as unknown. The same command goes on")
        return halting.code
    finally:
        await session.aclose()


def _price(offer: ComparisonEstimate) -> str:
    """What is said before anything is sent."""
    paid = (
        f"{offer.cells - offer.calls:,} of {counted(offer.cells, 'text')} done before"
        if offer.spent_pico
        else ""
    )
    if not offer.calls:
        return f"{paid or counted(offer.cells, 'text')}; nothing to pay"
    todo = (
        f"{counted(offer.calls, 'call')}: about {dollars(offer.cost.about_pico)}, "
        f"at most {dollars(offer.cost.at_most_pico)} where none is made twice"
    )
    return f"{paid}; {todo}" if paid else todo


async def _end(face: Face, session: Session, comparing: ComparisonRun, found: Comparison) -> int:
    """The last words, and the exit code."""
    from promptkit.errors import exit_code, worst
    from promptkit.reports.compare import TAG

    from .conduct import soft_word
    from .run import tell

    codes = [exit_code(stop) for stop in comparing.stops]
    for stop in {stop.what: stop for stop in comparing.stops}.values():
        tell(stop)
    for passed in (await session.engine()).soft_passed.values():
        face.say(soft_word(passed))
    figures = found.figures
    if any(one.failed for one in figures):
        codes.append(ExitCode.SOME_FAILED)
        face.say("--retry-failed makes the failed ones again")
    face.say(f"every call: promptkit log --tag {TAG}={found.name}")
    return worst(codes)
