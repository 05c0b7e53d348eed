"""A template file: TOML front matter between `+++` lines, then Jinja."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import cast

from promptkit._util import toml
from promptkit._util.toml import Table
from promptkit.errors import PromptKitError, TemplateError
from promptkit.types import Json, Params, Reasoning, TemplateSpec
from promptkit.validation.rules import read_checks

from .declarations import read_variables
from .reference import normalise

FENCE = "+++"
MAX_SOURCE_BYTES = 1_000_000
_FENCE = re.compile(r"^\+\+\+[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Source:
    """A template file, read.

    `text` is the whole file with LF line ends, `body` the part behind the front matter and
    `offset` how many lines come before it. `file` is only for messages.
    """

    file: str
    text: str
    body: str
    offset: int
    spec: TemplateSpec

    def key_line(self, *path: str) -> int:
        """Return the line of a key of the front matter, or of its nearest table; 1 if there is none."""
        table = _front_matter(self.text, self.file)
        for name in path[:-1]:
            table = table.table(name)
        return table.fail("", path[-1]).line or 1


def read_source(raw: bytes | str, *, file: str) -> Source:
    """Read a template file.

    Args:
        raw: its content; bytes are UTF-8, with or without a byte order mark.
        file: its name, for messages.

    Raises:
        TemplateError: too large, not UTF-8, or its front matter is broken.
    """
    text = normalise(_decode(raw, file))
    head, body, offset = _split(text, file)
    spec = TemplateSpec() if head is None else read_spec(_table(head, file))
    return Source(file, text, body, offset, spec)


def _table(head: str, file: str) -> toml.Table:
    return toml.parse(head, file=file, error=TemplateError, line_offset=1)


@lru_cache(maxsize=64)
def _front_matter(text: str, file: str) -> toml.Table:
    return _table(_split(text, file)[0] or "", file)


def _decode(raw: bytes | str, file: str) -> str:
    if len(raw) > MAX_SOURCE_BYTES:
        raise TemplateError(
            f"a template of {len(raw):,} bytes; at most {MAX_SOURCE_BYTES:,} are read",
            file=file,
            remedy="Move data into variables and shared text into includes.",
        )
    if isinstance(raw, str):
        return raw.removeprefix("\ufeff")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise TemplateError(
            f"not UTF-8: byte {cause.object[cause.start]:#04x}",
            file=file,
            line=cause.object[: cause.start].count(b"\n") + 1,
            remedy="Save the file as UTF-8.",
        ) from None


def _split(text: str, file: str) -> tuple[str | None, str, int]:
    """Return the front matter, the body and the number of lines before the body."""
    opening = _FENCE.match(text)
    if opening is None:
        return None, text, 0
    closing = _FENCE.search(text, opening.end())
    if closing is None:
        raise TemplateError(
            "the front matter has no end",
            file=file,
            line=1,
            remedy=f"Close it with a line {FENCE}.",
        )
    head = text[opening.end() + 1 : closing.start()]
    return head, text[closing.end() + 1 :], text.count("\n", 0, closing.end()) + 1


def read_spec(table: Table) -> TemplateSpec:
    """Read the front matter.

    Raises:
        TemplateError: an unknown key, a wrong type, or a default outside its own bounds.
    """
    checks = table.table("checks")
    spec = TemplateSpec(
        description=table.text("description", ""),
        variables=read_variables(table.table("variables")),
        params=_params(table.table("params")),
        output=_output(table),
        checks=read_checks(checks) if "checks" in table else None,
        lint=_switches(table.table("lint")),
    )
    table.finish()
    return spec


def _switches(table: Table) -> dict[str, str]:
    """Lint rules that are off; a reason must be given."""
    reasons = {code: table.text(code) for code in table.keys()}  # noqa: SIM118 - a Table, no dict
    for code, reason in reasons.items():
        if not reason.strip():
            raise table.fail(
                f"lint.{code} gives no reason",
                code,
                remedy=f'Say why the rule is off here: {code} = "because ...".',
            )
    return reasons


def _float(number: Decimal | None) -> float | None:
    return None if number is None else float(number)


def _params(table: Table) -> Params:
    params = Params(
        max_output_tokens=table.integer("max_output_tokens", None, least=1),
        reasoning=table.choice("reasoning", Reasoning, None),
        temperature=_float(table.number("temperature", None, least=0)),
        top_p=_float(table.number("top_p", None, least=0)),
        top_k=table.integer("top_k", None, least=1),
        frequency_penalty=_float(table.number("frequency_penalty", None)),
        presence_penalty=_float(table.number("presence_penalty", None)),
        seed=table.integer("seed", None),
        stop=table.texts("stop", ()),
    )
    table.finish()
    return params


def _output(table: Table) -> dict[str, Json] | None:
    """Read the JSON Schema of a structured reply, as plain JSON."""
    schema = table.table("output")
    if not schema.keys():
        return None
    return {key: _json(schema.raw(key), schema, key) for key in schema.keys()}  # noqa: SIM118 - a Table, no dict


def _json(value: object, table: Table, key: str) -> Json:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        return [_json(item, table, key) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {name: _json(item, table, key) for name, item in cast("dict[str, object]", value).items()}
    if isinstance(value, (str, int, bool)):
        return value
    error: PromptKitError = table.fail(f"{key} has a value that JSON does not support: {value}", key)
    raise error
