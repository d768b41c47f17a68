"""Tests of what the benchmarks compute and show: pure."""
