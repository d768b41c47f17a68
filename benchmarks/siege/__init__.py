"""Honest messages beside an attacker: ``python -m benchmarks.siege``."""
