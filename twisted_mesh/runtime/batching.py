"""The application's messages until they become batches: those of one turn, or of a little longer.

Contract: a lone message goes out at the end of its turn.  Who has just sent waits until ``batch_delay`` is
over, or a batch is full: a signature, a check and a write for each of many messages in a row would cost
far more than the wait.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_mesh.config import MeshConfig


class Batching:
    """Packed messages that were not published yet; ``len()`` counts them.

    :ivar bytes: of them all.
    """

    def __init__(
        self, clock: IReactorTime, config: MeshConfig, publish: Callable[[list[bytes]], None]
    ) -> None:
        self._clock = clock
        self._config = config
        self._publish = publish
        self._entries: list[bytes] = []
        self._last = -inf  # when some were published, last
        self._waiting: IDelayedCall | None = None
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def waits(self) -> bool:
        """Whether what there is leaves by itself, so that the end of this turn has nothing to do."""
        return self._waiting is not None and self.bytes < self._config.batch_bytes

    def add(self, entry: bytes) -> int:
        """One more message; how many there were before it."""
        place = len(self._entries)
        self._entries.append(entry)
        self.bytes += len(entry)
        return place

    def put_first(self, entries: list[bytes]) -> None:
        """Messages that come before all others."""
        self._entries[:0] = entries
        self.bytes += sum(map(len, entries))

    def end_of_turn(self) -> None:
        """Publish what there is, if it is time to."""
        if not self._entries:
            return
        now = self._clock.seconds()
        wait = self._last + self._config.batch_delay - now
        if wait <= 0 or self.bytes >= self._config.batch_bytes:
            self._last = now
            self._publish_all()
        elif self._waiting is None:
            self._waiting = self._clock.callLater(wait, self._waited)

    def stop(self) -> None:
        """Publish what there is, and wait for nothing any more."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._entries:
            self._publish_all()

    def _publish_all(self) -> None:
        entries, self._entries, self.bytes = self._entries, [], 0
        self._publish(entries)

    def _waited(self) -> None:
        self._waiting = None
        self.end_of_turn()
