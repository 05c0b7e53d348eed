"""The bounded template language: Jinja with a sandbox, a compiler, and its tokens."""
