"""A node between start and stop: its parts, put together.

Contract: a service makes a new node at each start, so that nothing of an earlier run is left in it.  The
parts get each other's events by one table (:mod:`~twisted_mesh.runtime.dispatch`), which is filled here and
nowhere else.  The service reads the node by ``reporting``, ``footprint()``, ``dropped`` and the tables of
links and members.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Final, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh import flags
from twisted_mesh.addressing.address_book import AddressBook, in_thread
from twisted_mesh.addressing.addresses import PeerAddress
from twisted_mesh.addressing.endpoints import ClientEndpoints
from twisted_mesh.addressing.own_address import OwnAddress
from twisted_mesh.core import events
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.reader import Messages
from twisted_mesh.core.history.storage import Missing, Restored
from twisted_mesh.core.node import Node
from twisted_mesh.delivery.backlog import Backlog, newest
from twisted_mesh.delivery.delivery import Delivery
from twisted_mesh.delivery.direct import PendingDirects, Sources
from twisted_mesh.delivery.members import Members
from twisted_mesh.delivery.query import Query
from twisted_mesh.delivery.receipts import Receipt, Receipts
from twisted_mesh.delivery.requests import Requests
from twisted_mesh.errors import (
    Congested,
    IdentityError,
    KeyInUse,
    LocalError,
    MessageTooLarge,
    NotHandedOver,
    NotRunning,
    StoreFull,
    TrustError,
    Unreachable,
)
from twisted_mesh.eventloop.deferreds import WaitingDeferreds, unreachable, wait_at_most
from twisted_mesh.eventloop.forks import close_socket
from twisted_mesh.grammar import counted, were
from twisted_mesh.identity import MOST_CLAIMED, id_of
from twisted_mesh.links.connections import Connections, Linked, Unlinked
from twisted_mesh.links.cooldown import CoolDown
from twisted_mesh.links.log import LinkLog
from twisted_mesh.links.peers import PersistentPeers
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.links.redial import Redial
from twisted_mesh.links.rejoin import Rejoin
from twisted_mesh.message import Member, Message, MessageId, Refusal
from twisted_mesh.runtime.connector import Connector
from twisted_mesh.runtime.dispatch import Dispatch
from twisted_mesh.runtime.driver import Driver, Handled
from twisted_mesh.runtime.handover import handed_over
from twisted_mesh.runtime.missed import Missed
from twisted_mesh.runtime.progress import Progress
from twisted_mesh.runtime.reporting import Reporting
from twisted_mesh.runtime.settings import Settings
from twisted_mesh.runtime.tracing import Tracing
from twisted_mesh.runtime.trust_watch import TrustWatch
from twisted_mesh.storage.writer import HistoryWriter, NotStored
from twisted_mesh.trace import Lag, Neighbours, Trace
from twisted_mesh.wire.bodies import pack_entry, pack_many
from twisted_mesh.wire.greeting import Address
from twisted_mesh.wire.membership import Contact, Role

T = TypeVar("T")
_REASONS: Final = 3  # how many peers that cannot be reached an error tells (guess)
_log = Logger()


class RunningNode:
    """The parts of one run of a service.

    :ivar send_plain: sends a message to everyone by the shortest way (``Driver.send_plain``).
    :ivar driver: drives the core; :ivar connections: hosts every link.
    :ivar writer: stores the history; None without a history file.
    :ivar reporting: makes the status of the node.
    :ivar peers: keeps up the links that the application wants.
    :ivar members: the other members of the roster.
    :ivar trust: reads again the files that say who belongs to the mesh.
    """

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        settings: Settings,
        endpoints: ClientEndpoints,
        delivery: Delivery,
        log: LinkLog,
        where: Callable[[], Address | None],
    ) -> None:
        """
        :param reactor: for threads; :param clock: for timers.
        :param where: gives the address, perhaps with a name, at which others can dial this node now.
        :raises IdentityError: the epoch of the run cannot be written beside the key.
        :raises StoreError: the history file cannot be used.
        """
        config = self._config = settings.fitted_config()
        self._clock, self._settings, self._delivery, self._log = clock, settings, delivery, log
        self._where = OwnAddress(where, endpoints.names, clock.seconds)
        self._dispatch = Dispatch()
        self.members = Members(clock, settings.wall_clock, self._dispatch.publish, config.established_after)
        self._sources = Sources(settings.wall_clock, self._reply)
        self._joined = WaitingDeferreds[None]()
        self._key_lost = WaitingDeferreds[KeyInUse]()
        self._key_is_back = WaitingDeferreds[None]()
        self._key_in_use: KeyInUse | None = None  # once another node is proven to use the key
        self._connecting: dict[Deferred[MeshProtocol], None] = {}  # links for which the application waits
        self._stopping = False  # whether cancel_connecting() was called
        self._why_silent = settings.policy.why_silent  # why this node may send no message; None if it may
        with ExitStack() as undo:
            if (store := settings.open_history()) is not None:
                undo.callback(store.close)
            restored = Restored() if store is None else store.restored
            local_node = self._first_run(restored)
            self.writer = None if store is None else HistoryWriter(
                reactor, clock, store, config, self._dispatch.publish, settings.wall_clock
            )  # fmt: skip
            driver = self.driver = self._driver(local_node)
            self.send_plain = driver.send_plain
            self.connections = Connections(
                driver, CoolDown(clock, config), log, settings.wall_clock, self._is_known
            )
            driver.drive(self.connections)
            undo.callback(driver.stop)
            self._connector = Connector(endpoints, self.connections, driver)
            self.peers, self._rejoin = self._persistent(reactor, local_node)
            self._receipts = Receipts(clock, driver, delivery.listeners.emit)
            self.reporting = Reporting(
                driver, self.connections, self.members, delivery, self._receipts, self.peers, self.writer
            )
            self.trust = TrustWatch(clock, config.trust_interval, settings.policy, self._policy_changed)
            self.directs = PendingDirects(driver.send_direct)
            self._requests = Requests(clock, config.requests_limit, delivery, self.directs, self._stream)
            self.tracing = Tracing(driver, self.members, self.reporting, self.directs)
            self._progress = Progress(clock, driver, delivery, store is not None)
            self._backlog = Backlog(clock, delivery, self._read, self._sources, config.store_retry)
            undo.callback(self._backlog.stop)
            self._begin_delivery(None if store is None else restored, local_node.origin)
            undo.pop_all()

    # ── putting it together ─────────────────────────────────────────────────────────

    def _begin_delivery(self, restored: Restored | None, origin: bytes) -> None:
        """Begin to deliver messages; first those that the store held and consumers had not taken."""
        delivery, progress, read = self._delivery, self._progress, self._backlog.read
        stored = restored or Restored()
        for name in stored.consumers:
            progress.begin(stored.untaken(origin, name))
        untaken = list(stored.untaken(origin))
        progress.begin(untaken)
        delivery.label = self._log.label = self.members.label
        delivery.begin(read, progress.may_have_moved, self._skipped, self._room, untaken)
        self._subscribe()
        delivery.named.begin(restored, origin, read, self.driver.handle)

    def _first_run(self, restored: Restored) -> LocalNode:
        local_node = self._new_run(0)
        newest = restored.newest_epoch(local_node.origin, MOST_CLAIMED)
        # If the history has a newer epoch, the file beside the key is gone and the clock was set back.
        return local_node if newest < local_node.epoch else self._new_run(newest)

    def _new_run(self, above: int) -> LocalNode:
        return self._settings.new_run(above, self._where())

    def _driver(self, local_node: LocalNode) -> Driver:
        config, writer, wall_clock = self._config, self.writer, self._settings.wall_clock
        history = History(config) if writer is None else writer.history(local_node.origin)
        settled = writer is not None and writer.store.restored.settled
        node = Node(local_node, config, _randomness(local_node), history, settled)
        return Driver(self._clock, config, self._dispatch, local_node, node, wall_clock, self._where)

    def _persistent(self, reactor: Any, local_node: LocalNode) -> tuple[PersistentPeers, Rejoin | None]:
        config, dials, driver, table = self._config, self._connector, self.driver, self.connections.table
        redial = Redial(
            self._clock, config, self.connections.cooldown, _randomness(local_node).random,
            lambda: config.key_retry if driver.node.has_key_conflict else None,
        )  # fmt: skip
        peers = PersistentPeers(config, dials, redial, table)
        if (path := self._settings.identity.path) is None:
            return peers, None
        book = AddressBook(path, config.address_book_limit, in_thread(reactor))

        def known(contacts: Sequence[Contact]) -> None:
            driver.handle(events.Known(contacts))

        return peers, Rejoin(config, book, dials, redial, table, known, local_node.profile.overlay)

    def _subscribe(self) -> None:
        on, connections, progress = self._dispatch.on, self.connections, self._progress
        delivery, emit = self._delivery, self._delivery.listeners.emit
        self._missed = Missed(
            self._clock, lambda: self.driver.node.report(), lambda told: emit("caught_up", told)
        )
        on(events.LinkUp, connections.up)
        on(events.LinkDown, connections.down)
        on(events.ExchangeBegun, connections.exchange_begun)
        on(events.Dial, self._connector.dial)
        if self._rejoin is not None:
            on(Linked, self._rejoin.linked)
            on(Unlinked, self._rejoin.unlinked)
        on(Linked, lambda linked: delivery.linked(linked.count) if linked.is_new else None)
        on(Linked, self._missed.linked)
        on(Unlinked, self.reporting.unlinked)
        on(Unlinked, self.peers.unlinked, lambda unlinked: delivery.unlinked(unlinked.count))
        on(Refusal, delivery.refused)
        on(events.Deliver, self._deliver, progress.delivered)
        on(events.DeliverDirects, self._deliver_directs)
        on(events.GapFound, self._gap, delivery.gap, progress.delivered)
        on(events.Poisoned, delivery.poisoned, progress.delivered)
        on(events.Awaited, progress.awaited)
        on(events.Placed, delivery.named.placed)
        on(events.Unplaced, delivery.named.unplaced)
        on(events.Equivocation, delivery.equivocation)
        on(events.CutShort, delivery.cut_short)
        on(events.PolicyTaken, self._policy_taken)
        on(events.ListsDiffer, delivery.lists_differ)
        on(events.MemberChanged, self.members.changed)
        on(events.MemberGone, self._receipts.gone)
        on(events.MemberGone, lambda gone: self._log.gone(gone, self.members.table), self.members.gone)
        on(events.NewRun, self.directs.new_run, self._requests.new_run, self.tracing.traces.stop)
        on(events.NewRun, self.members.new_run, self._receipts.new_run)
        on(Member, self._log.member, lambda member: emit("member", member))
        on(events.Numbered, self._receipts.numbered, self._requests.numbered)
        on(events.Receipted, self._receipts.receipted)
        on(events.ReceiptClosed, self._receipts.closed)
        on(events.DirectsEnded, self.directs.ended)
        on(events.Joined, lambda _: self._joined.happened(None))
        on(events.EpochConflict, self._epoch_conflict)
        on(events.KeyInUse, self._key_conflict)
        on(Handled, lambda _: progress.look(), lambda _: delivery.look_for_room())
        self.trust.begin()
        if (writer := self.writer) is not None:
            on(events.Stored, self.driver.handle)
            on(NotStored, lambda _: self.driver.forbid_plain())
            on(NotStored, lambda not_stored: delivery.failed(not_stored.error))
            on(Handled, lambda _: writer.look(self.driver.node))

    def _policy_changed(self) -> None:
        self._why_silent = self._settings.policy.why_silent
        self.driver.handle(events.PolicyChanged())

    def _policy_taken(self, _: events.PolicyTaken) -> None:
        self._why_silent = self._settings.policy.why_silent
        if (error := self.trust.policy_taken()) is not None:
            self._delivery.failed(error)

    def _is_known(self, node_id: bytes) -> bool:
        return self.peers.wants(node_id) or self.members.is_established(node_id)

    def _read(self, run: events.StreamId, after: int, upto: int, most: int) -> Iterator[Messages | Missing]:
        return self.driver.node.read(run, after, upto, most)  # the node changes: see renew()

    def _deliver(self, deliver: events.Deliver) -> None:
        source = self._sources.of((deliver.origin, deliver.epoch), deliver.sent, deliver.verified)
        self._delivery.deliver(deliver, source, self.connections.get(deliver.link))

    def _deliver_directs(self, directs: events.DeliverDirects) -> None:
        """Hand on direct messages of one run: each to who asked for it, or else to all consumers."""
        first = directs.messages[0]
        source = self._sources.of((first.origin, first.epoch), 0)
        link, others = self.connections.get(first.link), list[events.Deliver]()
        for deliver in directs.messages:
            if deliver.answers is not None and others:  # they come before it
                self._delivery.deliver_directs(others, source, link)
                others = []
            if not (self.tracing.traces.arrived(deliver) or self._requests.answered(deliver, source)):
                others.append(deliver)
        if others:
            self._delivery.deliver_directs(others, source, link)
        else:  # an answer may have filled the queue of its query
            self._delivery.look_for_full()

    def _gap(self, gap: events.GapFound) -> None:
        run, below = (gap.origin, gap.epoch), gap.first - 1
        # If a consumer has not taken all messages before the gap, the core goes on holding them.
        delivery = self._delivery
        if delivery.taken_by_all(run, below) >= below:
            self.driver.handle(events.Taken(run, below, delivery.places(run, below)))

    def _epoch_conflict(self, conflict: events.EpochConflict) -> None:
        """Begin a new run of the core, above the epoch of this node's key that others know."""
        text = "a run {epoch} of this key is known to others: a new one begins"
        if self.driver.node.has_key_conflict:
            text = "the other node with this node's key is gone: a new run begins above its run {epoch}"
        _log.warn(text, epoch=conflict.epoch)
        try:
            local_node = self._new_run(conflict.epoch)
        except IdentityError as error:
            _log.error("no new run can begin: {error}", error=error)
            self._delivery.failed(error)
            if self.driver.node.settled or self.driver.node.is_over:
                return  # a number could be used twice: the core publishes nothing, and asks again
            local_node = self.driver.local_node()  # with the old epoch
        self._key_in_use = None
        self.driver.renew(local_node, _randomness(local_node))
        self._key_is_back.happened(None)

    def _key_conflict(self, conflict: events.KeyInUse) -> None:
        """Report that another node uses this node's key, so that this node may publish no more."""
        error = KeyInUse("another node uses this node's key: this one publishes no more until that stops")
        if conflict.proven:
            self._key_in_use = error
            self._key_lost.happened(error)
        else:
            _log.error("{error} (its run is {epoch})", error=error, epoch=conflict.epoch)
            self._delivery.failed(error)

    def _reply(self, message: Message, packets: tuple[object, ...]) -> Deferred[None]:
        origin, _ = message.source.run
        return self._send_direct(origin, flags.whisper, packets, message.id)

    def _room(self, has_room: bool) -> None:
        self.driver.handle(events.DirectRoom(has_room))

    def _skipped(self, run: events.StreamId, sequence: int) -> None:
        self.driver.handle(events.Skipped(run, sequence))
        self._progress.may_have_moved(run)

    # ── the methods of a service that need a run (described there) ──────────────────

    def dial_out(self, peers: Iterable[PeerAddress]) -> None:
        """Dial *peers*, and nodes that were linked in earlier runs of the service."""
        for peer in peers:
            self.peers.add(peer)
        if self._rejoin is not None:
            self._rejoin.begin()

    def joined(self) -> Deferred[None]:
        return succeed(None) if self.driver.node.status().joined else self._joined.wait()

    def key_in_use(self) -> Deferred[KeyInUse]:
        return self._key_lost.wait() if self._key_in_use is None else succeed(self._key_in_use)

    def connect(self, address: PeerAddress) -> Deferred[MeshProtocol]:
        connecting = Deferred.fromCoroutine(self._connect(address))
        self._connecting[connecting] = None

        def over(result: T) -> T:
            del self._connecting[connecting]
            return result

        return connecting.addBoth(over)

    def cancel_connecting(self) -> None:
        """Let every call of :meth:`connect` that waits fail with NotRunning."""
        self._stopping = True
        for connecting in list(self._connecting):
            connecting.cancel()

    async def _connect(self, address: PeerAddress) -> MeshProtocol:
        link = self.connections.table.get(self.peers.found_at(address) or b"")
        if link is None or link.error is not None:  # a closed link stays in the table for a moment
            try:
                link = await self._connector.link_to(address, in_time=True)
            except CancelledError:
                if self._stopping:
                    raise NotRunning(f"the service stopped before it was linked with {address}") from None
                raise
            self.connections.cooldown.discard(link.id)
            self.peers.add(address, link.id)
        return link

    def send(
        self, type: int, packets: tuple[object, ...], *, whisper: bool, receipt: bool
    ) -> Receipt | None:
        entry = pack_entry(type, packets, asks=receipt)
        if self._why_silent is not None:  # _check_granted(), without a call for each message
            self._check_granted()
        place: int | None = None
        if whisper:
            for link in list(self.connections.table.values()):
                link.whisper_entry(entry).addErrback(lambda failure: failure.trap(Unreachable))
        else:
            place = self._publish([entry])
        if self._log.shows_messages:
            self._log.sending(type, packets, len(entry))
        return self._receipts.ask(place) if receipt and place is not None else None

    def send_many(self, type: int, packets: Sequence[object]) -> None:
        entries = pack_many(type, packets)
        self._check_granted()
        most = self._config.unsent_bytes
        if (size := sum(map(len, entries))) > most:
            raise MessageTooLarge(
                f"the messages have {size} bytes packed; at most {most} can be sent at once"
            )
        if entries:
            self._publish(entries)
        if self._log.shows_messages:
            for packet, entry in zip(packets, entries, strict=True):
                self._log.sending(type, (packet,), len(entry))

    def _publish(self, entries: Sequence[bytes]) -> int:
        """Send packed messages to all; return how many were sent before them in this run of the service."""
        if self.writer is not None and self.writer.full:
            name = self.writer.store.name
            raise StoreFull(f"the history {name} cannot be written: nothing is sent until it can")
        if self.driver.node.has_key_conflict:
            raise KeyInUse("another node uses this node's key: this one may publish no more meanwhile")
        if self.driver.node.is_over:
            raise KeyInUse("another node has signed in this run: nothing is sent until a new one can begin")
        if (place := self.driver.send(entries)) is None:
            raise Congested("too many bytes of earlier messages wait: await drained()")
        if not self._log.shows_messages:
            self.driver.allow_plain()
        return place

    def drained(self) -> Deferred[None]:
        if self.driver.node.has_key_conflict or self.driver.node.is_over:
            return self._key_is_back.wait()
        if self.writer is None or not self.writer.full:
            return self.driver.drained()
        return self.writer.writable().addCallback(lambda _: self.driver.drained())

    def send_to(self, member: bytes, type: int, packets: tuple[object, ...]) -> Deferred[None]:
        if (known := self._origin_of(member)) is None:
            pack_entry(type, packets)  # raises, if the packets cannot be sent, before the id is refused
            return unreachable(_unknown(member))
        return self._send_direct(known, type, packets)

    def request(
        self, member: bytes, type: int, packets: tuple[object, ...], seconds: float
    ) -> Deferred[Message]:
        entry = pack_entry(type, packets)
        self._check_granted()
        if (known := self._origin_of(member)) is None:
            return fail(Unreachable(_unknown(member)))
        self._requests.check_room()
        if self._log.shows_messages:
            self._log.sending(type, packets, len(entry))
        return self._requests.request(known, member.decode(), entry, seconds)

    def ping(self, member: bytes, seconds: float) -> Deferred[tuple[float, int]]:
        self._check_granted()
        if (known := self._origin_of(member)) is None:
            return fail(Unreachable(_unknown(member)))
        return self._requests.ping(known, member.decode(), seconds)

    def trace(self, id: MessageId, seconds: float) -> Deferred[Trace]:
        self._check_granted()
        return Deferred.fromCoroutine(self.tracing.trace(id, seconds))

    def graph(self, seconds: float) -> Deferred[list[Neighbours]]:
        self._check_granted()
        return Deferred.fromCoroutine(self.tracing.graph(seconds))

    def lag(self, seconds: float) -> Deferred[list[Lag]]:
        self._check_granted()
        return Deferred.fromCoroutine(self.tracing.lag(seconds))

    def past(self, seconds: float, author: bytes | None, count: int | None) -> Iterator[Message]:
        me = self.driver.id
        ids = ((id_of(held.run[0]), held) for held in self.driver.node.held(seconds, self._clock.seconds()))
        ranges = [held for id, held in ids if (id != me if author is None else id == author)]
        ranges.sort(key=lambda held: held.run[1])
        return self._backlog.past(ranges if count is None else newest(ranges, count))

    def query(self, type: int, packets: tuple[object, ...], seconds: float) -> Query:
        entry = pack_entry(type, packets)
        self._check_granted()
        self._requests.check_room()
        place = self._publish([entry])
        self._log.sending(type, packets, len(entry))
        return self._requests.query(place, self.members.up, seconds)

    def runs_of(self, member: bytes) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        """The key of a node, and the ends of its newest runs as they are held here.

        :raises Unreachable: nothing is known of it here.
        """
        node = self.driver.node
        if (origin := self._origin_of(member) or node.origin_of(member)) is None:
            raise Unreachable(_unknown(member))
        return origin, node.ends(origin)

    def take_policy(self, packed: bytes) -> None:
        """Take in a policy of the mesh's authority, and hand it on; RemoteError if it is none."""
        self.driver.handle(events.PolicyGiven(packed))

    def _check_granted(self) -> None:
        """:raises TrustError: this node may send no message."""
        if self._why_silent is not None:
            raise TrustError(self._why_silent)

    def forget(self, member: bytes) -> None:
        origin = self.members.to_forget(member)
        self._check_granted()
        if self.driver.local_node().profile.role is Role.GUEST:
            raise LocalError("this node is a guest: no other node would forget a member for it")
        self.driver.handle(events.ForgetMember(origin))

    def _origin_of(self, member: bytes) -> bytes | None:
        """The origin of a member or neighbour by its id; None if it is not known here."""
        link = self.connections.table.get(member)
        return self.members.origins.get(member) if link is None or link.peer is None else link.peer.origin

    def _stream(self) -> events.StreamId:
        return self.driver.node.run

    def _send_direct(
        self, origin: bytes, type: int, packets: tuple[object, ...], answers: MessageId | None = None
    ) -> Deferred[None]:
        entry = pack_entry(type, packets)
        self._check_granted()
        if self._log.shows_messages:
            self._log.sending(type, packets, len(entry))
        return self.directs.send(origin, id_of(origin).decode(), entry, answers)

    async def handed_over(self, timeout: float) -> None:
        try:
            await handed_over(self.driver, self._clock, timeout)
        except NotHandedOver as error:
            raise NotHandedOver(f"{error}{self._why_not_taken()}") from None

    def _why_not_taken(self) -> str:
        """Why no neighbour takes messages, and what becomes of them, to end a sentence with."""
        reasons = [] if self.connections.table else [str(each) for each in self.peers.failing()]
        if more := len(reasons[_REASONS:]):
            reasons[_REASONS:] = [f"and {more} more"]
        why = f": {'; '.join(reasons)}" if reasons else ""
        kept = "" if self.writer is None else "; the history keeps each for the next start"
        return why + kept

    def caught_up(self) -> Deferred[None]:
        return self._missed.over()

    async def outcomes(self) -> None:
        """Wait until it is known of each peer that is dialled whether it can be reached."""
        longest = self._config.connect_timeout + self._config.handshake_timeout
        await wait_at_most(self.peers.outcomes(), longest, self._clock)

    async def stop(self, retire: bool = False) -> None:
        """End the run: hand over unsent messages and close every link, each within a time limit.

        :param retire: whether the node leaves for good.
        """
        why = self._why_not_taken()
        async with AsyncExitStack() as end:  # all of these run, the last first, even if some fail
            if self._rejoin is not None:
                end.push_async_callback(self._rejoin.wait_for_book)
            end.callback(self.directs.stop)
            end.callback(self._requests.stop)
            end.callback(self.tracing.traces.stop)
            end.callback(self._receipts.stop)
            end.callback(self.driver.stop)
            if self.writer is not None:
                end.push_async_callback(self.writer.stop)
            end.callback(self._progress.stop)
            end.callback(self._missed.stop)
            end.callback(self.trust.stop)
            end.push_async_callback(self.connections.stop)
            end.callback(self.driver.stopping)
            if self._rejoin is not None:
                end.callback(self._rejoin.stop)
            end.push_async_callback(self._say_goodbye, retire, why)
            never = NotRunning("the service stopped before it had joined")
            end.callback(self._joined.failed, Failure(never))
            end.callback(self._key_is_back.happened, None)
            end.callback(self._key_lost.failed, Failure(NotRunning("the service stopped first")))
            end.callback(self.cancel_connecting)
            end.callback(self._connector.stop)
            end.callback(self.peers.stop)
            # These run first: messages handed on in the last flush, or taken after it, would be given again
            # by the next process.
            end.callback(self._delivery.named.stop)
            end.callback(self._backlog.stop)

    async def give_all(self) -> None:
        """Wait, ``handover_timeout`` at most, until each neighbour that stays was given all messages."""
        await wait_at_most(self.driver.given_to_all(), self._config.handover_timeout, self._clock)

    async def _say_goodbye(self, retire: bool, why: str) -> None:
        """:param why: messages that wait have no neighbour that takes them."""
        await deferLater(self._clock, 0)  # in a later turn: during a delivery the core handles no event
        await self.give_all()
        if self.driver.unsent:
            messages = were(self.driver.unsent, "message")
            _log.warn("{messages} taken by no neighbour{why}", messages=messages, why=why)
        await wait_at_most(self.driver.left(retire), self._config.farewell_timeout, self._clock)
        status = self.driver.node.status()
        if status.silent and (lost := status.unread):
            told = "{lost} may have reached nobody: {silent} did not answer at the end"
            _log.warn(told, lost=counted(lost, "message"), silent=counted(status.silent, "neighbour"))

    def close_in_fork(self) -> None:
        """Close the descriptors in a forked process: links and history belong to the parent."""
        for link in self.connections:
            close_socket(link.transport)
        if self.writer is not None:
            self.writer.store.close_in_fork()

    # ── the node as values ──────────────────────────────────────────────────────────

    @property
    def unsent(self) -> int:
        """How many own messages no neighbour's transport has accepted yet."""
        return self.driver.unsent

    @property
    def dropped(self) -> Counter[str]:
        """How many items the core ignored or dropped in this run, by kind."""
        counts = self.driver.counts
        counts["dropped_traces"] += self.tracing.traces.refused
        return counts

    def footprint(self) -> dict[str, int]:
        """Entries and bytes of every table of this run."""
        return {
            **self.driver.node.footprint(),
            **({} if self.writer is None else self.writer.footprint()),
            **self.connections.footprint(),
            "members": len(self.members.table),
            **self._progress.footprint(),
            **self._missed.footprint(),
            **self._receipts.footprint(),
            **self.directs.footprint(),
            **self._requests.footprint(),
            **self.tracing.traces.footprint(),
            "dialled_peers": len(self.peers),
            **self._connector.footprint(),
        }


def _randomness(local_node: LocalNode) -> random.Random:
    """A random generator that differs from node to node, and from run to run."""
    return random.Random(local_node.origin + local_node.epoch.to_bytes(8, "big"))


def _unknown(member: bytes) -> str:
    return f"{member.decode('ascii', 'replace')}: no member with that id is known here"
