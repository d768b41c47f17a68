"""The log lines of a part of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import formatEvent, globalLogPublisher


@contextmanager
def logged() -> Iterator[list[str]]:
    """A list of the lines that this package logs meanwhile."""
    texts: list[str] = []

    def keep(event: dict[str, object]) -> None:
        if str(event.get("log_namespace")).startswith("twisted_mesh"):
            texts.append(formatEvent(event))

    globalLogPublisher.addObserver(keep)
    try:
        yield texts
    finally:
        globalLogPublisher.removeObserver(keep)
