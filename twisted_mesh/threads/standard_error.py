"""The package's log on standard error, for programs that do not use Twisted's log.

Contract: each event is one line.  Warnings and errors are always written; other events are written if a
socket has a ``debug_level`` above 0.
"""

from __future__ import annotations

import sys

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

_PACKAGE = __name__.split(".")[0]


@implementer(ILogObserver)
class StandardError:
    """Writes log events of this package to ``sys.stderr``.

    :ivar verbose: whether to write events below a warning, too.
    """

    def __init__(self) -> None:
        self.verbose = False

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_namespace", "").split(".")[0] != _PACKAGE or sys.stderr is None:
            return
        level = event["log_level"]
        # Failures, which are critical, are left out: Twisted itself writes them to standard error, with a
        # traceback.  If the application has begun a log, they belong there.
        if level is not LogLevel.critical and (self.verbose or level >= LogLevel.warn):
            sys.stderr.write(f"mesh: {formatEvent(event)}\n")
            sys.stderr.flush()


_observer = StandardError()


def log_to_standard_error(debug_level: int) -> None:
    """Write the log from now on; if *debug_level* is above 0, write events below a warning, too."""
    _observer.verbose |= debug_level > 0
    globalLogPublisher.addObserver(_observer)  # a second call adds nothing
