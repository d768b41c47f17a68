"""One connection as Twisted sees it: the protocol of a transport.

Contract: a :class:`MeshProtocol` has a machine, a :class:`~twisted_mesh.core.link_machine.LinkMachine`.  It
gives the machine the bytes that come, sets a timer to the machine's deadline, and writes the machine's
answers.  It tells its :class:`LinkHost` of the proven peer and of the peer's frames.  It decides nothing,
not even how a connection ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from typing import Final, assert_never, cast
from typing import Protocol as Interface
from weakref import proxy

from OpenSSL import SSL
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mesh import flags
from twisted_mesh.addressing.addresses import show
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.arriving import Unread
from twisted_mesh.core.events import Arriving, Event, Received, Resumed
from twisted_mesh.core.handshake import Handshake, Peer, Side
from twisted_mesh.core.link_machine import Left, LinkEvent, LinkMachine, Phase
from twisted_mesh.core.reachability import site_of
from twisted_mesh.errors import NO_FAULT, Reason, RemoteError, TrustError
from twisted_mesh.eventloop.deferreds import WaitingDeferreds, unreachable
from twisted_mesh.links import tls
from twisted_mesh.links.in_transit import on_its_way, write_now
from twisted_mesh.links.write_queue import Transport, WriteQueue
from twisted_mesh.message import Packet
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.link import Whisper
from twisted_mesh.wire.membership import Purpose

_HELD: Final = 1.0  # seconds by which a deadline is put off while bytes wait for their turn (guess)


class LinkHost(Interface):
    """The object that knows all links; each link tells it of its events."""

    clock: IReactorTime
    config: MeshConfig

    def link(
        self,
        source: IAddress | None,
        outgoing: bool,
        expected: bytes | None,
        purpose: Purpose,
        name: str | None,
    ) -> MeshProtocol:
        """Make the protocol of a new connection; *name* is the host name that this node has dialled."""

    def made(self, link: MeshProtocol) -> None:
        """A connection is made; its peer has proven nothing yet."""

    def may_begin(self, link: MeshProtocol) -> bool:
        """Whether *link*, which the peer dialled, may read its first bytes; if not, go_on() comes later."""

    def unanswered(self, link: MeshProtocol) -> None:
        """The peer, which this node has dialled, has not greeted: it may want a secret."""

    def read(self, link: MeshProtocol) -> None:
        """Bytes of *link* have come: call its handle_unread(), now or later."""

    def half_frame(self, link: MeshProtocol, size: int) -> None:
        """*link* keeps *size* bytes that are not handled yet, or none any more."""

    def handshake(
        self, side: Side, expected: bytes | None, purpose: Purpose, name: str | None
    ) -> Handshake:
        """Make the handshake of a new connection."""

    def proven(self, link: MeshProtocol, peer: Peer) -> None:
        """The peer has proven its key."""

    def handle(self, event: Event) -> None:
        """Let the core handle *event*."""

    def wants_flush(self, link: MeshProtocol) -> None:
        """Call *link*.flush() at the end of this turn of the reactor."""

    def closing(self, link: MeshProtocol, error: RemoteError) -> None:
        """Nothing more can be sent over *link*."""

    def lost(self, link: MeshProtocol) -> None:
        """The connection has ended."""

    def sending(self, type: int, packets: tuple[object, ...], size: int) -> None:
        """The application sends a message of *size* bytes packed."""


@implementer(IHandshakeListener)
class MeshProtocol(Protocol):
    """A connection to another node, and a link once the node is in the routing table.

    :ivar number: the number of this link, never used twice.
    :ivar outgoing: whether this node dialled.
    :ivar is_up: whether the link is or was in the routing table.
    :ivar is_exchange: whether the link is an exchange, as far as this node knows; no exchange comes into
        the routing table.
    :ivar exchange_begun: whether the link is or was an exchange, and both ends have told their frontiers.
    :ivar expected: the id that the far end must have; None if any may.
    :ivar dialled_for: the purpose for which this node dialled; None if the far end dialled.
    :ivar remote: host and port of the far end of the connection; :ivar site: the site of that host.
    :ivar made_at: when the connection was made.
    :ivar received_frames: frames that came once the peer was proven; :ivar sent_frames: frames sent since.
    """

    def __init__(
        self,
        host: LinkHost,
        number: int,
        outgoing: bool,
        expected: bytes | None,
        source: IAddress | None,
        purpose: Purpose = Purpose.JOIN,
        name: str | None = None,
    ) -> None:
        self.number = number
        self.outgoing = outgoing
        self.expected = expected
        self.dialled_for = purpose if outgoing else None
        self.is_exchange = self.dialled_for is Purpose.EXCHANGE
        self.exchange_begun = self.is_up = False
        self.remote = (getattr(source, "host", ""), getattr(source, "port", 0))
        self.site = site_of(self.remote[0])
        self.made_at = inf
        self.received_frames = self.sent_frames = 0
        self._host = host
        side = Side.DIALLER if outgoing else Side.ACCEPTOR
        self._handshake = host.handshake(side, expected, purpose, name)
        # The parts that call this link hold it weakly, so it is freed as soon as its connection has ended.
        # If strangers came by the hundred, the garbage collector would stop the node for 0.1 s (measured).
        weak = self._weak = cast(MeshProtocol, proxy(self))
        self._machine = LinkMachine(
            number, self._handshake, host.config, lambda: tls.exporter(weak.transport)
        )
        self._read = 0  # bytes that have come; under TLS, bytes of whole records only
        self._timer: IDelayedCall | None = None
        self._timer_deadline = inf  # the machine's deadline when the timer was set
        self._half = 0  # bytes of an unfinished frame
        self._unread = Unread[LinkEvent](lambda data: weak._feed(data))
        self._fed_at = inf  # when the machine last got bytes
        self._is_held = False  # whether the transport is not read, since bytes wait for their turn
        self._loss: Failure | None = None  # why the connection is lost, while bytes are still to be handled
        self._begun = outgoing  # whether bytes that come are read
        self._go_on: Callable[[], None] | None = None  # reads the first bytes if they wait
        self._told_closing = False  # whether the host knows that the link is closing
        self._proven = WaitingDeferreds[MeshProtocol]()
        self._up = WaitingDeferreds[MeshProtocol]()

    # ── for the application ─────────────────────────────────────────────────────────

    @property
    def peer(self) -> Peer | None:
        """The node at the far end, once it has proven its key."""
        return self._machine.peer

    @property
    def phase(self) -> Phase:
        """The phase of the connection, from handshake to closed."""
        return self._machine.phase

    @property
    def error(self) -> RemoteError | None:
        """The reason why the connection closes or has closed; None while it stands."""
        return self._machine.error

    @property
    def id(self) -> bytes | None:
        """The peer's id, once it has proven its key."""
        return None if self.peer is None else self.peer.id

    @property
    def address(self) -> tuple[str, int]:
        """The address at which the peer says it can be dialled; if it gave none, ``remote``."""
        told_address = None if self.peer is None else self.peer.address
        return self.remote if told_address is None else told_address

    def whisper(self, *packets: Packet) -> Deferred[None]:
        """Send a message to this peer alone.

        :return: fires when the transport has accepted the message; fails with Unreachable if the link
            closes before that.
        :raises TypeError: and ValueError for packets that cannot be sent.
        """
        return self.send(flags.whisper, flags.whisper, *packets)

    def send(self, main: int, type: int, *packets: Packet) -> Deferred[None]:
        """Send a message of *type* to this peer alone; handlers made for py2p call this method.

        :param main: must be ``flags.whisper``; broadcasts go through the service.
        """
        if main != flags.whisper:
            raise ValueError("a link can only whisper: send(flags.whisper, type, *packets)")
        flags.check_user_type(type)
        entry = pack_entry(type, packets)
        if (why := self._handshake.local_node.policy.why_silent) is not None:
            raise TrustError(why)
        if self.phase is Phase.OPEN:
            self._host.sending(type, packets, len(entry))
        return self.whisper_entry(entry)

    def __repr__(self) -> str:
        arrow = "to" if self.outgoing else "from"
        return f"<link {self.number} {arrow} {show(self.remote)} {self.phase.value}>"

    @property
    def said_settled(self) -> bool:
        """Whether this node said in the handshake that it is settled."""
        return self._handshake.said_settled

    # ── for the host ────────────────────────────────────────────────────────────────

    def whisper_entry(self, entry: bytes) -> Deferred[None]:
        """Send one packed message to this peer alone."""
        if self.phase is not Phase.OPEN:
            return unreachable(f"the link to {show(self.remote)} is closed")
        self.sent_frames += 1
        accepted = self._queue.put_awaited(codec.encode(Whisper(join_entries((entry,)))))
        self._host.wants_flush(self)
        return accepted

    def write(self, frame: bytes, *, counted: bool = False) -> None:
        """Queue a whole frame; once the link is closing, do nothing."""
        if self._machine.phase is Phase.OPEN:
            self.sent_frames += 1
            self._queue.put(frame, counted=counted)
            self._host.wants_flush(self)

    def flush(self) -> None:
        self._queue.flush()

    @property
    def accepted(self) -> int:
        """Bytes of counted frames that the transport has accepted so far."""
        return self._queue.accepted

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait until the transport accepts them."""
        return self._queue.queued_bytes

    @property
    def sent_bytes(self) -> int:
        """Bytes that the transport has accepted so far."""
        return self._queue.written

    @property
    def read_bytes(self) -> int:
        """Bytes that have come so far, those of an unfinished TLS record included."""
        return self.transport.read_bytes if isinstance(self.transport, tls.Session) else self._read

    @property
    def unread_bytes(self) -> int:
        """Bytes that have come and are not handled yet."""
        return len(self._unread)

    def check_flow(self) -> bool:
        """Whether bytes have come since the last check, or wait, but no frame that the host was told of."""
        return self._machine.check_flow(self.read_bytes) or self._is_held

    def when_up(self) -> Deferred[MeshProtocol]:
        """Fires with this link once it is in the routing table; fails if it closes before."""
        if self.error is not None:
            return fail(self.error)
        return succeed(self) if self.is_up else self._up.wait()

    def when_proven(self) -> Deferred[MeshProtocol]:
        """Fires with this link once its peer has proven its key; fails if it closes before."""
        if self.peer is not None and self.error is None:
            return succeed(self)
        return self._proven.wait() if self.error is None else fail(self.error)

    @property
    def is_patient(self) -> bool:
        """Whether the link is closing, but still waits long for frames on their way."""
        return self._machine.is_patient

    @property
    def gives_way(self) -> bool:
        """Whether the link has been closing for over ``close_timeout``, so that another may replace it."""
        return self._machine.gives_way

    @property
    def is_silent(self) -> bool:
        """Whether the peer has dialled, and has sent no byte yet."""
        return not self._begun and self._go_on is None

    def begins(self, go_on: Callable[[], None]) -> bool:
        """Whether the first bytes that came may be read now; if not, *go_on* is called later."""
        if not self._begun:
            self._begun = self._host.may_begin(self)
            if not self._begun:
                self._go_on = go_on
                self._transport.pauseProducing()
        return self._begun

    def go_on(self) -> None:
        """Read the first bytes, for which :meth:`LinkHost.may_begin` had no time."""
        self._begun = True
        self._transport.resumeProducing()
        if self._go_on is not None:
            self._go_on()

    def turn_away(self, error: RemoteError) -> None:
        """Call :meth:`go_on`, and refuse the peer with *error* as soon as its greeting has come."""
        self._handshake.refusal = error
        self.go_on()

    def cut(self) -> None:
        """End the connection at once; the frames on their way over it are lost."""
        self._machine.cut()
        self._set_timer()
        self._transport.abortConnection()

    def now_proven(self) -> None:
        """The peer has proven its key; the host will tell the core of the link."""
        self._proven.happened(self)

    def now_exchanging(self) -> None:
        """An exchange over the link has begun; the core will end it."""
        self.is_exchange = self.exchange_begun = True
        self._established()

    def now_up(self) -> None:
        """The link has come into the routing table."""
        self.is_up, self.is_exchange = True, False
        self._established()
        self._up.happened(self)

    def hold(self) -> None:
        """Read no more from the transport until the bytes that came are handled."""
        self._is_held = True
        self._transport.pauseProducing()
        self._host.half_frame(self, self._half + len(self._unread))

    def handle_unread(self, until: float) -> bool:
        """Give the bytes that came to the machine, and handle the events that it makes of them.

        :param until: the time at which to stop.
        :return: whether all bytes are handled.
        """
        began = self._now
        try:
            for event in self._unread:
                self._on_event(event)
                now = self._now
                if isinstance(event, list):
                    self._machine.took(len(event), now - began)
                if now >= until and self._unread:
                    return False
                began = now
        except RemoteError as error:
            self._forget_unread()
            if self.phase is Phase.DRAINING:
                self._end()
            elif not self._told_closing:
                self.close(error)
            return True
        except BaseException:
            self._forget_unread()
            raise
        self._all_handled()
        return True

    def close(self, error: RemoteError) -> None:
        """Close the link because of *error*; send the reason to the peer, if a BYE can still be sent."""
        was_closing = self.error is not None  # if so, the first call of close() does the rest
        last = self._machine.close(error, self.read_bytes, self._now)
        if was_closing:
            self._set_timer()
        elif self.phase is Phase.DRAINING:
            self._queue.put(last)
            self._tell_closing()
            self.flush()
        else:
            self._queue.drop("the link was closed")
            self._transport.write(last)
            self._tell_closing()
            self._end()

    # ── called by Twisted ───────────────────────────────────────────────────────────

    def connectionMade(self) -> None:
        """Start the handshake and its timer."""
        transport, config, weak = self._transport, self._host.config, self._weak
        write = partial(write_now, transport) if isinstance(transport, Connection) else transport.write
        self._queue = WriteQueue(write, config.write_bytes, lambda: weak._on_resumed())
        transport.registerProducer(self._queue, True)
        if ITCPTransport.providedBy(transport):
            cast(ITCPTransport, transport).setTcpNoDelay(True)
        self.made_at = self._now
        self._write_now(self._machine.start(self.made_at))
        self._set_timer()
        self._host.made(self)

    def handshakeCompleted(self) -> None:
        """Go on, since there is a TLS session: a node with a secret now proves it, if it has dialled."""
        self._write_now(self._machine.session_made(self._now))
        self._set_timer()

    def dataReceived(self, data: bytes) -> None:
        """Keep the peer's bytes, and have the host give them to :meth:`handle_unread`."""
        if not self._begun and not self.begins(lambda: self.dataReceived(data)):
            return
        self._read += len(data)
        if self._unread.put(data):  # else the host knows
            self._host.read(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the host, and all that wait for the link, that the connection has ended.

        Bytes that came before are handled before.
        """
        while self._unread and self.phase is Phase.HANDSHAKE:
            self.handle_unread(-inf)  # event by event: one may be the peer's refusal
        if self._unread and self.phase in (Phase.OPEN, Phase.DRAINING):
            self._loss = reason
            return
        self._forget_unread()
        self._go_on = None
        self._transport.unregisterProducer()
        self._machine.lost(self._why_lost(reason))
        self._tell_closing()
        self._queue.drop(f"the link to {show(self.remote)} is gone")
        assert self.error is not None
        self._up.failed(Failure(self.error))
        self._host.lost(self)

    # ── inside ──────────────────────────────────────────────────────────────────────

    @property
    def _transport(self) -> Transport:
        return cast(Transport, self.transport)

    @property
    def _now(self) -> float:
        return self._host.clock.seconds()

    def _feed(self, data: bytes) -> Iterator[LinkEvent]:
        self._fed_at = self._now
        return self._machine.receive(data, self.read_bytes, self._fed_at)

    def _on_event(self, event: LinkEvent) -> None:
        match event:
            case list():
                self.received_frames += len(event)
                self._host.handle(Received(self.number, event))
            case bytes():
                self._write_now(event)
            case Peer():
                self._host.proven(self, event)
            case Arriving():
                self._host.handle(event)
            case Left():
                # Handlers of the application, for frames of the same read, may have taken long.
                self._machine.put_off(self._now - self._fed_at)
                self._on_left(event.error)
            case _:
                assert_never(event)

    def _all_handled(self) -> None:
        half = self._machine.unfinished_bytes
        if half or self._half or self._is_held:
            self._half = half
            self._host.half_frame(self, half)
            self._set_timer()
        self._release()
        self._lose()

    def _forget_unread(self) -> None:
        """Handle no byte that came and waits."""
        self._unread.clear()
        self._release()

    def _release(self) -> None:
        """Read from the transport again."""
        if self._is_held:
            self._is_held = False
            self._transport.resumeProducing()

    def _lose(self) -> None:
        """Take in that the connection is lost, if it was lost before its bytes were handled."""
        if self._loss is not None:
            loss, self._loss = self._loss, None
            self.connectionLost(loss)

    def _on_resumed(self) -> None:
        # The system accepted all bytes that waited, so the far end reads.  A write that succeeds proves
        # nothing: even for an unplugged peer, the system's buffers accept small messages for hours.
        self._host.handle(Resumed(self.number))
        self._host.wants_flush(self)

    def _write_now(self, data: bytes) -> None:
        if data:
            self._queue.put(data)
            self._queue.flush()

    def _on_left(self, error: RemoteError) -> None:
        if not self._told_closing:
            if error.reason in NO_FAULT:
                self._queue.flush(everything=True)
            self._queue.drop("the peer closed the link")
            self._tell_closing()
        self._end()

    def _tell_closing(self) -> None:
        """Tell the host, once, that nothing more can be sent."""
        self._set_timer()
        if not self._told_closing:
            self._told_closing = True
            assert self.error is not None
            self._host.closing(self, self.error)
            self._proven.failed(Failure(self.error))

    def _end(self) -> None:
        """Read nothing more; end the connection once all written bytes are sent."""
        self._machine.read_no_more()
        self._forget_unread()
        self._transport.unregisterProducer()
        self._transport.loseConnection()
        self._lose()

    def _established(self) -> None:
        self._machine.established(self.read_bytes, self._now)
        self._set_timer()

    def _set_timer(self) -> None:
        deadline = self._machine.deadline
        if deadline != self._timer_deadline:
            self._timer_deadline = deadline
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if deadline < inf:
                self._timer = self._host.clock.callLater(max(0.0, deadline - self._now), self._on_deadline)

    def _on_deadline(self) -> None:
        self._timer, self._timer_deadline = None, inf
        if self._is_held and self.phase in (Phase.HANDSHAKE, Phase.OPEN):
            self._machine.put_off(self._now - self._machine.deadline + _HELD)
            self._set_timer()
            return
        error = self._machine.expired(self.read_bytes, on_its_way(self.transport), self._now)
        if error is not None:
            self.close(error)
        elif self.phase is Phase.CLOSED:
            self._transport.abortConnection()
        elif self._machine.is_unanswered and self.phase is Phase.HANDSHAKE:
            self._host.unanswered(self)
        self._set_timer()

    def _why_lost(self, reason: Failure) -> RemoteError:
        if isinstance(reason.value, SSL.Error) and not self._machine.has_heard:
            is_certified = bool(self._handshake.local_node.policy.certificate)
            return tls.why_no_session(self.transport, reason.value, is_certified)
        return RemoteError(f"the connection was lost: {reason.getErrorMessage()}", Reason.LOST)
