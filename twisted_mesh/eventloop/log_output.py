"""The log of a process under ``twistd``: as text or JSON, in a file that can be opened again.

Contract: a process has one log.  :func:`choose` says where it goes, before ``twistd`` asks for it by the
name :data:`FACTORY`.  :func:`reopen` goes on in a new file when another program, such as logrotate, has
moved the old one.  A line of JSON is an object: ``time`` (RFC 3339), ``level``, ``namespace``, ``text``,
and the traceback of a failure as ``failure``.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from typing import IO, Any, Final

from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    formatEvent,
    textFileLogObserver,
)
from twisted.python.logfile import LogFile

FACTORY: Final = f"{__name__}.chosen_log"  #: the name by which twistd finds :func:`chosen_log`
_log = Logger()


class _File(LogFile):
    """A log file that is still open if it cannot be opened again."""

    def reopen(self) -> None:
        """Open the file at the same path, and then close the old one; :raises OSError: it stays open."""
        old = self._file
        self._openFile()
        old.close()


class _Output:
    """Where the log goes.

    :ivar path: of the file; None for standard output.
    :ivar file: the file, once it is open.
    """

    path: str | None = None
    as_json = False
    file: _File | None = None


_output: Final = _Output()


def choose(path: str | None, as_json: bool) -> None:
    """Write the log to the file *path*, or to standard output, as text or JSON."""
    _output.path = None if path is None else os.path.abspath(path)
    _output.as_json = as_json


def chosen_log() -> ILogObserver:
    """Begin to write the log; return what twistd gives the events to."""
    _output.file = None if _output.path is None else _File.fromFullPath(_output.path)
    out: Any = sys.stdout if _output.file is None else _output.file
    return json_log(out) if _output.as_json else textFileLogObserver(out)


def reopen() -> None:
    """Go on in a new file at the same path; if none can be made there, in the old one, with a warning."""
    if (file := _output.file) is None:
        return
    try:
        file.reopen()
    except OSError as error:
        _log.warn("the log {path} cannot be opened again: {why}", path=file.path, why=error.strerror)


def json_log(out: IO[str]) -> ILogObserver:
    """Writes each event that it is given to *out*, as a line of JSON."""
    return FileLogObserver(out, _as_json)


def _as_json(event: LogEvent) -> str | None:
    level, failure = event.get("log_level"), event.get("log_failure")
    fields = {
        "time": datetime.fromtimestamp(event["log_time"], UTC).isoformat(timespec="milliseconds"),
        "level": "info" if level is None else level.name,
        "namespace": event.get("log_namespace", ""),
        "text": formatEvent(event),
    }
    if failure is not None:
        fields["failure"] = failure.getTraceback()
    return f"{json.dumps(fields)}\n" if fields["text"] or failure is not None else None
