"""One connection: bytes to frames and back, from the first byte to the last word.

Contract: a :class:`MeshProtocol` begins as a handshake and is open from the peer's proof on.  It
decides nothing about messages: proven peers and their frames go to the :class:`LinkHost` it was made
for, and whatever the peer does wrong ends in :meth:`MeshProtocol.close` with a reason, which is told
to the peer in a BYE.

Where nobody is to blame and the peer is proven, closing is patient: ours is sent to the end, what the
peer had sent by then still counts, and the connection ends when the peer ends it, or when nothing moves
for ``close_timeout``.
Cutting it at once would reset it, and what the peer's system had not yet handed up of ours would be gone.
Who leaves waits for ``close_timeout`` and no longer.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Final, cast
from typing import Protocol as Interface

from OpenSSL import SSL
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from twisted_mesh import flags
from twisted_mesh.addressing.addresses import show
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.arriving import Arrival
from twisted_mesh.core.events import Arriving
from twisted_mesh.core.handshake import Handshake, Peer, Side, Stage, told
from twisted_mesh.core.keepalive import Liveness
from twisted_mesh.errors import NO_FAULT, HandshakeTimeout, Reason, RemoteError
from twisted_mesh.eventloop.deferreds import WaitingDeferreds, unreachable
from twisted_mesh.links import tls
from twisted_mesh.links.in_transit import on_its_way
from twisted_mesh.links.write_queue import Transport, WriteQueue
from twisted_mesh.wire import native
from twisted_mesh.wire.begun import HEAD_BYTES, begun
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.framing import LENGTH_BYTES, MAX_FRAME_BYTES, FrameReader
from twisted_mesh.wire.membership import Purpose

_DETAIL = 512  # characters of a BYE's sentence
_FRONTIER_WAITS: Final = 30  # times handshake_timeout, for a frontier over a slow line (guess: 600 kB)
_FRONTIER_LEAST: Final = 1024  # bytes of it in each of them (guess: signs of life alone are a tenth)
_END_WAITS: Final = 150  # times close_timeout, until the end of a link over a slow line (guess: 600 kB)
_END_LOOKS: Final = 2  # in each of them (guess)


class Phase(Enum):
    """How far a connection is."""

    HANDSHAKE = "handshake"
    OPEN = "open"
    DRAINING = "draining"  #: our BYE is queued, what comes still counts
    CLOSING = "closing"  #: nothing is read any more
    CLOSED = "closed"


class LinkHost(Interface):
    """What a link works for: the one place that knows all links."""

    clock: IReactorTime
    config: MeshConfig

    def link(
        self, source: IAddress | None, outgoing: bool, expected: bytes | None, purpose: Purpose
    ) -> MeshProtocol:
        """A new link."""
        ...  # pragma: no cover

    def made(self, link: MeshProtocol) -> None:
        """A connection is there, nothing proven."""
        ...  # pragma: no cover

    def handshake(self, side: Side, expected: bytes | None, purpose: Purpose) -> Handshake:
        """A handshake for a new connection."""
        ...  # pragma: no cover

    def proven(self, link: MeshProtocol, peer: Peer) -> None:
        """The peer has proven who it is."""
        ...  # pragma: no cover

    def received(self, link: MeshProtocol, frames: list[native.Frame]) -> None:
        """Frames of a proven peer."""
        ...  # pragma: no cover

    def arriving(self, arriving: Arriving) -> None:
        """A frame of a proven peer is not whole yet, and takes long."""
        ...  # pragma: no cover

    def wants_flush(self, link: MeshProtocol) -> None:
        """Call *link*.flush() before this turn is over."""
        ...  # pragma: no cover

    def closing(self, link: MeshProtocol, error: RemoteError) -> None:
        """Nothing more can be sent over *link*."""
        ...  # pragma: no cover

    def lost(self, link: MeshProtocol) -> None:
        """The connection is gone."""
        ...  # pragma: no cover

    def sending(self, type: int, packets: tuple[object, ...], size: int) -> None:
        """A message of the application's goes out, *size* bytes packed."""
        ...  # pragma: no cover


class MeshProtocol(Protocol):
    """A link, or what may become one.

    :ivar number: of this link, never used twice.
    :ivar outgoing: whether this node dialled.
    :ivar peer: who is at the far end, once proven.
    :ivar phase: how far it is.
    :ivar error: why it closed, once it does.
    :ivar is_up: whether it is or was in the routing table.
    :ivar visits: whether it is an exchange, as far as is known, and stays out of it.
    :ivar has_begun: whether it is or was an exchange with all that it takes.
    :ivar expected: the id the far end must have, if that was known beforehand.
    :ivar dialled_for: what it was dialled for, where this node dialled.
    :ivar remote: the far end's address as the connection has it.
    :ivar gives_way: whether it is closing for longer than ``close_timeout``: another may have its place.
    """

    def __init__(
        self,
        switch: LinkHost,
        number: int,
        outgoing: bool,
        expected: bytes | None,
        source: IAddress | None,
        purpose: Purpose = Purpose.JOIN,
    ) -> None:
        self.number = number
        self.outgoing = outgoing
        self.peer: Peer | None = None
        self.phase = Phase.HANDSHAKE
        self.error: RemoteError | None = None
        self.remote = (getattr(source, "host", ""), getattr(source, "port", 0))
        self._switch = switch
        self._config = switch.config
        self._reader = FrameReader()
        self._arrival = Arrival()
        self._read = 0  # bytes that came, of TLS in whole records
        self._frontier_waits = 0
        self._frontier_seen = 0  # bytes that had come when it was last waited for
        self._opening = b""  # the first bytes, which tell TLS from plain text
        side = Side.DIALLER if outgoing else Side.ACCEPTOR
        self._handshake = switch.handshake(side, expected, purpose)
        self.expected = expected
        self.dialled_for = purpose if outgoing else None
        self.visits = self.dialled_for is Purpose.EXCHANGE
        self.has_begun = False
        self._timer: IDelayedCall | None = None
        self._proven = WaitingDeferreds[MeshProtocol]()
        self._up = WaitingDeferreds[MeshProtocol]()
        self.is_up = self.gives_way = False

    # ── what users see ──────────────────────────────────────────────────────────────

    @property
    def id(self) -> bytes | None:
        """The peer's id, once proven."""
        return None if self.peer is None else self.peer.id

    @property
    def address(self) -> tuple[str, int]:
        """Where the peer says it can be dialled; where it came from, if it says nothing."""
        told_address = None if self.peer is None else self.peer.address
        return self.remote if told_address is None else told_address

    def whisper(self, *packets: object) -> Deferred[None]:
        """Send a message to this peer alone.

        :return: fires when the link has accepted it, fails with Unreachable if it closes before.
        :raises TypeError: and ValueError for packets that cannot be sent.
        """
        return self.send(flags.whisper, flags.whisper, *packets)

    def send(self, main: int, type: int, *packets: object) -> Deferred[None]:
        """Send a message of *type* to this peer alone, as py2p's handlers do.

        :param main: must be ``flags.whisper``; broadcasts go through the service.
        """
        if main != flags.whisper:
            raise ValueError("a link can only whisper: send(flags.whisper, type, *packets)")
        flags.check_user_type(type)
        entry = pack_entry(type, packets)
        if self.phase is Phase.OPEN:
            self._switch.sending(type, packets, len(entry))
        return self.whisper_entry(entry)

    def __repr__(self) -> str:
        arrow = "to" if self.outgoing else "from"
        return f"<link {self.number} {arrow} {show(self.remote)} {self.phase.value}>"

    @property
    def said_settled(self) -> bool:
        """What this node said of itself in the handshake."""
        return self._handshake.said_settled

    # ── what the switch uses ────────────────────────────────────────────────────────

    def whisper_entry(self, entry: bytes) -> Deferred[None]:
        """Send one packed message to this peer alone."""
        if self.phase is not Phase.OPEN:
            return unreachable(f"the link to {show(self.remote)} is closed")
        taken = self._outlet.put_awaited(native.encode(native.Whisper(join_entries((entry,)))))
        self._switch.wants_flush(self)
        return taken

    def write(self, frame: bytes, *, counted: bool = False) -> None:
        """Queue a whole frame; nothing is sent once the link is closing."""
        if self.phase is Phase.OPEN:
            self._outlet.put(frame, counted=counted)
            self._switch.wants_flush(self)

    def flush(self) -> None:
        """Write what the transport takes."""
        self._outlet.flush()

    @property
    def accepted(self) -> int:
        """Bytes of the core's frames the transport has taken so far."""
        return self._outlet.accepted

    @property
    def queued_bytes(self) -> int:
        """What waits behind the transport."""
        return self._outlet.queued_bytes

    @property
    def read_bytes(self) -> int:
        """Bytes that came so far, those of an unfinished TLS record included."""
        return self.transport.read_bytes if isinstance(self.transport, tls.Session) else self._read

    def owes_a_sign(self, now: float) -> bool:
        """Whether the peer is to be told that what it sends is read, and nothing in the queue tells it."""
        return self.liveness.owes_a_sign(self._outlet.written, now) and not self.queued_bytes

    def when_up(self) -> Deferred[MeshProtocol]:
        """Fires with this link when it is in the routing table, fails with why it never will."""
        if self.error is not None:
            return fail(self.error)
        return succeed(self) if self.is_up else self._up.wait()

    def when_proven(self) -> Deferred[MeshProtocol]:
        """Fires with this link when its peer has proven itself, fails with why it is not let in."""
        if self.peer is not None and self.error is None:
            return succeed(self)
        return self._proven.wait() if self.error is None else fail(self.error)

    @property
    def is_patient(self) -> bool:
        """Whether the link is closing, and what is under way over it may take long.

        A peer that has proven nothing is given no such time: its BYE can name any reason.
        """
        if self.peer is None or self.error is None:
            return False
        return self.error.reason in NO_FAULT and self.error.reason is not Reason.LEAVING

    def cut(self) -> None:
        """End the connection at once, whatever is under way over it."""
        self.gives_way = False
        self._stop_timer()
        self._abort()

    def now_proven(self) -> None:
        """The peer has proven itself, and the core is told of the link next."""
        self._proven.happened(self)

    def now_visiting(self) -> None:
        """The link is an exchange that has begun well: the core ends it in time."""
        self.visits = self.has_begun = True
        self._stop_timer()

    def now_up(self) -> None:
        """The link is in the routing table."""
        self.is_up, self.visits = True, False
        self._stop_timer()
        self._up.happened(self)

    def close(self, error: RemoteError) -> None:
        """Close with a reason, which is told to the peer if it can still be."""
        if self.phase is Phase.OPEN and error.reason in NO_FAULT:
            self._outlet.put(native.encode(native.Bye(error.reason.value, error.detail[:_DETAIL])))
            self._leave(Phase.DRAINING, error)
            self.flush()
        elif self.phase in (Phase.HANDSHAKE, Phase.OPEN):
            self._outlet.drop("the link was closed")
            self._transport.write(self._handshake.farewell(error.reason, error.detail[:_DETAIL]))
            self._leave(Phase.CLOSING, error)
            self._end()
        elif error.reason is Reason.LEAVING and self.is_patient and self.phase is not Phase.CLOSED:
            self._restart_timer(self._config.close_timeout, self._abort)  # and no longer

    # ── Twisted's side ──────────────────────────────────────────────────────────────

    def connectionMade(self) -> None:
        """Start the handshake and its timer."""
        transport = self._transport
        config, clock = self._config, self._switch.clock
        self._outlet = WriteQueue(transport.write, config.write_bytes, self._on_resumed)
        self.liveness = Liveness(
            clock.seconds(),
            ping_after=config.ping_after,
            dead_after=config.dead_after,
            close_timeout=config.close_timeout,
        )
        transport.registerProducer(self._outlet, True)
        if ITCPTransport.providedBy(transport):
            cast(ITCPTransport, transport).setTcpNoDelay(True)
        self._restart_timer(config.handshake_timeout, self._too_late)
        self._write_now(self._handshake.start())
        self._switch.made(self)

    def dataReceived(self, data: bytes) -> None:
        """The one place where a peer's bytes become frames."""
        now = self._switch.clock.seconds()
        self.liveness.heard(now)
        self._read += len(data)
        if not self._reads:
            return
        if len(self._opening) < 4:
            self._opening += data[: 4 - len(self._opening)]
        frames: list[native.Frame] = []
        try:
            self._take(data, frames)
        except RemoteError as error:
            self._deliver(frames)
            if self.phase is Phase.DRAINING:
                self._end()
            self.close(self._handshake.not_a_frame(self._opening, error))
        else:
            if frames:
                self._arrival.ended()
                self._deliver(frames)
            if self._reader.kept > LENGTH_BYTES and self._arrival.grew(now):
                self._tell_arriving()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, for whatever reason."""
        if self.phase in (Phase.HANDSHAKE, Phase.OPEN):
            self._leave(Phase.CLOSED, self._why_lost(reason))
        self._stop_timer()
        self.phase = Phase.CLOSED
        self._outlet.drop(f"the link to {show(self.remote)} is gone")
        assert self.error is not None
        self._up.failed(Failure(self.error))
        self._switch.lost(self)

    # ── inside ──────────────────────────────────────────────────────────────────────

    @property
    def _transport(self) -> Transport:
        return cast(Transport, self.transport)

    def _on_resumed(self) -> None:
        # The system took what had piled up, so somebody reads at the far end.  Merely writing
        # proves nothing: an unplugged peer's buffers take hours of small messages.
        self.liveness.accepted = self._switch.clock.seconds()
        self._switch.wants_flush(self)

    @property
    def _reads(self) -> bool:
        return self.phase in (Phase.HANDSHAKE, Phase.OPEN, Phase.DRAINING)

    def _take(self, data: bytes, frames: list[native.Frame]) -> None:
        for payload in self._reader.feed(data):
            if self._handshake.stage is not Stage.DONE:
                self._shake(payload)
                continue
            frame = native.decode(payload)
            if isinstance(frame, native.Bye):
                self._deliver(frames)
                self._peer_leaves(told(frame))
                return
            frames.append(frame)

    def _deliver(self, frames: list[native.Frame]) -> None:
        if frames and self._reads:
            self._switch.received(self, frames[:])
        frames.clear()

    def _tell_arriving(self) -> None:
        if self.phase in (Phase.OPEN, Phase.DRAINING):
            reader = self._reader
            batch = begun(reader.head(HEAD_BYTES))
            self._switch.arriving(Arriving(self.number, batch, reader.kept, reader.need))

    def _shake(self, payload: bytes) -> None:
        answer = self._handshake.receive(payload, lambda: tls.exporter(self.transport))
        self._write_now(answer)
        if self._handshake.peer is not None:
            self.peer = self._handshake.peer
            self._reader.limit = MAX_FRAME_BYTES
            self.phase = Phase.OPEN
            self._frontier_seen = self.read_bytes
            self._arrival.ended()  # that of PROOF
            self._switch.proven(self, self.peer)

    def _write_now(self, data: bytes) -> None:
        if data:
            self._outlet.put(data)
            self._outlet.flush()

    def _peer_leaves(self, error: RemoteError) -> None:
        """The peer said BYE: all it sent is here, and ours it reads only where nobody is to blame."""
        if self.phase is Phase.OPEN:
            if error.reason in NO_FAULT:
                self._outlet.flush(everything=True)
            self._outlet.drop("the peer closed the link")
            self._leave(Phase.CLOSING, error)
        self._end()

    def _leave(self, phase: Phase, error: RemoteError) -> None:
        """Nothing more can be sent from now on."""
        self.phase, self.error = phase, error
        timeout = self._config.close_timeout
        if self.is_patient:
            look = partial(self._look_at_end, self.read_bytes, None, 0, _END_WAITS * _END_LOOKS)
            self._restart_timer(timeout / _END_LOOKS, look)
        else:
            self._restart_timer(timeout, self._abort)
        self._switch.closing(self, error)
        self._proven.failed(Failure(error))

    def _end(self) -> None:
        """Read nothing more; the connection closes when what was written is out."""
        if self.phase is not Phase.CLOSED:
            self.phase = Phase.CLOSING
        self._transport.unregisterProducer()
        self._transport.loseConnection()

    def _look_at_end(self, read: int, given: int | None, still: int, left: int) -> None:
        """Cut the connection once nothing moves over it, or after so many looks."""
        self._timer = None
        given_now = on_its_way(self.transport)
        moves = self.read_bytes != read or given not in (None, given_now)
        still = 0 if moves else still + 1
        left -= 1
        self.gives_way = left <= (_END_WAITS - 1) * _END_LOOKS
        if still < _END_LOOKS and left:
            again = partial(self._look_at_end, self.read_bytes, given_now, still, left)
            self._restart_timer(self._config.close_timeout / _END_LOOKS, again)
        else:
            self._abort()

    def _abort(self) -> None:
        self._timer = None
        self._transport.abortConnection()

    def _too_late(self) -> None:
        self._timer = None
        seconds = self._config.handshake_timeout
        if self.phase is Phase.OPEN and self._frontier_comes():
            self._restart_timer(seconds, self._too_late)
            return
        hint = "" if self._opening else "; nothing came: does only one side speak TLS?"
        self.close(HandshakeTimeout(f"the handshake was not over after {seconds:g} s{hint}"))

    def _frontier_comes(self) -> bool:
        """Whether to wait on for the peer's frontier, since enough of it has come lately."""
        before, self._frontier_seen = self._frontier_seen, self.read_bytes
        self._frontier_waits += 1
        return self._frontier_seen >= before + _FRONTIER_LEAST and self._frontier_waits < _FRONTIER_WAITS

    def _why_lost(self, reason: Failure) -> RemoteError:
        if self.phase is Phase.HANDSHAKE and isinstance(reason.value, SSL.Error) and not self._opening:
            text = tls.failure_text(reason.value)
            detail = f"no TLS session: {text}; is the other side Plaintext?"
            return RemoteError.of(Reason.ENCRYPTION, detail)
        detail = f"the connection was lost: {reason.getErrorMessage()}"
        return RemoteError(detail, Reason.LOST)

    def _restart_timer(self, seconds: float, call: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self._switch.clock.callLater(seconds, call)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
