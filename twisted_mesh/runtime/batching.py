"""Gathers the application's messages into batches.

Contract: a lone message is published at the end of its reactor turn.  Messages that are sent within
``batch_delay`` seconds after that wait for the end of this time, or until they fill a batch.  Without that
wait, a node would sign, check and write each message by itself, which takes far longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_mesh.config import MeshConfig
from twisted_mesh.flags import broadcast
from twisted_mesh.wire.bodies import SCALARS, USER_ENTRY, NestedEntry, encode, pack_plain
from twisted_mesh.wire.broadcast import MAX_BATCH_COUNT
from twisted_mesh.wire.framing import MAX_MESSAGE_BYTES


class Batching:
    """Packed messages that are not published yet; ``len()`` counts them.

    :ivar bytes: the size of all these messages.
    """

    def __init__(
        self, clock: IReactorTime, config: MeshConfig, publish: Callable[[list[bytes], bool], None]
    ) -> None:
        """:param publish: takes messages, and whether they are known to fit in one batch."""
        self._clock = clock
        self._config = config
        self._publish = publish
        self._entries: list[bytes] = []
        self._nested = False  # whether some of them may hold lists or dicts, of which a batch has a limit
        self._last = -inf  # the time at which end_of_turn() last published
        self._waiting: IDelayedCall | None = None
        self._room = 0  # up to so many bytes add_plain() may add messages
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def waits(self) -> bool:
        """Whether a timer will publish the messages, and they do not fill a batch yet."""
        return self._waiting is not None and self.bytes < self._config.batch_bytes

    def add(self, entries: Sequence[bytes], size: int) -> int:
        """Add messages of *size* bytes together; return how many there were before."""
        before = len(self._entries)
        self._nested = self._nested or NestedEntry in map(type, entries)
        self._entries += entries
        self.bytes += size
        return before

    def add_plain(self, packets: tuple[object, ...]) -> bool:
        """Add a message of type 0 with *packets* without another look; return False if one is needed.

        Sending takes 0.4 of the time that it takes without this (measured).  Whether messages may be sent
        was found out by :meth:`open`.
        """
        if not self._room:  # the first message of a turn: it is packed once
            return False
        entry: bytes | None
        # Without a call of pack_plain(): that takes an eighth of send() (measured).
        if len(packets) == 1 and type(packets[0]) in SCALARS:
            try:
                entry = encode([USER_ENTRY, broadcast, packets[0]])
            except OverflowError:
                return False
        else:
            entry = pack_plain(packets)
        if entry is None or (size := self.bytes + len(entry)) > self._room:
            return False
        self._entries.append(entry)
        self.bytes = size
        return True

    def open(self, room: int) -> None:
        """Let :meth:`add_plain` add messages until *room* bytes wait, or until the turn ends.

        Call this after :meth:`add`, when the end of the turn, or a timer, will publish the messages.
        """
        if self.waits:
            room = min(room, self._config.batch_bytes - 1)  # a full batch does not wait for the timer
        self._room = min(room, self.bytes + MAX_MESSAGE_BYTES)  # so no message over the limit fits

    def close(self) -> None:
        """Let :meth:`add_plain` add no message until the next :meth:`open`."""
        self._room = 0

    def put_first(self, entries: list[bytes]) -> None:
        self._nested = True
        self._entries[:0] = entries
        self.bytes += sum(map(len, entries))

    def end_of_turn(self) -> None:
        """Publish the messages now, or set a timer to publish them later."""
        self.close()
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
        """Publish the messages now, and stop the timer."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._entries:
            self._publish_all()

    def _publish_all(self) -> None:
        most, last = self._config.batch_bytes, len(self._entries[-1])
        fits = (  # the message that brings a batch to its size is its last
            not self._nested
            and self.bytes - last < most >= last
            and self.bytes <= MAX_MESSAGE_BYTES
            and len(self._entries) <= MAX_BATCH_COUNT
        )
        entries, self._entries, self.bytes, self._nested = self._entries, [], 0, False
        self._publish(entries, fits)

    def _waited(self) -> None:
        self._waiting = None
        self.end_of_turn()
