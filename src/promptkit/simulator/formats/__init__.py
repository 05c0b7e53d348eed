"""The wire formats, one module each; `base` says what a format is."""

from __future__ import annotations

from promptkit.simulator.formats import anthropic as anthropic_messages
from promptkit.simulator.formats import gemini as gemini_generate
from promptkit.simulator.formats import openai_chat, openai_responses

from .base import Events, Format

ANTHROPIC_MESSAGES = anthropic_messages.FORMAT
GEMINI_GENERATE = gemini_generate.FORMAT
OPENAI_CHAT = openai_chat.FORMAT
OPENAI_RESPONSES = openai_responses.FORMAT

__all__ = [
    "ANTHROPIC_MESSAGES",
    "GEMINI_GENERATE",
    "OPENAI_CHAT",
    "OPENAI_RESPONSES",
    "Events",
    "Format",
]
