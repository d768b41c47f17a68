"""Scenarios: the events that happen to a simulated mesh."""
