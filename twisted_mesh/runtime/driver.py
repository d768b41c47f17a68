"""Drives the core: gives it events, and turns the effects that it returns into I/O.

Contract: events are handled one after the other, in the order in which they happened.  Effects are carried
out here and nowhere else.  One reactor turn is one batch: messages that the application sends in a turn are
published at its end, and each link's frames leave in one write.  The application's code, called from here,
may call the driver; its events wait until the present one is handled.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final, assert_never

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.history.reader import Piece
from twisted_mesh.core.history.storage import Missing
from twisted_mesh.core.node import Node
from twisted_mesh.core.overlay.views import Randomness
from twisted_mesh.errors import NotRunning, Reason, RemoteError
from twisted_mesh.eventloop.deferreds import Conditions, WaitingDeferreds
from twisted_mesh.eventloop.log_quota import DropLog
from twisted_mesh.links.connections import Connections
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.runtime.batching import Batching
from twisted_mesh.runtime.dispatch import Dispatch
from twisted_mesh.runtime.timers import Timers
from twisted_mesh.wire import codec
from twisted_mesh.wire.framing import MAX_FRAME_BYTES
from twisted_mesh.wire.greeting import Address
from twisted_mesh.wire.membership import Contact


class Handled(msgspec.Struct, frozen=True):
    """The core has handled all events so far."""


_HANDLED: Final = Handled()


class Driver:
    """Drives the core of one run of a service; if a new run of the core begins, the new core.

    :ivar node: the core; :ivar renewals: how many new runs of the core began.
    :ivar id: of this node.
    """

    def __init__(
        self,
        clock: IReactorTime,
        config: MeshConfig,
        dispatch: Dispatch,
        local_node: LocalNode,
        node: Node,
        wall_clock: Callable[[], float],
        where: Callable[[], Address | None],
    ) -> None:
        """
        :param local_node: the description that *node* sends of itself.
        :param wall_clock: seconds since 1970.
        :param where: gives the address at which others can dial the node now.
        """
        self.clock = clock
        self.config = config
        self.id = local_node.id
        self.node = node
        self.publish = dispatch.publish
        self.renewals = 0
        self._links: Connections
        self._local_node = local_node
        self._wall_clock = wall_clock
        self._where = where
        self._events: deque[events.Event] = deque()
        self._busy = self._stopped = False
        self._batching = Batching(clock, config, self._publish_batch)
        self._published = 0  # numbered messages of this run of the service
        self._flushing = False
        self._turn: IDelayedCall | None = None
        self._timers = Timers(clock, self._fire)
        self._drained = WaitingDeferreds[None]()
        self._conditions = Conditions()  # of the core's state
        self.when = self._conditions.when
        self._earlier = Counter[str]()  # dropped in earlier runs of the core, by name
        self._drops = DropLog(clock, config.log_interval, lambda: self.counts)
        # Batches and answers alone never reach this, however small link_queue_bytes is.
        self._too_much = 2 * max(config.link_queue_bytes, config.answer_bytes + MAX_FRAME_BYTES)
        dispatch.on(events.Drained, lambda _: self._drained.happened(None))

    def drive(self, links: Connections) -> None:
        """Send over *links* from now on."""
        self._links = links

    # ── for the running node ────────────────────────────────────────────────────────

    @property
    def unsent(self) -> int:
        """How many own messages no link's transport has accepted yet."""
        status = self.node.status()
        return status.sent - status.taken + len(self._batching)

    def send(self, entry: bytes) -> int | None:
        """Send a packed message to everyone, at the end of this turn or within ``batch_delay``.

        :return: its place in all that is sent in this run of the service; None if there is no room for it.
        """
        if not self.node.room_for(self._batching.bytes + len(entry)):
            return None
        place = self._published + self._batching.add(entry)
        if self._turn is None and not self._batching.waits:
            self._schedule()
        return place

    def drained(self) -> Deferred[None]:
        """Fires when there is room for own messages; at once if there is room now."""
        return self._drained.wait() if self.node.status().congested else succeed(None)

    def given_to_all(self) -> Deferred[None]:
        """Fires when every own message was given to each neighbour that stays, or none is left."""
        self._batching.stop()
        return self.when(lambda: self.node.status().given_to_all)

    def left(self) -> Deferred[None]:
        """Fires when every neighbour knows that this node leaves, and all receipts it must send are out."""
        self._batching.stop()
        self.handle(events.Leaving())
        return self.when(lambda: self.node.status().has_left)

    def renew(self, local_node: LocalNode, randomness: Randomness) -> None:
        """Go on with the core of a new run; every link is closed and dialled again."""
        self._timers.stop()
        self._earlier.update(self.node.counts)
        self._local_node = local_node
        old = self.node.status()
        self.node, unsent = self.node.next_run(local_node, randomness)
        self._batching.put_first(unsent)
        self._published -= len(unsent)
        self.renewals += 1
        self.publish(events.NewRun(old.sent if old.settled else old.taken, len(unsent)))
        self._links.renewed()
        if old.settled:
            self._drained.happened(None)
        self._schedule()

    def stopping(self) -> None:
        """Let no caller of :meth:`drained` wait any longer."""
        self._drained.happened(None)

    def stop(self) -> None:
        """Stop all timers, and fail the Deferreds of :meth:`when`."""
        self._stopped = True
        with ExitStack() as end:  # all of these run, the last first, even if some fail
            end.callback(self._conditions.stop, Failure(NotRunning("the service stopped first")))
            if self._turn is not None:
                end.callback(self._turn.cancel)
            end.callback(self._timers.stop)
            end.callback(self._drops.stop)

    def holders(self, sequence: int) -> events.Holders | None:
        """Which members have the own message *sequence*; None if its receipt is not open."""
        return self.node.holders(sequence)

    def read(self, run: events.StreamId, after: int, upto: int, most: int) -> Iterator[Piece | Missing]:
        """The held messages of *run* behind *after* (:func:`twisted_mesh.core.history.reader.read`).

        :raises StoreError: they cannot be read now.
        """
        return self.node.read(run, after, upto, most)

    def known(self, contacts: Sequence[Contact]) -> None:
        """Tell the core of nodes that were linked in earlier runs, the latest last."""
        self.handle(events.Known(contacts))

    @property
    def counts(self) -> Counter[str]:
        """How much the core ignored or dropped so far, by name."""
        counts = self._earlier.copy()
        counts.update(self.node.counts)
        return counts

    @property
    def address(self) -> Address | None:
        """Where others were told to dial this node."""
        return self._local_node.address

    @property
    def redial_pause(self) -> float | None:
        """Seconds between attempts at a link while another node uses this node's key; else None."""
        return self.config.key_retry if self.node.has_key_conflict else None

    # ── for the connections (connections.CoreDriver) ─────────────────────────────────

    def handle(self, event: events.Event) -> None:
        """Let the core handle *event* after all earlier ones; once the run is over nothing is handled."""
        if self._stopped:
            return
        self._events.append(event)
        if not self._busy:
            self._run_core()

    def local_node(self) -> LocalNode:
        """The description that this node sends of itself now: the host's address can have changed."""
        if (address := self._where()) != self._local_node.address:
            self._local_node = msgspec.structs.replace(self._local_node, address=address)
            self.handle(events.Moved(address))
        return msgspec.structs.replace(self._local_node, settled=self.node.settled)

    def wants_turn(self) -> None:
        """Flush links at the end of this turn."""
        if not self._flushing:
            self._schedule()

    # ── turns ───────────────────────────────────────────────────────────────────────

    def _schedule(self) -> None:
        if self._turn is None:
            self._turn = self.clock.callLater(0, self._end_of_turn)

    def _end_of_turn(self) -> None:
        self._turn = None
        self._flushing = True
        try:
            self._batching.end_of_turn()
            # A flush makes the core feed the link, so this goes on until the transports accept no more.
            for link in self._links.to_flush():
                self._flush(link)
        except BaseException:
            self._schedule()  # the core failed: flush the other links all the same
            raise
        finally:
            self._flushing = False

    def _publish_batch(self, entries: list[bytes]) -> None:
        self._published += len(entries)
        self.handle(events.Publish(entries, int(self._wall_clock() * 1000)))

    def _flush(self, link: MeshProtocol) -> None:
        before = link.accepted
        link.flush()
        if link.accepted > before:
            self.handle(events.Accepted(link.number, link.accepted))
        # The core sends a slow reader little more, so most of this are whispers, or answers to its PINGs.
        if link.queued_bytes > self._too_much:
            link.close(RemoteError("the peer reads too slowly for what is sent", Reason.SLOW))

    # ── the core ────────────────────────────────────────────────────────────────────

    def _fire(self, fired: events.TimerFired) -> None:
        if fired.timer is events.Timer.ROSTER:  # when the own record is renewed
            self.local_node()
        elif fired.timer is events.Timer.KEEPALIVE:
            self._links.tell_flowing()
        self.handle(fired)

    def _run_core(self) -> None:
        """Let the core handle all events that wait, and those that follow from their effects."""
        self._busy = True
        try:
            while self._events:
                for effect in self.node.handle(self._events.popleft(), self.clock.seconds()):
                    self._carry_out(effect)
        finally:
            self._busy = False
        self.publish(_HANDLED)
        self._conditions.look()

    def _carry_out(self, effect: events.Effect) -> None:
        match effect:
            case events.Send():
                data = codec.encode(effect.frame)
                for number in effect.links:
                    if (link := self._links.get(number)) is not None:
                        link.write(data, counted=True)
            case events.Close():
                if (link := self._links.get(effect.link)) is not None:
                    link.close(RemoteError.of(effect.reason, effect.detail))
            case events.SetTimer():
                self._timers.set(effect.timer, effect.at)
            case events.Emit():
                self.publish(effect.what)
            case events.Deliver() | events.Dial():
                self.publish(effect)
            case _:
                assert_never(effect)
