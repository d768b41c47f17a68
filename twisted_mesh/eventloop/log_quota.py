"""Log lines about peers, at a bounded rate.

Contract: :meth:`PeerLog.line` writes at most ``log_burst`` lines for each remote host and ``log_interval``.
It counts the lines it holds back, and says how many with the first line of the next interval.  At most
``log_hosts`` hosts are remembered; the oldest is forgotten.

:meth:`AuthorLog.line` is for lines that an author causes, whichever peer brings its messages: at most
``log_burst`` for each author and ``log_interval``, and ``log_authors`` for all authors together.  A key
costs nothing, so the second bound holds if one member writes under many keys.

:class:`DropLog` writes one line a ``log_interval`` for all that limits made this node drop.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from math import inf

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.node import DROPPED

_log = Logger()


class _Quota:
    __slots__ = ("held_back", "left", "until")

    def __init__(self, until: float, left: int) -> None:
        self.until, self.left, self.held_back = until, left, 0


class PeerLog:
    """Writes lines about peers; no peer can fill the log."""

    def __init__(self, log: Logger, seconds: Callable[[], float], config: MeshConfig) -> None:
        self._log = log
        self._seconds = seconds
        self._config = config
        self._quotas: OrderedDict[str, _Quota] = OrderedDict()

    def line(self, host: str, text: str) -> None:
        """Write *text*, about a peer on *host*, if its quota allows."""
        now, config = self._seconds(), self._config
        if (quota := self._quotas.get(host)) is None or now >= quota.until:
            held_back = 0 if quota is None else quota.held_back
            quota = self._quotas[host] = _Quota(now + config.log_interval, config.log_burst)
            self._quotas.move_to_end(host)
            if held_back:
                text += f" ({held_back} more lines about this host were held back)"
            if len(self._quotas) > config.log_hosts:
                self._quotas.popitem(last=False)
        if quota.left:
            quota.left -= 1
            self._log.warn("{text}", text=text)
        else:
            quota.held_back += 1


class AuthorLog:
    """Writes lines about authors; neither one nor all of them can fill the log."""

    def __init__(self, log: Logger, seconds: Callable[[], float], config: MeshConfig) -> None:
        self._log = log
        self._seconds = seconds
        self._config = config
        self._until = -inf
        self._lines: Counter[bytes] = Counter()  # of this interval, by author: log_authors entries at most
        self._held_back = 0

    def line(self, author: bytes, text: str) -> None:
        """Write *text*, about *author*, if its quota and that of all authors allow."""
        now, config = self._seconds(), self._config
        if now >= self._until:
            self._until = now + config.log_interval
            self._lines.clear()
            if self._held_back:
                text += f" ({self._held_back} more lines about authors were held back)"
            self._held_back = 0
        if self._lines[author] < config.log_burst and self._lines.total() < config.log_authors:
            self._lines[author] += 1
            self._log.warn("{text}", text=text)
        else:
            self._held_back += 1


class DropLog:
    """Writes how much was dropped, by kind, until it is stopped."""

    def __init__(self, clock: IReactorTime, interval: float, counts: Callable[[], Counter[str]]) -> None:
        """:param counts: gives how much was dropped so far, by kind (``MeshService.dropped``)."""
        self._clock = clock
        self._interval = interval
        self._counts = counts
        self._written = Counter[str]()
        self._next = clock.callLater(interval, self._look)

    def stop(self) -> None:
        """Write the rest, then nothing more."""
        self._next.cancel()
        self._write()

    def _look(self) -> None:
        self._next = self._clock.callLater(self._interval, self._look)
        self._write()

    def _write(self) -> None:
        counts = self._counts()
        news = counts - self._written  # those above 0
        if what := ", ".join(f"{news[kind]} {kind}" for kind in sorted(DROPPED & news.keys())):
            _log.warn("dropped for want of room: {what}", what=what)
        self._written = counts
