"""Providers: wire formats, SDK clients, prices and token counts."""
