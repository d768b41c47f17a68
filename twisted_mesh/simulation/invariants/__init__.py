"""Checks of the promises that a simulated mesh must keep."""
