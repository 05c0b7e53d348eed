"""The engine: carries out a call over the targets of its route and records each attempt."""
