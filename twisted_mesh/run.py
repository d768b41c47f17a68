"""One run of a service, from start to stop: its hub, its dialler, and what they tell the application.

Contract: a service makes a new one at each start, so that nothing of an earlier run is left in it.
What the application asks of a node that runs is done here; what the hub observes becomes messages and
events, and none of that raises.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.address_book import AddressBook
from twisted_mesh.addresses import PeerAddress
from twisted_mesh.config import MeshConfig
from twisted_mesh.consumer import Held
from twisted_mesh.core import events
from twisted_mesh.core.handshake import Myself
from twisted_mesh.core.joining import MOST_CLAIMED
from twisted_mesh.core.reading import read
from twisted_mesh.delivery import Delivery, Waiting, messages_of
from twisted_mesh.dialler import Dialler
from twisted_mesh.dialling import Dial, Dialling
from twisted_mesh.errors import (
    Congested,
    IdentityError,
    KeyInUse,
    NotHandedOver,
    Reason,
    RemoteError,
    StoreFull,
    Unreachable,
)
from twisted_mesh.hub import Hub
from twisted_mesh.identity import id_of
from twisted_mesh.keeper import Keeper
from twisted_mesh.message import Gap, Refusal, Source
from twisted_mesh.outlet import unreachable
from twisted_mesh.protocol import MeshProtocol
from twisted_mesh.seeker import Seeker
from twisted_mesh.store import Store
from twisted_mesh.tls import Tls
from twisted_mesh.wire.packets import pack_entry

_log = Logger()


class Run:
    """A node between start and stop.

    :ivar hub: core, links and timers.
    :ivar keeper: stores what it holds, where there is a history file.
    :ivar dialling: makes single links.
    :ivar dialler: keeps those that are wanted.
    """

    def __init__(
        self,
        reactor: Any,
        new_run: Callable[[int], Myself],
        config: MeshConfig,
        tls: Tls | None,
        dial: Dial | None,
        delivery: Delivery,
        service: object,
        debug_level: int,
        store: Store | None,
        book: AddressBook | None,
        wall_clock: Callable[[], float],
    ) -> None:
        """
        :param new_run: what the node says of itself in a run whose epoch is above the given one.
        :param service: what ``connect`` and ``disconnect`` listeners are given.
        :param store: the history file, which is the run's to close.
        :param book: of the nodes that were linked with.
        :param wall_clock: seconds since 1970.
        """
        self._config = config
        self._delivery = delivery
        self._service = service
        self._new_run = new_run
        self._wall_clock = wall_clock
        myself = new_run(0)
        if store is not None and (newest := _newest_own(store, myself.origin)) >= myself.epoch:
            myself = new_run(newest)  # the file beside the key is gone, and the clock was set back
        self._reactor = reactor
        self.keeper = (
            None
            if store is None
            else Keeper(reactor, store, config, delivery.taken, self._not_stored, wall_clock)
        )
        self.hub = Hub(reactor, myself, config, self, debug_level, self.keeper, wall_clock)
        self.dialling = Dialling(reactor, self.hub, tls, dial)
        delivery.begin(self.read, self._taken, () if store is None else _backlog(store, myself))
        self._catching_up: IDelayedCall | None = reactor.callLater(0, self._catch_up)
        # Jitter has to differ from node to node, no more: the same key gives the same again.
        jitter = random.Random(myself.origin).random
        link_to = self.dialling.link_to
        self.dialler = Dialler(reactor, config, link_to, self.hub.table, jitter)
        self._seeker: Seeker | None = None
        if book is not None:
            self._seeker = Seeker(
                reactor, config, book, link_to, self.hub.table, self.dialler.may_dial, jitter
            )
            self._seeker.isolated()

    # ── what the service asks for ───────────────────────────────────────────────────

    async def connect(self, address: PeerAddress) -> MeshProtocol:
        """Link with the node at *address*, and stay so (MeshService.connect)."""
        link = self.hub.table.get(self.dialler.found_at(address) or b"")
        if link is None or link.error is not None:  # it can be closed, until another relieves it
            link = await self.dialling.link_to(address)
            self.dialler.allow(link.id)
            self.dialler.add(address, link.id)
        return link

    def send(self, type: int, packets: tuple[object, ...], *, whisper: bool) -> None:
        """Send a message to everyone, or to direct peers only (MeshService.send)."""
        entry = pack_entry(type, packets)
        if whisper:
            for link in list(self.hub.table.values()):
                link.whisper_entry(entry).addErrback(lambda failure: failure.trap(Unreachable))
        elif self.keeper is not None and self.keeper.full:
            path = self.keeper.store.path
            raise StoreFull(f"the history {path} cannot be written: nothing is sent until it can")
        elif self.hub.node.disowned:
            raise KeyInUse("another node uses this node's key: this one may publish no more")
        elif not self.hub.publish(entry):
            raise Congested(f"{self._config.unsent_bytes} bytes wait: await drained()")
        self.hub.log.sending(type, packets, len(entry))

    async def handed_over(self, timeout: float) -> None:
        """Wait until a neighbour has taken every message sent so far (MeshService.handed_over)."""
        try:
            await self.hub.handed_over().addTimeout(timeout, self._reactor)
        except DeferredTimeout:
            raise NotHandedOver(f"{self.hub.unsent} messages were taken by no neighbour") from None

    async def stop(self) -> None:
        """Hand over what is unsent and close every link, within bounds; then the run is over."""
        self.dialler.stop()
        try:
            # To slower neighbours as well; without a neighbour there is nobody to wait for.
            seconds = self._config.handover_timeout if self.hub.table else 0
            await self.hub.handed_over(to_all=True).addTimeout(seconds, self._reactor)
        except DeferredTimeout:
            if self.hub.unsent:
                _log.warn("{count} messages were taken by no neighbour", count=self.hub.unsent)
        if self._seeker is not None:
            self._seeker.stop()
        # First, or what is handed on while the last flush is written would come again.
        if self._catching_up is not None:
            self._catching_up.cancel()
            self._catching_up = None
        await self.hub.stop()

    # ── what its parts ask for ──────────────────────────────────────────────────────

    def reply_to(self, member: bytes, packets: tuple[object, ...]) -> Deferred[None]:
        """Whisper *packets* to the node with the id *member* (message.Replier)."""
        link = self.hub.table.get(member)
        if link is not None:
            return link.whisper(*packets)
        return unreachable(f"no direct link to {member.decode()}")

    def _taken(self, run: tuple[bytes, int]) -> None:
        """A consumer has taken something of *run*."""
        self.hub.node.history.changed(run)
        self.hub.look()

    def _not_stored(self, failure: Failure) -> None:
        self._delivery.listeners.emit("failure", failure)

    def _catch_up(self) -> None:
        """Hand on what an earlier process stored and had not handed on, a turn at a time."""
        more = self._delivery.catch_up()
        self._catching_up = self._reactor.callLater(0, self._catch_up) if more else None

    # ── hub.Observer ────────────────────────────────────────────────────────────────

    def up(self, link: MeshProtocol) -> None:
        """A node came into the routing table."""
        if self._seeker is not None:
            self._seeker.linked(link)
        if len(self.hub.table) == 1:
            self._delivery.listeners.emit("connect", self._service)

    def down(self, link: MeshProtocol) -> None:
        """A node left the routing table."""
        assert link.id is not None
        self.dialler.link_lost(link.id)
        if not self.hub.table:
            if self._seeker is not None:
                self._seeker.isolated()
            self._delivery.listeners.emit("disconnect", self._service)

    def refused(self, refusal: Refusal) -> None:
        """A connection did not become a link."""
        self._delivery.listeners.emit("refused", refusal)

    def deliver(self, deliver: events.Deliver, link: MeshProtocol | None) -> None:
        """Messages for the application."""
        source = self._source(deliver.origin, deliver.epoch, deliver.sent)
        self._delivery.deliver(deliver, source, link)

    def read(self, run: tuple[bytes, int], after: int, upto: int, most: int) -> Iterator[Held]:
        """Messages that were delivered, as they are held still (consumer.Reader)."""
        for piece in read(self.hub.node.history, run, after, upto, most):
            source = self._source(*run, piece.sent)
            messages = messages_of(piece.entries, piece.first, piece.size, source)
            yield Held(piece.first, piece.last, list(messages))

    def _source(self, origin: bytes, epoch: int, sent: int) -> Source:
        return Source(origin, epoch, id_of(origin), sent / 1000 if sent else self._wall_clock(), self)

    def gap(self, gap: events.GapFound) -> None:
        """Messages that will not come."""
        self._delivery.emit_gap(
            Gap(id_of(gap.origin), gap.epoch, gap.first, gap.last, "no neighbour sent them in time")
        )

    def poisoned(self, poisoned: events.Poisoned) -> None:
        """Messages that cannot be read."""
        _log.warn(
            "messages {what.first} to {what.last} of {sender} cannot be read: {what.error}",
            what=poisoned,
            sender=id_of(poisoned.origin).decode(),
        )
        self._delivery.listeners.emit("failure", Failure(poisoned.error))

    def equivocation(self, equivocation: events.Equivocation) -> None:
        """An author signed two things under one number."""
        sender = id_of(equivocation.origin).decode()
        error = RemoteError(
            f"{sender} signed two different messages {equivocation.first}; it is repaired no more",
            Reason.SIGNATURE,
        )
        _log.warn("{error}", error=error)
        self._delivery.listeners.emit("failure", Failure(error))

    def epoch_taken(self, epoch: int) -> None:
        """The run must begin anew, above *epoch*."""
        _log.warn("a run {epoch} of this key is known to others: a new one begins", epoch=epoch)
        try:
            myself = self._new_run(epoch)
        except IdentityError as error:
            _log.error("no new run can begin: {error}", error=error)
            self._delivery.listeners.emit("failure", Failure(error))
        else:
            self.hub.renew(myself)

    def key_in_use(self, epoch: int) -> None:
        """The key is used elsewhere: nothing more can be published."""
        error = KeyInUse("another node uses this node's key: this one publishes no more")
        _log.error("{error} (its run is {epoch})", error=error, epoch=epoch)
        self._delivery.listeners.emit("failure", Failure(error))


def _newest_own(store: Store, origin: bytes) -> int:
    """The newest stored run of *origin* that a clock can have given, or 0."""
    restored = store.restored
    runs = [*(marks.run for marks in restored.marks), *(run for run, _ in restored.closed)]
    return max((epoch for author, epoch in runs if author == origin and epoch <= MOST_CLAIMED), default=0)


def _backlog(store: Store, myself: Myself) -> Iterator[Waiting]:
    """What is stored and was not taken by every consumer; own messages are for nobody here."""
    for marks in store.restored.marks:
        origin, _ = marks.run
        taken = max(marks.taken, marks.base)
        if taken < marks.head and origin != myself.origin:
            yield marks.run, id_of(origin), taken, marks.head
