"""The links of a node, and which of two to the same node is kept.

Contract: a link is *fed* from its proof to our BYE, *up* (in the routing table) from the peer's
snapshot to our BYE, and *draining* from our BYE until the connection ends: what the peer had sent by
then still counts, so that settling a double link loses nothing.  A node leaves the routing table when
none of the links to it is left, so that of two the wrong one may end first.

An exchange is a link between nodes that are no neighbours: it is answered like any other,
but never fed, never in the routing table, and no double of another.
"""

from __future__ import annotations

from collections.abc import ValuesView

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import LinkOpened
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.link import Link
from twisted_mesh.errors import Reason

_DOUBLE = "another link to this node is kept"
_OUTRUN = "another node uses this key, in a newer run"
_SUCCEEDED = "a newer run of this key is linked: the node was restarted, or another one uses its key"


class Links:
    """Every link of a node, by number."""

    def __init__(self, local_node: LocalNode, config: MeshConfig) -> None:
        self._own_id = local_node.id
        self._silence = config.crossing_silence
        self._config = config
        self._all: dict[int, Link] = {}
        self._fed: dict[int, Link] = {}
        self._exchanges: dict[int, Link] = {}
        self._ways: dict[bytes, Link] = {}  # the links that are up, by origin
        self._lingering: dict[bytes, int] = {}  # closed, and in the routing table until another is up

    @property
    def fed(self) -> ValuesView[Link]:
        """The links that new frames go to."""
        return self._fed.values()

    @property
    def exchanges(self) -> ValuesView[Link]:
        """The exchanges that are open."""
        return self._exchanges.values()

    @property
    def all(self) -> ValuesView[Link]:
        """Every link, draining ones included."""
        return self._all.values()

    def get(self, number: int) -> Link | None:
        """The link, draining ones included."""
        return self._all.get(number)

    def open(self, opened: LinkOpened, now: float) -> tuple[Link, Link | None]:
        """The new link, and the one to the same node that was kept so far, if there is one."""
        link = Link(opened, now, self._config)
        if link.is_exchange:
            self._all[link.number] = self._exchanges[link.number] = link
            return link, None
        older = self._kept(self.to(link.peer.origin))
        link.overrides = older is not None and now - older.last_frame_at >= self._silence
        self._all[link.number] = self._fed[link.number] = link
        return link, older

    def make_neighbour(self, link: Link) -> None:
        """*link*, an exchange, becomes a link between neighbours."""
        del self._exchanges[link.number]
        link.is_exchange = False
        self._fed[link.number] = link

    def way_to(self, origin: bytes) -> Link | None:
        """The link that is the way to *origin*, if that is a neighbour."""
        return self._ways.get(origin)

    def is_neighbour(self, origin: bytes) -> bool:
        """Whether *origin* is in the routing table."""
        return origin in self._ways

    def to(self, origin: bytes) -> list[Link]:
        """The links to one node that are fed, in the order they came."""
        return [link for link in self._fed.values() if link.peer.origin == origin]

    def is_kept(self, link: Link) -> bool:
        """Whether *link* is the one that stays, of those to its node."""
        return self._kept(self.to(link.peer.origin)) is link

    def is_wanted(self, link: Link) -> bool:
        """Whether a new link is of use: an exchange only with who is no neighbour, and one at a time."""
        if not link.is_exchange:
            return self.is_kept(link)
        others = (other for other in (*self.fed, *self.exchanges) if other is not link)
        return all(other.peer.origin != link.peer.origin for other in others)

    def is_outrun(self, link: Link) -> bool:
        """Whether another link to its node is of a newer run."""
        return any(other.peer.epoch > link.peer.epoch for other in self.to(link.peer.origin))

    def why_double(self, link: Link) -> tuple[Reason, str]:
        """Why *link*, which is new, goes, of two to its node."""
        return (Reason.KEY, _OUTRUN) if self.is_outrun(link) else (Reason.DUPLICATE, _DOUBLE)

    def why_replaced(self, link: Link) -> tuple[Reason, str]:
        """Why *link*, which was there before, goes."""
        return (Reason.KEY, _SUCCEEDED) if self.is_outrun(link) else (Reason.DUPLICATE, _DOUBLE)

    def replaced(self, origin: bytes) -> list[Link]:
        """The links to one node that must go because the one that stays is up.

        Until it is an older one serves on, so that there is always one.
        """
        links = self.to(origin)
        if (kept := self._kept(links)) is None or not kept.up:
            return []
        return [link for link in links if link is not kept and self._decides(kept, link)]

    def up(self, link: Link) -> int | None:
        """*link* is up, and the way to its node; the closed one it relieves in the routing table."""
        link.up = True
        self._ways[link.peer.origin] = link
        return self._lingering.pop(link.peer.origin, None)

    def gone(self, closed: Link) -> list[int]:
        """The links that leave the routing table because *closed* is fed no more.

        The last that was up stays in it while another to its node is proven: of two that crossed, the
        news that one must go can overtake the frontier on the other, and the node is not gone.
        """
        origin = closed.peer.origin
        others = self.to(origin)
        if closed.up and others and origin not in self._ways:
            self._lingering[origin] = closed.number
            return []
        gone = [closed.number] if closed.up else []
        if not others and origin in self._lingering:
            gone.append(self._lingering.pop(origin))
        return gone

    def close(self, number: int) -> tuple[Link | None, Link | None]:
        """Stop feeding the link; the link, or None if it was fed no more.

        The second is the link that is the way to its node now, if it was that until now.
        """
        link = self._fed.pop(number, None) or self._exchanges.pop(number, None)
        if link is None:
            return None, None
        link.closing = True
        origin = link.peer.origin
        if self._ways.get(origin) is not link:
            return link, None
        if (heir := self._kept([other for other in self.to(origin) if other.up])) is None:
            del self._ways[origin]
        else:
            self._ways[origin] = heir
        return link, heir

    def forget(self, number: int) -> None:
        """The link is gone, or nothing more is wanted of it."""
        self._all.pop(number, None)

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {
            "links": len(self._all),
            "fed_links": len(self._fed),
            "exchange_links": len(self._exchanges),
            "linked_nodes": len(self._ways),
            "lingering_links": len(self._lingering),
            "snapshot_entries": sum(len(link.frontier.snapshot) for link in self._all.values()),
            "claims": sum(len(link.frontier.claims) for link in self._all.values()),
            "known_records": sum(len(link.presence) for link in self._all.values()),
        }

    def _kept(self, links: list[Link]) -> Link | None:
        """Of *links* to one node, in the order they came, the one that stays."""
        kept: Link | None = None
        for link in links:
            if kept is None or not self._outranks(kept, link):
                kept = link
        return kept

    def _outranks(self, old: Link, new: Link) -> bool:
        """Whether *old* stays; until the end that decides has spoken the newer one does."""
        if new.peer.epoch != old.peer.epoch:
            return old.peer.epoch > new.peer.epoch
        # Of crossing dials the greater id's own is kept, unless it was silent.
        return not new.overrides and old.outgoing and self._decides(old, new)

    def _decides(self, link: Link, other: Link) -> bool:
        """Whether this end says which of two links to one node must go.

        Only one end does: which of them came later, or was silent, both could see differently, and
        each would close the one the other keeps.
        """
        if link.peer.epoch != other.peer.epoch:
            return True  # of an earlier run, and there is nobody at its far end
        if link.outgoing == other.outgoing:
            return not link.outgoing
        return self._own_id > link.peer.id
