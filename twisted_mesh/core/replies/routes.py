"""Ways to one node: over the link to it, or back over the way its own frames came.

Contract: along ``Parents`` there is no circle, since what came over each of
its links is at least as new as at the node before.  Where a parent is gone another neighbour may know a
way, or may have it from this very node: that is tried only for so many hops, and then what goes in a
circle ends.  A link behind whose transport too much waits is no way: what goes back is repeated, not held.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast.trees import Parents
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links

MOST_HOPS: Final = 32  # that anything goes on the reverse path (docs/protocol.rst)
DETOURS: Final = 8  # hops after which nothing but a parent is trusted: a mesh of 1,000 is 5 deep (guess)


class Routes:
    """The ways of one node.

    :ivar links: those they go over.
    """

    def __init__(self, links: Links, parents: Parents, config: MeshConfig) -> None:
        self.links = links
        self._parents = parents
        self._most = config.link_queue_bytes

    def all_to(self, origin: bytes) -> Iterator[Link]:
        """All links that could lead to *origin*, the best first: its own, its parent, the quick ones."""
        known = list(self._known(origin))
        yield from known
        others = [link for link in self.links.fed if self._is_free(link) and link not in known]
        yield from sorted(others, key=lambda link: (link.flow.rtt, link.number))

    def over(self, number: int | None) -> Link | None:
        """The link of that number, if it can take something now."""
        link = None if number is None else self.links.get(number)
        return link if link is not None and self._is_free(link) else None

    def known_to(self, origin: bytes) -> Link | None:
        """The best link that *origin* is known to be behind."""
        return next(self._known(origin), None)

    def on(self, origin: bytes, source: int, hops: int, tries: int = 0) -> Link | None:
        """Over which link to hand on what came over the link *source*, if over any.

        :param tries: how often it was sent before: it takes another way each time, as long as it has few
            hops behind it, since a node further on may drop whatever takes the best one.
        """
        if hops >= DETOURS or self.links.is_neighbour(origin):
            best = next(self._sure(origin), None)
            return None if best is None or best.number == source else best
        others = [way for way in self._known(origin) if way.number != source]
        at = tries + hops if tries else 0  # what comes by in a circle goes on another way
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
            may_know = link.number == asked or link.presence.has_told(origin)
            if may_know and link not in known and self._is_free(link):
                yield link

    def _is_free(self, link: Link) -> bool:
        return link.up and not link.closing and link.flow.queued <= self._most
