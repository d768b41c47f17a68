"""Tests of the room core.history."""
