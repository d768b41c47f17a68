"""The peers that this node dials for ever: the configured ones, and those that ``connect()`` linked.

Contract: a *target* is an address to which this node wants a link.  A target is dialled, with jittered
exponential back-off and for ever, until a link to the node found there is in the routing table, whichever
end dialled; and again when that link ends.  A refusal counts as a failed attempt, although TCP connected.
If an IP address leads to this node itself, the target is dropped.  If a name leads to this node itself, it
is dialled again after ``redial_longest``, since it can lead to other nodes later.

If the node of a target had no room, it has passed this node on to other nodes, and a link to it would undo
that work of the overlay.  So this node makes an exchange with it every ``peer_interval`` instead, in order
to hear of its configured peers.  If this node has no link left, it dials the target as before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.addressing.addresses import PeerAddress, is_numeric
from twisted_mesh.config import MeshConfig
from twisted_mesh.errors import MeshError, Reason, SelfConnection
from twisted_mesh.eventloop.deferreds import WaitingDeferreds
from twisted_mesh.eventloop.log_quota import PeerLog
from twisted_mesh.links.connections import Unlinked
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.links.redial import Attempts, Redial

_log = Logger()


class DialledPeer(NamedTuple):
    """A target: the node that was found there last, and how many attempts in a row have failed since.

    :ivar reason: why the last attempt failed.
    """

    address: str
    node_id: bytes | None
    failures: int
    reason: str

    def __str__(self) -> str:
        """The reason, with the address."""
        return self.reason if self.address in self.reason else f"{self.address}: {self.reason}"


@dataclass(slots=True, eq=False)
class _Target:
    address: PeerAddress
    _node_id: bytes | None
    _exchange: MeshProtocol | None = None
    failures: int = 0
    reason: str = ""  # why the last attempt failed
    passed_on: bool = False  # the node there had no room, and passed this node on to others
    is_self: bool = False  # this node itself was found there
    attempt: Deferred[MeshProtocol] | None = None
    retry: IDelayedCall | None = None

    @property
    def node_id(self) -> bytes | None:
        """The id of the node that was found last at the address."""
        exchanged_with = None if self._exchange is None else self._exchange.id
        return exchanged_with or self._node_id

    def found(self, link: MeshProtocol) -> None:
        self.is_self = False
        if link.is_exchange:
            self._exchange = link
        else:
            self._node_id, self._exchange = link.id, None

    def stop(self) -> None:
        if self.retry is not None:
            self.retry.cancel()
        if self.attempt is not None:
            self.attempt.cancel()


class PersistentPeers:
    """The targets of one run of a service."""

    def __init__(
        self, config: MeshConfig, dials: Attempts, redial: Redial, linked: Collection[bytes]
    ) -> None:
        """:param linked: the ids of the routing table."""
        self._config = config
        self._dials = dials
        self._redial = redial
        self._linked = linked
        self._log = PeerLog(_log, redial.clock.seconds, config)
        self._targets: dict[PeerAddress, _Target] = {}
        self._all_known = WaitingDeferreds[None]()

    def __len__(self) -> int:
        return len(self._targets)

    def add(self, address: PeerAddress, node_id: bytes | None = None) -> None:
        """Keep a link to *address*; if there is one already, *node_id* is the id of its node."""
        if address not in self._targets:
            target = self._targets[address] = _Target(address, node_id)
            if node_id is None:
                self._attempt(target)

    def forget(self, host: str, port: int) -> bool:
        """Stop dialling *host* and *port*, whichever id was given; return whether they were a target."""
        gone = [address for address in self._targets if (address.host, address.port) == (host, port)]
        for address in gone:
            self._targets.pop(address).stop()
        return bool(gone)

    def found_at(self, address: PeerAddress) -> bytes | None:
        """The id of the node that was found at the target *address*, or None."""
        target = self._targets.get(address)
        return None if target is None else target.node_id

    def wants(self, node_id: bytes) -> bool:
        """Whether the node *node_id* is wanted or was found at a target."""
        targets = self._targets.items()
        return any(node_id in (address.id, target.node_id) for address, target in targets)

    def __iter__(self) -> Iterator[DialledPeer]:
        """The targets; one that others have linked with has not failed."""
        for target in self._targets.values():
            failures = 0 if target.node_id in self._linked else target.failures
            yield DialledPeer(str(target.address), target.node_id, failures, target.reason)

    def failing(self) -> Iterator[DialledPeer]:
        """The targets that could not be reached at the last attempt."""
        return (target for target in self if target.failures)

    def outcomes(self) -> Deferred[None]:
        """Fires when no first attempt, or first after a link, is under way: each was refused, or linked."""
        return self._all_known.wait() if self._is_unknown() else succeed(None)

    def _is_unknown(self) -> bool:
        return any(target.attempt is not None and not target.failures for target in self._targets.values())

    def unlinked(self, unlinked: Unlinked) -> None:
        """A link left the routing table: dial its target again.

        If the link ended for want of room, the node there has passed this node on.
        """
        for target in self._targets.values():
            if target.node_id == unlinked.link.id:
                target.passed_on = unlinked.reason is Reason.ROOM
                self._again(target)
        if not unlinked.count:
            self._isolated()

    def _isolated(self) -> None:
        """No link is left: dial the targets that passed this node on to others, too."""
        for target in self._targets.values():
            if target.passed_on:
                target.passed_on = False
                if target.retry is not None:
                    target.retry.cancel()
                    target.retry = None
                self._again(target)

    def stop(self) -> None:
        targets, self._targets = self._targets, {}
        for target in targets.values():
            target.stop()

    def _attempt(self, target: _Target) -> None:
        target.retry = None
        if target.node_id in self._linked:
            return
        dial = self._dials.exchange_with if target.passed_on else self._dials.link_to
        attempt = target.attempt = dial(target.address)
        attempt.addCallbacks(self._reached, self._failed, callbackArgs=(target,), errbackArgs=(target,))
        attempt.addErrback(lambda failure: _log.failure("dialling failed", failure))
        attempt.addCallback(lambda _: None if self._is_unknown() else self._all_known.happened(None))

    def _reached(self, link: MeshProtocol, target: _Target) -> None:
        target.attempt = None
        if self._targets.get(target.address) is not target:  # stopped, or forgotten
            return
        target.failures = 0
        target.found(link)
        if link.is_exchange or link.id not in self._linked:  # the link has ended meanwhile
            self._again(target)

    def _failed(self, failure: Failure, target: _Target) -> None:
        target.attempt = None
        if self._targets.get(target.address) is not target:  # stopped, or forgotten
            return
        if not failure.check(MeshError):
            # Endpoints and dial= can be the application's, and raise any exception.
            _log.failure("dialling {address} failed", failure, address=target.address)
        if failure.check(SelfConnection):
            self._met_itself(target)
            return
        target.is_self = False
        target.failures += 1
        target.reason = failure.getErrorMessage()
        self._again(target)
        assert target.retry is not None
        why = target.reason.removeprefix(f"no connection to {target.address}: ")
        text = f"cannot link with {target.address}: {why}"
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
