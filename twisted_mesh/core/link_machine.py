"""One connection as a machine without I/O: it takes bytes, and gives events, a deadline and bytes to send.

Contract: the caller gives the bytes that come to :meth:`LinkMachine.receive`, and calls
:meth:`LinkMachine.expired` at :attr:`LinkMachine.deadline`.  It writes the bytes that the methods return,
and cuts the connection when :attr:`LinkMachine.phase` is CLOSED.  It may close the link between two events.
The machine begins with a handshake and is open from the peer's PROOF on.  It decides nothing about
messages.

If neither end is at fault and the peer has proven its key, closing is patient.  The queue is sent to its
end, and frames that the peer had sent before are handled.  The connection ends when the peer ends it, or
when no bytes move for ``close_timeout``.  To cut the connection at once would reset it, and lose bytes that
the peer's system had not yet given to the peer.  A node that leaves waits at most ``close_timeout``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Final

import msgspec

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.arriving import Arrival
from twisted_mesh.core.events import Arriving
from twisted_mesh.core.handshake import Handshake, Peer, error_of
from twisted_mesh.errors import NO_FAULT, HandshakeTimeout, Reason, RemoteError
from twisted_mesh.wire import codec
from twisted_mesh.wire.begun import HEAD_BYTES, begun
from twisted_mesh.wire.framing import (
    GREETING_FRAME_BYTES,
    HANDSHAKE_FRAME_BYTES,
    LENGTH_BYTES,
    MAX_FRAME_BYTES,
    FrameReader,
)
from twisted_mesh.wire.link import Bye

GREETING_DUE: Final = 2.0  # seconds until a peer without a greeting may want a secret (guess)
TOGETHER: Final = 32  # frames in one event, at most (measured: more make nothing faster) ...
TOGETHER_SECONDS: Final = 0.001  #: ... and as many as are handled in this time (guess: a fifth of a slice)
_OPENING: Final = 4  # the first bytes of a connection, which tell TLS from plain text
_DETAIL: Final = 512  # characters of the text in a BYE
_FRONTIER_WAITS: Final = 30  # how many handshake_timeouts a slow frontier may take (guess: for 600 kB)
_FRONTIER_LEAST: Final = 1024  # bytes that must come per handshake_timeout (guess; PONGs alone are 100)
_END_WAITS: Final = 150  # how many close_timeouts a slow link's end may take (guess: for 600 kB)
_END_LOOKS: Final = 2  # checks per close_timeout, or dead_after, whether bytes still move (guess)


class Phase(Enum):
    """The phase of a connection."""

    HANDSHAKE = "handshake"
    OPEN = "open"
    DRAINING = "draining"  #: this node's BYE is queued; frames that come are handled
    CLOSING = "closing"  #: bytes that come are ignored
    CLOSED = "closed"


_READS: Final = (Phase.HANDSHAKE, Phase.OPEN, Phase.DRAINING)
_BEFORE_THE_END: Final = (Phase.HANDSHAKE, Phase.OPEN)


class Left(msgspec.Struct, frozen=True):
    """The peer has sent a BYE; *error* has its reason."""

    error: RemoteError


#: Bytes to write now, the peer with its key proven, its frames, a frame that comes slowly, or its BYE.
LinkEvent = bytes | Peer | list[codec.Frame] | Arriving | Left


@dataclass(eq=False)
class LinkMachine:
    """The machine of one connection.

    :ivar gives_way: whether it has been closing for longer than ``close_timeout``, so that a new connection
        may have its place.
    :ivar is_unanswered: whether the peer, which this node has dialled, has sent nothing for
        :data:`GREETING_DUE` seconds since there is a TLS session.
    """

    _number: int
    _handshake: Handshake
    _config: MeshConfig
    _exporter: Callable[[], bytes]
    phase: Phase = Phase.HANDSHAKE
    error: RemoteError | None = None  # the reason why it closes; None as long as it is open
    peer: Peer | None = None  # the node at the far end, once that has proven its key
    deadline: float = inf  # when :meth:`expired` must be called, by the clock of ``now``; inf: never
    read: int = 0  # the bytes that had come at the last call, as the connection counts them
    gives_way: bool = False
    is_unanswered: bool = False
    _times_out: float | None = None  # when the handshake must be over, if the greeting is due before
    _frames: FrameReader = field(default_factory=lambda: FrameReader(GREETING_FRAME_BYTES))
    _arrival: Arrival = field(default_factory=Arrival)
    _opening: bytes = b""
    _together: int = TOGETHER  # frames in the next event, at most
    _reported: int = 0  # bytes that had come at the last event about frames
    _seen: int = 0  # bytes that had come at the last check
    _waits: int = _FRONTIER_WAITS - 1  # more handshake_timeouts to wait for the frontier
    _is_established: bool = False
    _looks: int = 0  # more checks until a patient end is over
    _still: int = 0  # checks in a row at which no bytes had moved
    _in_transit: int | None = None

    @property
    def has_heard(self) -> bool:
        """Whether any byte has come."""
        return bool(self._opening)

    @property
    def is_patient(self) -> bool:
        """Whether the connection is closing, and may take long to send and receive its last frames.

        A peer that has not proven its key gets no such time.
        """
        if self.peer is None or self.error is None:
            return False
        return self.error.reason in NO_FAULT and self.error.reason is not Reason.LEAVING

    def start(self, now: float) -> bytes:
        """Begin, since the connection is made; return the first bytes to send."""
        self.deadline = now + self._config.handshake_timeout
        return self._handshake.start()

    def session_made(self, now: float) -> bytes:
        """Take in that there is a TLS session; return the bytes to send."""
        if self.phase is not Phase.HANDSHAKE:
            return b""
        if self._handshake.awaits_greeting:
            self._times_out, self.deadline = self.deadline, min(self.deadline, now + GREETING_DUE)
        return self._handshake.session_made(self._exporter)

    def receive(self, data: bytes, read: int, now: float) -> Iterator[LinkEvent]:
        """Yield the events that *data* causes, in order; none once the connection ignores bytes.

        The iterator must run to its end, unless the connection is cut.

        :param read: the bytes that have come so far, those of an unfinished TLS record included.
        :raises RemoteError: the connection must be closed with it; events of earlier bytes were yielded
            before.
        """
        self.read = read
        if self.phase not in _READS:
            return
        if len(self._opening) < _OPENING:
            self._opening += data[: _OPENING - len(self._opening)]
        frames: list[codec.Frame] = []
        try:
            for payload in self._frames.feed(data):
                if self.peer is None:
                    yield self._handshake.receive(payload, self._exporter)
                    self._frames.limit = HANDSHAKE_FRAME_BYTES
                    if self._handshake.peer is not None:
                        yield self._proven(self._handshake.peer)
                    if self.phase not in _READS:
                        return
                    continue
                frame = codec.decode(payload)
                if isinstance(frame, Bye):
                    if frames:
                        yield frames
                    yield self._left(error_of(frame), now)
                    return
                frames.append(frame)
                if len(frames) >= self._together:
                    self._arrival.ended()
                    self._reported = read
                    yield frames
                    frames = []
                    if self.phase not in _READS:
                        return
        except RemoteError as error:
            if frames:
                yield frames
            raise self._handshake.not_a_frame(self._opening, error) from None
        if frames:
            self._arrival.ended()
            self._reported = read
            yield frames
        half = self._frames.kept
        if half and self.deadline == inf:
            self._watch_half(read, now)
        if half > LENGTH_BYTES and self._arrival.grew(now) and self.phase in (Phase.OPEN, Phase.DRAINING):
            self._reported = read
            yield Arriving(self._number, begun(self._frames.head(HEAD_BYTES)), half, self._frames.need)

    def took(self, frames: int, seconds: float) -> None:
        """Take in that handling an event of so many *frames* took *seconds*: adapt the next events.

        32 batches of one message each take 10 ms, as many PINGs a tenth of that (measured).
        """
        fitting = int(frames * TOGETHER_SECONDS / seconds) if seconds > 0 else TOGETHER
        self._together = max(1, min(fitting, 2 * self._together, TOGETHER))

    def check_flow(self, read: int) -> bool:
        """Whether the link is open, and bytes have come since the last event and the last check."""
        before, self._reported = self._reported, read
        return self.phase is Phase.OPEN and read > before

    def put_off(self, seconds: float) -> None:
        """Move the deadline by the *seconds* for which this node was held up."""
        self.deadline += seconds

    @property
    def unfinished_bytes(self) -> int:
        """The bytes of an unfinished frame that are kept."""
        return self._frames.kept

    def established(self, read: int, now: float) -> None:
        """Drop the deadline: the peer's frontier has come, and from now on the core ends dead links.

        But while the peer reads, the core does not end a link over which only half a frame came.
        """
        self.deadline, self._times_out = inf, None
        self._is_established = True
        if self.phase is Phase.OPEN and self.unfinished_bytes:
            self._watch_half(read, now)

    def close(self, error: RemoteError, read: int, now: float) -> bytes:
        """Close because of *error*; return the last bytes for the peer.

        If :attr:`phase` is DRAINING then, the bytes follow the queued frames.  If it is CLOSING, they
        replace the queued frames, and the caller ends the connection behind them.
        """
        if self.phase is Phase.OPEN and error.reason in NO_FAULT:
            self._leave(Phase.DRAINING, error, read, now)
            return codec.encode(Bye(error.reason.value, error.detail[:_DETAIL]))
        if self.phase in _BEFORE_THE_END:
            last = self._handshake.farewell(error.reason, error.detail[:_DETAIL])
            self._leave(Phase.CLOSING, error, read, now)
            return last
        if error.reason is Reason.LEAVING and self.is_patient and self.phase is not Phase.CLOSED:
            self._looks = 0
            self.deadline = now + self._config.close_timeout  # a leaving node waits no longer
        return b""

    def read_no_more(self) -> None:
        """Ignore all bytes that still come."""
        if self.phase is not Phase.CLOSED:
            self.phase = Phase.CLOSING

    def expired(self, read: int, in_transit: int, now: float) -> RemoteError | None:
        """Take in that the deadline has come; return the error to close the connection with, if any.

        None means to wait for the next deadline, or to cut the connection if :attr:`phase` is CLOSED.

        :param in_transit: the bytes that were written and have not reached the peer's system.
        """
        late, self.deadline = now - self.deadline, inf
        if self._times_out is not None and self.phase in _BEFORE_THE_END:  # the greeting was due
            self.deadline, self._times_out = self._times_out, None
            self.is_unanswered = not self.has_heard
            if self.deadline > now:
                return None
        if self.phase is Phase.OPEN and self._is_established:
            return self._half_stands(read, late, now)
        if self.phase in _BEFORE_THE_END:
            seconds = self._config.handshake_timeout
            if self.phase is Phase.OPEN and self._frontier_comes(read):
                self.deadline = now + seconds
                return None
            return HandshakeTimeout(f"the handshake was not over after {seconds:g} s{self._hint()}")
        if self._looks and self._still_moves(read, in_transit):
            self.deadline = now + self._config.close_timeout / _END_LOOKS
        else:
            self.phase = Phase.CLOSED
        return None

    def cut(self) -> None:
        """Take in that the connection is cut or lost."""
        self.gives_way = False
        self.deadline = inf
        self.phase = Phase.CLOSED

    def lost(self, error: RemoteError) -> None:
        """Take in that the connection is lost; the reason is *error*, unless it was closing already."""
        if self.error is None:
            self.error = self._handshake.why_lost(error)
        self.cut()

    def _proven(self, peer: Peer) -> Peer:
        self.peer = peer
        self._frames.limit = MAX_FRAME_BYTES
        self.phase = Phase.OPEN
        self._seen = self._reported = self.read
        self._arrival.ended()  # PROOF is whole
        return peer

    def _left(self, error: RemoteError, now: float) -> Left:
        """Close, since the peer has sent a BYE, its last frame."""
        if self.phase is Phase.OPEN:
            self._leave(Phase.CLOSING, error, self.read, now)
        self.read_no_more()
        return Left(error)

    def _leave(self, phase: Phase, error: RemoteError, read: int, now: float) -> None:
        """Begin to close; from now on no frame can be sent."""
        self.phase, self.error = phase, error
        self._still = 0
        timeout = self._config.close_timeout
        if self.is_patient:
            self._seen, self._looks = read, _END_WAITS * _END_LOOKS
            timeout /= _END_LOOKS
        self.deadline = now + timeout

    def _hint(self) -> str:
        """Why the handshake may not be over."""
        if self.has_heard:
            return ""
        if self._handshake.awaits_knock:
            return "; no knock came: the peer has no secret, or is a stranger"
        if self._handshake.has_knocked:
            return "; nothing came: does a node of this mesh listen there?"
        if self.is_unanswered:
            return "; nothing came: it may want a secret"
        return "; nothing came: does only one side speak TLS?"

    def _watch_half(self, read: int, now: float) -> None:
        """Look after half of ``dead_after`` whether bytes have come after those *read*."""
        self._seen, self._still = read, 0
        self.deadline = now + self._config.dead_after / _END_LOOKS

    def _half_stands(self, read: int, late: float, now: float) -> RemoteError | None:
        """The error if half a frame came, and then nothing for ``dead_after`` or up to half of that longer.

        :param late: the seconds by which this node was held up; bytes may have come that it has not read.
        """
        if not self.unfinished_bytes:
            return None
        still = self._still + 1 if read == self._seen and late <= self._config.stall_grace else 0
        if still == _END_LOOKS:
            return RemoteError("half a frame came, and nothing after it", Reason.SILENT)
        self._watch_half(read, now)
        self._still = still
        return None

    def _still_moves(self, read: int, in_transit: int) -> bool:
        """Whether a patient end may go on: bytes have moved lately, and it has not taken too long."""
        moves = read != self._seen or self._in_transit not in (None, in_transit)
        self._seen, self._in_transit = read, in_transit
        self._still = 0 if moves else self._still + 1
        self._looks -= 1
        self.gives_way = self._looks <= (_END_WAITS - 1) * _END_LOOKS
        return self._still < _END_LOOKS and self._looks > 0

    def _frontier_comes(self, read: int) -> bool:
        """Whether to wait longer for the peer's frontier, since enough bytes have come lately."""
        before, self._seen = self._seen, read
        self._waits -= 1
        return read >= before + _FRONTIER_LEAST and self._waits >= 0
