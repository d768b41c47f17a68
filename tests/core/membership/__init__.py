"""Tests of the room core.membership."""
