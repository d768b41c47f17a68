"""Drives the core: gives it events, and turns the effects that it returns into I/O.

Contract: events are handled one after the other, in the order in which they happened.  Effects are carried
out here and nowhere else.  One reactor turn is one batch: messages that the application sends in a turn are
published at its end, and each link's frames leave in one write; many direct messages leave before.
Application code that is called from here may call the driver in turn: their events wait until the present
event is handled.

A run of the service lasts from its start to its stop.  A run of the core has one epoch.  If others know a
newer epoch of this node's key, a new run of the core begins within the run of the service.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final, assert_never

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.handshake import LocalNode
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


class Handled(msgspec.Struct, frozen=True):
    """The core has handled all events that came so far."""


_HANDLED: Final = Handled()
_DELIVERS: Final = frozenset({events.Deliver, events.DeliverDirects})
#: Direct messages leave before the end of a turn if they are so many, and half of those under way: then
#: another node works on one half while this one works on the other.  With 32 requests under way, 16 gave
#: the most a second, of 8, 11, 16 and 20 (measured).
_MANY: Final = 16
_MUCH: Final = 64 * 1024  # bytes of direct messages that leave before the end of a turn (guess)


class Driver:
    """Drives the core during one run of a service.

    :ivar node: the core, in its present run; :ivar renewals: how many times a new run of the core began.
    :ivar id: this node's id.
    :ivar send_plain: sends a message of type 0 with packets, by the shortest way; returns False, and sends
        nothing, if :meth:`send` must look at more.
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
        """:param where: gives the address at which others can dial this node now."""
        self.clock = clock
        self.config = config
        self.id = local_node.id
        self.node = node
        self.publish = dispatch.publish
        self.renewals = 0
        self._links: Connections
        self._local_node = local_node  # the description of this node that it sends to peers
        self._wall_clock = wall_clock
        self._where = where
        self._events: deque[events.Event] = deque()
        self._busy = self._stopped = False
        self._batching = Batching(clock, config, self._publish_batch)
        self.send_plain = self._batching.add_plain
        self._published = 0  # messages that were numbered in this run of the service
        self._flushing = False
        self._turn: IDelayedCall | None = None
        self._directs: list[events.SendDirect] = []  # the direct messages of this turn
        self._direct_bytes = 0  # the size of their bodies
        self._core_waits = False  # whether the core wants to know when this turn ends
        self._timers = Timers(clock, self._fire)
        self._drained = WaitingDeferreds[None]()
        self._conditions = Conditions()  # the states of the core for which Deferreds wait
        self.when = self._conditions.when
        self._earlier = Counter[str]()  # the counts of earlier runs of the core
        self._drops = DropLog(clock, config.log_interval, lambda: self.counts)
        # The core queues fewer bytes than this for a link, however small link_queue_bytes is.
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
        return status.sent - status.accepted + len(self._batching)

    def send(self, entries: Sequence[bytes]) -> int | None:
        """Send packed messages to everyone, at the end of this turn or within ``batch_delay``.

        :return: how many messages were sent before them in this run of the service; None if there is no
            room for all of them, so that none is sent.
        """
        size = sum(map(len, entries))
        if not self.node.room_for(self._batching.bytes + size):
            return None
        place = self._published + self._batching.add(entries, size)
        if self._turn is None and not self._batching.waits:
            self._schedule()
        return place

    def send_direct(self, message: events.SendDirect, waiting: int) -> None:
        """Send a direct message at the end of this turn, together with others of the turn, or before it.

        The core takes 2 us less for each than if it handled them one by one (measured).

        :param waiting: how many wait to be acknowledged, this one included.
        """
        if self._stopped:
            return  # a callback that the end of the run has called
        self._directs.append(message)
        self._direct_bytes += len(message.body)
        if self._turn is None:
            self._schedule()
        if len(self._directs) >= max(_MANY, waiting / 2) or self._direct_bytes >= _MUCH:
            self._send_directs()

    def _send_directs(self) -> None:
        directs, self._directs, self._direct_bytes = self._directs, [], 0
        self.handle(events.SendDirects(directs))

    def allow_plain(self) -> None:
        """Let :attr:`send_plain` send messages without another look, until the core handles an event.

        Call this after :meth:`send`, if nothing but the core, and its room, can forbid to send.
        """
        if not self._busy:  # the events that wait can change everything
            self._batching.open(self.node.room)

    def forbid_plain(self) -> None:
        """Let :attr:`send_plain` send nothing until the next :meth:`allow_plain`."""
        self._batching.close()

    def drained(self) -> Deferred[None]:
        """Fires when there is room for own messages; at once if there is room now."""
        return self._drained.wait() if self.node.status().congested else succeed(None)

    def given_to_all(self) -> Deferred[None]:
        """Fires when each neighbour that stays was given every own message, or no neighbour is left."""
        self._batching.stop()
        return self.when(lambda: self.node.status().given_to_all)

    def left(self, retires: bool) -> Deferred[None]:
        """Fires when every neighbour knows that this node leaves, and no receipt is left to send."""
        self._batching.stop()
        self.handle(events.Leaving(retires))
        return self.when(lambda: self.node.status().has_left)

    def renew(self, local_node: LocalNode, randomness: Randomness) -> None:
        """Begin a new run of the core; every link is closed and dialled again.

        :param local_node: the description of this node in the new run.
        """
        self._timers.stop()
        self._directs, self._direct_bytes = [], 0  # NewRun ends the wait for them
        self._events = deque(one for one in self._events if not isinstance(one, events.SendDirects))
        self._earlier.update(self.node.counts)
        self._local_node = local_node
        old = self.node.status()
        self.node, unsent = self.node.next_run(local_node, randomness)
        self._batching.put_first(unsent)
        self._published -= len(unsent)
        self.renewals += 1
        self.publish(events.NewRun(old.sent if old.settled else old.accepted, len(unsent)))
        self._links.renewed()
        if old.settled or not self.node.status().congested:
            self._drained.happened(None)
        self._schedule()

    def stopping(self) -> None:
        """Fire all Deferreds of :meth:`drained`, so that no caller waits any longer."""
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

    def missed_by(self, member: bytes) -> Sequence[int]:
        """The own messages that *member* has missed and whose receipts are open."""
        return self.node.missed_by(member)

    @property
    def counts(self) -> Counter[str]:
        """How many items the core ignored or dropped in this run of the service, by kind."""
        counts = self._earlier.copy()
        counts.update(self.node.counts)
        return counts

    # ── for the connections (connections.CoreDriver) ─────────────────────────────────

    def handle(self, event: events.Event) -> None:
        """Let the core handle *event* after all earlier events; when the run has ended, do nothing."""
        if self._stopped:
            return
        self._events.append(event)
        if not self._busy:
            self._run_core()

    def local_node(self) -> LocalNode:
        """The description of this node to send to peers, with its address as it is now."""
        if (address := self._where()) != self._local_node.address:
            self._local_node = msgspec.structs.replace(self._local_node, address=address)
            self.handle(events.Moved(address))
        return msgspec.structs.replace(self._local_node, settled=self.node.settled)

    def wants_turn(self) -> None:
        """Flush the links at the end of this turn."""
        if not self._flushing:
            self._schedule()

    # ── turns ───────────────────────────────────────────────────────────────────────

    def _schedule(self) -> None:
        if self._turn is None:
            self._turn = self.clock.callLater(0, self._end_of_turn)

    def _end_of_turn(self) -> None:
        self._turn = None
        self._write_out(self._finish_turn)

    def _finish_turn(self) -> None:
        self._batching.end_of_turn()
        if self._directs:
            self._core_waits = False  # the core takes these for the end of the turn
            self._send_directs()
        elif self._core_waits:
            self._core_waits = False
            self.handle(events.TimerFired(events.Timer.TURN))

    def _write_out(self, work: Callable[[], object]) -> None:
        """Do *work*, then flush the links that it wrote to."""
        self._flushing = True
        try:
            work()
            self._flush_links()
        except BaseException:
            self._schedule()  # the next turn flushes the other links, although the core failed
            raise
        finally:
            self._flushing = False
            if self._core_waits:  # what was flushed has led to more
                self._schedule()

    def _flush_links(self) -> None:
        # After each flush the core queues more for the link, until the transports accept no more.
        for link in self._links.to_flush():
            self._flush(link)

    def _publish_batch(self, entries: list[bytes], fits: bool) -> None:
        self._published += len(entries)
        self.handle(events.Publish(entries, int(self._wall_clock() * 1000), fits))

    def _flush(self, link: MeshProtocol) -> None:
        before = link.accepted
        link.flush()
        if link.accepted > before:
            self.handle(events.Accepted(link.number, link.accepted))
        # The core sends little more to a slow reader, so most of these bytes are whispers or PONGs.
        if link.queued_bytes > self._too_much:
            link.close(RemoteError("the peer reads too slowly for what is sent", Reason.SLOW))

    # ── the core ────────────────────────────────────────────────────────────────────

    def _fire(self, fired: events.TimerFired) -> None:
        if fired.timer is events.Timer.ROSTER:  # this node's own record is due to be renewed
            self.local_node()
        elif fired.timer is events.Timer.KEEPALIVE:
            self._links.tell_flowing()
        self.handle(fired)

    def _run_core(self) -> None:
        """Let the core handle all events that wait, and all that their effects cause."""
        self._busy = True
        self._batching.close()
        try:
            while self._events:
                event = self._events.popleft()
                effects = self.node.handle(event, self.clock.seconds())
                if not self._flushing and _DELIVERS.intersection(map(type, effects)):
                    effects = self._relay(effects)
                self._carry_out_all(effects)
                # Write before others look at what has happened, or more messages of a turn are made.
                if self._flushing or isinstance(event, events.SendDirects):
                    self._flush_links()
        finally:
            self._busy = False
        self.publish(_HANDLED)
        self._conditions.look()

    def _relay(self, effects: list[events.Effect]) -> list[events.Effect]:
        """Write the frames among *effects* now; return the other effects.

        These bring messages to the application, which may take long: the nodes behind this one do not wait
        for it, nor for the end of the turn.
        """
        sends: list[events.Effect] = [effect for effect in effects if isinstance(effect, events.Send)]
        if not sends:
            return effects
        self._write_out(lambda: self._carry_out_all(sends))
        return [effect for effect in effects if not isinstance(effect, events.Send)]

    def _carry_out_all(self, effects: list[events.Effect]) -> None:
        for effect in effects:
            self._carry_out(effect)

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
            case events.SetTimer(timer=events.Timer.TURN):
                self._core_waits = True
                if not self._flushing:
                    self._schedule()
            case events.SetTimer():
                self._timers.set(effect.timer, effect.at)
            case events.Emit():
                self.publish(effect.what)
            case events.Deliver() | events.DeliverDirects() | events.Dial():
                self.publish(effect)
            case _:
                assert_never(effect)
