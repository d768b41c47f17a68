"""One direction of a connection through the proxy: it can delay, slow, hold or end the bytes.

Contract: bytes come out in order and unchanged, until the way is shut; after that none does.
The bytes that wait are bounded: beyond *room* bytes the source is not read.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

ROOM: Final = 256 * 1024
_PIECE: Final = 4096  # bytes that a slow way lets through at a time


@dataclass(frozen=True)
class Weather:
    """The delays of a way.

    :ivar delay: seconds for all bytes; :ivar jitter: up to so many seconds more, at random.
    :ivar rate: bytes a second; 0 for no limit.
    """

    delay: float = 0.0
    jitter: float = 0.0
    rate: float = 0.0


CALM: Final = Weather()


@implementer(IPushProducer)
class Way:
    """From one transport to another.

    :ivar weather: of bytes that are taken from now on.
    :ivar has_ended: whether the end was passed on.
    """

    def __init__(
        self, clock: IReactorTime, randomness: Random, source: Any, target: Any, room: int = ROOM
    ) -> None:
        self.weather = CALM
        self.has_ended = False
        self._clock = clock
        self._randomness = randomness
        self._source = source
        self._target = target
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._room = room
        self._last = 0.0  # when the last piece is due
        self._call: IDelayedCall | None = None
        self._ending = False
        self._held = False
        self._full = False  # whether the target takes no more
        self._paused = False
        target.registerProducer(self, True)

    def take(self, data: bytes) -> None:
        """Take *data* from the source."""
        if self.has_ended:
            return
        weather = self.weather
        size = _PIECE if weather.rate else max(1, len(data))
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            due = self._clock.seconds() + weather.delay + self._randomness.uniform(0.0, weather.jitter)
            slow = len(piece) / weather.rate if weather.rate else 0.0
            self._last = max(self._last, due) + slow
            self._waiting.append((self._last, piece))
            self._bytes += len(piece)
        self._go_on()

    def end(self) -> None:
        """Take in that the source sends nothing more."""
        self._ending = True
        self._go_on()

    def shut(self) -> None:
        """Half-close: end it at the target now, and drop all later bytes of the source."""
        self._waiting.clear()
        self._bytes = 0
        self._ending = True
        self._held = False
        self._go_on()

    def hold(self) -> None:
        """Let nothing through, while both ends stay open."""
        self._held = True
        self._go_on()

    def release(self) -> None:
        """Let all bytes through again."""
        self._held = False
        self._go_on()

    def stop(self) -> None:
        """Take in that the connection is closed."""
        if not self.has_ended:
            self.has_ended = True
            self._target.unregisterProducer()  # a producer would keep it from closing
        self._waiting.clear()
        self._bytes = 0
        if self._call is not None:
            self._call.cancel()
            self._call = None

    # ── the target's wishes ─────────────────────────────────────────────────────────

    def pauseProducing(self) -> None:
        self._full = True
        self._go_on()

    def resumeProducing(self) -> None:
        self._full = False
        self._go_on()

    def stopProducing(self) -> None:
        """Do nothing: the target tells its end by connectionLost."""

    def _go_on(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
        now = self._clock.seconds()
        while self._waiting and not self._held and self._waiting[0][0] <= now:
            _, piece = self._waiting.popleft()
            self._bytes -= len(piece)
            self._target.write(piece)
        if self._waiting and not self._held:
            self._call = self._clock.callLater(self._waiting[0][0] - now, self._due)
        elif self._ending and not self._waiting and not self._held and not self.has_ended:
            self.has_ended = True
            self._target.unregisterProducer()
            self._target.loseWriteConnection()
        self._read_or_not()

    def _due(self) -> None:
        self._call = None
        self._go_on()

    def _read_or_not(self) -> None:
        paused = not self.has_ended and (self._held or self._full or self._bytes > self._room)
        if paused != self._paused:
            self._paused = paused
            if paused:
                self._source.pauseProducing()
            else:
                self._source.resumeProducing()
