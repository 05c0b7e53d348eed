"""Checks on replies: text rules and JSON Schema. Pure."""
