"""Options that several commands share; `values` reads their texts."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from promptkit.batch.tables import Format
from promptkit.types import OnMiss


class Resend(StrEnum):
    """What to do with a request whose outcome is unknown."""

    SEND = "send"
    FAIL = "fail"


Ref = Annotated[
    str,
    Argument(metavar="REF", help="The template: ugc/script, ugc/script@2, @LABEL, @draft, @sha256:PREFIX."),
]
Vars = Annotated[
    list[str] | None,
    Option("-v", "--var", metavar="K=V", help="A variable: K=TEXT, K=@FILE (its text), K:=JSON. Repeatable."),
]
VarsFile = Annotated[
    Path | None, Option("--vars", metavar="FILE", help="Variables from a JSON or TOML file; -v wins over it.")
]
RouteName = Annotated[str | None, Option("--route", metavar="NAME", help="The route, from promptkit.toml.")]
Targets = Annotated[
    list[str] | None,
    Option(
        "--target",
        metavar="PROVIDER/MODEL",
        help="A target, instead of a route. Repeatable: targets are asked in this order.",
    ),
]
Tags = Annotated[
    list[str] | None,
    Option(
        "--tag",
        metavar="K=V",
        help="A tag for reports and caps: client, deliverable, campaign ... Repeatable.",
    ),
]
Cache = Annotated[
    str | None,
    Option(
        "--cache",
        metavar="AGE",
        help="Use a stored reply to an identical call, at no cost, if it is no older: 7d, 12h, 30m. Default: the route's.",
    ),
]
NoCache = Annotated[
    bool, Option("--no-cache", help="Don't use the reply cache. The reply is stored for later calls.")
]
Budget = Annotated[str | None, Option("--budget", metavar="USD", help="Hard cap of this call or job.")]
Stream = Annotated[
    bool, Option("--stream", help="Print the text as it arrives. Not with --json, which prints one document.")
]
Failed = Annotated[
    Path | None,
    Option(
        "--failed",
        metavar="FILE",
        help="Write the failed rows with their reasons; after corrections, the file is a valid input.",
    ),
]
Summary = Annotated[
    Path | None,
    Option("--summary", metavar="FILE", help="Write the result: as JSON to a FILE.json, else as text."),
]
PingUrl = Annotated[
    str | None,
    Option(
        "--ping", metavar="URL", help="Call a monitor: URL/start, then URL, or URL/CODE with the exit code."
    ),
]
UntilBudget = Annotated[
    bool,
    Option(
        "--until-budget",
        help="Start even if the worst case exceeds a hard cap, and run until the cap stops it.",
    ),
]
Rows = Annotated[
    str, Argument(metavar="ROWS", help="The table: CSV, TSV, JSONL or JSON; - reads standard input.")
]
MaybeRows = Annotated[
    str | None,
    Argument(
        metavar="ROWS",
        help="The table: CSV, TSV, JSONL or JSON; - reads standard input. Without it, -v and --each make the rows.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    Option(
        "-o",
        "--out",
        metavar="FILE",
        help="The output file, complete and in the input's order. Columns in braces ('out/{sku}.txt') make one "
        "file per row. Default: stdout, as rows finish.",
    ),
]
OutFormat = Annotated[
    Format | None,
    Option(
        "--format",
        metavar="csv|tsv|jsonl|json",
        help="The output's format. Default: by FILE's name, else the input's.",
    ),
]
JobName = Annotated[
    str | None,
    Option(
        "--job",
        metavar="NAME",
        help="The job's name; {date} is the budget day. Default: derived from REF, ROWS and FILE.",
    ),
]
Key = Annotated[
    str | None,
    Option("--key", metavar="COLUMN", help="The column that identifies a row. Default: the row's content."),
]
Concurrency = Annotated[
    int, Option("--concurrency", metavar="N", min=1, max=1000, help="Rows in flight at the same time.")
]
Limit = Annotated[int | None, Option("--limit", metavar="N", min=0, help="Send at most N rows this time.")]
Sample = Annotated[
    int | None,
    Option(
        "--sample", metavar="N", min=1, help="Send only N rows, chosen at random; the others stay pending."
    ),
]
Seed = Annotated[int, Option("--seed", metavar="S", help="The sample: the same S chooses the same rows.")]
Canary = Annotated[
    int | None,
    Option(
        "--canary",
        metavar="N",
        min=0,
        help="Send the first N rows alone, and the rest only if few of them fail; 0 skips the canary.",
    ),
]
MaxFailRate = Annotated[
    float | None,
    Option(
        "--max-fail-rate",
        metavar="R",
        min=0.0,
        max=1.0,
        help="The share of canary rows that may fail. Default: 0.2.",
    ),
]
Pack = Annotated[
    str,
    Option(
        "--pack",
        metavar="N|auto",
        help="Send up to N short rows in one request, or as many as pay off (auto); see docs/batches.md.",
    ),
]
Deadline = Annotated[
    str | None,
    Option(
        "--deadline",
        metavar="HH:MM",
        help="Send nothing after this time: the next HH:MM in the configured time zone, or a date and time.",
    ),
]
OnMissing = Annotated[
    OnMiss,
    Option(
        "--on-miss",
        metavar="warn|stop|faster|fastest",
        help="If the deadline will be missed: warn, stop, raise --concurrency, or put the fastest target first.",
    ),
]
TextAs = Annotated[
    str | None,
    Option("--text-as", metavar="NAME", help="The name of the text's column in the output. Default: text."),
]
RetryFailed = Annotated[bool, Option("--retry-failed", help="Send failed, refused and degraded rows again.")]
OnUnknown = Annotated[
    Resend,
    Option(
        "--on-unknown",
        metavar="send|fail",
        help="After an unknown outcome (sent, no reply): send the request again, or fail its row.",
    ),
]
Strict = Annotated[
    bool, Option("--strict", help="Stop before the first call if a column is not used, or a row is invalid.")
]
DryRun = Annotated[bool, Option("--dry-run", help="Print the estimate of `promptkit plan`; send nothing.")]
Map = Annotated[
    list[str] | None,
    Option("--map", metavar="VAR=COLUMN", help="The column that fills a variable. Repeatable."),
]
Each = Annotated[
    list[str] | None,
    Option(
        "--each",
        metavar="VAR=A,B",
        help="Send every row once per value (VAR:=JSON for other lists). Repeatable: all combinations.",
    ),
]
RowTags = Annotated[
    list[str] | None,
    Option(
        "--tag",
        metavar="K=V",
        help="A tag for reports and caps; K=@COLUMN takes the value of that column. Repeatable.",
    ),
]
Job = Annotated[
    str, Argument(metavar="NAME", help="The job, as jobs list prints it; {date} is the budget day.")
]
JobBudget = Annotated[
    str | None, Option("--budget", metavar="USD", help="Hard cap of the job. Default: unchanged.")
]
JobConcurrency = Annotated[
    int | None,
    Option(
        "--concurrency",
        metavar="N",
        min=1,
        max=1000,
        help="Rows in flight at the same time. Default: unchanged.",
    ),
]
Call = Annotated[
    str, Argument(metavar="ID", help="The call, as log prints it; a unique beginning is enough.")
]
Providers = Annotated[
    list[str] | None, Argument(metavar="[NAME]...", help="Only these providers. Default: all.")
]
Refs = Annotated[
    list[str] | None,
    Argument(metavar="REF", help="The templates. Default: all in your own template folders."),
]
AllTemplates = Annotated[bool, Option("--all", help="Include the shipped templates.")]
TemplateName = Annotated[str, Argument(metavar="NAME", help="The template's name: ugc/script.")]
Label = Annotated[str, Argument(metavar="LABEL", help="The label: production, staging ...")]
Reason = Annotated[
    str | None, Option("--reason", metavar="TEXT", help="Why; recorded in the label's history.")
]

# Filters of the ledger's calls.
OfTemplate = Annotated[
    str | None,
    Option("--template", metavar="REF", help="Only calls of this template: ugc/hooks, ugc/hooks@1."),
]
OfJob = Annotated[str | None, Option("--job", metavar="NAME", help="Only calls of this job.")]
WithTags = Annotated[
    list[str] | None, Option("--tag", metavar="K=V", help="Only calls with this tag. Repeatable.")
]
Since = Annotated[
    str | None,
    Option("--since", metavar="TIME", help="2h, 7d, today, yesterday, 2026-11-21, 2026-11-21T22:00."),
]
