"""The package's log on standard error, for programs that know nothing of Twisted's.

Contract: warnings and errors always, the rest where a ``debug_level`` asked for it, one line each.
"""

from __future__ import annotations

import sys

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

_PACKAGE = __name__.split(".")[0]


@implementer(ILogObserver)
class StandardError:
    """Writes log events of this package to ``sys.stderr``.

    :ivar verbose: whether to write those that only a ``debug_level`` brings about.
    """

    def __init__(self) -> None:
        self.verbose = False

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_namespace", "").split(".")[0] != _PACKAGE or sys.stderr is None:
            return
        level = event["log_level"]
        # Failures are critical.  Those Twisted writes to standard error itself, with their traceback,
        # as long as nobody has begun a log; who has wants them there.
        if level is not LogLevel.critical and (self.verbose or level >= LogLevel.warn):
            sys.stderr.write(f"mesh: {formatEvent(event)}\n")
            sys.stderr.flush()


_observer = StandardError()


def log_to_standard_error(debug_level: int) -> None:
    """Write the log from now on; more than warnings if *debug_level* is above 0."""
    _observer.verbose |= debug_level > 0
    globalLogPublisher.addObserver(_observer)  # which it does once, however often it is told
