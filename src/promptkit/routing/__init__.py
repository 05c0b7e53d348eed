"""Routing decisions: faults, failover, circuit breakers, rate limits, budgets. Pure."""
