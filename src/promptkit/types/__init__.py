"""The words: frozen values that cross from one room to another.

Units stand in the names (`timeout_s`, `input_mtok`, `max_cost_pico`). Money is an integer
of pico-USD (1e-12 USD); what is not known is None, never 0.
"""

from __future__ import annotations

from .calls import Call, Completion, Failure, Fault, Finish, Outcome, Usage, TransportFailure, WireReply, WireRequest
from .money import PICO_PER_USD, Basis, Cost, Estimate, Scope, dollars, usd
from .prompts import (
    Checks,
    Format,
    Json,
    JsonObject,
    Kind,
    Message,
    OnFailure,
    Params,
    Parsed_co,
    Prefix,
    Prompt,
    Reasoning,
    Role,
    Rules,
    TemplateRef,
    TemplateSpec,
    Value,
    Variable,
)
from .providers import Checked, Limits, Model, OnContent, OnReject, PriceOverride, Provider, Route, Target
from .results import Attempt, AttemptState, OnMiss, Reply, Row, RowResult, Status

__all__ = [
    "PICO_PER_USD",
    "Attempt",
    "AttemptState",
    "Basis",
    "Call",
    "Checked",
    "Checks",
    "Completion",
    "Cost",
    "Estimate",
    "Failure",
    "Fault",
    "Finish",
    "Format",
    "Json",
    "JsonObject",
    "Kind",
    "Limits",
    "Message",
    "Model",
    "OnContent",
    "OnFailure",
    "OnMiss",
    "OnReject",
    "Outcome",
    "Params",
    "Parsed_co",
    "Prefix",
    "PriceOverride",
    "Prompt",
    "Provider",
    "Reasoning",
    "Reply",
    "Role",
    "Route",
    "Row",
    "RowResult",
    "Rules",
    "Scope",
    "Status",
    "Target",
    "TemplateRef",
    "TemplateSpec",
    "Usage",
    "Value",
    "Variable",
    "WireBreak",
    "WireReply",
    "WireRequest",
    "dollars",
    "usd",
]
