"""The Python API: `AsyncPromptKit` and its blocking form `PromptKit`."""
