"""The books: every attempt, token and cent, in one SQLite file; the only SQL of the house.

The records load at once; `Ledger`, and with it SQLModel, when it is first named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from promptkit.types import Scope

from .answers import (
    AttemptRecord,
    BudgetRecord,
    CallRecord,
    ChildCall,
    JobSummary,
    LogFilter,
    LoggedCall,
    Money,
    OutputRow,
    PackItem,
    RowRecord,
    RowTrouble,
    TargetShare,
)
from .care import is_wal_reset_affected, sqlite_version
from .records import (
    Admitted,
    AttemptEnd,
    AttemptStart,
    CallEnd,
    CallStart,
    Ingested,
    InputRead,
    JobRecord,
    JobStart,
    JobState,
    MemberEnd,
    Refused,
    RowEnd,
    RowStart,
    RowState,
    Settled,
    SoftPassed,
)

if TYPE_CHECKING:
    from .erasing import Erasable, Erase
    from .ledger import Ledger

__all__ = [
    "Admitted",
    "AttemptEnd",
    "AttemptRecord",
    "AttemptStart",
    "BudgetRecord",
    "CallEnd",
    "CallRecord",
    "CallStart",
    "ChildCall",
    "Erasable",
    "Erase",
    "Ingested",
    "InputRead",
    "JobRecord",
    "JobStart",
    "JobState",
    "JobSummary",
    "Ledger",
    "LogFilter",
    "LoggedCall",
    "MemberEnd",
    "Money",
    "OutputRow",
    "PackItem",
    "Refused",
    "RowEnd",
    "RowRecord",
    "RowStart",
    "RowState",
    "RowTrouble",
    "Scope",
    "Settled",
    "SoftPassed",
    "TargetShare",
    "is_wal_reset_affected",
    "sqlite_version",
]


def __getattr__(name: str) -> Any:
    if name == "Ledger":
        from .ledger import Ledger

        return Ledger
    if name in {"Erasable", "Erase"}:
        from . import erasing

        return getattr(erasing, name)
    raise AttributeError(name)
