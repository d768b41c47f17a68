"""One run of a service, from start to stop: its hub, its dialler, and what they tell the application.

Contract: a service makes a new one at each start, so that nothing of an earlier run is left in it.
What the application asks of a node that runs is done here; what the hub observes becomes messages and
events, and none of that raises.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh import flags
from twisted_mesh.addressing.address_book import AddressBook
from twisted_mesh.addressing.addresses import PeerAddress
from twisted_mesh.addressing.endpoints import ClientEndpoints
from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.broadcast.joining import MOST_CLAIMED
from twisted_mesh.core.events import Holders
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.history.reader import read
from twisted_mesh.core.history.storage import Missing, Restored, Store
from twisted_mesh.delivery.backlog import Backlog
from twisted_mesh.delivery.delivery import Delivery, messages_of
from twisted_mesh.delivery.direct import PendingDirects, ReplyPath
from twisted_mesh.delivery.members import Members
from twisted_mesh.delivery.queue import Held
from twisted_mesh.delivery.receipts import Receipt
from twisted_mesh.errors import (
    Congested,
    IdentityError,
    KeyInUse,
    NotRunning,
    Reason,
    RemoteError,
    StoreFull,
    Unreachable,
)
from twisted_mesh.eventloop.deferreds import WaitingDeferreds, is_in_time, unreachable
from twisted_mesh.eventloop.forks import close_socket
from twisted_mesh.identity import id_of
from twisted_mesh.links.peers import PersistentPeers
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.links.rejoin import Rejoin
from twisted_mesh.links.tls import Tls
from twisted_mesh.message import Gap, Member, Refusal, Source
from twisted_mesh.runtime.connector import Connector
from twisted_mesh.runtime.driver import Driver
from twisted_mesh.runtime.handover import handed_over
from twisted_mesh.storage.writer import HistoryWriter
from twisted_mesh.wire.bodies import pack_entry
from twisted_mesh.wire.greeting import Address

T = TypeVar("T")
_log = Logger()


class RunningNode:
    """A node between start and stop.

    :ivar driver: core, links and timers.
    :ivar writer: stores what it holds, where there is a history file.
    :ivar dialling: makes single links.
    :ivar dialler: keeps those that are wanted.
    :ivar members: the others of the roster.
    """

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        new_run: Callable[[int], LocalNode],
        config: MeshConfig,
        tls: Tls | None,
        client_endpoints: ClientEndpoints,
        delivery: Delivery,
        service: object,
        debug_level: int,
        store: Store | None,
        book: AddressBook | None,
        wall_clock: Callable[[], float],
        where: Callable[[], Address | None],
    ) -> None:
        """
        :param clock: for timers; :param service: what ``connect`` and ``disconnect`` listeners are given.
        :param new_run: what the node says of itself in a run whose epoch is above the given one.
        :param store: of its history, which is the run's to close; None: the history is in memory alone.
        :param book: of the nodes that were linked with.
        :param wall_clock: seconds since 1970; :param where: where others can dial the node now.
        """
        self._config = config
        self._delivery = delivery
        self._service = service
        self._new_run = new_run
        self._wall_clock = wall_clock
        local_node = new_run(0)
        restored = Restored() if store is None else store.restored
        if (newest := restored.newest_epoch(local_node.origin, MOST_CLAIMED)) >= local_node.epoch:
            local_node = new_run(newest)  # the file beside the key is gone, and the clock was set back
        self._clock = clock
        self.writer: HistoryWriter | None = None
        if store is not None:
            told = (delivery.taken, self._stored, self._not_stored)
            self.writer = HistoryWriter(reactor, clock, store, config, *told, wall_clock)
        randomness = _randomness(local_node)
        self.members = Members()
        self._joined = WaitingDeferreds[None]()
        self._key_lost = WaitingDeferreds[KeyInUse]()
        self._key_is_back = WaitingDeferreds[None]()
        self._key_in_use: KeyInUse | None = None  # once that is proven
        self.driver = Driver(
            clock, local_node, config, self, debug_level, self.writer, wall_clock, randomness, where
        )
        self.dialling = Connector(client_endpoints, self.driver, tls)
        self.correspondence = PendingDirects(
            clock, self.driver.handle, lambda: self.driver.node.reverse, self._receipt_changed
        )
        self._catching_up = Backlog(clock, delivery, self.read, config.store_retry)
        untaken = restored.untaken(local_node.origin)
        delivery.begin(self._catching_up.read, self._consumed, self._skipped, untaken)
        dialling, driver = self.dialling, self.driver
        when = (driver.table, driver.disconnected, randomness.random, lambda: driver.redial_pause)
        self.dialler = PersistentPeers(clock, config, dialling.link_to, dialling.visit, *when)
        finds = (dialling.link_to, driver.known, local_node.overlay, *when)
        self._seeker = None if book is None else Rejoin(clock, config, book, *finds)
        self._connecting: dict[Deferred[MeshProtocol], None] = {}  # the application waits for these links
        self._stopping = False

    # ── what the service asks for ───────────────────────────────────────────────────

    def dial_out(self, peers: Iterable[PeerAddress]) -> None:
        """Dial *peers*, and those that were linked with in earlier runs."""
        for peer in peers:
            self.dialler.add(peer)
        if self._seeker is not None:
            self._seeker.begin()

    def when_joined(self) -> Deferred[None]:
        """Fires when a neighbour has told its roster (MeshService.joined)."""
        return succeed(None) if self.driver.node.membership.joined else self._joined.wait()

    def when_key_in_use(self) -> Deferred[KeyInUse]:
        """Fires when another node is proven to use the key (MeshService.key_in_use)."""
        return self._key_lost.wait() if self._key_in_use is None else succeed(self._key_in_use)

    def connect(self, address: PeerAddress) -> Deferred[MeshProtocol]:
        """Link with the node at *address*, and stay so (MeshService.connect)."""
        connecting = Deferred.fromCoroutine(self._connect(address))
        self._connecting[connecting] = None

        def over(result: T) -> T:
            del self._connecting[connecting]
            return result

        return connecting.addBoth(over)

    async def _connect(self, address: PeerAddress) -> MeshProtocol:
        link = self.driver.table.get(self.dialler.found_at(address) or b"")
        if link is None or link.error is not None:  # it can be closed, until another relieves it
            try:
                link = await self.dialling.link_to(address, in_time=True)
            except CancelledError:
                if self._stopping:
                    raise NotRunning(f"the service stopped before it was linked with {address}") from None
                raise
            self.driver.disconnected.discard(link.id)
            self.dialler.add(address, link.id)
        return link

    def send(
        self, type: int, packets: tuple[object, ...], *, whisper: bool, receipt: bool
    ) -> Receipt | None:
        """Send a message to everyone, or to direct peers only (MeshService.send)."""
        entry = pack_entry(type, packets, asks=receipt)
        place: int | None = None
        if whisper:
            for link in list(self.driver.table.values()):
                link.whisper_entry(entry).addErrback(lambda failure: failure.trap(Unreachable))
        elif self.writer is not None and self.writer.full:
            name = self.writer.store.name
            raise StoreFull(f"the history {name} cannot be written: nothing is sent until it can")
        elif self.driver.node.disowned:
            raise KeyInUse("another node uses this node's key: this one may publish no more meanwhile")
        elif (place := self.driver.publish(entry)) is None:
            raise Congested(f"{self._config.unsent_bytes} bytes wait: await drained()")
        self.driver.log.sending(type, packets, len(entry))
        return self.correspondence.ask(place) if receipt and place is not None else None

    def drained(self) -> Deferred[None]:
        """Fires when own messages are taken again (MeshService.drained)."""
        if self.driver.node.disowned:
            return self._key_is_back.wait()
        if self.writer is None or not self.writer.full:
            return self.driver.drained()
        return self.writer.writable().addCallback(lambda _: self.driver.drained())

    def send_to(self, member: bytes, type: int, packets: tuple[object, ...]) -> Deferred[None]:
        """Send a message to the node with the id *member* alone (MeshService.send_to)."""
        link = self.driver.table.get(member)
        known = self.members.origin(member) if link is None or link.peer is None else link.peer.origin
        if known is None:
            pack_entry(type, packets)  # what cannot be sent is told before who is not there
            name = member.decode("ascii", "replace")
            return unreachable(f"{name}: no member with that id is known here")
        return self._send_direct(known, type, packets)

    def _send_direct(self, origin: bytes, type: int, packets: tuple[object, ...]) -> Deferred[None]:
        entry = pack_entry(type, packets)
        self.driver.log.sending(type, packets, len(entry))
        return self.correspondence.send(origin, id_of(origin).decode(), entry)

    async def handed_over(self, timeout: float) -> None:
        """Wait until a neighbour has read every message sent so far (MeshService.handed_over)."""
        await handed_over(self.driver, self._clock, timeout)

    async def stop(self) -> None:
        """Hand over what is unsent and close every link, within bounds; then the run is over."""
        self._stopping = True
        async with AsyncExitStack() as end:  # whatever fails all of it is done, the last first
            if self._seeker is not None:
                end.push_async_callback(self._seeker.wait_for_book)
            end.callback(self.correspondence.stop)
            end.push_async_callback(self.driver.stop)
            if self._seeker is not None:
                end.callback(self._seeker.stop)
            end.push_async_callback(self._say_goodbye)
            never = NotRunning("the service stopped before it had joined")
            end.callback(self._joined.failed, Failure(never))
            end.callback(self._key_is_back.happened, None)
            end.callback(self._key_lost.failed, Failure(NotRunning("the service stopped first")))
            for connecting in list(self._connecting):
                end.callback(connecting.cancel)
            end.callback(self.dialling.stop)
            end.callback(self.dialler.stop)
            # What is handed on while the last flush is written would come again.
            end.callback(self._catching_up.stop)

    async def _say_goodbye(self) -> None:
        await deferLater(self._clock, 0)  # never within a delivery, whose events wait for its end
        await is_in_time(self.driver.given_to_all(), self._config.handover_timeout, self._clock)
        if self.driver.unsent:
            _log.warn("{count} messages were taken by no neighbour", count=self.driver.unsent)
        await is_in_time(self.driver.parted(), self._config.farewell_timeout, self._clock)
        sending = self.driver.node.sending
        if sending.unanswered and (lost := sending.unread):
            told = "{lost} messages may have reached nobody: {silent} neighbours did not answer at the end"
            _log.warn(told, lost=lost, silent=sending.unanswered)

    def close_in_fork(self) -> None:
        """In a forked process: links and history are the parent's alone."""
        for link in self.driver.connections:
            close_socket(link.transport)
        if self.writer is not None:
            self.writer.store.close_in_fork()

    def footprint(self) -> dict[str, int]:
        """Entries and bytes of every table of this run."""
        return {
            **self.driver.footprint(),
            **self.members.footprint(),
            **self.correspondence.footprint(),
            "dialled_peers": len(self.dialler),
            **self.dialling.footprint(),
        }

    # ── what its parts ask for ──────────────────────────────────────────────────────

    def _reply(self, origin: bytes, packets: tuple[object, ...]) -> Deferred[None]:
        return self._send_direct(origin, flags.whisper, packets)

    def _consumed(self, run: tuple[bytes, int]) -> None:
        """A consumer has taken something of *run*."""
        if self.writer is None:
            self.driver.consumed(run)
        else:  # it counts once it is stored
            self.driver.node.history.changed(run)
            self.writer.look(self.driver.node)

    def _skipped(self, run: tuple[bytes, int], sequence: int) -> None:
        """A consumer has lost something of *run*, up to *sequence*."""
        self.driver.handle(events.Skipped(run, sequence))

    def _stored(self) -> None:
        self.driver.stored()

    def _receipt_changed(self, receipt: Receipt) -> None:
        self._delivery.listeners.emit("receipt", receipt)

    def _not_stored(self, failure: Failure) -> None:
        self._delivery.listeners.emit("failure", failure)

    # ── runtime.observer ────────────────────────────────────────────────────────────

    def up(self, link: MeshProtocol) -> None:
        """A node came into the routing table."""
        if self._seeker is not None:
            self._seeker.linked(link)
        if len(self.driver.table) == 1:
            self._delivery.listeners.emit("connect", self._service)

    def down(self, link: MeshProtocol, reason: Reason) -> None:
        """A node left the routing table."""
        assert link.id is not None
        self.dialler.link_lost(link.id, reason is Reason.ROOM)
        if not self.driver.table:
            self.dialler.isolated()
            if self._seeker is not None:
                self._seeker.isolated()
            self._delivery.listeners.emit("disconnect", self._service)

    def dial(self, dial: events.Dial) -> None:
        """The core wants a link, or an exchange."""
        if self._stopping or dial.contact.id in self.driver.disconnected:
            self.driver.dial_failed(dial.contact.id)
        else:
            self.driver.log.dialling(dial)
            self.dialling.knock(dial)

    def joined(self) -> None:
        """A neighbour has told who the others are."""
        self._joined.happened(None)

    def member_changed(self, origin: bytes) -> None:
        """A member is new, has something else to say of itself, or is in another state."""
        entry = self.driver.node.roster.get(origin)
        ago = 0.0 if entry is None else self._clock.seconds() - entry.since
        member = self.members.changed(origin, entry, ago, self._wall_clock())
        if member is not None:
            self._tell_of(member)

    def _tell_of(self, member: Member) -> None:
        self.driver.log.member(member)
        self._delivery.listeners.emit("member", member)

    def numbered(self, run: tuple[bytes, int], place: int, count: int, first: int) -> None:
        """Own messages have numbers."""
        self.correspondence.numbered(run, place, count, first)

    def renumbered(self, taken: int) -> None:
        """A new run has begun: own messages above *taken* will get other numbers, of that."""
        self.correspondence.renumbered(taken)

    def taken(self, run: tuple[bytes, int], head: int) -> int:
        """What the application has taken of *run*."""
        return self._delivery.taken(run, head)

    def consumer_gone(self) -> bool:
        """Whether a consumer is gone that the application let go of."""
        return self._delivery.consumer_gone()

    def receipted(self, sequences: Sequence[int]) -> None:
        """More is known of who has these own messages."""
        self.correspondence.receipted(sequences)

    def receipt_closed(self, sequence: int, holders: Holders) -> None:
        """The receipt of an own message is not kept up any more."""
        self.correspondence.receipt_closed(sequence, holders)

    def direct_ended(self, token: int, why: str | None) -> None:
        """A direct message was acknowledged, or given up."""
        self.correspondence.ended(token, why)

    def refused(self, refusal: Refusal) -> None:
        """A connection did not become a link."""
        self._delivery.listeners.emit("refused", refusal)

    def deliver(self, deliver: events.Deliver, link: MeshProtocol | None) -> None:
        """Messages for the application."""
        source = self._source((deliver.origin, deliver.epoch), deliver.sent)
        self._delivery.deliver(deliver, source, link)

    def read(self, run: tuple[bytes, int], after: int, upto: int, most: int) -> Iterator[Held]:
        """Messages that were delivered, as they are held still (``delivery.queue.Reader``).

        :raises StoreError: they cannot be read now.
        """
        for piece in read(self.driver.node.history, run, after, upto, most):
            if isinstance(piece, Missing):
                yield Held(piece.first, piece.last, [], damaged=True)
                continue
            source = self._source(run, piece.sent)
            messages = messages_of(piece.entries, piece.first, piece.size, source)
            yield Held(piece.first, piece.last, list(messages))

    def _source(self, run: tuple[bytes, int], sent: int) -> Source:
        at = sent / 1000 if sent else self._wall_clock()
        return Source(run, id_of(run[0]), at, ReplyPath(self._reply))

    def gap(self, gap: events.GapFound) -> None:
        """Messages that will not come."""
        run, below = (gap.origin, gap.epoch), gap.first - 1
        if self._delivery.taken(run, below) >= below:  # else it is held for who has not, within its limits
            self.driver.node.history.all_taken(run, below)
        why = "no neighbour sent them in time"
        self._delivery.missing(run, Gap(id_of(gap.origin), gap.epoch, gap.first, gap.last, why))

    def poisoned(self, poisoned: events.Poisoned) -> None:
        """Messages that cannot be read."""
        sender, error = id_of(poisoned.origin), poisoned.error
        text = f"messages {poisoned.first} to {poisoned.last} of {sender.decode()} cannot be read: {error}"
        self._delivery.blame(sender, text, error)

    def equivocation(self, equivocation: events.Equivocation) -> None:
        """An author signed two things under one number."""
        sender = id_of(equivocation.origin)
        text = (
            f"{sender.decode()} signed two different messages {equivocation.first}; it is repaired no more"
        )
        error = RemoteError(text, Reason.SIGNATURE)
        self._delivery.blame(sender, str(error), error)

    def epoch_taken(self, epoch: int) -> None:
        """The run must begin anew, above *epoch*."""
        if self.driver.node.disowned:
            text = "the other node with this node's key is gone: a new run begins above its run {epoch}"
            _log.warn(text, epoch=epoch)
        else:
            _log.warn("a run {epoch} of this key is known to others: a new one begins", epoch=epoch)
        try:
            local_node = self._new_run(epoch)
        except IdentityError as error:
            _log.error("no new run can begin: {error}", error=error)
            self._delivery.listeners.emit("failure", Failure(error))
            if self.driver.node.settled:
                return  # its numbers are not to be used again; the core asks again in key_retry
            local_node = (
                self.driver.local_node
            )  # the next neighbour will say the same, and it is tried again
        self._key_in_use = None
        self.correspondence.begin_anew()
        for gone in self.members.clear(self._wall_clock()):
            self._tell_of(gone)
        self.driver.renew(local_node)
        self._key_is_back.happened(None)

    def key_in_use(self, epoch: int, proven: bool) -> None:
        """The key is used elsewhere: nothing more can be published."""
        error = KeyInUse(
            "another node uses this node's key: this one publishes no more until that has stopped"
        )
        if proven:
            self._key_in_use = error
            self._key_lost.happened(error)
        else:
            _log.error("{error} (its run is {epoch})", error=error, epoch=epoch)
            self._delivery.listeners.emit("failure", Failure(error))


def _randomness(local_node: LocalNode) -> random.Random:
    """Randomness that differs from node to node, and from run to run."""
    return random.Random(local_node.origin + local_node.epoch.to_bytes(8, "big"))
