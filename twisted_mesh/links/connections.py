"""The connections of one run of a service.

Contract: :class:`Connections` keeps every link, from its connection to its end, and tells the core of it by
events.  There are at most ``links_limit`` links.  A *stranger* is an accepted connection whose peer has
proven nothing yet; there are at most ``handshakes_limit`` of them.  If there are too many, one of the host
with the most is closed (:mod:`~twisted_mesh.links.crowding`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from types import MappingProxyType
from typing import Final
from typing import Protocol as Interface

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.logger import Logger

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.handshake import FRESH_BYTES, NONCE_BYTES, Handshake, LocalNode, Nonces, Peer, Side
from twisted_mesh.core.link_machine import Phase
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.eventloop.deferreds import WaitingDeferreds, wait_at_most
from twisted_mesh.grammar import were
from twisted_mesh.links.accepting import Accepting
from twisted_mesh.links.cooldown import CoolDown
from twisted_mesh.links.crowding import Rank, Strangers, crowded_out
from twisted_mesh.links.half_frames import HalfFrames
from twisted_mesh.links.log import LinkLog
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.links.tls import abort_unfinished
from twisted_mesh.links.turns import Turns
from twisted_mesh.wire.membership import Purpose

_OVERLAY: Final = frozenset({Purpose.NEIGHBOUR, Purpose.URGENT})  # purposes of an overlay's dials
_log = Logger()


class CoreDriver(Interface):
    """The methods of the core's driver that the connections call."""

    clock: IReactorTime
    config: MeshConfig
    id: bytes  #: of this node

    def handle(self, event: events.Event) -> None:
        """Let the core handle *event*."""

    def local_node(self) -> LocalNode:
        """The values that this node tells in its next handshake."""

    def wants_turn(self) -> None:
        """At the end of this turn of the reactor, flush the links of :meth:`Connections.to_flush`."""

    def publish(self, event: object) -> None:
        """Tell the subscribers of *event*."""


class Linked(msgspec.Struct, frozen=True):
    """A link has come into the routing table, which has *count* links now.

    :ivar is_new: whether the table had no link to that node.
    """

    link: MeshProtocol
    is_new: bool
    count: int


class Unlinked(msgspec.Struct, frozen=True):
    """A link has left the routing table because of *reason*; *count* links are left."""

    link: MeshProtocol
    reason: Reason
    count: int


class Connections:
    """All connections by their numbers; it is the :class:`~.protocol.LinkHost` of each.

    :ivar table: the routing table, by id, read-only.
    :ivar cooldown: the nodes that the application has disconnected.
    """

    def __init__(
        self,
        core: CoreDriver,
        cooldown: CoolDown,
        log: LinkLog,
        wall_clock: Callable[[], float],
        is_known: Callable[[bytes], bool],
    ) -> None:
        """
        :param wall_clock: seconds since 1970.
        :param is_known: whether the node with an id is a configured peer or a member of long standing.
        """
        self.clock = core.clock
        self.config = core.config
        self.cooldown = cooldown
        self.log = log
        self.handle, self.sending, self.unanswered = core.handle, log.sending, log.unanswered
        self._core = core
        self._wall_clock = wall_clock
        self._is_known = is_known
        self._nonces = Nonces(os.urandom(NONCE_BYTES))
        self._numbers = 0
        self._links: dict[int, MeshProtocol] = {}
        self._strangers = Strangers(self.config.handshakes_limit)
        self._accepting = Accepting(self.clock, self.config)
        self.may_begin = self._accepting.may_begin
        self._turns = Turns(self.clock)
        self.read = self._turns.read
        self._half_frames = HalfFrames(self.config)
        self._table: dict[bytes, MeshProtocol] = {}
        self.table: Mapping[bytes, MeshProtocol] = MappingProxyType(self._table)
        self._to_flush: dict[int, MeshProtocol] = {}
        self._none_left = WaitingDeferreds[None]()  # for the end of the last connection
        self._over: RemoteError | None = None  # the reason why no connection is let in any more

    def __iter__(self) -> Iterator[MeshProtocol]:
        """The present links; links may come and go while the caller iterates."""
        return iter(list(self._links.values()))  # copied in one step: other threads may iterate

    def get(self, number: int) -> MeshProtocol | None:
        return self._links.get(number)

    def link_with(self, node_id: bytes) -> Deferred[MeshProtocol]:
        """Fires with the link to *node_id* once it is in the routing table; fails if there is none."""
        for link in self:
            if link.id == node_id and link.error is None and not link.is_exchange:
                return link.when_up()
        return fail(RemoteError("the link that was kept is gone", Reason.LOST))

    def awaiting(self) -> list[MeshProtocol]:
        """The connections that may still come into the routing table."""
        return [link for link in self if not (link.is_up or link.is_exchange) and link.error is None]

    async def all_gone(self) -> None:
        """Wait until no connection is left; each is cut ``close_timeout`` after it was closed."""
        longest = 2 * self.config.close_timeout
        if self._links and not await wait_at_most(self._none_left.wait(), longest, self.clock):
            # Twisted tells the end of a cut connection by a timer of the reactor, which is late by hours if
            # the wall clock was set back by hours.
            cut = were(len(self._links), "connection")
            _log.warn("{cut} cut, and Twisted has not told the end", cut=cut)
            self._links.clear()

    def close_all(self, error: RemoteError) -> None:
        with ExitStack() as closing:  # each link is closed, even if another cannot be
            for link in self:
                closing.callback(link.close, error)

    def renewed(self) -> None:
        """Close all links: a new core drives this node, and knows none of them."""
        self.close_all(RemoteError("the node begins a new run", Reason.LEAVING))
        for link in list(self._table.values()):
            self.down(events.LinkDown(link.number, Reason.LEAVING))

    async def stop(self) -> None:
        """Close every link, let no other in, and wait until the last is gone.

        Until then queued frames are sent, and frames that the peers had sent are received.
        """
        self._over = RemoteError("the node stops", Reason.LEAVING)
        async with AsyncExitStack() as end:  # runs the last step first, and each if another fails
            end.callback(self._turns.stop)
            end.push_async_callback(self.all_gone)
            end.callback(self._accepting.stop)
            for link in self:
                end.callback(abort_unfinished, link.transport)
            end.callback(self.close_all, self._over)

    def footprint(self) -> dict[str, int]:
        return {
            "connections": len(self._links),
            "strangers": len(self._strangers),
            "routing_table": len(self._table),
            "queued_bytes": sum(link.queued_bytes for link in self._links.values()),
            **self._accepting.footprint(),
            **self._turns.footprint(),
            **self._half_frames.footprint(),
            **self.cooldown.footprint(),
        }

    # ── called by links: the methods of protocol.LinkHost ───────────────────────────

    def link(
        self,
        source: IAddress | None,
        outgoing: bool,
        expected: bytes | None,
        purpose: Purpose,
        name: str | None,
    ) -> MeshProtocol:
        self._numbers += 1
        return MeshProtocol(self, self._numbers, outgoing, expected, source, purpose, name)

    def handshake(
        self, side: Side, expected: bytes | None, purpose: Purpose, name: str | None
    ) -> Handshake:
        local_node = self._core.local_node()
        nonce, time = self._nonces.make(os.urandom(FRESH_BYTES)), int(self._wall_clock())
        return Handshake(
            side, local_node, nonce=nonce, time=time, expected=expected, purpose=purpose,
            name=name, is_own=self._nonces.is_own,
        )  # fmt: skip

    def made(self, link: MeshProtocol) -> None:
        self._links[link.number] = link
        if len(self._links) > self.config.links_limit + self.config.handshakes_limit:
            closing = next((other for other in self._links.values() if other.error is not None), None)
            if closing is not None:
                closing.cut()
        if self._over is not None:
            link.close(self._over)
        elif not link.outgoing and (site := self._strangers.add(link)) is not None:
            waiting = self._accepting.oldest_at(site)
            too_many = self._strangers.silent_at(site, link) or waiting or self._strangers.oldest_at(site)
            too_many.close(RemoteError("too many connections that prove nothing", Reason.FULL))
            abort_unfinished(too_many.transport)  # else its TLS session would last close_timeout

    def half_frame(self, link: MeshProtocol, size: int) -> None:
        if link.number not in self._links:
            return
        least = self._half_frames.note(link, size, self.clock.seconds())
        if least is not None:
            self._half_frames.gone(least)
            least.close(RemoteError("too many bytes of frames that have come in part", Reason.LIMIT))

    def proven(self, link: MeshProtocol, peer: Peer) -> None:
        purpose = peer.purpose if link.dialled_for is None else link.dialled_for
        link.is_exchange = purpose is Purpose.EXCHANGE
        if peer.id == self._core.id:
            self._core.handle(events.SameKey(link.number, peer.epoch, link.outgoing))
        elif purpose in _OVERLAY and peer.id in self.cooldown:
            link.close(RemoteError("the application disconnected this node", Reason.ROOM))
        elif self._has_room(link):
            named = link.dialled_for is Purpose.JOIN or self._is_known(peer.id)
            host, _ = link.remote
            link.now_proven()
            self._core.handle(
                events.LinkOpened(link.number, peer, link.outgoing, link.said_settled, purpose, host, named)
            )

    def wants_flush(self, link: MeshProtocol) -> None:
        self._to_flush[link.number] = link
        self._core.wants_turn()

    def closing(self, link: MeshProtocol, error: RemoteError) -> None:
        self._strangers.discard(link)
        self._accepting.gone(link)
        self._half_frames.gone(link)
        if (refusal := self.log.closing(link, error)) is not None:
            self._core.publish(refusal)
        self._core.handle(events.LinkClosing(link.number, error.reason))

    def lost(self, link: MeshProtocol) -> None:
        self._to_flush.pop(link.number, None)
        self._half_frames.gone(link)
        if self._links.pop(link.number, None) is not None:
            self._core.handle(events.LinkClosed(link.number))
            if not self._links:
                self._none_left.happened(None)

    def _has_room(self, link: MeshProtocol) -> bool:
        """Whether there is room for *link*, whose peer has proven its key; close a link if there is not."""
        self._strangers.discard(link)
        proven = [other for other in self._links.values() if other.phase is Phase.OPEN or other.is_patient]
        too_many = crowded_out(link, proven, self._rank, self.config.links_limit)
        if too_many is None:
            return True
        late = next((other for other in proven if other.gives_way), None)
        if late is not None:
            late.cut()
            return True
        too_many.close(RemoteError("this node has no room for another link", Reason.FULL))
        return too_many is not link

    def _rank(self, link: MeshProtocol) -> Rank:
        if link.outgoing:
            return Rank.OWN
        is_old = self.clock.seconds() - link.made_at >= self.config.established_after
        is_known = is_old or (link.id is not None and self._is_known(link.id))
        return Rank.KNOWN if is_known else Rank.NEW

    # ── called by the driver ────────────────────────────────────────────────────────

    def to_flush(self) -> Iterator[MeshProtocol]:
        """The links to flush now, and those that ask to be flushed while the caller iterates."""
        while self._to_flush:
            yield self._to_flush.pop(next(iter(self._to_flush)))

    def tell_flowing(self) -> None:
        """Tell the core of each link over which bytes have come, but no whole frame."""
        for link in self:
            if link.check_flow():
                self._core.handle(events.Flowing(link.number))

    # ── events of the core ──────────────────────────────────────────────────────────

    def up(self, up: events.LinkUp) -> None:
        """Put a link into the routing table, as the link to its node."""
        if (link := self._links.get(up.link)) is not None and link.id is not None:
            is_new = link.id not in self._table
            self._table[link.id] = link
            self.log.up(link, link.id, is_new)
            link.now_up()
            self._core.publish(Linked(link, is_new, len(self._table)))

    def exchange_begun(self, begun: events.ExchangeBegun) -> None:
        link = self._links.get(begun.link)
        if link is not None and link.id is not None:
            link.now_exchanging()
            self.log.exchange_begun(link, link.id)

    def down(self, down: events.LinkDown) -> None:
        """Take a link out of the routing table."""
        for node_id, link in self._table.items():
            if link.number == down.link:
                del self._table[node_id]
                self.log.down(link, node_id)
                self._core.publish(Unlinked(link, down.reason, len(self._table)))
                return
