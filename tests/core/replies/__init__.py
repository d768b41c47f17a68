"""Tests of the room core.replies."""
