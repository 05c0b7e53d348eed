"""Simulated providers on loopback: three wire formats, with faults, limits and a bill."""
