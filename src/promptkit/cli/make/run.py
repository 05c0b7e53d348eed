"""`promptkit run`: one text, at the end or as it arrives."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from promptkit.cli import options, values
from promptkit.cli.command import Cli
from promptkit.cli.views.reply import reply_json, reply_summary
from promptkit.errors import ExitCode, OutputError, UsageError
from promptkit.types import Status

if TYPE_CHECKING:
    from promptkit import Reply, ReplyStream


def run(
    cli: Cli,
    ref: options.Ref,
    var: options.Vars = None,
    vars_: options.VarsFile = None,
    route: options.RouteName = None,
    target: options.Targets = None,
    tag: options.Tags = None,
    budget: options.Budget = None,
    stream: options.Stream = False,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
) -> int:
    """Make one text.

    The text goes to stdout, its target and cost to stderr. With --stream the text is printed as it
    arrives. Retries and failover happen before its first word; if the stream breaks off later, the
    text so far is kept and the exit code is 5. If you interrupt a stream, the call is charged at its
    max cost, because the provider never reports the real cost.

    Examples:
        promptkit run ugc/hooks -v brand=Barly -v product="protein bar" -v audience=runners
        promptkit run ugc/script@2 --vars barly.json --route longform --tag client=barly
        promptkit run demo/hook --vars barly.json --target local/smollm2-135m --json
        promptkit run ugc/script --vars barly.json --stream
    """
    from promptkit import PromptKit

    if stream and cli.as_json:
        raise UsageError(
            "--stream prints the text as it arrives, --json one document at the end",
            remedy="Give only one of them.",
        )
    variables = values.read_variables(var, vars_)
    call: dict[str, Any] = {
        "route": route,
        "targets": target,
        "tags": values.read_tags(tag),
        "budget_usd": values.read_budget(budget),
        "cache": values.read_cache(cache, none=no_cache),
    }
    with PromptKit(cli.settings()) as kit:
        if stream:
            reply = TextOnStdout().print(kit.stream(ref, variables, **call))
        else:
            reply = kit.run(ref, variables, **call)
    if cli.as_json:
        cli.print_json(reply_json(reply))
    else:
        if not stream:
            cli.print(reply.text)
        for flag in reply.flags:
            cli.notice(f"flagged: {flag}")
        cli.notice(reply_summary(reply))
    return ExitCode.SOME_FAILED if reply.status is Status.DEGRADED else ExitCode.OK


class TextOnStdout:
    """A text on stdout as it arrives. If stdout fails, the call continues: it is paid and recorded."""

    def __init__(self) -> None:
        self._last = ""
        self._error: OSError | None = None

    def print(self, stream: ReplyStream) -> Reply:
        """Print a stream to its end; its last line is ended, however the stream ends.

        Raises:
            PromptKitError: as `PromptKit.run` raises.
            OutputError: stdout is not writable. (A reader that is gone is not an error.)
        """
        try:
            with stream:
                for piece in stream:
                    self._write(piece)
        finally:
            if self._last and not self._last.endswith("\n"):
                self._write("\n")
        reply = stream.reply
        if self._error is not None and not isinstance(self._error, BrokenPipeError):
            raise OutputError(
                f"stdout is not writable: {self._error.strerror}",
                remedy=f"The reply is in the ledger: promptkit show {reply.id}",
            )
        return reply

    def _write(self, text: str) -> None:
        if self._error is not None:
            return
        self._last = text  # first, because an interrupt may come at any point
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError as cause:
            self._error = cause
