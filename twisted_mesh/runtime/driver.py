"""One run of a node: the core, its links and timers, and the one interpreter of its effects.

Contract: everything that happens becomes an event for the core, one after the other, and what the
core answers is carried out here and nowhere else.  One reactor turn is one batch: what the
application sends in a turn is published at its end, and each link's frames leave in one write.
User code called from here may call back into it; its events wait their turn.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import assert_never

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.handshake import FRESH_BYTES, NONCE_BYTES, Handshake, LocalNode, Nonces, Peer, Side
from twisted_mesh.core.history.history import History
from twisted_mesh.core.node import Node
from twisted_mesh.core.overlay.views import Randomness
from twisted_mesh.errors import NotRunning, Reason, RemoteError
from twisted_mesh.eventloop.deferreds import Conditions, WaitingDeferreds
from twisted_mesh.eventloop.log_quota import DropLog
from twisted_mesh.links.connections import Connections
from twisted_mesh.links.cooldown import CoolDown
from twisted_mesh.links.log import LinkLog
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.links.silence import Keepalive
from twisted_mesh.links.tls import abort_unfinished
from twisted_mesh.runtime.batching import Batching
from twisted_mesh.runtime.observer import Observer
from twisted_mesh.runtime.timers import Timers
from twisted_mesh.storage.writer import HistoryWriter
from twisted_mesh.wire import native
from twisted_mesh.wire.framing import MAX_FRAME_BYTES
from twisted_mesh.wire.greeting import Address
from twisted_mesh.wire.membership import Contact, Purpose

_OVERLAY = frozenset({Purpose.NEIGHBOUR, Purpose.URGENT})  #: what an overlay dials for, at either end


class Driver:
    """The core and what surrounds it, from start to stop.

    :ivar connections: all there are; :ivar table: of these the routing table, by id, read-only.
    :ivar log: of its links; :ivar renewals: how often the core had to begin a new run.
    :ivar local_node: what the node says of itself in its present run.
    :ivar disconnected: the nodes the application does not want as neighbours now.
    """

    def __init__(
        self,
        clock: IReactorTime,
        local_node: LocalNode,
        config: MeshConfig,
        observer: Observer,
        debug_level: int,
        writer: HistoryWriter | None,
        wall_clock: Callable[[], float],
        randomness: Randomness,
        where: Callable[[], Address | None],
    ) -> None:
        """
        :param writer: of its history, if that outlives the run.
        :param wall_clock: seconds since 1970.
        :param randomness: where the overlay's chance comes from.
        :param where: tells where others can dial the node now.
        """
        self.clock = clock
        self.config = config
        self._writer = writer
        history = History(config) if writer is None else writer.history(local_node.origin)
        self._randomness = randomness
        settled = writer is not None and writer.store.restored.settled
        self.node = Node(local_node, config, randomness, history, settled)
        self.renewals = 0
        self.local_node = local_node
        self._observer = observer
        self._wall_clock = wall_clock
        self._where = where
        self.log = LinkLog(clock, config, debug_level, local_node.network)
        self.disconnected = CoolDown(clock, config)
        self.connections = Connections(config)
        self.table: Mapping[bytes, MeshProtocol] = self.connections.table
        self._nonces = Nonces(os.urandom(NONCE_BYTES))
        self._numbers = 0
        self._published = 0  # messages of this run of the service that have a number
        self._events: deque[events.Event] = deque()
        self._busy = False
        self._gathering = Batching(clock, config, self._publish)
        self._to_flush: dict[int, MeshProtocol] = {}
        self._flushing = False
        self._turn: IDelayedCall | None = None
        self._timers = Timers(clock, self._fire)
        self._drained = WaitingDeferreds[None]()
        self._conditions = Conditions()  # of what the core has come to
        self._watch = Keepalive(clock, config, self.connections, self.table)
        self._earlier = Counter[str]()  # what was dropped in runs of the core before the present one
        self._drops = DropLog(clock, config.log_interval, lambda: self.counts)
        # The core alone never lets so much wait, however small link_queue_bytes is.
        self._too_much = 2 * max(config.link_queue_bytes, config.answer_bytes + MAX_FRAME_BYTES)

    # ── what the service asks for ───────────────────────────────────────────────────

    @property
    def unsent(self) -> int:
        """Own messages no link has taken yet."""
        return self.node.outbox.head - self.node.outbox.taken + len(self._gathering)

    def publish(self, entry: bytes) -> int | None:
        """Send a packed message to everyone at the end of this turn or soon.

        :return: its place in all that is sent in this run of the service; None if there is no room for it.
        """
        if not self.node.sending.room_for(self._gathering.bytes + len(entry)):
            return None
        place = self._published + self._gathering.add(entry)
        if self._turn is None and not self._gathering.waits:
            self._schedule()
        return place

    def handle(self, event: events.Asking | events.Check) -> None:
        """Something the application does about messages that are on their way."""
        self._handle(event)

    def drained(self) -> Deferred[None]:
        """Fires when there is room again; at once if there is."""
        return self._drained.wait() if self.node.sending.congested else succeed(None)

    def when(self, is_so: Callable[[], bool]) -> Deferred[None]:
        """Fires when something *is_so* in the core; can be cancelled."""
        return self._conditions.when(is_so)

    def given_to_all(self) -> Deferred[None]:
        """Fires when every own message was given to each neighbour that stays, or there is none left."""
        self._gathering.stop()
        return self._conditions.when(lambda: self.node.sending.is_given_to_all())

    def parted(self) -> Deferred[None]:
        """Fires when every neighbour knows that this node leaves, and the receipts it owes are out."""
        self._gathering.stop()
        self._handle(events.Leaving())
        return self._conditions.when(
            lambda: self.node.sending.has_parted() and self.node.reverse.carrying.is_empty
        )

    def renew(self, local_node: LocalNode) -> None:
        """Begin a new run of the core; every link is closed and made again.

        If the old run is not settled, nobody can have its messages but by accident: those no neighbour has
        taken become the new run's.  Else all stay in it and are held for others, as after a restart.
        """
        old = self.node
        self._timers.stop()
        self._earlier.update(old.counts)
        self.local_node = local_node
        if old.settled:
            last = old.outbox.head
            old.history.taken_of_earlier(old.outbox.run, old.outbox.taken)
        else:
            last = old.outbox.taken
            unsent = old.outbox.unsent(old.history)
            self._gathering.put_first(unsent)
            self._published -= len(unsent)
            old.history.discard(old.outbox.run)  # its messages are the new run's now
        self.node = Node(local_node, self.config, self._randomness, old.history, old.settled)
        self.renewals += 1
        self._observer.renumbered(last)
        self.connections.close_all(RemoteError("the node begins a new run", Reason.LEAVING))
        for link in list(self.table.values()):  # of which the new core knows nothing
            self._on_down(events.LinkDown(link.number, Reason.LEAVING))
        if old.settled:
            self._drained.happened(None)
        else:
            self.node.sending.congested = old.sending.congested  # who waits for Drained still does
        self._schedule()

    async def stop(self) -> None:
        """Close every link and let no other in; when the last is gone, this run is over."""
        async with AsyncExitStack() as end:  # whatever fails all of it is done, the last first
            over = NotRunning("the service stopped first")
            end.callback(self._conditions.stop, Failure(over))
            end.callback(self._no_more_turns)
            end.callback(self._timers.stop)
            if self._writer is not None:
                end.push_async_callback(self._writer.stop)
            end.callback(self._watch.stop)
            end.callback(self._drops.stop)
            # Until then what is queued goes out, and what the peers had sent comes in.
            end.push_async_callback(self.connections.all_gone, self.clock)
            end.callback(self._drained.happened, None)
            for link in self.connections:
                end.callback(abort_unfinished, link.transport)
            end.callback(self.connections.end, RemoteError("the node stops", Reason.LEAVING))

    def _no_more_turns(self) -> None:
        if self._turn is not None:
            self._turn.cancel()

    @property
    def counts(self) -> Counter[str]:
        """What the core ignored or dropped so far, by name."""
        counts = self._earlier.copy()
        counts.update(self.node.counts)
        return counts

    def footprint(self) -> dict[str, int]:
        """Entries and bytes of every table of this run."""
        return {
            **self.node.footprint(),
            **({} if self._writer is None else self._writer.footprint()),
            **self.connections.footprint(),
            **self.disconnected.footprint(),
        }

    @property
    def redial_pause(self) -> float | None:
        """Seconds between attempts at a link while another node uses this node's key; else None."""
        return self.config.key_retry if self.node.disowned else None

    def dial_failed(self, node_id: bytes) -> None:
        """What the core had dialled was not there."""
        self._handle(events.DialFailed(node_id))

    def known(self, contacts: Sequence[Contact]) -> None:
        """Nodes that were linked with in earlier runs, the latest last."""
        self._handle(events.Known(contacts))

    # ── what links ask for (protocol.Switch) ────────────────────────────────────────

    def link(
        self, source: IAddress | None, outgoing: bool, expected: bytes | None, purpose: Purpose
    ) -> MeshProtocol:
        """A new link."""
        self._numbers += 1
        return MeshProtocol(self, self._numbers, outgoing, expected, source, purpose)

    def made(self, link: MeshProtocol) -> None:
        """A connection is there, nothing proven."""
        self.connections.made(link)

    def handshake(self, side: Side, expected: bytes | None, purpose: Purpose) -> Handshake:
        """A handshake for a new connection."""
        self._see_where()
        local_node = msgspec.structs.replace(self.local_node, settled=self.node.settled)
        nonce, time = self._nonces.make(os.urandom(FRESH_BYTES)), int(self._wall_clock())
        return Handshake(
            side, local_node, nonce=nonce, time=time, expected=expected, purpose=purpose,
            is_own=self._nonces.is_own,
        )  # fmt: skip

    def proven(self, link: MeshProtocol, peer: Peer) -> None:
        """The peer has proven who it is."""
        purpose = peer.purpose if link.dialled_for is None else link.dialled_for
        link.visits = purpose is Purpose.EXCHANGE
        if peer.id == self.local_node.id:
            self._handle(events.SameKey(link.number, peer.epoch, link.outgoing))
        elif purpose in _OVERLAY and peer.id in self.disconnected:
            link.close(RemoteError("the application disconnected this node", Reason.ROOM))
        elif self.connections.proven(link):
            host, _ = link.remote
            link.now_proven()
            self._handle(
                events.LinkOpened(link.number, peer, link.outgoing, link.said_settled, purpose, host)
            )

    def received(self, link: MeshProtocol, frames: list[native.Frame]) -> None:
        """Frames of a proven peer."""
        self._handle(events.Received(link.number, frames))

    def arriving(self, arriving: events.Arriving) -> None:
        """A frame of a proven peer is not whole yet, and takes long."""
        self._handle(arriving)

    def wants_flush(self, link: MeshProtocol) -> None:
        """Flush *link* at the end of this turn."""
        self._to_flush[link.number] = link
        if not self._flushing:
            self._schedule()

    def closing(self, link: MeshProtocol, error: RemoteError) -> None:
        """Nothing more can be sent over *link*."""
        self.connections.closing(link)
        refusal = self.log.closing(link, error)
        if refusal is not None:
            self._observer.refused(refusal)
        self._handle(events.LinkClosing(link.number, error.reason))

    def lost(self, link: MeshProtocol) -> None:
        """The connection is gone."""
        self._to_flush.pop(link.number, None)
        if self.connections.lost(link):
            self._handle(events.LinkClosed(link.number))
            self.connections.tell_if_gone()

    def sending(self, type: int, packets: tuple[object, ...], size: int) -> None:
        """A message of the application's goes out."""
        self.log.sending(type, packets, size)

    # ── turns ───────────────────────────────────────────────────────────────────────

    def _schedule(self) -> None:
        if self._turn is None:
            self._turn = self.clock.callLater(0, self._end_of_turn)

    def _end_of_turn(self) -> None:
        self._turn = None
        self._flushing = True
        try:
            self._gathering.end_of_turn()
            # Flushing lets the core feed links on, so this goes on until their transports have enough.
            while self._to_flush:
                self._flush(self._to_flush.pop(next(iter(self._to_flush))))
        finally:
            self._flushing = False
            if self._to_flush:  # the core failed: the other links are flushed all the same
                self._schedule()

    def _publish(self, entries: list[bytes]) -> None:
        place, first = self._published, self.node.outbox.head + 1
        self._published += len(entries)
        self._handle(events.Publish(entries, int(self._wall_clock() * 1000)))
        self._observer.numbered(self.node.outbox.run, place, len(entries), first)

    def _flush(self, link: MeshProtocol) -> None:
        before = link.accepted
        link.flush()
        if link.accepted > before:
            self._handle(events.Accepted(link.number, link.accepted))
        # The core sends a slow reader little more, so this much is its own doing: PINGs, whispers.
        if link.queued_bytes > self._too_much:
            detail = "the peer reads too slowly for what is sent"
            link.close(RemoteError(detail, Reason.SLOW))

    # ── the core ────────────────────────────────────────────────────────────────────

    def _fire(self, fired: events.TimerFired) -> None:
        if fired.timer is events.Timer.ROSTER:  # when the own record is renewed
            self._see_where()
        self._handle(fired)

    def _see_where(self) -> None:
        """Tell others where this node can be dialled now: a host's address changes."""
        address = self._where()
        if address != self.local_node.address:
            self.local_node = msgspec.structs.replace(self.local_node, address=address)
            self._handle(events.Moved(address))

    def _handle(self, event: events.Event) -> None:
        self._events.append(event)
        if not self._busy:
            self._run_core()

    def _run_core(self) -> None:
        """Let the core handle what has happened, and what follows from that."""
        self._busy = True
        try:
            while self._events or self._has_taken():
                for effect in self.node.handle(self._events.popleft(), self.clock.seconds()):
                    self._carry_out(effect)
        finally:
            self._busy = False
        if self._writer is not None:
            self._writer.look(self.node)
        self._conditions.look()

    def consumed(self, run: events.StreamId) -> None:
        """A consumer has taken something of *run*, or counts as having done so."""
        receipts = self.node.reverse.receipts
        receipts.moves(run)
        if receipts.moved and not self._busy:
            self._run_core()

    def stored(self) -> None:
        """Something is stored, of whatever run."""
        receipts = self.node.reverse.receipts
        receipts.moved.update(receipts.waiting)
        if not self._busy:
            self._run_core()

    def _has_taken(self) -> bool:
        """Whether something was taken, for good where there is a store, that the core is to be told of."""
        receipts, history = self.node.reverse.receipts, self.node.history
        if receipts.waiting and self._observer.consumer_gone():
            receipts.moved.update(receipts.waiting)
        moved, receipts.moved = receipts.moved, {}
        for run in moved:
            if self._writer is None:  # a closed stream has a head, too
                taken = self._observer.taken(run, history.head(run))
            else:
                stream = history.get(run)
                taken = 0 if stream is None else stream.kept
            if taken > receipts.asked[run].taken:
                self._events.append(events.Taken(run, taken))
        return bool(self._events)

    def _carry_out(self, effect: events.Effect) -> None:
        match effect:
            case events.Send():
                data = native.encode(effect.frame)
                for number in effect.links:
                    link = self.connections.get(number)
                    if link is not None:
                        link.write(data, counted=True)
            case events.Deliver():
                self._observer.deliver(effect, self.connections.get(effect.link))
            case events.Close():
                link = self.connections.get(effect.link)
                if link is not None:
                    link.close(RemoteError.of(effect.reason, effect.detail))
            case events.Dial():
                self._observer.dial(effect)
            case events.SetTimer():
                self._timers.set(effect.timer, effect.at)
            case events.Emit():
                self._tell(effect.what)
            case _:
                assert_never(effect)

    def _tell(self, what: events.Happening) -> None:
        match what:
            case events.LinkUp():
                self._on_up(self.connections.get(what.link))
            case events.LinkDown():
                self._on_down(what)
            case events.Visiting():
                self._on_visiting(self.connections.get(what.link))
            case events.Joined():
                self._observer.joined()
            case events.MemberChanged() | events.MemberGone():
                self._observer.member_changed(what.origin)
            case events.Receipted():
                self._observer.receipted(what.sequences)
            case events.ReceiptClosed():
                self._observer.receipt_closed(what.sequence, what.holders)
            case events.DirectEnded():
                self._observer.direct_ended(what.token, what.why)
            case events.GapFound():
                self._observer.gap(what)
            case events.Poisoned():
                self._observer.poisoned(what)
            case events.Equivocation():
                self._observer.equivocation(what)
            case events.EpochConflict():
                self._observer.epoch_taken(what.epoch)
            case events.KeyInUse():
                self._observer.key_in_use(what.epoch, what.proven)
            case events.Drained():
                self._drained.happened(None)
            case _:
                assert_never(what)

    def _on_up(self, link: MeshProtocol | None) -> None:
        if link is None or link.id is None:
            return
        is_new = self.connections.up(link, link.id)
        self.log.up(link, link.id, is_new)
        link.now_up()
        if is_new:
            self._observer.up(link)

    def _on_visiting(self, link: MeshProtocol | None) -> None:
        if link is not None and link.id is not None:
            link.now_visiting()
            self.log.visiting(link, link.id)

    def _on_down(self, down: events.LinkDown) -> None:
        gone = self.connections.down(down.link)
        if gone is not None:
            node_id, link = gone
            self.log.down(link, node_id)
            self._observer.down(link, down.reason)
