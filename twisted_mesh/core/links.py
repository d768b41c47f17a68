"""The links of a node, and which of two links to the same node (*doubles*) is kept.

Contract: a link is *fed* (new frames are sent over it) from the peer's PROOF to this node's BYE.  It is
*up* (in the routing table) from the peer's frontier to this node's BYE.  It is *draining* from that BYE
until the connection ends: frames that the peer had sent before are handled, so that nothing is lost with
a double.  A node leaves the routing table when its last link has ended.

An exchange is a link between two nodes that are not neighbours.  Its requests are answered like those of
any link, but it is never fed, never in the routing table, and never the double of another link.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import ValuesView
from dataclasses import dataclass, field

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import LinkOpened
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.link import Link
from twisted_mesh.core.reachability import site_of
from twisted_mesh.errors import Reason

_DOUBLE = "another link to this node is kept"
_OUTRUN = "another node uses this key, in a newer run"
_SUCCEEDED = "a newer run of this key is linked: the node was restarted, or another one uses its key"


@dataclass(eq=False)
class Links:
    """Every link of a node, by number."""

    _local_node: LocalNode
    _config: MeshConfig
    _all: dict[int, Link] = field(default_factory=dict)
    _fed: dict[int, Link] = field(default_factory=dict)
    _exchanges: dict[int, Link] = field(default_factory=dict)
    _ways: dict[bytes, Link] = field(default_factory=dict)  # by origin, the link that is up
    _lingering: dict[bytes, int] = field(default_factory=dict)  # closed, but in the routing table
    _named: Counter[str] = field(default_factory=Counter)  # by site, links that the application named
    _weight: int = 0  # the weights of all links

    @property
    def fed(self) -> ValuesView[Link]:
        """The links over which new frames are sent."""
        return self._fed.values()

    @property
    def exchanges(self) -> ValuesView[Link]:
        """The exchanges that are open."""
        return self._exchanges.values()

    @property
    def all(self) -> ValuesView[Link]:
        """All links, also those that are draining."""
        return self._all.values()

    def get(self, number: int) -> Link | None:
        """The link with that number, also if it is draining."""
        return self._all.get(number)

    def open(self, opened: LinkOpened, now: float) -> tuple[Link, Link | None]:
        """Add a link; return it, and the link to the same node that was kept before, if any."""
        link = Link(opened, now, self._config)
        if link.named:
            self._named[site_of(link.host)] += 1
        if link.is_exchange:
            self._all[link.number] = self._exchanges[link.number] = link
            return link, None
        older = self._kept(self.to(link.peer.origin))
        link.overrides = older is not None and now - older.last_frame_at >= self._config.crossing_silence
        self._all[link.number] = self._fed[link.number] = link
        return link, older

    def make_neighbour(self, link: Link) -> None:
        """Make *link*, an exchange, a link between neighbours."""
        del self._exchanges[link.number]
        link.is_exchange = False
        self._fed[link.number] = link

    def way_to(self, origin: bytes) -> Link | None:
        """The link to *origin* in the routing table; None if it is no neighbour."""
        return self._ways.get(origin)

    def names_site(self, site: str) -> bool:
        """Whether a link leads to *site* whose peer the application named."""
        return site in self._named

    def is_neighbour(self, origin: bytes) -> bool:
        """Whether *origin* is in the routing table."""
        return origin in self._ways

    def to(self, origin: bytes) -> list[Link]:
        """The links to one node that are fed, the oldest first."""
        return [link for link in self._fed.values() if link.peer.origin == origin]

    def is_kept(self, link: Link) -> bool:
        """Whether *link* is kept, of all links to its node."""
        return self._kept(self.to(link.peer.origin)) is link

    def is_wanted(self, link: Link) -> bool:
        """Whether to keep *link*, which is new.

        An exchange is kept only if no other link leads to its node, be it to a neighbour or an exchange.
        """
        if not link.is_exchange:
            return self.is_kept(link)
        others = (other for other in (*self.fed, *self.exchanges) if other is not link)
        return all(other.peer.origin != link.peer.origin for other in others)

    def is_outrun(self, link: Link) -> bool:
        """Whether another link leads to a newer run of the node."""
        return any(other.peer.epoch > link.peer.epoch for other in self.to(link.peer.origin))

    def why_double(self, link: Link) -> tuple[Reason, str]:
        """The reason to close *link*, which is newer than another to its node."""
        return (Reason.KEY, _OUTRUN) if self.is_outrun(link) else (Reason.DUPLICATE, _DOUBLE)

    def why_replaced(self, link: Link) -> tuple[Reason, str]:
        """The reason to close *link*, which is older than another to its node."""
        return (Reason.KEY, _SUCCEEDED) if self.is_outrun(link) else (Reason.DUPLICATE, _DOUBLE)

    def replaced(self, origin: bytes) -> list[Link]:
        """The links to one node that must close, because the link that is kept is up.

        Before it is up, an older link stays, so that there always is a link.
        """
        links = self.to(origin)
        if (kept := self._kept(links)) is None or not kept.up:
            return []
        return [link for link in links if link is not kept and self._decides(kept, link)]

    def link_up(self, link: Link) -> int | None:
        """Put *link* into the routing table; return the closed link that it replaces there."""
        link.up = True
        self._ways[link.peer.origin] = link
        return self._lingering.pop(link.peer.origin, None)

    def gone(self, closed: Link) -> list[int]:
        """The links that leave the routing table because *closed* is no longer fed.

        The last link that was up stays there while another link to its node is fed: that link's frontier
        can come later than this link's BYE, and the node is not gone.
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
        """Stop feeding a link; return it, or None if it was not fed.

        The second value is the link that takes its place in the routing table, or None.
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
        """Forget a link whose connection is gone, or whose frames no longer count."""
        if (link := self._all.pop(number, None)) is not None:
            self._weight -= link.weight
            if link.named:
                site = site_of(link.host)
                self._named[site] -= 1
                if not self._named[site]:
                    del self._named[site]

    def bound_claims(self, link: Link, known: int) -> Link | None:
        """Bound the claims of all links together, now that *link* has brought some.

        The link with the most claims forgets half of them.

        :param known: how many runs and authors are known here.
        :return: a link to close, since most of its claims are of a SNAPSHOT that is not complete.
        """
        self._weight += link.weigh(known)
        while self._weight > self._config.claims_in_all:
            for other in self._all.values():
                self._weight += other.weigh(known)  # other runs and authors were known then
            largest = max(self._all.values(), key=lambda link: link.weight)
            if 2 * (len(largest.frontier.snapshot) - known) > largest.weight:
                return largest
            largest.shrink(known)
            self._weight += largest.weigh(known)
        return None

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
            "claims_in_all": self._weight,
            "told_runs_over": sum(len(link.frontier.over) for link in self._all.values()),
            "shown_headers": sum(len(link.frontier.shown) for link in self._all.values()),
            "known_records": sum(len(link.presence) for link in self._all.values()),
            "untold_records": sum(len(link.presence.untold) for link in self._all.values()),
            "unread_copies": sum(len(link.flow.copies) for link in self._all.values()),
            "owed_records": sum(len(link.presence.owed) for link in self._all.values()),
        }

    def _kept(self, links: list[Link]) -> Link | None:
        """The link to keep of *links*, which all lead to one node, the oldest first."""
        kept: Link | None = None
        for link in links:
            if kept is None or not self._outranks(kept, link):
                kept = link
        return kept

    def _outranks(self, old: Link, new: Link) -> bool:
        """Whether *old* is kept and not *new*, as far as this end decides."""
        if new.peer.epoch != old.peer.epoch:
            return old.peer.epoch > new.peer.epoch
        # If two nodes dial each other at once, the link that the greater id dialled is kept, unless that
        # link was silent.
        return not new.overrides and old.outgoing and self._decides(old, new)

    def _decides(self, link: Link, other: Link) -> bool:
        """Whether this end decides which of two links to one node to close.

        Only one end decides: the two ends can disagree about which link is newer or was silent, and would
        each close the link that the other end keeps.
        """
        if link.peer.epoch != other.peer.epoch:
            return True  # one link is to an earlier run, which is over
        if link.outgoing == other.outgoing:
            return not link.outgoing
        return self._local_node.id > link.peer.id
