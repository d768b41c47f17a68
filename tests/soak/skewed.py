"""The wall clock of a process, which can be set while it runs.

Contract: :func:`install` comes before Twisted is imported, since that keeps the function it finds. The
monotonic clock is left alone, as it is when the clock of a machine is set.
"""

from __future__ import annotations

import time

_offset = [0.0]
_real = time.time


def install(offset: float) -> None:
    """Let the wall clock be wrong by *offset* seconds from now on."""
    _offset[0] = offset
    time.time = lambda: _real() + _offset[0]


def jump(seconds: float) -> None:
    """Set the clock forwards, or back."""
    _offset[0] += seconds
