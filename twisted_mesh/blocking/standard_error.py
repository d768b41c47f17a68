"""The package's log on standard error, for programs that do not use Twisted's log.

Contract: warnings and errors are always written, other events if a ``debug_level`` asks for them; one line
each.
"""

from __future__ import annotations

import sys

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

_PACKAGE = __name__.split(".")[0]


@implementer(ILogObserver)
class StandardError:
    """Writes log events of this package to ``sys.stderr``.

    :ivar verbose: whether to write the events of a ``debug_level``, too.
    """

    def __init__(self) -> None:
        self.verbose = False

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_namespace", "").split(".")[0] != _PACKAGE or sys.stderr is None:
            return
        level = event["log_level"]
        # Not failures, which are critical: Twisted writes these to standard error itself, with a traceback,
        # unless the application has begun a log; then they belong there.
        if level is not LogLevel.critical and (self.verbose or level >= LogLevel.warn):
            sys.stderr.write(f"mesh: {formatEvent(event)}\n")
            sys.stderr.flush()


_observer = StandardError()


def log_to_standard_error(debug_level: int) -> None:
    """Write the log from now on; more than warnings if *debug_level* is above 0."""
    _observer.verbose |= debug_level > 0
    globalLogPublisher.addObserver(_observer)  # a second call adds nothing
