"""A comparison as one HTML page that needs nothing else: no network, no script.

All that it shows is escaped by Jinja, and a policy in the page itself allows its own style and
nothing more, by digest: whatever a model wrote, a browser only shows it.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from jinja2 import Environment, FunctionLoader, StrictUndefined

from promptkit.reports.compare import TAG
from promptkit.reports.comparison import Comparison, printable
from promptkit.types import dollars

from .comparison import cell_facts, letter, starred
from .money import spent
from .times import lasting

_PAGE: Final = "comparison.html.jinja"


_STYLE: Final = "comparison.css"


def page(found: Comparison, zone: ZoneInfo, now_s: float) -> str:
    """The page.

    Args:
        found: the comparison.
        zone: whose time the page tells.
        now_s: when it is made, in seconds since the epoch.
    """
    style = _data(_STYLE)
    figures = found.figures
    environment: Any = Environment(  # its filters have no types of their own
        loader=FunctionLoader(_data),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters.update(dollars=dollars, lasting=lasting, spent=spent, letter=letter)
    environment.globals.update(cell_facts=cell_facts)
    return environment.get_template(_PAGE).render(
        found=found,
        rows=Path(found.table).name,  # a page is passed on: nobody needs to know whose folder it was
        columns=list(zip(found.columns, figures, strict=True)),
        stars=starred(figures),
        has_checks=any(one.checks_failed is not None for one in figures),
        style=style,
        style_digest=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        made=f"{datetime.fromtimestamp(now_s, UTC).astimezone(zone):%Y-%m-%d %H:%M} {zone.key}",
        tag=TAG,
    )


def _finalize(value: object) -> object:
    """What is put into the page: texts made fit to be shown, before they are escaped."""
    return printable(value) if type(value) is str else value


def _data(name: str) -> str:
    """A file that stands beside this module."""
    return resources.files(__package__ or "").joinpath("pages", name).read_text("utf-8")
