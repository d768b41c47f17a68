"""Whom to dial, and when again.

Contract: a *target* is an address this node wants a link to.  It is dialled until a link to the node
found there is in the routing table, whoever dialled it, and again when that link goes: with
jittered exponential back-off, for ever.  A refusal counts as a failed attempt (a TCP connection
that is refused by the mesh behind it is no success).  An IP address that turns out to be this very
node's is dropped; a name can lead to others later, so one that leads to this node alone is left alone
for ``redial_longest``.

A target whose node has passed this one on to others, for want of room, is not dialled for a link: that
would undo what the overlay did.  While there are other links there is an exchange with it instead, every
``peer_interval``, so that what is configured is heard of whatever becomes of the rest; without any it is
dialled like the others.
"""

from __future__ import annotations

from collections.abc import Collection

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.addressing.addresses import PeerAddress, is_numeric
from twisted_mesh.config import MeshConfig
from twisted_mesh.errors import MeshError, Reason, SelfConnection
from twisted_mesh.eventloop.log_quota import PeerLog
from twisted_mesh.links.connections import Unlinked
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.links.redial import Attempts, Redial

_log = Logger()


class _Target:
    __slots__ = ("_exchange", "_node_id", "address", "attempt", "failures", "is_self", "passed_on", "retry")

    def __init__(self, address: PeerAddress, node_id: bytes | None) -> None:
        self.address = address
        self._node_id = node_id
        self._exchange: MeshProtocol | None = None
        self.failures = 0
        self.passed_on = False  # its node had no room for this one
        self.is_self = False  # only this node was found there
        self.attempt: Deferred[MeshProtocol] | None = None
        self.retry: IDelayedCall | None = None

    @property
    def node_id(self) -> bytes | None:
        """Of the node found there last."""
        exchanged_with = None if self._exchange is None else self._exchange.id
        return exchanged_with or self._node_id

    def found(self, link: MeshProtocol) -> None:
        """*link* leads there."""
        self.is_self = False
        if link.is_exchange:
            self._exchange = link
        else:
            self._node_id, self._exchange = link.id, None


class PersistentPeers:
    """The targets of one run of a service."""

    def __init__(
        self, config: MeshConfig, dials: Attempts, redial: Redial, linked: Collection[bytes]
    ) -> None:
        """
        :param linked: the ids of the routing table.
        """
        self._config = config
        self._dials = dials
        self._redial = redial
        self._linked = linked
        self._log = PeerLog(_log, redial.clock.seconds, config)
        self._targets: dict[PeerAddress, _Target] = {}

    def __len__(self) -> int:
        return len(self._targets)

    def add(self, address: PeerAddress, node_id: bytes | None = None) -> None:
        """Keep a link to *address*; *node_id* is the node a link was just made to there."""
        if address not in self._targets:
            target = self._targets[address] = _Target(address, node_id)
            if node_id is None:
                self._attempt(target)

    def forget(self, host: str, port: int) -> bool:
        """Dial the node at *host* and *port* no more, whatever its id; whether it was a target."""
        gone = [address for address in self._targets if (address.host, address.port) == (host, port)]
        for address in gone:
            _end(self._targets.pop(address))
        return bool(gone)

    def found_at(self, address: PeerAddress) -> bytes | None:
        """The id of the node that was found at *address*, if it is a target."""
        target = self._targets.get(address)
        return None if target is None else target.node_id

    def unlinked(self, unlinked: Unlinked) -> None:
        """A node left the routing table: dial it again soon, if it is a target.

        A target whose node had no room for this one has passed it on.
        """
        for target in self._targets.values():
            if target.node_id == unlinked.link.id:
                target.passed_on = unlinked.reason is Reason.ROOM
                self._again(target)
        if not unlinked.count:
            self._isolated()

    def _isolated(self) -> None:
        """No link is left: targets that passed this node on are dialled like the others."""
        for target in self._targets.values():
            if target.passed_on:
                target.passed_on = False
                if target.retry is not None:
                    target.retry.cancel()
                    target.retry = None
                self._again(target)

    def stop(self) -> None:
        """Dial nobody any more."""
        targets, self._targets = self._targets, {}
        for target in targets.values():
            _end(target)

    def _attempt(self, target: _Target) -> None:
        target.retry = None
        if target.node_id in self._linked:
            return
        dial = self._dials.exchange_with if target.passed_on else self._dials.link_to
        attempt = target.attempt = dial(target.address)
        attempt.addCallbacks(self._reached, self._failed, callbackArgs=(target,), errbackArgs=(target,))
        attempt.addErrback(lambda failure: _log.failure("dialling failed", failure))

    def _reached(self, link: MeshProtocol, target: _Target) -> None:
        target.attempt = None
        if self._targets.get(target.address) is not target:  # stopped, or forgotten
            return
        target.failures = 0
        target.found(link)
        if link.is_exchange or link.id not in self._linked:  # it came and went meanwhile
            self._again(target)

    def _failed(self, failure: Failure, target: _Target) -> None:
        target.attempt = None
        if self._targets.get(target.address) is not target:  # stopped, or forgotten
            return
        if not failure.check(MeshError):
            # Endpoints and dial= can be the application's, and fail as they like.
            _log.failure("dialling {address} failed", failure, address=target.address)
        if failure.check(SelfConnection):
            self._met_itself(target)
            return
        target.is_self = False
        target.failures += 1
        self._again(target)
        assert target.retry is not None
        text = f"cannot link with {target.address}: {failure.getErrorMessage()}"
        wait = target.retry.getTime() - self._redial.clock.seconds()
        self._log.line(str(target.address), f"{text}; next attempt in {wait:.1f} s")

    def _met_itself(self, target: _Target) -> None:
        address = target.address
        text = "{address} is this node itself: "
        if address.host is not None and is_numeric(address.host):
            del self._targets[address]
            _log.info(text + "not dialled again", address=address)
            return
        if not target.is_self:
            _log.info(text + "looked up again later, for others that may be there", address=address)
        target.is_self = True
        self._again(target)

    def _again(self, target: _Target) -> None:
        if target.retry is not None or target.attempt is not None:
            return
        redial, pause = self._redial, None
        if target.is_self:
            pause = self._config.redial_longest
        elif target.passed_on:
            pause = self._config.peer_interval
        wait = max(redial.wait(target.failures, pause), redial.cooldown.left(target.node_id))
        target.retry = redial.clock.callLater(wait, self._attempt, target)


def _end(target: _Target) -> None:
    """Dial *target*, which is none any more, neither now nor later."""
    if target.retry is not None:
        target.retry.cancel()
    if target.attempt is not None:
        target.attempt.cancel()
