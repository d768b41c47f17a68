"""Tests of the room awaiting, and of its door aio."""
