"""Tells when what a node missed has come: the messages that it had to ask for, from a new link on.

Contract: it looks at the node from a new link on, until nothing is missing that is known to exist, and
nothing has come for ``_QUIET`` seconds.  Meanwhile the log tells every ``_PROGRESS`` seconds how far the
node has come.  A node that had neighbours before asks for a few messages all the time, so for that nothing
is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_mesh.core.events import StreamId
from twisted_mesh.core.status import Report
from twisted_mesh.links.connections import Linked
from twisted_mesh.message import CaughtUp
from twisted_mesh.runtime.handover import counted

_QUIET: Final = 1.0  # seconds (guess: it takes some round trips until the node knows what it lacks)
_PROGRESS: Final = 10.0  # seconds (guess)
_LONG: Final = 1.0  # seconds for which a node that had neighbours must be behind (guess)
_SHARE: Final = 1 / 8  # of the seconds since the link pass until the next look (guess) ...
_SOONEST, _LATEST = 0.02, 1.0  # ... but so many seconds at least, and at most (guess)
_log = Logger()


class Missed:
    """Looks whether a node has what it missed, from a new link on."""

    def __init__(
        self, clock: IReactorTime, report: Callable[[], Report], tell: Callable[[CaughtUp], object]
    ) -> None:
        """:param report: gives the streams of the node; *tell*: is called when it has caught up."""
        self._clock = clock
        self._report = report
        self._tell = tell
        self._look_again: IDelayedCall | None = None
        self._begin(0)

    def linked(self, linked: Linked) -> None:
        """Begin to look, unless it has begun."""
        if self._look_again is None:
            self._begin(linked.count)
            self._look()

    def stop(self) -> None:
        """Look no more."""
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None

    def _begin(self, neighbours: int) -> None:
        self._since = self._moved = self._last = self._told = self._clock.seconds()
        self._least = 0.0 if neighbours == 1 else _LONG
        self._before: dict[StreamId, int] | None = None  # messages of each stream fetched before the link
        self._came: dict[StreamId, int] = {}  # those fetched since then

    def _look(self) -> None:
        self._look_again = None
        now, streams = self._clock.seconds(), self._report().streams
        if self._before is None:
            self._before = {stream.run: stream.fetched for stream in streams}
        came, missing = sum(self._came.values()), sum(stream.missing for stream in streams)
        for stream in streams:
            if (fetched := stream.fetched - self._before.get(stream.run, 0)) > 0:
                self._came[stream.run] = fetched
        messages = sum(self._came.values())
        if messages > came:
            self._last = now
        if messages > came or missing:
            self._moved = now
        if now - self._moved >= _QUIET:
            if messages and self._last - self._since >= self._least:
                self._caught_up(messages)
            return
        if missing and now >= self._told + _PROGRESS:
            self._told = now
            there, all_of_them = f"{messages:,}", f"{messages + missing:,}"
            _log.info("catching up: {there} of {all} messages", there=there, all=all_of_them)
        wait = min(max(_SOONEST, (now - self._since) * _SHARE), _LATEST)
        self._look_again = self._clock.callLater(wait, self._look)

    def _caught_up(self, messages: int) -> None:
        authors, seconds = len({origin for origin, _ in self._came}), self._last - self._since
        told = f"{messages:,} message{'' if messages == 1 else 's'} of {counted(authors, 'author')}"
        _log.info("caught up: {told} in {seconds:.1f} s", told=told, seconds=seconds)
        self._tell(CaughtUp(messages, authors, seconds))
