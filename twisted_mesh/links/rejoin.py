"""Finds the mesh again: a node without a link dials the nodes that it was linked with before.

Contract: each node that this node is linked with is noted in the address book, which the core is told at
the start.  If there is no link for ``isolated_after``, the nodes of the book are tried, with jittered
back-off and for ever, until there is a link, whichever end dialled.  (The application's own peers are
dialled by :mod:`~twisted_mesh.links.peers`.)

If the core has an overlay, each try tells it the whole book: an overlay dials the nodes that it is told of,
and forgets those that it did not find.  Without an overlay the core dials no node, so this module dials the
nodes of the book, one after the other.  Peers told most of their addresses, and may have told a host that
has nothing to do with the mesh, with many ports: after :data:`AT_SITE` failures the other nodes at a site
wait for the next round.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.addressing.address_book import AddressBook, dialled_at
from twisted_mesh.addressing.addresses import PeerAddress
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.reachability import site_of
from twisted_mesh.errors import MeshError
from twisted_mesh.eventloop.deferreds import wait_at_most
from twisted_mesh.links.connections import Linked, Unlinked
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.links.redial import Attempts, Redial
from twisted_mesh.wire.membership import MAX_ID, MIN_ID, Contact

#: Dials at one site that may fail in a round (guess: a machine may have had some nodes).
AT_SITE: Final = 4
_log = Logger()


@dataclass(eq=False)
class Rejoin:
    """Finds the mesh again, for one run of a service.

    :ivar book: only this class writes it.
    :ivar table: the ids of the routing table.
    :ivar known: tells the core of nodes, the newest last; :ivar has_overlay: whether the core dials them.
    """

    config: MeshConfig
    book: AddressBook
    dials: Attempts
    redial: Redial
    table: Collection[bytes]
    known: Callable[[Sequence[Contact]], None]
    has_overlay: bool

    def __post_init__(self) -> None:
        self._untried: deque[PeerAddress] = deque()  # nodes of the book, in this round
        self._left_out: list[PeerAddress] = []  # nodes that are tried first in the next round
        self._at_sites = Counter[str]()  # failures in this round, by site
        self._failures = 0
        self._next: IDelayedCall | None = None
        self._attempt: Deferred[MeshProtocol] | None = None
        self._stopped = False

    def begin(self) -> None:
        """Tell the core the book, and begin as isolated: there is no link yet."""
        self._tell_core()
        self.isolated()

    def isolated(self) -> None:
        """No link is left: begin to try the nodes of the book, unless this was stopped."""
        if self._next is None and self._attempt is None and not self._stopped:
            self._untried.clear()
            self._failures = 0
            self._next = self.redial.clock.callLater(self.config.isolated_after, self._try_next)

    def unlinked(self, unlinked: Unlinked) -> None:
        if not unlinked.count:
            self.isolated()

    def linked(self, linked: Linked) -> None:
        """A link is in the routing table: note its node's address, and try no further node."""
        link = linked.link
        if not linked.is_new or link.id is None:
            return
        self._cancel_next()
        host, _ = link.remote
        where = dialled_at(link.remote if link.outgoing else link.address, host)
        if where is not None:
            self.book.note(link.id, where)

    def stop(self) -> None:
        self._stopped = True
        self._cancel_next()
        if self._attempt is not None:
            self._attempt.cancel()

    async def wait_for_book(self) -> None:
        """Wait until the book is on disk, at most ``close_timeout``."""
        if not await wait_at_most(self.book.written(), self.config.close_timeout, self.redial.clock):
            _log.warn("the address book is not written yet: its newest addresses may be lost")

    def _cancel_next(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _tell_core(self) -> None:
        contacts = [
            Contact(address.id, address.host, address.port)
            for address in self.book
            if address.host is not None and address.id is not None and MIN_ID <= len(address.id) <= MAX_ID
        ]
        self.known(contacts[::-1])

    def _try_next(self) -> None:
        self._next = None
        if len(self.book) and not self._untried and not self._failures:
            text = "no link is left: nodes of earlier links are dialled, of which {count} are known"
            _log.info(text, count=len(self.book))
        if self.has_overlay:
            self._tell_core()
        elif not self._untried:
            self._begin_round()
        while self._untried:
            address = self._untried.popleft()
            site = site_of(address.host or "")
            if self._at_sites[site] >= AT_SITE:
                self._left_out.append(address)
            elif address.id not in self.redial.cooldown:
                self._attempt = attempt = self.dials.link_to(address)
                attempt.addCallbacks(self._reached, self._failed, errbackArgs=(site,))
                return
        self._again()

    def _begin_round(self) -> None:
        first, self._left_out = self._left_out, []
        self._untried.extend(first + [address for address in self.book if address not in first])
        self._at_sites.clear()

    def _reached(self, link: MeshProtocol) -> None:
        self._attempt = None
        if not self.table:  # the link has ended meanwhile
            self._again()

    def _failed(self, failure: Failure, site: str) -> None:
        self._attempt = None
        self._at_sites[site] += 1
        if self._stopped:
            return
        if not failure.check(MeshError):
            _log.failure("dialling failed", failure)
        if not self.table:
            self._again()

    def _again(self) -> None:
        self._failures += 1
        wait = self.redial.wait(self._failures, at_once=bool(self._untried))
        self._next = self.redial.clock.callLater(wait, self._try_next)
