"""Options that several commands share; how their texts are read stands in `option_texts`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from promptkit.batch.tables import Format
from promptkit.types import OnMiss


class Resend(StrEnum):
    """What to do with a request that was sent and never answered."""

    SEND = "send"
    FAIL = "fail"


Ref = Annotated[
    str,
    typer.Argument(
        metavar="REF", help="The template: ugc/script, ugc/script@2, @LABEL, @draft, @sha256:PREFIX."
    ),
]


Vars = Annotated[
    list[str] | None,
    typer.Option(
        "-v", "--var", metavar="K=V", help="A variable: K=TEXT, K=@FILE (its text), K:=JSON. Repeatable."
    ),
]


VarsFile = Annotated[
    Path | None,
    typer.Option("--vars", metavar="FILE", help="Variables from a JSON or TOML file; -v wins over it."),
]


RouteName = Annotated[
    str | None, typer.Option("--route", metavar="NAME", help="The route, from promptkit.toml.")
]


Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="PROVIDER/MODEL",
        help="Where it may go, in order, instead of a route. Repeatable.",
    ),
]


Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag", metavar="K=V", help="What it belongs to: client, deliverable, campaign ... Repeatable."
    ),
]


Cache = Annotated[
    str | None,
    typer.Option(
        "--cache",
        metavar="AGE",
        help="A reply to this very call that is no older serves it, at no cost: 7d, 12h, 30m. Else as the route says.",
    ),
]


NoCache = Annotated[
    bool,
    typer.Option("--no-cache", help="Ask anew, whatever the route says; the reply is kept for later calls."),
]


Budget = Annotated[str | None, typer.Option("--budget", metavar="USD", help="Hard cap of this call or job.")]


Stream = Annotated[
    bool, typer.Option("--stream", help="Print the text as it comes. Not with --json, which is one document.")
]


Failed = Annotated[
    Path | None,
    typer.Option(
        "--failed",
        metavar="FILE",
        help="The rows that failed, with reasons: correct them, and it is an input itself.",
    ),
]


Summary = Annotated[
    Path | None,
    typer.Option("--summary", metavar="FILE", help="How it ended: JSON in a FILE.json, else text."),
]


PingUrl = Annotated[
    str | None,
    typer.Option(
        "--ping", metavar="URL", help="A monitor: URL/start, then URL, or URL/CODE with the exit code."
    ),
]


UntilBudget = Annotated[
    bool,
    typer.Option(
        "--until-budget", help="Run until a cap stops it, where the worst case doesn't fit every hard cap."
    ),
]


Rows = Annotated[
    str, typer.Argument(metavar="ROWS", help="The table: CSV, TSV, JSONL or JSON; - reads standard input.")
]


MaybeRows = Annotated[
    str | None,
    typer.Argument(
        metavar="ROWS",
        help="The table: CSV, TSV, JSONL or JSON; - reads standard input. Without one, -v and --each make the rows.",
        show_default=False,
    ),
]


Out = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--out",
        metavar="FILE",
        help="The output, whole and in the input's order; columns in braces ('out/{sku}.txt') make one file a row. "
        "Else stdout, as they finish.",
    ),
]


OutFormat = Annotated[
    Format | None,
    typer.Option(
        "--format",
        metavar="csv|tsv|jsonl|json",
        help="The output's format. Else by FILE's name, else the input's.",
    ),
]


JobName = Annotated[
    str | None,
    typer.Option(
        "--job", metavar="NAME", help="The job's name; {date} expands. Else derived from REF, ROWS and FILE."
    ),
]


Key = Annotated[
    str | None, typer.Option("--key", metavar="COLUMN", help="What identifies a row. Else its content does.")
]


Concurrency = Annotated[
    int, typer.Option("--concurrency", metavar="N", min=1, max=1000, help="Rows under way at once.")
]


Limit = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=0, help="Send at most N rows this time.")
]


Sample = Annotated[
    int | None,
    typer.Option("--sample", metavar="N", min=1, help="Send only N rows, drawn by lot; the rest waits."),
]


Seed = Annotated[
    int, typer.Option("--seed", metavar="S", help="Which sample: the same S draws the same rows.")
]


Canary = Annotated[
    int | None,
    typer.Option(
        "--canary",
        metavar="N",
        min=0,
        help="Send the first N rows alone, the rest only if they do well; 0: none after all.",
    ),
]


MaxFailRate = Annotated[
    float | None,
    typer.Option(
        "--max-fail-rate",
        metavar="R",
        min=0.0,
        max=1.0,
        help="The share of canary rows that may fail; 0.2 unless said otherwise.",
    ),
]


Pack = Annotated[
    str,
    typer.Option(
        "--pack",
        metavar="N|auto",
        help="Send up to N short rows in one request, or as many as pay off (auto); see docs/batches.md.",
    ),
]


Deadline = Annotated[
    str | None,
    typer.Option(
        "--deadline",
        metavar="HH:MM",
        help="When to send nothing more: the next such time on the configured clock, or a date and time.",
    ),
]


OnMissing = Annotated[
    OnMiss,
    typer.Option(
        "--on-miss",
        metavar="warn|stop|faster|fastest",
        help="Where the deadline won't be met: warn; stop at once; more rows at once; the fastest target first.",
    ),
]


TextAs = Annotated[
    str | None,
    typer.Option("--text-as", metavar="NAME", help="The name of the text's column in the output. Else text."),
]


RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Do rows again that failed, were refused or are degraded.")
]


OnUnknown = Annotated[
    Resend,
    typer.Option(
        "--on-unknown",
        metavar="send|fail",
        help="A request that was sent and never answered: send it again, or fail its row.",
    ),
]


Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse columns that the template doesn't use, and invalid rows.")
]


DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Read, check and price the rows as `promptkit plan` does; send nothing."),
]


Map = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="VAR=COLUMN", help="The column that fills a variable. Repeatable."),
]


Each = Annotated[
    list[str] | None,
    typer.Option(
        "--each",
        metavar="VAR=A,B",
        help="Every row once with each value (VAR:=JSON for a list of any). Repeatable: all combinations.",
    ),
]


RowTags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag", metavar="K=V", help="What it belongs to; K=@COLUMN takes a row's own value. Repeatable."
    ),
]
