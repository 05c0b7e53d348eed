"""Providers on loopback: the three wire formats, strict, deterministic, with faults and a bill.

It shares the words of promptkit and nothing of its adapters, prices or tokens, so that what
it accepts and what it bills can contradict the rest of the house.
"""

from __future__ import annotations

from .scenario import FaultRule, LimitRule, ModelRule, Scenario, read_faults, read_scenario
from .server import Simulator
from .serving import serve

__all__ = [
    "FaultRule",
    "LimitRule",
    "ModelRule",
    "Scenario",
    "Simulator",
    "read_faults",
    "read_scenario",
    "serve",
]
