"""The repair of one run: which links have announced it, which were asked, and for which messages.

Contract: :class:`Pull` only notes what happens.  :mod:`~twisted_mesh.core.broadcast.candidates` says which
link is best to ask, and :mod:`~twisted_mesh.core.broadcast.repair` when.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from twisted_mesh.core.events import StreamId
from twisted_mesh.wire.fields import MAX_NUMBER

STEPS_MOST: Final = 8  # announcements that are kept of one link on one run (guess)


@dataclass(slots=True, eq=False)
class Pull:
    """The repair of *run*.

    A *graft* is an announcement of MAX_NUMBER.  Its WANT asks the peer for all messages that it has, and to
    push later ones.

    :ivar announced: by link, its announcements, the soonest first: (when to ask, highest message).
    :ivar ranges: by link, the messages that it was asked for and has not sent.
    :ivar answers: by link, the messages of the answer that it has not ended; none for a graft.
    :ivar wanted: by link that owes an answer, the bytes that it was sent before the WANT.
    """

    run: StreamId
    announced: dict[int, deque[tuple[float, int]]] = field(default_factory=dict)
    asked: int | None = None  # the link that was asked and has not ended its answer
    since: float = 0.0  # when that link was asked
    progress: float = 0.0  # when it was asked, or last sent a missing message
    got: int = 0  # bytes that the link has sent since it was asked
    window: bool | None = None  # whether its answer counts for verified runs, or others; None: for none
    dropped: bool = False  # whether a batch that the link sent was not kept
    in_vain: bool = False  # whether a link has not sent what it was asked for, and no message came since
    not_before: float = 0.0  # when to ask again after a batch was not kept
    owing: dict[int, float] = field(default_factory=dict)  # links that were given up, each with the time
    ranges: dict[int, tuple[int, int]] = field(default_factory=dict)
    answers: dict[int, tuple[int, int]] = field(default_factory=dict)
    wanted: dict[int, int] = field(default_factory=dict)
    revised: float = 0.0  # when the ranges were last compared with the messages that came
    revise_at: float = 0.0  # when to compare them next
    put_off: float | None = None  # since when the parent is expected to push the messages
    over_share: float | None = None  # when it was last put off, since the author was over its share
    look_at: float = 0.0  # when Repair looks at this next

    def announce(self, link: int, high: int, due: float, *, eager: bool) -> bool:
        """Note that *link* has messages up to *high*; it is to be asked for them at the time *due*.

        :param eager: whether this takes the place of earlier announcements of the link.
        :return: whether there is a new time at which to ask.
        """
        known = self.announced.setdefault(link, deque())
        if eager:
            known.clear()
        elif known and known[-1][1] >= high:
            return False
        if len(known) == STEPS_MOST:
            known[-1] = (known[-1][0], high)  # this may ask a little early, but bounds the table
            return False
        known.append((due, high))
        return True

    def graft(self, link: int, now: float) -> None:
        """Let the peer of *link* be asked for all messages that it has, and to push later ones."""
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
