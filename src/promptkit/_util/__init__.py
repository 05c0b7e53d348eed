"""Small helpers that any package may use: TOML, files, locks, sums."""
