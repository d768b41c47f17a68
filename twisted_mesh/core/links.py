"""The links of a node, and which of two to the same node is kept.

Contract: a link is *fed* from its proof to our BYE, *up* (in the routing table) from the peer's
snapshot to our BYE, and *draining* from our BYE until the connection ends: what the peer had sent by
then still counts, so that settling a double link loses nothing.
"""

from __future__ import annotations

from collections.abc import ValuesView

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import LinkOpened
from twisted_mesh.core.handshake import Myself, Peer
from twisted_mesh.wire.native import SnapshotEntry


class Link:
    """One proven connection.

    :ivar told: whether the peer's snapshot has come whole.
    :ivar snapshot: what has come of it.
    :ivar fed: the last own message given to the link; :ivar accepted: the last its transport took.
    :ivar heard: when a frame last came.
    :ivar overrides: whether the one kept before it was silent when it came.
    """

    __slots__ = (
        "accepted",
        "closing",
        "fed",
        "heard",
        "number",
        "outgoing",
        "overrides",
        "peer",
        "snapshot",
        "told",
        "up",
    )

    def __init__(self, opened: LinkOpened, now: float) -> None:
        self.number = opened.link
        self.peer: Peer = opened.peer
        self.outgoing = opened.outgoing
        self.heard = now
        self.fed = self.accepted = 0
        self.told = self.up = self.closing = self.overrides = False
        self.snapshot: list[SnapshotEntry] = []


class Links:
    """Every link of a node, by number."""

    def __init__(self, myself: Myself, config: MeshConfig) -> None:
        self._own_id = myself.id
        self._silence = config.crossing_silence
        self._all: dict[int, Link] = {}
        self._fed: dict[int, Link] = {}
        self._ways: dict[bytes, Link] = {}  # the routing table: links that are up, by origin

    @property
    def fed(self) -> ValuesView[Link]:
        """The links that new frames go to."""
        return self._fed.values()

    def get(self, number: int) -> Link | None:
        """The link, draining ones included."""
        return self._all.get(number)

    def open(self, opened: LinkOpened, now: float) -> tuple[Link, Link | None]:
        """The new link, and the one to the same node that was kept so far, if there is one."""
        link = Link(opened, now)
        older = self._kept(self.to(link.peer.origin))
        link.overrides = older is not None and now - older.heard >= self._silence
        self._all[link.number] = self._fed[link.number] = link
        return link, older

    def to(self, origin: bytes) -> list[Link]:
        """The links to one node that are fed, in the order they came."""
        return [link for link in self._fed.values() if link.peer.origin == origin]

    def is_kept(self, link: Link) -> bool:
        """Whether *link* is the one that stays, of those to its node."""
        return self._kept(self.to(link.peer.origin)) is link

    def replaced(self, origin: bytes) -> list[Link]:
        """The links to one node that must go because the one that stays is up.

        Until it is an older one serves on, so that there is always one.
        """
        links = self.to(origin)
        kept = self._kept(links)
        if kept is None or not kept.up:
            return []
        return [link for link in links if link is not kept and self._decides(kept, link)]

    def up(self, link: Link) -> None:
        """*link* is up, and the way to its node."""
        link.up = True
        self._ways[link.peer.origin] = link

    def close(self, number: int) -> tuple[Link | None, Link | None]:
        """Stop feeding the link; the link, or None if it was fed no more.

        The second is the link that is the way to its node now, if it was that until now.
        """
        link = self._fed.pop(number, None)
        if link is None:
            return None, None
        link.closing = True
        origin = link.peer.origin
        if self._ways.get(origin) is not link:
            return link, None
        heir = self._kept([other for other in self.to(origin) if other.up])
        if heir is None:
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
            "linked_nodes": len(self._ways),
            "snapshot_entries": sum(len(link.snapshot) for link in self._all.values()),
        }

    def _kept(self, links: list[Link]) -> Link | None:
        """Of *links* to one node, in the order they came, the one that stays."""
        kept: Link | None = None
        for link in links:
            if kept is None or not self._stays(kept, link):
                kept = link
        return kept

    def _stays(self, old: Link, new: Link) -> bool:
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
