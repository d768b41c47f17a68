"""Tells when what a node missed has come: the messages that it had to ask for, from a new link on.

Contract: it looks at the node from a new link on, until nothing is missing that is known to exist, and
nothing has come for ``_QUIET`` seconds.  Meanwhile the log tells every ``_PROGRESS`` seconds how far the
node has come.  A node that had neighbours before asks for a few messages all the time, so for that nothing
is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.core.events import StreamId
from twisted_mesh.core.status import Report
from twisted_mesh.errors import NotRunning
from twisted_mesh.eventloop.deferreds import WaitingDeferreds
from twisted_mesh.grammar import counted
from twisted_mesh.links.connections import Linked
from twisted_mesh.message import CaughtUp

_QUIET: Final = 1.0  # seconds (guess: it takes some round trips until the node knows what it lacks)
_PROGRESS: Final = 10.0  # seconds (guess)
_LONG: Final = 1.0  # seconds for which a node that had neighbours must be behind (guess)
_SHARE: Final = 1 / 8  # of the seconds since the link pass until the next look (guess) ...
_SOONEST, _LATEST = 0.02, 1.0  # ... but so many seconds at least, and at most (guess)
_AUTHORS: Final = 4096  # authors that are counted; more count as so many (guess: as ``members_limit``)
_log = Logger()


class Missed:
    """Looks, from a new link on, whether a node has all messages that it missed."""

    def __init__(
        self, clock: IReactorTime, report: Callable[[], Report], tell: Callable[[CaughtUp], object]
    ) -> None:
        """:param report: gives the streams of the node; *tell*: is called when it has caught up."""
        self._clock = clock
        self._report = report
        self._tell = tell
        self._look_again: IDelayedCall | None = None
        # How many messages of each stream had been fetched at the last look.
        self._fetched: dict[StreamId, int] = {}
        self._authors: set[bytes] = set()  # of the messages fetched since the link
        self._has_been_over = False  # whether a look has ended
        self._over = WaitingDeferreds[None]()

    def linked(self, linked: Linked) -> None:
        """Begin to look for missed messages, since there is a new link, unless that has begun."""
        if self._look_again is None:
            self._since = self._moved = self._last = self._told = self._clock.seconds()
            self._least = 0.0 if linked.count == 1 else _LONG
            self._messages = 0  # fetched since the link
            self._fetched = _fetched(self._report())
            self._look_again = self._clock.callLater(_SOONEST, self._look)

    def over(self) -> Deferred[None]:
        """Fires when the node first has all that it missed, even if that was nothing."""
        return succeed(None) if self._has_been_over else self._over.wait()

    def stop(self) -> None:
        """Look for missed messages no more; Deferreds of :meth:`over` fail."""
        self._over.failed(Failure(NotRunning("the service stopped first")))
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None

    def footprint(self) -> dict[str, int]:
        """Entries of the tables, which are empty unless the node looks."""
        return {"runs_looked_at": len(self._fetched), "authors_fetched": len(self._authors)}

    def _look(self) -> None:
        self._look_again = None
        now, report = self._clock.seconds(), self._report()
        before, self._fetched = self._fetched, _fetched(report)
        missing = sum(stream.missing for stream in report.streams)
        came = 0
        for run, fetched in self._fetched.items():
            if (more := fetched - before.get(run, 0)) > 0:
                came += more
                if len(self._authors) < _AUTHORS:
                    self._authors.add(run[0])
        if came:
            self._messages += came
            self._last = now
        if came or missing:
            self._moved = now
        if now - self._moved >= _QUIET:
            authors, self._fetched, self._authors = len(self._authors), {}, set()
            if self._messages and self._last - self._since >= self._least:
                self._caught_up(self._messages, authors)
            self._has_been_over = True
            self._over.happened(None)
            return
        if missing and now >= self._told + _PROGRESS:
            self._told = now
            there, all_of_them = f"{self._messages:,}", f"{self._messages + missing:,}"
            _log.info("catching up: {there} of {all} messages", there=there, all=all_of_them)
        wait = min(max(_SOONEST, (now - self._since) * _SHARE), _LATEST)
        self._look_again = self._clock.callLater(wait, self._look)

    def _caught_up(self, messages: int, authors: int) -> None:
        seconds = self._last - self._since
        told = f"{counted(messages, 'message')} of {counted(authors, 'author')}"
        _log.info("caught up: {told} in {seconds:.1f} s", told=told, seconds=seconds)
        self._tell(CaughtUp(messages, authors, seconds))


def _fetched(report: Report) -> dict[StreamId, int]:
    return {stream.run: stream.fetched for stream in report.streams}
