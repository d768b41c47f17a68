"""The trees: over which links new frames of an origin are pushed, one tree for each origin.

Contract: two bits a link and origin, each owned by one side.  *Lazy by us*: this node told the peer to
stop pushing (a PRUNE), until it grafts (a WANT with graft).  *Lazy by peer*: the peer told this node.  A
new link starts with both clear, so the first frame of an origin floods, each duplicate prunes the link it
came over, and what is left is a tree along the fastest links.  What is not pushed over a lazy link is
announced, so that a broken tree heals (:mod:`twisted_mesh.core.broadcast.repair`).

A tree for each origin settles after its first frame; one shared tree is pruned by one sender and
grafted by the next for ever (measured: up to 1.9 needless copies a message with many senders).
Source: Plumtree (Leitao, Pereira, Rodrigues 2007); Scuttlebutt keeps a tree for each feed likewise.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from twisted_mesh.core.events import StreamId

REMEMBERED: Final = 10.0  # seconds a first arrival is known for: duplicates and answers come sooner (guess)
REMEMBERED_MOST: Final = 65_536  # first arrivals that are known; the oldest is forgotten (guess)
PARENTS_MOST: Final = 65_536  # origins whose parent is known; the longest idle is forgotten (guess)

_What = TypeVar("_What", bound=Hashable)


class FirstArrivals(Generic[_What]):
    """Which link brought something first, for what came lately."""

    def __init__(self) -> None:
        self._links: OrderedDict[_What, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._links)

    def note(self, what: _What, link: int, now: float) -> None:
        """*link* brought it."""
        self._links[what] = link, now
        self._links.move_to_end(what)
        while len(self._links) > REMEMBERED_MOST or self._oldest() <= now - REMEMBERED:
            self._links.popitem(last=False)

    def of(self, what: _What) -> int | None:
        """The link that brought it, if that was lately."""
        known = self._links.get(what)
        return None if known is None else known[0]

    def _oldest(self) -> float:
        return next(iter(self._links.values()))[1]


class Parents:
    """Over which link the newest of each run came first: the way back towards its author.

    It has no cycles, since numbers only grow along it; "the latest in time" has.
    """

    def __init__(self) -> None:
        # origin -> epoch, sequence, counter, link; the longest idle first
        self._best: OrderedDict[bytes, tuple[int, int, int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._best)

    def note(self, run: StreamId, last: int, link: int, counter: int = 0) -> None:
        """*link* brought something new of *run*: a batch that ends at *last*, or a record.

        :param counter: of the record, which names *last* as what was published by then.
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
        """Likewise, if something came over it: not if it was only asked, in place of one that is gone."""
        best = self._best.get(origin)
        return None if best is None or not (best[1] or best[2]) else best[3]

    def lost_with(self, link: int) -> list[StreamId]:
        """The newest runs whose parent was *link*, which is gone; they have none now."""
        lost = [(origin, best[0]) for origin, best in self._best.items() if best[3] == link]
        for origin, _ in lost:
            del self._best[origin]
        return lost
