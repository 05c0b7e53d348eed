"""Tests of a template: what its prompts say (offline), and what is answered to them (on a route).

They stand in `tests.toml` beside the versions; replies are replayed from the ledger, so that
running them again costs nothing.
"""

from .case import FILE, Case, ReplyTest, Says, read_cases
from .functions import Functions
from .junit import junit
from .offline import cases_of, problems_of, try_prompts
from .results import Result, Stage, Verdict, failed

__all__ = [
    "FILE",
    "Case",
    "Functions",
    "ReplyTest",
    "Result",
    "Says",
    "Stage",
    "Verdict",
    "cases_of",
    "failed",
    "junit",
    "problems_of",
    "read_cases",
    "try_prompts",
]
