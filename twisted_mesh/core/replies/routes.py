"""Routes to one node: over the link to it, or back over the links that brought its frames.

Contract: a route along the links of ``Parents`` has no circle: each node on it has got a frame of the
target that is at least as new as that of the node before.  If a parent is gone, another neighbour may know
a route, but its route may lead back here.  So other neighbours are tried for ``DETOURS`` hops only, and a
circle ends.  A link with too many bytes in its write queue is not used: the frame is dropped, and its
sender repeats it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast.trees import Parents
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links

MOST_HOPS: Final = 32  # the most hops of a frame on the reverse path (docs/protocol.rst)
DETOURS: Final = 8  # hops after which only a parent is used: a mesh of 1,000 nodes is 5 deep (guess)


@dataclass(eq=False)
class Routes:
    """The routes of one node over its *links*."""

    links: Links
    _parents: Parents
    _config: MeshConfig

    def all_to(self, origin: bytes) -> Iterator[Link]:
        """All links that could lead to *origin*: links to it, its parent, then others by round trip."""
        known = list(self._known(origin))
        yield from known
        others = [link for link in self.links.fed if self._is_free(link) and link not in known]
        yield from sorted(others, key=lambda link: (link.flow.rtt, link.number))

    def over(self, number: int | None) -> Link | None:
        """The link of that number, if its queue has room for a frame."""
        link = None if number is None else self.links.get(number)
        return link if link is not None and self._is_free(link) else None

    def known_to(self, origin: bytes) -> Link | None:
        """The best link that is known to lead to *origin*."""
        if (best := next(self._sure(origin), None)) is not None:  # nearly always; others are not looked up
            return best
        return next(self._known(origin), None)

    def best_to(self, origin: bytes) -> Link | None:
        """The first link of :meth:`all_to`."""
        best = self.known_to(origin)
        return next(self.all_to(origin), None) if best is None else best

    def on(self, origin: bytes, source: int, hops: int, tries: int = 0) -> Link | None:
        """The link over which to pass on a frame that came over the link *source*; None for none.

        :param tries: how often the frame was sent before.  In its first hops each repeat takes
            another route, since a node on the best route may drop every frame.
        """
        if hops >= DETOURS or self.links.is_neighbour(origin):
            best = next(self._sure(origin), None)
            return None if best is None or best.number == source else best
        others = [way for way in self._known(origin) if way.number != source]
        at = tries + hops if tries else 0  # a frame that comes round a circle takes another link
        return others[at % len(others)] if others else None

    def _sure(self, origin: bytes) -> Iterator[Link]:
        parent = self._parents.sure_of(origin)
        for way in (self.links.way_to(origin), None if parent is None else self.links.get(parent)):
            if way is not None and self._is_free(way):
                yield way

    def _known(self, origin: bytes) -> Iterator[Link]:
        known = list(dict.fromkeys(self._sure(origin)))
        yield from known
        asked = self._parents.of(origin)
        for link in self.links.fed:
            may_know = link.number == asked or link.presence.came_from_peer(origin)
            if may_know and link not in known and self._is_free(link):
                yield link

    def _is_free(self, link: Link) -> bool:
        return link.up and not link.closing and link.flow.queued <= self._config.link_queue_bytes
