"""A comparison as one HTML page that needs no network and no script.

Jinja escapes everything in the page, and a content security policy in the page allows only its own
style, by digest. Whatever a model wrote, a browser only displays it.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, FunctionLoader, StrictUndefined

from promptkit.cli.output import duration, spent
from promptkit.reports.compare import TAG
from promptkit.reports.comparison import Comparison, printable
from promptkit.types import dollars

from .comparison import best_columns, cell_facts, letter


def html_page(comparison: Comparison, zone: ZoneInfo, now_s: float) -> str:
    """Return the page.

    Args:
        comparison: the comparison.
        zone: the time zone of its date.
        now_s: its date, in seconds since the epoch.
    """
    style = _read("comparison.css")
    figures = comparison.figures
    environment: Any = Environment(  # its filters have no types
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters.update(dollars=dollars, duration=duration, spent=spent, letter=letter)
    environment.globals.update(cell_facts=cell_facts)
    return environment.get_template("comparison.html.jinja").render(
        comparison=comparison,
        rows=Path(comparison.table).name,  # readers of the page need not know the folder
        columns=list(zip(comparison.columns, figures, strict=True)),
        stars=best_columns(figures),
        has_checks=any(column.checks_failed is not None for column in figures),
        style=style,
        style_digest=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        created=f"{datetime.fromtimestamp(now_s, UTC).astimezone(zone):%Y-%m-%d %H:%M} {zone.key}",
        tag=TAG,
    )


def _finalize(value: object) -> object:
    """Replace characters that must not be displayed, before texts are escaped."""
    return printable(value) if type(value) is str else value


def _read(name: str) -> str:
    """Read a file beside this module."""
    return resources.files(__package__ or "").joinpath(name).read_text("utf-8")
