"""Batches: input tables, jobs, rows, output files and quotes."""
