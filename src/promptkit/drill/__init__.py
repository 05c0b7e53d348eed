"""Outages, rehearsed: the user's own configuration against the simulator, on a clock that runs fast.

`outages` are data, `stage` puts a simulator in the place of every provider, `playing` runs a job
through one outage after the other, `tally` counts what came of it, and `verdict` says whether
that is clean, and what to change where it isn't.
"""

from __future__ import annotations

from .clock import FastClock
from .outages import Outage, Player, chosen, outages
from .playing import Order, Played, play
from .samples import sample_rows
from .stage import Facts, facts_of, players_of, scenario_for
from .tally import Tally, hints_ignored, paid_twice
from .verdict import advice, faults_of, notes

__all__ = [
    "Facts",
    "FastClock",
    "Order",
    "Outage",
    "Played",
    "Player",
    "Tally",
    "advice",
    "chosen",
    "facts_of",
    "faults_of",
    "hints_ignored",
    "notes",
    "outages",
    "paid_twice",
    "play",
    "players_of",
    "sample_rows",
    "scenario_for",
]
