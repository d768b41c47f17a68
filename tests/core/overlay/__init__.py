"""Tests of the room core.overlay."""
