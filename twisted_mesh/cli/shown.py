"""Values of a node's status as people read them: names, times and sizes.

Contract: text of other nodes is escaped, so that it moves no cursor and turns no line.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from twisted_mesh.escaping import for_terminal

_TIMES: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))
_SIZES: Final = ((1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB"))


def duration(seconds: float) -> str:
    """``12 s``, ``3 min``, ``2 h`` or ``4 d``: rounded down."""
    for unit, text in _TIMES:
        if seconds >= unit:
            return f"{int(seconds // unit)} {text}"
    return f"{int(max(0, seconds))} s"


def when(unix_seconds: float) -> str:
    """``2026-11-30 03:12:07``, in the time zone of this process; ``-`` if it is no time."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_seconds))
    except (OverflowError, ValueError, OSError):
        return "-"


def round_trip(seconds: float | None) -> str:
    """``1.3 ms``, or ``-`` while it is not known."""
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


def size(count: int) -> str:
    """``999 B``, ``12 kB``, ``3.4 MB``."""
    for unit, text in _SIZES:
        if count >= unit:
            return f"{count / unit:.3g} {text}"
    return f"{count} B"


def tags(values: Mapping[str, str]) -> str:
    """``floor=3 room=7``."""
    return " ".join(f"{for_terminal(key)}={for_terminal(value)}" for key, value in sorted(values.items()))


def packets(values: list[Any]) -> str:
    """The packets of a message as one line; those that are no text as JSON."""
    return " ".join(for_terminal(value) if isinstance(value, str) else f"{value!r}" for value in values)
