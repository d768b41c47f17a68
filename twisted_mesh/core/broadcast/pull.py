"""The repair of one run: which links have announced it, which were asked, and for which messages.

Contract: :class:`Pull` only keeps the books.  :mod:`~twisted_mesh.core.broadcast.candidates` says which
link is best to ask, and :mod:`~twisted_mesh.core.broadcast.repair` when.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from twisted_mesh.core.events import StreamId
from twisted_mesh.wire.fields import MAX_NUMBER

STEPS_MOST: Final = 8  # announcements of a link on a run that become due one after the other (guess)


class Pull:
    """The repair of *run*.

    :ivar announced: for each link its announcements, the soonest first: (when to ask, highest message).
        A *graft* is an announcement of MAX_NUMBER.  It mends the tree, and asks for all that the peer
        has.
    :ivar asked: the link that was asked, or None.
    :ivar since: when it was asked; :ivar progress: when it last sent a message that was missing, or was
        asked.
    :ivar got: bytes that it has sent since it was asked.
    :ivar window: in which window its answer counts, True for that of verified runs; None for neither.
    :ivar dropped: whether a batch that it sent was not kept; :ivar not_before: when to ask again after
        that.
    :ivar owing: links that were given up and may still answer, and when each was given up.
    :ivar ranges: the messages that each link was asked for and has not sent.
    :ivar revised: when the ranges were last compared with what came; :ivar revise_at: when they will be.
    :ivar put_off: since when no link is asked because the parent is about to send the messages.
    :ivar look_at: when Repair looks at this next, as far as Repair set that itself.
    """

    __slots__ = (
        *("announced", "asked", "dropped", "got", "look_at", "not_before", "owing", "progress", "put_off"),
        *("ranges", "revise_at", "revised", "run", "since", "window"),
    )

    def __init__(self, run: StreamId) -> None:
        self.run = run
        self.announced: dict[int, deque[tuple[float, int]]] = {}
        self.asked: int | None = None
        self.since = self.progress = self.revised = self.revise_at = self.not_before = self.look_at = 0.0
        self.got = 0
        self.window: bool | None = None
        self.dropped = False
        self.owing: dict[int, float] = {}
        self.ranges: dict[int, tuple[int, int]] = {}
        self.put_off: float | None = None

    def announce(self, link: int, high: int, due: float, *, eager: bool) -> bool:
        """Note that *link* has messages up to *high*, to be asked for at the time *due*.

        :param eager: whether this takes the place of earlier announcements of the link.
        :return: whether there is a new time at which to ask.
        """
        known = self.announced.setdefault(link, deque())
        if eager:
            known.clear()
        elif known and known[-1][1] >= high:
            return False
        if len(known) == STEPS_MOST:
            known[-1] = (known[-1][0], high)  # it is asked for a little early, but the table stays small
            return False
        known.append((due, high))
        return True

    def graft(self, link: int, now: float) -> None:
        """Have *link* asked for all that it has, and to push from then on."""
        self.announced[link] = deque([(now, MAX_NUMBER)])

    def is_graft(self, link: int) -> bool:
        """Whether the newest announcement of *link* is a graft."""
        known = self.announced.get(link)
        return known is not None and known[-1][1] == MAX_NUMBER

    def due(self, link: int, now: float) -> int:
        """The highest message that *link* announced and that may be asked for now; 0 if there is none."""
        known = self.announced[link]
        due = 0
        while known and known[0][0] <= now:
            due = known.popleft()[1]
        if due:
            known.appendleft((now, due))
        return due

    def arrived(self, link: int, last: int) -> None:
        """Note that *link* has sent messages up to *last*."""
        if link in self.ranges:
            first, end = self.ranges[link]
            self.ranges[link] = max(first, min(last, end) + 1), end
