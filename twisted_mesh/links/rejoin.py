"""Finds the mesh again: a node without any link dials the nodes it was linked with before.

Contract: each node that is linked with goes into the address book.  The core is told the book at the start.
If there is no link for ``isolated_after``, the nodes of the book are tried, with jittered back-off and for
ever, until either end makes a link, or until this is stopped.  Peers that the application wants a link to
are dialled by :mod:`~twisted_mesh.links.peers`.

An overlay dials the nodes it is told of, and forgets those it did not find: it is told the whole book for
each try.  Without an overlay the core dials nobody, and the nodes of the book are dialled here, one after
the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.addressing.address_book import AddressBook, dialled_at
from twisted_mesh.addressing.addresses import PeerAddress
from twisted_mesh.config import MeshConfig
from twisted_mesh.errors import MeshError
from twisted_mesh.eventloop.deferreds import is_in_time
from twisted_mesh.links.connections import Linked, Unlinked
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.links.redial import Attempts, Redial
from twisted_mesh.wire.membership import MAX_ID, MIN_ID, Contact

_log = Logger()


class Rejoin:
    """Finds the mesh again, for one run of a service."""

    def __init__(
        self,
        config: MeshConfig,
        book: AddressBook,
        dials: Attempts,
        redial: Redial,
        table: Collection[bytes],
        known: Callable[[Sequence[Contact]], None],
        has_overlay: bool,
    ) -> None:
        """
        :param book: of the nodes that were linked with, which is written here alone.
        :param table: the ids of the routing table.
        :param known: tells the core of nodes, the latest last; *has_overlay*: whether it then dials them.
        """
        self._config = config
        self._book = book
        self._dials = dials
        self._redial = redial
        self._clock = redial.clock
        self._table = table
        self._known = known
        self._has_overlay = has_overlay
        self._left: deque[PeerAddress] = deque()  # of this round
        self._failures = 0
        self._next: IDelayedCall | None = None
        self._attempt: Deferred[MeshProtocol] | None = None
        self._stopped = False

    def begin(self) -> None:
        """Tell the core the book; there is no link yet."""
        self._tell_core()
        self.isolated()

    def isolated(self) -> None:
        """Begin to try the nodes of the book, unless this was stopped: there is no link."""
        if self._next is None and self._attempt is None and not self._stopped:
            self._left.clear()
            self._failures = 0
            self._next = self._clock.callLater(self._config.isolated_after, self._seek)

    def unlinked(self, unlinked: Unlinked) -> None:
        """A link has left the routing table."""
        if not unlinked.count:
            self.isolated()

    def linked(self, linked: Linked) -> None:
        """Note the address of a node that is linked with now, and try no others."""
        link = linked.link
        if not linked.is_new or link.id is None:
            return
        self._wait_no_more()
        host, _ = link.remote
        where = dialled_at(link.remote if link.outgoing else link.address, host)
        if where is not None:
            self._book.note(link.id, where)

    def stop(self) -> None:
        """Stop trying."""
        self._stopped = True
        self._wait_no_more()
        if self._attempt is not None:
            self._attempt.cancel()

    async def wait_for_book(self) -> None:
        """Wait until the book is on disk, at most ``close_timeout``."""
        if not await is_in_time(self._book.written(), self._config.close_timeout, self._clock):
            _log.warn("the address book is not written yet: its newest addresses may be lost")

    def _wait_no_more(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _tell_core(self) -> None:
        contacts = [
            Contact(address.id, address.host, address.port)
            for address in self._book
            if address.host is not None and address.id is not None and MIN_ID <= len(address.id) <= MAX_ID
        ]
        self._known(contacts[::-1])

    def _seek(self) -> None:
        self._next = None
        if len(self._book) and not self._left and not self._failures:
            text = "no link is left: {count} nodes that were linked with are dialled"
            _log.info(text, count=len(self._book))
        if self._has_overlay:
            self._tell_core()
        elif not self._left:
            self._left.extend(self._book)
        while self._left:
            address = self._left.popleft()
            if address.id not in self._redial.cooldown:
                self._attempt = attempt = self._dials.link_to(address)
                attempt.addCallbacks(self._reached, self._failed)
                return
        self._again()

    def _reached(self, link: MeshProtocol) -> None:
        self._attempt = None
        if not self._table:  # the link has gone meanwhile
            self._again()

    def _failed(self, failure: Failure) -> None:
        self._attempt = None
        if self._stopped:
            return
        if not failure.check(MeshError):
            _log.failure("dialling failed", failure)
        if not self._table:
            self._again()

    def _again(self) -> None:
        self._failures += 1
        wait = self._redial.wait(self._failures, at_once=bool(self._left))
        self._next = self._clock.callLater(wait, self._seek)
