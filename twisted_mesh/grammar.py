"""Numbers and names of things in sentences for people."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """``1 message``, ``2,000 messages``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def were(count: int, noun: str, which: str = "") -> str:
    """``1 line was`` or ``2 lines were``, to begin a sentence with; *which* stands behind the noun."""
    return f"{counted(count, noun)}{which} {'was' if count == 1 else 'were'}"


def a(noun: str) -> str:
    """``a set``, ``an object``."""
    return f"{'an' if noun[:1] in 'aeioAEIO' else 'a'} {noun}"
