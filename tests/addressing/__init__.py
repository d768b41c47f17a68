"""Tests of the room addressing."""
