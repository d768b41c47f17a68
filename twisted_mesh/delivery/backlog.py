"""Messages that consumers get late: an earlier process stored them, or the history could not be read.

Contract: messages that an earlier process stored and did not hand on are handed on, a bounded number each
turn.  If the history file cannot be read, no message counts as lost: ``store_retry`` seconds later the file
is read again, for all consumers that wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_mesh.core.events import Behind, StreamId
from twisted_mesh.core.history.reader import Messages
from twisted_mesh.core.history.storage import Missing
from twisted_mesh.delivery.delivery import Delivery, messages_of, share_of
from twisted_mesh.delivery.direct import Sources
from twisted_mesh.delivery.queue import Held
from twisted_mesh.errors import StoreError
from twisted_mesh.message import Message

#: Bytes of messages that are read at a time for somebody who looks at them, and may be slow (guess).
PAST_BYTES: Final = 65_536
#: Runs that are read side by side, so that their messages are given in the order of sending; further runs
#: are read after these (guess).
MERGED: Final = 64
#: Reads a run of the history: :func:`twisted_mesh.core.history.reader.read`.
Read = Callable[[StreamId, int, int, int], Iterator[Messages | Missing]]


class Backlog:
    """Reads the history for the consumers of one run of a service that are behind."""

    def __init__(
        self, clock: IReactorTime, delivery: Delivery, read: Read, sources: Sources, retry: float
    ) -> None:
        """:param retry: seconds until the history is read again after a failure."""
        self._clock = clock
        self._delivery = delivery
        self._read = read
        self._sources = sources
        self._retry = retry
        self._turn: IDelayedCall | None = clock.callLater(0, self._hand_on)
        self._again: IDelayedCall | None = None
        self._stopped = False

    def read(self, run: StreamId, after: int, upto: int, most: int) -> Iterator[Held]:
        """Read messages for a consumer from the history (a ``delivery.queue.Reader``).

        :raises StoreError: the history cannot be read now; the consumers read again later.
        """
        try:
            for piece in self._read(run, after, upto, most):
                yield self._messages(run, piece)
        except StoreError:
            if self._again is None and not self._stopped:
                self._again = self._clock.callLater(self._retry, self._read_again)
            raise

    def _messages(self, run: StreamId, piece: Messages | Missing) -> Held:
        if isinstance(piece, Missing):
            return Held(piece.first, piece.last, [], damaged=True)
        source = self._sources.of(run, piece.sent)
        size = share_of(piece.size, piece.entries)
        messages = [(message, size) for message in messages_of(piece.entries, piece.first, source)]
        return Held(piece.first, piece.last, messages)

    def past(self, ranges: Iterable[Behind]) -> Iterator[Message]:
        """The messages in *ranges* that the history holds, read while they are asked for.

        Those of one range are in order; those of each :data:`MERGED` ranges by the times at which they were
        sent, by their authors' clocks.

        :raises StoreError: the history cannot be read now.
        """
        waiting = iter(ranges)
        while together := list(islice(waiting, MERGED)):
            most = PAST_BYTES // len(together)
            yield from merge(*(self._past(held, most) for held in together), key=attrgetter("time"))

    def _past(self, held: Behind, most: int) -> Iterator[Message]:
        """The messages in one range; about *most* bytes are read at a time."""
        run, after, head = held
        while after < head and (pieces := list(self.read(run, after, head, most))):
            for piece in pieces:
                yield from (message for message, _ in piece.messages)
                after = piece.last

    def stop(self) -> None:
        """Hand on no more messages: the next process hands on the rest."""
        self._stopped = True
        for call in (self._turn, self._again):
            if call is not None:
                call.cancel()
        self._turn = self._again = None

    def _hand_on(self) -> None:
        self._turn = None  # before catch_up(): the application can stop this run while it gets a message
        if self._delivery.catch_up() and not self._stopped:
            self._turn = self._clock.callLater(0, self._hand_on)

    def _read_again(self) -> None:
        self._again = None
        self._delivery.read_again()
        if self._turn is None and not self._stopped:
            self._hand_on()


def newest(ranges: Iterable[Behind], count: int) -> list[Behind]:
    """The last *count* messages of *ranges*."""
    kept: list[Behind] = []
    for run, taken, head in reversed([*ranges]):
        if count <= 0:
            break
        kept.append(Behind(run, max(taken, head - count), head))
        count -= head - taken
    return kept[::-1]
