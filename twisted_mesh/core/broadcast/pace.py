"""How fast links bring the messages that they were asked for, and how long this node waits for a link.

Contract: a peer answers a WANT with batches, and ends the *answer* with a HAVE.  A *pace*, the bytes
a second that a link brings, is unsigned: so it decides only which link is asked, and how long this node
waits for a link.  The rules, each with its reason:

* how long a link may be silent depends on its progress: after a fixed time, every link would be asked over
  a slow line, and all would send the same messages;
* a link that is in the middle of a frame for long has a slow line, or its peer sends slowly on purpose
  (*drips*): a second link is asked for the same messages if it is known to be much faster;
* if the line of the link that was asked is slow, and that of another is not, the other is asked as soon as
  nothing comes: a WANT can wait for a minute before a slow line;
* an answer that comes too slowly is given up, too: otherwise a peer could hold up a run for as long as it
  likes;
* for an old hole, which is *urgent*, no link is waited for any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.arriving import Partial
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.history import History
from twisted_mesh.core.link import SLOWED_SECONDS, Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.meter import FLOOR

LOOK_AGAIN: Final = 1.0  # seconds between two looks at messages that are coming (guess)
_STALLED_SECONDS: Final = 5.0  # an answer may take so long, and longer the more bytes it brings (guess)
_STALLED_RATE: Final = 4096  # bytes that extend _STALLED_SECONDS by a second (guess: a modem's)
_QUEUE: Final = 64 * 1024  # bytes that may be queued before an answer, in either direction (guess)
_SECONDS: Final = 4.0  # seconds in which slow lines bring all that is asked for at a time (guess)
_MUCH: Final = 4  # if another link is so many times as fast as a slow one, both are asked (guess)
_ROUND_TRIPS: Final = 4  # round trips without progress before another link is asked (guess)
_PATIENT: Final = 5  # times as long to wait for a link that brings other batches meanwhile (guess)
_UNREAD: Final = 3  # times gap_patience in which peers read a WANT (guess: 20 kB at 500 bytes a second)
_URGENT: Final = 1 / 2  # the part of gap_longest after which a hole is urgent (guess)


class Pace:
    """The paces of a node's links."""

    def __init__(self, history: History, links: Links, config: MeshConfig) -> None:
        self._history = history
        self._links = links
        self._config = config
        self._own_slow = -inf, False  # when that was found out

    def of(self, link: Link) -> float:
        """The pace of *link* in bytes a second; if unknown, that of the fastest link, or 0."""
        return link.repair.pace or self._fastest

    def is_much_slower(self, link: Link) -> bool:
        """Whether *link* is known to be much slower than another."""
        return 0 < _MUCH * link.repair.pace < self._fastest

    def passed_at(self, link: Link, rival: Link, since: float, now: float) -> float:
        """When to ask *rival*, too, if *link*, which was asked, has brought nothing of it since *since*.

        If *link* has a slow line and *rival* has none, the slow line is not this node's own.  Other batches
        bring the answer nearer, but *link* could send these for ever: they count for ``gap_patience``.

        :return: inf if *rival* may have a slow line, too, or *link* has none.
        """
        is_quick = not self.is_known_slow(rival, now) and not rival.repair.is_slowed(now)
        if not is_quick or not self.is_known_slow(link, now):
            return inf
        since = max(since, min(link.repair.last_batch_at, since + self._config.gap_patience))
        return since + max(self._config.graft_retry, _ROUND_TRIPS * link.flow.rtt)

    def answered(self, link: Link, size: int, since: float, now: float) -> None:
        """Note that *link*, asked at *since*, has answered with *size* bytes: its pace is at least that."""
        if now > since and size >= _QUEUE and not link.repair.is_slowed(now):  # else frames showed its pace
            link.repair.pace = max(link.repair.pace, size / (now - since))

    def is_outrun(self, link: Link, rival: Link, since: float, got: int, now: float) -> bool:
        """Whether *rival* would bring the missing messages much sooner than *link*, which was asked.

        :param since: when *link* was asked; *got*: bytes that it has brought since then.
        """
        # A peer sends one answer after the other, so this answer's time begins when the one before has
        # ended, but not later than gap_longest / 4: the peer could answer about its own runs for ever.
        seconds = max(
            now - max(since, link.repair.answered_at), now - since - self._config.gap_longest / _MUCH
        )
        if not link.repair.is_slowed(now):  # a silent link is up to stalls_at()
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
        """Whether to wait for a link that has been silent since *since*, though another could be asked.

        The slow line may be this node's own: then all links are slow, and a second one is no help.
        """
        return self._is_any_slowed(now) and now < since + self._config.gap_patience

    def silence(self, link: Link) -> float:
        """Seconds for which *link* may bring nothing since other bytes are queued before the answer."""
        known = [pace for pace in (link.repair.pace, link.flow.meter.rate) if pace]
        return min(_QUEUE / min(known), self._config.gap_patience) if known else 0.0

    def stalls_at(self, link: Link, progress: float, moved: float, now: float) -> float:
        """When *link*, which was asked, has been silent for too long.

        Bytes keep their order on a link: while it brings other batches, the answer comes nearer.  All links
        share this node's line: while other links bring answers, that line may be the slow one.  But a peer
        could prevent a repair by sending other batches, so the time is bounded unless its line is slow.

        :param progress: when *link* last sent a message that was missing; *moved*: when any link did.
        """
        patience = max(self._config.graft_retry, _ROUND_TRIPS * link.flow.rtt, self.silence(link))
        stalls = max(progress, link.repair.last_batch_at, moved) + patience
        return stalls if link.repair.is_slowed(now) else min(stalls, progress + _PATIENT * patience)

    def owes_until(self, link: Link, since: float, now: float) -> float:
        """When *link*, given up at *since*, may be asked again: until then its answer may still come."""
        patience = self._config.gap_longest if self.is_slow(link, now) else self._config.gap_patience
        return max(since, link.repair.last_batch_at) + patience

    def is_urgent(self, run: StreamId, now: float) -> bool:
        """Whether *run* has a hole so old that slow lines have had their time.

        A peer that drips, and ends other answers meanwhile, seems to be sending.  So from then on each link
        that claims the missing messages is asked in turn.
        """
        stream = self._history.get(run)
        since = None if stream is None else stream.hole_since
        return since is not None and now >= since + _URGENT * self._config.gap_longest

    def is_slow(self, link: Link, now: float) -> bool:
        """Whether *link* has a slow line, or any line is slow now: the slow line may be this node's own."""
        return self.is_known_slow(link, now) or self._is_any_slowed(now)

    def sign(self, link: Link, since: float, now: float) -> float:
        """When *link*, which is slow, last gave reason to wait for it.

        :param since: when the link was asked, or given up.
        """
        # The WANT may be among the bytes that the peer has not read yet.
        is_late = link.flow.meter.is_waiting and self.is_known_slow(link, now)
        return now if is_late else max(since, link.repair.last_batch_at)

    def is_unread(self, link: Link, run: StreamId, sent: int, now: float) -> bool:
        """Whether the peer has probably not read the WANT of *run* yet, which has had no time for that.

        That time begins with the hole: all neighbours are asked for an old one again and again.

        :param sent: the bytes that the peer was sent before the WANT.
        """
        return link.flow.meter.is_waiting and link.flow.meter.read <= sent and self.is_young(run, now)

    def is_young(self, run: StreamId, now: float) -> bool:
        """Whether *run* has a hole so young that neighbours which claim none of it may still bring it."""
        stream = self._history.get(run)
        since = now if stream is None or stream.hole_since is None else stream.hole_since
        return now < since + _UNREAD * self._config.gap_patience

    def is_known_slow(self, link: Link, now: float) -> bool:
        """Whether *link* is measured to have a slow line, or has not read what it was sent long ago.

        If the links of most neighbours have, the slow line is probably this node's own.  So a link that is
        not measured yet has it, too.
        """
        if not link.repair.pace and not link.flow.meter.rate and self._is_own_slow(now):
            return True
        return self._is_measured_slow(link, now)

    def _is_measured_slow(self, link: Link, now: float) -> bool:
        meter = link.flow.meter
        waits = meter.is_waiting and link.flow.unread > FLOOR and meter.waiting_since + SLOWED_SECONDS < now
        return waits or self.silence(link) > self._config.graft_retry

    def _is_own_slow(self, now: float) -> bool:
        """Whether the links of most neighbours have slow lines; found out once for each event."""
        if self._own_slow[0] != now:
            links = self._links.fed
            slow = sum(self._is_measured_slow(link, now) for link in links)
            self._own_slow = now, 2 * slow > len(links)
        return self._own_slow[1]

    def bytes_in_time(self, now: float) -> float:
        """The most bytes to ask for at a time: if lines are slow, what these bring in a few seconds."""
        slowed = [link for link in self._links.all if link.repair.is_slowed(now)]
        return _SECONDS * sum(link.repair.pace for link in slowed) if slowed else inf

    def _is_any_slowed(self, now: float) -> bool:
        return any(link.repair.is_slowed(now) for link in self._links.all)

    def under_way(self, run: StreamId) -> list[tuple[Link, Partial]]:
        """The links that are in the middle of a BATCH of *run*, each with that BATCH."""
        found = ((link, link.repair.partial) for link in self._links.all)
        return [(link, partial) for link, partial in found if partial is not None and partial.run == run]

    def passed(
        self, under_way: Iterable[tuple[Link, Partial]], rival: Link, now: float
    ) -> list[tuple[int, int]]:
        """The ranges, sorted, that *rival* need not be asked for because they are *under_way*."""
        return sorted(
            (partial.first, partial.last)
            for link, partial in under_way
            if link is rival or not self._is_overtaken(partial, rival, now)
        )

    def _is_overtaken(self, partial: Partial, rival: Link, now: float) -> bool:
        """Whether to ask *rival* for a BATCH that comes over another link: its peer may drip for ever."""
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
