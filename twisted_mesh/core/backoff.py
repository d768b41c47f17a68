"""Waits that double from one attempt to the next, up to a longest wait."""

from __future__ import annotations

from typing import Final

_DOUBLINGS: Final = 64  # more could overflow a float, and every wait is at its longest by then


def backoff(first: float, tries: int, longest: float) -> float:
    """Seconds until the next attempt: *first*, doubled for each of *tries* so far, at most *longest*."""
    return min(first * 2.0 ** min(tries, _DOUBLINGS), longest)
