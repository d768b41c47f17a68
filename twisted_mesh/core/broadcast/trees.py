"""The trees: over which links new frames of an origin are pushed, one tree for each origin.

Contract: each link has two flags for each origin, one set by each end.  *Lazy by us*: this node told
the peer to stop pushing (a PRUNE), until it grafts (a WANT with *graft*).  *Lazy by peer*: the peer told
this node to stop.  A new link has neither flag, so the first frame of an origin goes over all links.  Each
duplicate prunes the link it came over.  The links that are left form a tree of the fastest ones.  Over a
lazy link frames are announced instead, so that a broken tree heals
(:mod:`~twisted_mesh.core.broadcast.repair`).

A tree for each origin is stable after its first frame.  One tree for all would be pruned for one sender
and grafted for the next for ever (measured: up to 1.9 needless copies a message with many senders).
Source: Plumtree (Leitao, Pereira, Rodrigues 2007); Scuttlebutt keeps a tree for each feed, too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from twisted_mesh.core.events import StreamId

REMEMBERED: Final = 10.0  # seconds for which a first arrival is known: duplicates come sooner (guess)
REMEMBERED_MOST: Final = 65_536  # first arrivals that are known; the oldest is forgotten (guess)
PARENTS_MOST: Final = 65_536  # origins whose parent is known; the longest idle is forgotten (guess)

_Key = TypeVar("_Key", bound=Hashable)


class FirstArrivals(Generic[_Key]):
    """The link that brought each recent frame first, by a key of the frame."""

    def __init__(self) -> None:
        self._links: OrderedDict[_Key, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._links)

    def note(self, key: _Key, link: int, now: float) -> None:
        """Note that *link* brought the frame *key*, which is new."""
        self._links[key] = link, now
        self._links.move_to_end(key)
        while len(self._links) > REMEMBERED_MOST or self._oldest() <= now - REMEMBERED:
            self._links.popitem(last=False)

    def of(self, key: _Key) -> int | None:
        """The link that brought the frame *key* first, if that was lately."""
        known = self._links.get(key)
        return None if known is None else known[0]

    def _oldest(self) -> float:
        return next(iter(self._links.values()))[1]


class NewestRecords:
    """The link that first brought each author's newest record.

    It is known as long as no newer record comes: over slow lines copies of a record come for minutes.
    """

    def __init__(self) -> None:
        # By origin: the epoch and the counter of the record, and the link; the longest idle first.
        self._links: OrderedDict[bytes, tuple[int, int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._links)

    def note(self, run: StreamId, counter: int, link: int) -> None:
        """Note that *link* brought the record of *run* with that *counter*, which is the newest."""
        origin, epoch = run
        self._links[origin] = epoch, counter, link
        self._links.move_to_end(origin)
        if len(self._links) > PARENTS_MOST:
            self._links.popitem(last=False)

    def of(self, run: StreamId, counter: int) -> int | None:
        """The link that first brought the record of *run* with that *counter*, the newest; None if none."""
        origin, epoch = run
        known = self._links.get(origin)
        return known[2] if known is not None and known[:2] == (epoch, counter) else None


class Parents:
    """For each origin the link over which its newest frame came first: the way back to the author.

    Towards the author, frames along these links are ever newer, so the links form no circle.  Links that
    were chosen by time of arrival could.
    """

    def __init__(self) -> None:
        # By origin: epoch, sequence, counter, link; the longest idle first.
        self._best: OrderedDict[bytes, tuple[int, int, int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._best)

    def note(self, run: StreamId, last: int, link: int, counter: int = 0) -> None:
        """Note that *link* brought a new frame of *run*: a batch that ends at *last*, or a record.

        :param counter: the record's counter; its author had published *last* by then.
        """
        origin, epoch = run
        best = self._best.get(origin)
        if best is None or (epoch, last, counter) > best[:3]:
            self._best[origin] = epoch, last, counter, link
            self._best.move_to_end(origin)
            if len(self._best) > PARENTS_MOST:
                self._best.popitem(last=False)

    def of(self, origin: bytes) -> int | None:
        """The link towards *origin*, if one is known."""
        best = self._best.get(origin)
        return None if best is None else best[3]

    def sure_of(self, origin: bytes) -> int | None:
        """The link towards *origin*; None if it only replaces a lost link: no frame came over it."""
        best = self._best.get(origin)
        return None if best is None or not (best[1] or best[2]) else best[3]

    def lost_with(self, link: int) -> list[StreamId]:
        """Forget *link*, which is gone, as a parent; return the newest run of each origin that had it."""
        lost = [(origin, best[0]) for origin, best in self._best.items() if best[3] == link]
        for origin, _ in lost:
            del self._best[origin]
        return lost
