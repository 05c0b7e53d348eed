"""The wire formats, one module each; `base` defines what they share."""

from __future__ import annotations

from promptkit.simulator.formats.anthropic import FORMAT as ANTHROPIC_MESSAGES
from promptkit.simulator.formats.base import StreamEvents, WireFormat
from promptkit.simulator.formats.gemini import FORMAT as GEMINI_GENERATE
from promptkit.simulator.formats.openai_chat import FORMAT as OPENAI_CHAT
from promptkit.simulator.formats.openai_responses import FORMAT as OPENAI_RESPONSES

__all__ = [
    "ANTHROPIC_MESSAGES",
    "GEMINI_GENERATE",
    "OPENAI_CHAT",
    "OPENAI_RESPONSES",
    "StreamEvents",
    "WireFormat",
]
