"""Whom to dial, and when again.

Contract: a *target* is an address this node wants a link to.  It is dialled until a link to the node
found there is in the routing table, whoever dialled it, and again when that link goes: with
jittered exponential back-off, for ever.  A refusal counts as a failed attempt (a TCP connection
that is refused by the mesh behind it is no success).  A target that turns out to be this very
node is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.addresses import PeerAddress
from twisted_mesh.config import MeshConfig
from twisted_mesh.errors import MeshError, SelfConnection
from twisted_mesh.logs import PeerLog
from twisted_mesh.protocol import MeshProtocol

_log = Logger()


class _Target:
    __slots__ = ("address", "attempt", "failures", "node_id", "retry")

    def __init__(self, address: PeerAddress, node_id: bytes | None) -> None:
        self.address = address
        self.node_id = node_id  # of the node found there
        self.failures = 0
        self.attempt: Deferred[MeshProtocol] | None = None
        self.retry: IDelayedCall | None = None


class Dialler:
    """The targets of one run of a service."""

    def __init__(
        self,
        clock: IReactorTime,
        config: MeshConfig,
        dial: Callable[[PeerAddress], Deferred[MeshProtocol]],
        linked: Container[bytes],
        jitter: Callable[[], float],
    ) -> None:
        """
        :param dial: makes one attempt; fires with the link, or fails with a MeshError.
        :param linked: the ids of the routing table.
        :param jitter: draws from 0 to 1.
        """
        self._clock = clock
        self._config = config
        self._dial = dial
        self._linked = linked
        self._delay = backoffPolicy(
            config.redial_initial, config.redial_longest, config.redial_factor, jitter
        )
        self._log = PeerLog(_log, clock.seconds, config)
        self._targets: dict[PeerAddress, _Target] = {}
        self._forbidden: dict[bytes, float] = {}  # until when, by id

    def __len__(self) -> int:
        return len(self._targets)

    def add(self, address: PeerAddress, node_id: bytes | None = None) -> None:
        """Keep a link to *address*; *node_id* is the node a link was just made to there."""
        if address not in self._targets:
            target = self._targets[address] = _Target(address, node_id)
            if node_id is None:
                self._attempt(target)

    def found_at(self, address: PeerAddress) -> bytes | None:
        """The id of the node that was found at *address*, if it is a target."""
        target = self._targets.get(address)
        return None if target is None else target.node_id

    def link_lost(self, node_id: bytes) -> None:
        """A node left the routing table: dial it again soon, if it is a target."""
        for target in self._targets.values():
            if target.node_id == node_id:
                self._again(target)

    def forbid(self, node_id: bytes) -> None:
        """The application disconnected this node: do not dial it for ``redial_forbidden``."""
        now = self._clock.seconds()
        self._forbidden = {known: until for known, until in self._forbidden.items() if until > now}
        self._forbidden[node_id] = now + self._config.redial_forbidden

    def may_dial(self, node_id: bytes) -> bool:
        """Whether the application has not disconnected this node lately."""
        return self._forbidden.get(node_id, 0.0) <= self._clock.seconds()

    def allow(self, node_id: bytes | None) -> None:
        """The application wants this node again."""
        if node_id is not None:
            self._forbidden.pop(node_id, None)

    def stop(self) -> None:
        """Dial nobody any more."""
        targets, self._targets = self._targets, {}
        for target in targets.values():
            if target.retry is not None:
                target.retry.cancel()
            if target.attempt is not None:
                target.attempt.cancel()

    def _attempt(self, target: _Target) -> None:
        target.retry = None
        if target.node_id in self._linked:
            return
        attempt = target.attempt = self._dial(target.address)
        attempt.addCallbacks(self._reached, self._failed, callbackArgs=(target,), errbackArgs=(target,))
        attempt.addErrback(lambda failure: _log.failure("dialling failed", failure))

    def _reached(self, link: MeshProtocol, target: _Target) -> None:
        target.attempt = None
        target.failures = 0
        target.node_id = link.id
        if link.id not in self._linked:  # it came and went meanwhile
            self._again(target)

    def _failed(self, failure: Failure, target: _Target) -> None:
        target.attempt = None
        if target.address not in self._targets:  # stopped
            return
        if not failure.check(MeshError):
            # Endpoints and dial= can be the application's, and fail as they like.
            _log.failure("dialling {address} failed", failure, address=target.address)
        if failure.check(SelfConnection):
            del self._targets[target.address]
            text = "{address} is this node itself, or has its identity: not dialled again"
            _log.info(text, address=target.address)
            return
        target.failures += 1
        self._again(target)
        assert target.retry is not None
        text = f"cannot link with {target.address}: {failure.getErrorMessage()}"
        wait = target.retry.getTime() - self._clock.seconds()
        self._log.line(str(target.address), f"{text}; next attempt in {wait:.1f} s")

    def _again(self, target: _Target) -> None:
        if target.retry is not None or target.attempt is not None:
            return
        now = self._clock.seconds()
        wait = self._delay(target.failures)
        if target.node_id is not None:
            wait = max(wait, self._forbidden.get(target.node_id, now) - now)
        target.retry = self._clock.callLater(wait, self._attempt, target)
