"""What consumers are handed later than it came: a backlog turn by turn, and what could not be read.

Contract: what an earlier process stored and had not handed on is handed on a turn at a time.  Where the
history file cannot be read, nothing counts as lost: it is tried again every ``store_retry``, by all that
wait for it together, and not before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol as Interface

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.reader import Piece
from twisted_mesh.core.history.storage import Missing
from twisted_mesh.delivery.delivery import Delivery, messages_of
from twisted_mesh.delivery.direct import Sources
from twisted_mesh.delivery.queue import Held as Messages
from twisted_mesh.errors import StoreError


class Held(Interface):
    """What is held of each run."""

    def read(self, run: StreamId, after: int, upto: int, most: int) -> Iterator[Piece | Missing]:
        """As :func:`twisted_mesh.core.history.reader.read`."""


class Backlog:
    """The consumers of one run that are behind."""

    def __init__(
        self, clock: IReactorTime, delivery: Delivery, history: Held, sources: Sources, retry: float
    ) -> None:
        """
        :param history: what the run holds; *retry*: seconds until it is read again after that failed.
        """
        self._clock = clock
        self._delivery = delivery
        self._history = history
        self._sources = sources
        self._retry = retry
        self._turn: IDelayedCall | None = clock.callLater(0, self._hand_on)
        self._again: IDelayedCall | None = None
        self._stopped = False

    def read(self, run: StreamId, after: int, upto: int, most: int) -> Iterator[Messages]:
        """Messages that were delivered, as they are held still (``delivery.queue.Reader``).

        :raises StoreError: they cannot be read now; who wants them is told to try again.
        """
        try:
            for piece in self._history.read(run, after, upto, most):
                yield self._messages(run, piece)
        except StoreError:
            if self._again is None and not self._stopped:
                self._again = self._clock.callLater(self._retry, self._read_again)
            raise

    def _messages(self, run: StreamId, piece: Piece | Missing) -> Messages:
        if isinstance(piece, Missing):
            return Messages(piece.first, piece.last, [], damaged=True)
        source = self._sources.of(run, piece.sent)
        messages = messages_of(piece.entries, piece.first, piece.size, source)
        return Messages(piece.first, piece.last, list(messages))

    def stop(self) -> None:
        """Hand on nothing more by itself: the rest is the next process's."""
        self._stopped = True
        for call in (self._turn, self._again):
            if call is not None:
                call.cancel()
        self._turn = self._again = None

    def _hand_on(self) -> None:
        self._turn = None  # who is handed a message can stop this run
        if self._delivery.catch_up() and not self._stopped:
            self._turn = self._clock.callLater(0, self._hand_on)

    def _read_again(self) -> None:
        self._again = None
        self._delivery.read_again()
        if self._turn is None and not self._stopped:
            self._hand_on()
