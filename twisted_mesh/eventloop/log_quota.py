"""Log lines that peers and authors cause, at a bounded rate.

Contract: nobody can fill the log: no peer, no author, no member with many keys, nor many hosts together.
Lines that are held back are counted: the first line of a later ``log_interval`` tells how many.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from math import inf

from twisted.internet.interfaces import IReactorTime
from twisted.logger import ILogObserver, LogEvent, Logger
from zope.interface import implementer

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.node import DROPPED
from twisted_mesh.grammar import were

_log = Logger()


class _Quota:
    __slots__ = ("held_back", "left", "until")

    def __init__(self, until: float, left: int) -> None:
        self.until, self.left, self.held_back = until, left, 0


class PeerLog:
    """Writes lines that peers cause.

    In each ``log_interval`` it writes at most ``log_burst`` lines about one remote host, and ``log_lines``
    about all hosts together.  It remembers at most ``log_hosts`` hosts, and forgets the oldest.
    """

    def __init__(self, log: Logger, seconds: Callable[[], float], config: MeshConfig) -> None:
        self._log = log
        self._seconds = seconds
        self._config = config
        self._quotas: OrderedDict[str, _Quota] = OrderedDict()
        self._all = _Quota(-inf, 0)

    def line(self, host: str, text: str) -> None:
        """Write *text*, about a peer on *host*, if its quota allows."""
        now, config = self._seconds(), self._config
        if (quota := self._quotas.get(host)) is None or now >= quota.until:
            held_back = 0 if quota is None else quota.held_back
            quota = self._quotas[host] = _Quota(now + config.log_interval, config.log_burst)
            self._quotas.move_to_end(host)
            if held_back:
                text += f" ({were(held_back, 'more line', ' about this host')} held back)"
            if len(self._quotas) > config.log_hosts:
                self._quotas.popitem(last=False)
        if now >= self._all.until:
            if self._all.held_back:
                text += f" ({were(self._all.held_back, 'more line', ' about other hosts')} held back)"
            self._all = _Quota(now + config.log_interval, config.log_lines)
        if not quota.left:
            quota.held_back += 1
        elif not self._all.left:
            self._all.held_back += 1
        else:
            quota.left -= 1
            self._all.left -= 1
            self._log.warn("{text}", text=text)


class AuthorLog:
    """Writes lines that an author causes, whichever peer brings its messages.

    In each ``log_interval`` it writes at most ``log_burst`` lines about one author, and ``log_lines``
    about all authors together.
    """

    def __init__(self, log: Logger, seconds: Callable[[], float], config: MeshConfig) -> None:
        self._log = log
        self._seconds = seconds
        self._config = config
        self._until = -inf
        self._lines: Counter[bytes] = Counter()  # of this interval, by author; at most log_lines authors
        self._held_back = 0

    def line(self, author: bytes, text: str) -> None:
        """Write *text*, about *author*, if its quota and the quota of all authors allow."""
        now, config = self._seconds(), self._config
        if now >= self._until:
            self._until = now + config.log_interval
            self._lines.clear()
            if self._held_back:
                text += f" ({were(self._held_back, 'more line', ' about authors')} held back)"
            self._held_back = 0
        if self._lines[author] < config.log_burst and self._lines.total() < config.log_lines:
            self._lines[author] += 1
            self._log.warn("{text}", text=text)
        else:
            self._held_back += 1


@implementer(ILogObserver)
class QuotaFilter:
    """Gives an observer at most ``log_burst`` events of one kind in each ``log_interval``.

    It is for the lines that Twisted writes when no descriptor is left: some in each turn of the reactor,
    or for each host that connects.  The kind of an event is its format.
    """

    def __init__(self, log_to: ILogObserver, seconds: Callable[[], float], config: MeshConfig) -> None:
        self._log_to = log_to
        self._seconds = seconds
        self._config = config
        self._quotas: dict[str, _Quota] = {}  # by format, of which there are few

    def __call__(self, event: LogEvent) -> None:
        """Hand on *event* if the quota of its kind allows."""
        now, config, kind = self._seconds(), self._config, event.get("log_format") or ""
        if (quota := self._quotas.get(kind)) is None or now >= quota.until:
            if quota is not None and quota.held_back:
                more = f" ({were(quota.held_back, 'more line', ' like this')} held back)"
                event = {**event, "log_format": kind + more}
            quota = self._quotas[kind] = _Quota(now + config.log_interval, config.log_burst)
        if quota.left:
            quota.left -= 1
            self._log_to(event)
        else:
            quota.held_back += 1


class DropLog:
    """Writes one line in each ``log_interval``: how much this node dropped because of its limits."""

    def __init__(self, clock: IReactorTime, interval: float, counts: Callable[[], Counter[str]]) -> None:
        """:param counts: returns how much was dropped so far, by kind (``MeshService.dropped``)."""
        self._clock = clock
        self._interval = interval
        self._counts = counts
        self._written = Counter[str]()
        self._next = clock.callLater(interval, self._look)

    def stop(self) -> None:
        """Stop, and write a line about what was dropped since the last one."""
        self._next.cancel()
        self._write()

    def _look(self) -> None:
        self._next = self._clock.callLater(self._interval, self._look)
        self._write()

    def _write(self) -> None:
        counts = self._counts()
        news = counts - self._written  # a difference of Counters has no count below 1
        if what := ", ".join(f"{news[kind]} {kind}" for kind in sorted(DROPPED & news.keys())):
            _log.warn("dropped for want of room: {what}", what=what)
        self._written = counts
