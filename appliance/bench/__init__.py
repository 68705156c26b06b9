"""Benchmarks: each prints one JSON object with flat figures, units in their names."""
