"""`batch --dry-run`: the rows read, checked, rendered and priced; nothing sent, nothing written."""

from __future__ import annotations

from dataclasses import dataclass

from promptkit.batch import usd_text
from promptkit.errors import ExitCode, PromptKitError, counted
from promptkit.jobs import JobOptions
from promptkit.jobs.ingest import Reader
from promptkit.jobs.source import source_of
from promptkit.session import Session
from promptkit.templates import Skeleton
from promptkit.tokens import estimate_input_tokens
from promptkit.types import Prompt, Route, dollars

from .estimates import Ceilings
from .face import Face


@dataclass(slots=True)
class Checked:
    """What a reading of the rows found."""

    rows: int = 0
    invalid: int = 0
    input_tokens: int = 0
    ceiling_pico: int = 0
    unpriced: int = 0

    def add(self, prompt: Prompt | None, ceilings: Ceilings) -> None:
        """Count a row; None is one that makes no prompt."""
        self.rows += 1
        if prompt is None:
            self.invalid += 1
            return
        self.input_tokens += estimate_input_tokens(prompt)
        pico = ceilings.pico(prompt)
        self.ceiling_pico += pico or 0
        self.unpriced += pico is None


def check_rows(
    face: Face, session: Session, ref: str, rows: str | None, route: Route, options: JobOptions
) -> int:
    """Check what a batch would do; returns 1 where rows are invalid.

    Raises:
        PromptKitError: the batch would refuse to start.
    """
    skeleton = session.library.load(ref, allow_draft=False)
    target = session.plan(route, template=skeleton.ref.name, tags=options.all_rows_tags).hops[0].target
    source = source_of(rows, options.format)
    reader = Reader(session, skeleton, source.name, source.read(), options)
    ceilings = Ceilings(session, skeleton, route, target)
    checked = Checked()
    for row in reader.rows():
        prompt = None if row.error is not None else _rendered(face, skeleton, row.line, row.variables or {})
        checked.add(prompt, ceilings)
    reader.tell()
    most = None if checked.unpriced else checked.ceiling_pico
    if face.as_json:
        face.print_json(
            {
                "template": str(skeleton.ref),
                "template_digest": skeleton.digest,
                "target": str(target),
                "rows": checked.rows,
                "invalid": checked.invalid,
                "input_tokens_estimate": checked.input_tokens,
                "ceiling_usd": usd_text(most),
            }
        )
    else:
        face.print(
            f"{counted(checked.rows, 'row')} for {skeleton.ref}: {checked.rows - checked.invalid:,} can be sent, "
            f"{checked.invalid:,} {'is' if checked.invalid == 1 else 'are'} invalid\n"
            f"first asked: {target}; about {counted(checked.input_tokens, 'input token')}; "
            f"at most {dollars(most)} if every first attempt succeeds\n"
            "nothing was sent"
        )
    return ExitCode.SOME_FAILED if checked.invalid else ExitCode.OK


def _rendered(face: Face, skeleton: Skeleton, line: int | None, variables: object) -> Prompt | None:
    try:
        return skeleton.render(skeleton.bind(variables))  # pyright: ignore[reportArgumentType] - as bound before
    except PromptKitError as cause:
        face.say(f"line {line}: {cause}")
        return None
