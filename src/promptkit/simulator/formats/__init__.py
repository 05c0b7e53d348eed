"""The wire formats, one module each; `base` says what a format is."""

from __future__ import annotations

from . import anthropic_messages, gemini_generate, openai_chat, openai_responses
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
