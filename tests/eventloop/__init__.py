"""Tests of the room eventloop."""
