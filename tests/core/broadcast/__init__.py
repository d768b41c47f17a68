"""Tests of the room core.broadcast."""
