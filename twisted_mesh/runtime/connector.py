"""Makes links: an attempt begins with an address, and ends with a neighbour or an error.

Contract: :meth:`Connector.link_to` returns a Deferred that fires with a link of the routing table.  If no
connection can be made, it fails with :class:`~twisted_mesh.errors.ConnectFailed`.  If this node or the peer
refuses the link, it fails with the :class:`~twisted_mesh.errors.RemoteError` of the refusal.

A host name can have the addresses of many nodes, this node among them.  An attempt tries them one after the
other, until one leads to the wanted node.  The attempt fails if no node has proven its identity after
``connect_timeout`` and ``handshake_timeout`` together, however many addresses there are.  On a slow line,
frames after the proof may take longer, unless the application waits for this attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionRefusedError,
    DNSLookupError,
)
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.addressing.addresses import PeerAddress, show
from twisted_mesh.addressing.endpoints import ClientEndpoints, name_of
from twisted_mesh.addressing.names import Lookup
from twisted_mesh.core import events
from twisted_mesh.errors import (
    ConnectFailed,
    HandshakeTimeout,
    MeshError,
    Reason,
    RemoteError,
    SelfConnection,
)
from twisted_mesh.links.connections import Connections
from twisted_mesh.links.factory import MeshFactory
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.links.tls import abort_unfinished
from twisted_mesh.runtime.driver import Driver
from twisted_mesh.wire.membership import Contact, Purpose

_log = Logger()
#: The seconds that each address gets for its handshake, even if many addresses are left (guess).
_SHARE_LEAST: Final = 3.0

Wait = Callable[[MeshProtocol], Deferred[MeshProtocol]]


class Connector:
    """Makes links for one run of a service; an attempt that is cancelled closes its connection."""

    def __init__(self, endpoints: ClientEndpoints, connections: Connections, driver: Driver) -> None:
        """:param driver: is told when a dial of the core has failed."""
        self._endpoints = endpoints
        self._connections = connections
        self._driver = driver
        self._dialling: set[Deferred[MeshProtocol]] = set()  # dials that the core asked for
        self._stopped = False

    def link_to(self, address: PeerAddress, *, in_time: bool = False) -> Deferred[MeshProtocol]:
        """Link with the node at *address*.

        :param in_time: whether the application waits for the link, so that a slow line gets no extra time.
        """
        return Deferred.fromCoroutine(self._link_to(address, in_time))

    def exchange_with(self, address: PeerAddress) -> Deferred[MeshProtocol]:
        """Begin an exchange with the node at *address*; fires when that node has proven its identity."""
        return Deferred.fromCoroutine(self._in_turn(address, Purpose.EXCHANGE, MeshProtocol.when_proven))

    async def _link_to(self, address: PeerAddress, in_time: bool) -> MeshProtocol:
        renewals = self._driver.renewals
        link = partial(self._in_turn, address, Purpose.JOIN, self._neighbour, in_time=in_time)
        try:
            return await link()
        except RemoteError:
            if self._driver.renewals == renewals:
                raise
        # The peer knew a newer run of this node's key, so this node began a new run: try once more.
        return await link()

    def dial(self, dial: events.Dial) -> None:
        """Carry out a dial of the core; if it leads to no link, tell the core."""
        contact = dial.contact
        if self._stopped or contact.id in self._connections.cooldown:
            self._driver.handle(events.DialFailed(contact.id))
            return
        self._connections.log.dialling(dial)
        address = PeerAddress(contact.host, contact.port, contact.id)
        dialling = Deferred.fromCoroutine(self._in_turn(address, dial.purpose, MeshProtocol.when_proven))
        self._dialling.add(dialling)

        def over(result: object) -> None:
            if dialling not in self._dialling:
                return  # stop() has cancelled the dial
            self._dialling.discard(dialling)
            if isinstance(result, Failure):
                self._failed(result, contact)

        dialling.addBoth(over)

    def stop(self) -> None:
        """Cancel the core's dials, and refuse later ones."""
        self._stopped = True
        dialling, self._dialling = self._dialling, set()
        for each in dialling:
            each.cancel()

    def footprint(self) -> dict[str, int]:
        return {"told_dials": len(self._dialling), **self._endpoints.footprint()}

    def _failed(self, failure: Failure, contact: Contact) -> None:
        if not failure.check(MeshError):  # the application's own dial= can raise any exception
            address = show((contact.host, contact.port))
            _log.failure("dialling {address} failed", failure, address=address)
        # Only the key of this node itself is proven before a link is refused for it.
        met = isinstance(error := failure.value, RemoteError) and error.reason is Reason.KEY
        self._driver.handle(events.DialFailed(contact.id, met))

    # ── one attempt ─────────────────────────────────────────────────────────────────

    async def _in_turn(
        self, address: PeerAddress, purpose: Purpose, wait: Wait, *, in_time: bool = False
    ) -> MeshProtocol:
        """Try the addresses of *address* in turn, until the Deferred of *wait* fires for a connection.

        :param in_time: whether *wait* must end within the time limit for the proof of identity.
        """
        config, clock = self._connections.config, self._connections.clock
        until = clock.seconds() + config.connect_timeout + config.handshake_timeout
        lookup = self._endpoints.lookup()
        failures: list[RemoteError | ConnectFailed] = []
        try:
            while True:
                left = until - clock.seconds()
                try:
                    link = await self._connect(address, purpose, lookup, min(config.connect_timeout, left))
                except ConnectFailed as error:
                    failures.append(error)
                    break  # the endpoint has tried all addresses that were left
                left, addresses = until - clock.seconds(), lookup.left
                share = min(left, max(left / max(1, addresses), _SHARE_LEAST))
                lookup.tried(link.remote[0])
                try:
                    return await self._settled(link, wait, share, left if in_time else None)
                except RemoteError as error:
                    failures.append(error)
                if not 0 < lookup.left < addresses or clock.seconds() >= until:
                    break
        finally:
            lookup.stop()
        raise min(failures, key=_tells)

    async def _connect(
        self, address: PeerAddress, purpose: Purpose, lookup: Lookup, seconds: float
    ) -> MeshProtocol:
        """Make a connection; its far end has proven nothing yet."""
        connections = self._connections
        factory = MeshFactory(
            lambda: connections, outgoing=True, expected=address.id, purpose=purpose, name=name_of(address)
        )
        endpoint = self._endpoints.endpoint(address, lookup)

        def too_late(_: object, seconds: float) -> Failure:
            silent, perhaps = "nothing there", " (a firewall may be in between)"
            if lookup.is_waiting:
                silent, perhaps = "no name server", ""
            why = f"{silent} has answered within {seconds:g} s{perhaps}"
            return Failure(ConnectFailed(f"no connection to {address}: {why}"))

        try:
            link = await endpoint.connect(factory).addTimeout(seconds, connections.clock, too_late)
        except ConnectFailed:
            raise
        except ConnectingCancelledError:  # a cancelled endpoint raises this instead of CancelledError
            raise CancelledError from None
        except (ConnectError, ConnectTimeout, DNSLookupError, OSError, ValueError) as error:
            if lookup.is_waiting:  # an endpoint that is cancelled during a look-up raises DNSLookupError
                raise CancelledError from error
            # Twisted raises ValueError for a text that can be no host name.
            refused = isinstance(error, ConnectionRefusedError)
            why = "connection refused, nothing listens there" if refused else str(error).removesuffix(".")
            raise ConnectFailed(f"no connection to {address}: {why}") from error
        assert isinstance(link, MeshProtocol)
        return link

    async def _settled(
        self, link: MeshProtocol, wait: Wait, share: float, left: float | None
    ) -> MeshProtocol:
        """Wait until the Deferred of *wait* fires for *link*; return the link with which it fires.

        :param share: seconds for the peer to prove its identity.
        :param left: seconds for all of *wait*; None if the link's own time limits suffice.
        :raises HandshakeTimeout: the time is over; *link* is closed.
        """
        clock = self._connections.clock
        began, waiting, is_late = clock.seconds(), wait(link), False

        def too_late() -> None:
            nonlocal is_late
            is_late = True
            waiting.cancel()

        limit = clock.callLater(share, too_late)

        def proven(_: MeshProtocol) -> None:
            if not limit.active():  # *waiting* has fired with this proof, and nobody waits any more
                return
            if left is None:
                limit.cancel()
            else:
                limit.reset(max(0.0, began + left - clock.seconds()))

        link.when_proven().addCallbacks(proven, lambda _: None)  # *waiting* fails with the same reason
        try:
            return await waiting
        except CancelledError:
            if not is_late:
                self._give_up(link, RemoteError("nobody waits for this link any more", Reason.LEAVING))
                raise
            where, seconds = show(link.remote), clock.seconds() - began
            late = HandshakeTimeout(f"the handshake with {where} was not over after {seconds:.1f} s")
            self._give_up(link, late)
            raise late from None
        finally:
            if limit.active():
                limit.cancel()

    def _give_up(self, link: MeshProtocol, error: RemoteError) -> None:
        link.close(error)
        abort_unfinished(link.transport)

    def _neighbour(self, link: MeshProtocol) -> Deferred[MeshProtocol]:
        return Deferred.fromCoroutine(self._in_table(link))

    async def _in_table(self, link: MeshProtocol) -> MeshProtocol:
        """Wait until the routing table has *link*, or another link to the same node, kept instead of it."""
        try:
            return await link.when_up()
        except RemoteError as error:
            if error.reason not in (Reason.DUPLICATE, Reason.KEY) or link.id is None:
                raise
            try:
                return await self._connections.link_with(link.id)  # another link to that node is kept
            except RemoteError:
                if error.reason is Reason.DUPLICATE:
                    raise
                raise error from None  # this node's key is in use elsewhere


def _tells(error: RemoteError | ConnectFailed) -> int:
    """Rank *error* by how well it explains why no address of a name led to a link: 0 is best."""
    if isinstance(error, SelfConnection):
        return 2
    return 0 if isinstance(error, RemoteError) else 1
