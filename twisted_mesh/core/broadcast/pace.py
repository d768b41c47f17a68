"""How fast links bring what they were asked for, and whether another one is to be asked beside one.

Contract: pure looking at the links' paces and at what is under way over them.  That is what peers do, and
nothing they sign: it decides who is asked, and who is waited for, for a bounded time.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.arriving import Partial
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.link import SLOWED_SECONDS, Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.meter import FLOOR

LOOK_AGAIN: Final = 1.0  # seconds from one look at what is under way to the next (guess)
_STALLED_SECONDS: Final = 5.0  # an answer may take so long, and longer if it brings more than
_STALLED_RATE: Final = 4096  # so many bytes a second that were missing (guess: a modem's)
#: Bytes that may stand before an answer, either way (guess: as many as are pushed at first).
_QUEUE: Final = 64 * 1024
_SECONDS: Final = 4.0  # of slow lines are asked for at a time (guess)
_MUCH: Final = 4  # times as fast: then another link is asked beside a slow one (guess)


class Pace:
    """The paces of a node's links."""

    def __init__(self, links: Links, config: MeshConfig) -> None:
        self._links = links
        self._config = config

    def of(self, link: Link) -> float:
        """Bytes a second that *link* may bring: as it did, or as the fastest does; 0: not known."""
        return link.repair.pace or self._fastest

    def is_much_slower(self, link: Link) -> bool:
        """Whether *link* is known to be much slower than another."""
        return 0 < _MUCH * link.repair.pace < self._fastest

    def answered(self, link: Link, size: int, since: float, now: float) -> None:
        """*link*, asked at *since*, has answered with *size* bytes: it is that fast at least."""
        if now > since and size >= _QUEUE and not link.repair.is_slowed(now):  # else its frames have told
            link.repair.pace = max(link.repair.pace, size / (now - since))

    def is_outrun(self, link: Link, rival: Link, since: float, got: int, now: float) -> bool:
        """Whether *rival* would bring what is missing much sooner than *link*, which is at it.

        :param since: when *link* was asked; *got*: bytes it has brought since then.
        """
        # It answers in turn, so that it begins when it has ended another answer; but only so long, or it
        # could answer about its own runs for ever.
        seconds = max(
            now - max(since, link.repair.answered_at), now - since - self._config.gap_longest / _MUCH
        )
        if not link.repair.is_slowed(now):  # a silent link is judged by Repair
            return got > 0 and seconds >= _STALLED_SECONDS + got / _STALLED_RATE
        if seconds < _STALLED_SECONDS:
            return False
        if self.of(rival) > _MUCH * link.repair.pace:
            return True
        return not rival.repair.pace and seconds >= self._config.gap_patience

    def outrun_at(self, link: Link, since: float, got: int, now: float) -> float:
        """When to look next whether *link* is outrun."""
        begun = max(since, link.repair.answered_at)
        if link.repair.is_slowed(now):
            return max(begun + _STALLED_SECONDS, now + LOOK_AGAIN)
        return begun + _STALLED_SECONDS + got / _STALLED_RATE

    def is_patient(self, since: float, now: float) -> bool:
        """Whether to wait on for a link that has been silent *since* then, though another could be asked.

        If any line is slow it may be this node's own: then all are, and each would bring the same.
        """
        return self._is_any_slowed(now) and now < since + self._config.gap_patience

    def silence(self, link: Link) -> float:
        """Seconds for which *link* may bring nothing since there is something in the queue before it."""
        known = [pace for pace in (link.repair.pace, link.flow.meter.rate) if pace]
        return min(_QUEUE / min(known), self._config.gap_patience) if known else 0.0

    def is_slow(self, link: Link, now: float) -> bool:
        """Whether *link* has a slow line, or any line is slow now, which may be the own one."""
        return self._is_known_slow(link, now) or self._is_any_slowed(now)

    def answers_within(self, link: Link, now: float) -> float:
        """Seconds for which an answer of *link*, of which nothing comes, may still be on its way."""
        return self._config.gap_longest if self.is_slow(link, now) else self._config.gap_patience

    def sign(self, link: Link, since: float, now: float) -> float:
        """When *link*, slow and asked or given up at *since*, last gave reason to wait for it."""
        # If it has not read all it was sent, the WANT may be among that.
        is_late = link.flow.meter.is_waiting and self._is_known_slow(link, now)
        return now if is_late else max(since, link.repair.last_batch_at)

    def _is_known_slow(self, link: Link, now: float) -> bool:
        meter = link.flow.meter
        waits = meter.is_waiting and link.flow.unread > FLOOR and meter.waiting_since + SLOWED_SECONDS < now
        return waits or self.silence(link) > self._config.graft_retry

    def bytes_in_time(self, now: float) -> float:
        """What may be asked for at a time, if lines are slow: as much as they bring in a few seconds."""
        slowed = [link for link in self._links.all if link.repair.is_slowed(now)]
        return _SECONDS * sum(link.repair.pace for link in slowed) if slowed else inf

    def _is_any_slowed(self, now: float) -> bool:
        return any(link.repair.is_slowed(now) for link in self._links.all)

    def under_way(self, run: StreamId) -> list[tuple[Link, Partial]]:
        """The links that are in the middle of a batch of *run*."""
        links = self._links.all
        return [
            (one, one.repair.partial)
            for one in links
            if one.repair.partial is not None and one.repair.partial.run == run
        ]

    def passed(
        self, under_way: Iterable[tuple[Link, Partial]], rival: Link, now: float
    ) -> list[tuple[int, int]]:
        """Of what is under way that for which *rival* need not be asked: ranges, sorted."""
        return sorted(
            (partial.first, partial.last)
            for link, partial in under_way
            if link is rival or not self._is_overtaken(partial, rival, now)
        )

    def _is_overtaken(self, partial: Partial, rival: Link, now: float) -> bool:
        """Whether *rival* is to be asked for what is under way all the same: it may be dripped for ever."""
        age, left, patience = now - partial.began, partial.seconds_left, self._config.gap_patience
        if age < patience or left < patience:
            return False
        pace = self.of(rival)
        if pace and left > _MUCH * partial.length / pace:
            return True
        most = self._config.gap_longest
        return not rival.repair.pace and (age > most / _MUCH or age + left > most)

    @property
    def _fastest(self) -> float:
        return max((link.repair.pace for link in self._links.fed), default=0.0)
