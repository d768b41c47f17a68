"""One connection as a machine without I/O: bytes in, events out, a deadline, and the last bytes.

Contract: a :class:`LinkMachine` is fed the bytes that come by :meth:`LinkMachine.receive`, and says by
:attr:`LinkMachine.deadline` when :meth:`LinkMachine.expired` must be called.  It begins as a handshake, is
open from the peer's proof on, and decides nothing about messages.  Its caller writes the bytes it answers
with, cuts the connection when :attr:`LinkMachine.phase` is CLOSED, and may close it between two events.

If nobody is to blame and the peer has proven its key, closing is patient: the queue is sent to its end,
frames that the peer had sent by then still count, and the connection ends when the peer ends it, or when
nothing moves for ``close_timeout``.  Cutting it at once would reset it, and lose the bytes that the peer's
system had not yet handed up.  A node that leaves waits for ``close_timeout`` and no longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from twisted_mesh.wire.framing import LENGTH_BYTES, MAX_FRAME_BYTES, FrameReader
from twisted_mesh.wire.link import Bye

_OPENING: Final = 4  # bytes that tell TLS from plain text
_DETAIL: Final = 512  # characters of a BYE's sentence
_FRONTIER_WAITS: Final = 30  # times handshake_timeout, for a frontier over a slow line (guess: 600 kB)
_FRONTIER_LEAST: Final = 1024  # bytes of it in each of them (guess: signs of life alone are a tenth)
_END_WAITS: Final = 150  # times close_timeout, until the end of a link over a slow line (guess: 600 kB)
_END_LOOKS: Final = 2  # in each of them (guess)


class Phase(Enum):
    """How far a connection is."""

    HANDSHAKE = "handshake"
    OPEN = "open"
    DRAINING = "draining"  #: our BYE is queued; frames that come still count
    CLOSING = "closing"  #: nothing is read any more
    CLOSED = "closed"


_READS: Final = (Phase.HANDSHAKE, Phase.OPEN, Phase.DRAINING)
_BEFORE_THE_END: Final = (Phase.HANDSHAKE, Phase.OPEN)


class Left(msgspec.Struct, frozen=True):
    """The peer has sent a BYE; *error* has its reason."""

    error: RemoteError


#: Bytes to write at once; the peer that has proven its key; its frames; news of an unfinished one; its BYE.
LinkEvent = bytes | Peer | list[codec.Frame] | Arriving | Left


class LinkMachine:
    """The machine of one connection.

    :ivar phase: how far it is; :ivar error: why it closed, once it does.
    :ivar peer: the node at the far end, once it has proven its key.
    :ivar deadline: when :meth:`expired` must be called, by the clock of its ``now``; inf: never.
    :ivar read: bytes that had come when it was last fed, by the connection's count.
    :ivar has_heard: whether anything has come.
    :ivar gives_way: whether it is closing for longer than ``close_timeout``: another may have its place.
    """

    __slots__ = (
        *("_arrival", "_config", "_exporter", "_frames", "_handshake", "_in_transit", "_looks", "_number"),
        *("_opening", "_seen", "_still", "_told", "_waits", "deadline", "error", "gives_way", "peer"),
        *("phase", "read"),
    )

    def __init__(
        self, number: int, handshake: Handshake, config: MeshConfig, exporter: Callable[[], bytes]
    ) -> None:
        """
        :param number: of the link.
        :param exporter: gives 32 bytes bound to the TLS session, or none for plain text.
        """
        self.phase = Phase.HANDSHAKE
        self.error: RemoteError | None = None
        self.peer: Peer | None = None
        self.deadline = inf
        self.read = 0
        self.gives_way = False
        self._number = number
        self._handshake = handshake
        self._config = config
        self._exporter = exporter
        self._frames = FrameReader()
        self._arrival = Arrival()
        self._opening = b""
        self._told = 0  # bytes that had come at the last event about frames
        self._seen = 0  # and at the last look
        self._waits = _FRONTIER_WAITS - 1  # times that the frontier may still be waited for
        self._looks = 0  # left until a patient end is over
        self._still = 0  # looks in a row at which nothing had moved
        self._in_transit: int | None = None

    @property
    def has_heard(self) -> bool:
        """Whether anything has come."""
        return bool(self._opening)

    @property
    def is_patient(self) -> bool:
        """Whether the connection is closing, and frames that are under way over it may take long.

        A peer that has proven nothing is given no such time: its BYE can name any reason.
        """
        if self.peer is None or self.error is None:
            return False
        return self.error.reason in NO_FAULT and self.error.reason is not Reason.LEAVING

    def start(self, now: float) -> bytes:
        """The connection is made; the bytes to send first."""
        self.deadline = now + self._config.handshake_timeout
        return self._handshake.start()

    def receive(self, data: bytes, read: int, now: float) -> Iterator[LinkEvent]:
        """The events that *data* brings, in order; none once the connection is closing.

        The iterator must be run to its end, unless the connection is thrown away.

        :param read: bytes that have come so far, those of an unfinished TLS record included.
        :raises RemoteError: to close the connection with; events of earlier bytes have been yielded.
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
        except RemoteError as error:
            if frames:
                yield frames
            raise self._handshake.not_a_frame(self._opening, error) from None
        if frames:
            self._arrival.ended()
            self._told = read
            yield frames
        half = self._frames.kept
        if half > LENGTH_BYTES and self._arrival.grew(now) and self.phase in (Phase.OPEN, Phase.DRAINING):
            self._told = read
            yield Arriving(self._number, begun(self._frames.head(HEAD_BYTES)), half, self._frames.need)

    def check_flow(self, read: int) -> bool:
        """Whether a proven peer's bytes have come since the last check, of which no event has told."""
        told, self._told = self._told, read
        return self.phase is Phase.OPEN and read > told

    def put_off(self, seconds: float) -> None:
        """The host was held up for *seconds* while it handled events: they count for no deadline."""
        self.deadline += seconds

    def established(self) -> None:
        """The peer's frontier has come: from now on the core decides how long the link lasts."""
        self.deadline = inf

    def close(self, error: RemoteError, read: int, now: float) -> bytes:
        """Close because of *error*; the last bytes for the peer.

        If the phase is DRAINING then, they go behind the queued frames.  If it is CLOSING, they go in place
        of these, and the connection is to end behind them.
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
            self.deadline = now + self._config.close_timeout  # and no longer
        return b""

    def read_no_more(self) -> None:
        """Ignore all bytes that still come."""
        if self.phase is not Phase.CLOSED:
            self.phase = Phase.CLOSING

    def expired(self, read: int, in_transit: int, now: float) -> RemoteError | None:
        """The deadline has come; the error to close the connection with, if there is one.

        If there is none, it is waited for on, or to be cut: then :attr:`phase` is CLOSED.

        :param in_transit: bytes that were written, and have not come to the far end's system.
        """
        self.deadline = inf
        if self.phase in _BEFORE_THE_END:
            seconds = self._config.handshake_timeout
            if self.phase is Phase.OPEN and self._frontier_comes(read):
                self.deadline = now + seconds
                return None
            hint = "" if self.has_heard else "; nothing came: does only one side speak TLS?"
            return HandshakeTimeout(f"the handshake was not over after {seconds:g} s{hint}")
        if self._looks and self._still_moves(read, in_transit):
            self.deadline = now + self._config.close_timeout / _END_LOOKS
        else:
            self.phase = Phase.CLOSED
        return None

    def cut(self) -> None:
        """The connection is cut, or lost."""
        self.gives_way = False
        self.deadline = inf
        self.phase = Phase.CLOSED

    def lost(self, error: RemoteError) -> None:
        """The connection is gone, because of *error* unless it was closing."""
        if self.error is None:
            self.error = error
        self.cut()

    def _proven(self, peer: Peer) -> Peer:
        self.peer = peer
        self._frames.limit = MAX_FRAME_BYTES
        self.phase = Phase.OPEN
        self._seen = self._told = self.read
        self._arrival.ended()  # that of PROOF
        return peer

    def _left(self, error: RemoteError, now: float) -> Left:
        """The peer has sent a BYE: all its frames are here; it reads ours if nobody is to blame."""
        if self.phase is Phase.OPEN:
            self._leave(Phase.CLOSING, error, self.read, now)
        self.read_no_more()
        return Left(error)

    def _leave(self, phase: Phase, error: RemoteError, read: int, now: float) -> None:
        """Begin to close: nothing more can be sent from now on."""
        self.phase, self.error = phase, error
        timeout = self._config.close_timeout
        if self.is_patient:
            self._seen, self._looks = read, _END_WAITS * _END_LOOKS
            timeout /= _END_LOOKS
        self.deadline = now + timeout

    def _still_moves(self, read: int, in_transit: int) -> bool:
        """Whether to look again at a patient end: something has moved lately, and it is not too long."""
        moves = read != self._seen or self._in_transit not in (None, in_transit)
        self._seen, self._in_transit = read, in_transit
        self._still = 0 if moves else self._still + 1
        self._looks -= 1
        self.gives_way = self._looks <= (_END_WAITS - 1) * _END_LOOKS
        return self._still < _END_LOOKS and self._looks > 0

    def _frontier_comes(self, read: int) -> bool:
        """Whether to wait on for the peer's frontier, since enough of it has come lately."""
        before, self._seen = self._seen, read
        self._waits -= 1
        return read >= before + _FRONTIER_LEAST and self._waits >= 0
