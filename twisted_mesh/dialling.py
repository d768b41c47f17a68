"""One attempt at a link: from an address to a neighbour, or why not.

Contract: :meth:`Dialling.link_to` fires with a link of the routing table.  It fails with
:class:`~twisted_mesh.errors.ConnectFailed` where there is no connection, and with the
:class:`~twisted_mesh.errors.RemoteError` of the refusal where there is one.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    clientFromString,
)
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.addresses import PeerAddress, show
from twisted_mesh.core import events
from twisted_mesh.errors import ConnectFailed, Reason, RemoteError
from twisted_mesh.factory import MeshFactory
from twisted_mesh.hub import Hub
from twisted_mesh.protocol import MeshProtocol
from twisted_mesh.tls import Tls, abort_unfinished
from twisted_mesh.wire.membership import Contact, Purpose

_log = Logger()
Dial = Callable[[str, int], IStreamClientEndpoint]


class Dialling:
    """Makes links for one run of a service; an attempt that is cancelled leaves nothing behind."""

    def __init__(self, reactor: object, hub: Hub, tls: Tls | None, dial: Dial | None) -> None:
        """
        :param tls: of the node, or None for plain text.
        :param dial: makes the endpoints for host and port, where the application does that itself.
        """
        self._reactor = reactor
        self._hub = hub
        self._tls = tls
        self._dial = dial
        self._knocking: set[Deferred[MeshProtocol]] = set()

    def link_to(self, address: PeerAddress) -> Deferred[MeshProtocol]:
        """A link to the node at *address*."""
        return Deferred.fromCoroutine(self._link_to(address))

    def visit(self, address: PeerAddress) -> Deferred[MeshProtocol]:
        """An exchange with the node at *address*: fires with its connection, of which nothing is proven."""
        return Deferred.fromCoroutine(self._connect(address, Purpose.EXCHANGE))

    async def _link_to(self, address: PeerAddress) -> MeshProtocol:
        renewals = self._hub.renewals
        try:
            return await self._attempt(address)
        except RemoteError:
            if self._hub.renewals == renewals:
                raise
        # This node began a new run because of what it was told there, and once is enough for that.
        return await self._attempt(address)

    def knock(self, dial: events.Dial) -> None:
        """Carry out what the core wants; what comes of it is a link, or the core is told otherwise."""
        contact = dial.contact
        knocking = Deferred.fromCoroutine(
            self._connect(PeerAddress(contact.host, contact.port, contact.id), dial.purpose)
        )
        self._knocking.add(knocking)

        def over(result: object) -> None:
            if knocking not in self._knocking:
                return  # stopped
            self._knocking.discard(knocking)
            if isinstance(result, Failure):
                self._nobody_there(result, contact)

        knocking.addBoth(over)

    def stop(self) -> None:
        """Knock no more."""
        knocking, self._knocking = self._knocking, set()
        for one in knocking:
            one.cancel()

    def _nobody_there(self, failure: Failure, contact: Contact) -> None:
        if not failure.check(ConnectFailed):  # dial= can be the application's, and fail as it likes
            address = show((contact.host, contact.port))
            _log.failure("dialling {address} failed", failure, address=address)
        self._hub.dial_failed(contact.id)

    async def _connect(self, address: PeerAddress, purpose: Purpose) -> MeshProtocol:
        """A connection, nothing proven."""
        factory = MeshFactory(lambda: self._hub, outgoing=True, expected=address.id, purpose=purpose)
        endpoint = self._endpoint(address)
        if self._tls is not None:
            endpoint = self._tls.client(endpoint)
        try:
            link = await endpoint.connect(factory)
        except ConnectingCancelledError:  # Twisted's word for it, which no addTimeout() knows
            raise CancelledError from None
        except (ConnectError, ConnectTimeout, DNSLookupError, OSError, ValueError) as error:
            # A ValueError is Twisted's word for a name that none can have.
            why = str(error).removesuffix(".")
            raise ConnectFailed(f"no connection to {address}: {why}") from error
        assert isinstance(link, MeshProtocol)
        return link

    async def _attempt(self, address: PeerAddress) -> MeshProtocol:
        link = await self._connect(address, Purpose.JOIN)
        try:
            return await link.when_up()
        except CancelledError:
            link.close(RemoteError("nobody waits for this link any more", Reason.LEAVING))
            abort_unfinished(link.transport)
            raise
        except RemoteError as error:
            if error.reason is not Reason.DUPLICATE or link.id is None:
                raise
            # Another link to that node is kept: that is the one that was wanted.
            return await self._hub.connections.link_with(link.id)

    def _endpoint(self, address: PeerAddress) -> IStreamClientEndpoint:
        if address.host is None:
            if isinstance(address.endpoint, str):
                described: IStreamClientEndpoint = clientFromString(self._reactor, address.endpoint)
                return described
            assert address.endpoint is not None
            return address.endpoint
        if self._dial is not None:
            return self._dial(address.host, address.port)
        seconds = self._hub.config.connect_timeout
        if isIPAddress(address.host):
            return TCP4ClientEndpoint(self._reactor, address.host, address.port, seconds)
        if isIPv6Address(address.host):
            return TCP6ClientEndpoint(self._reactor, address.host, address.port, seconds)
        return HostnameEndpoint(self._reactor, address.host, address.port, seconds)
