"""Configuration: `promptkit.toml`, provider files, keys and the environment become `Settings`."""
