"""The case that the tests of a history share."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import origin_of
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.storage import Missing
from twisted_mesh.core.history.stream import Stream

ANNA, BERT, ME = ((origin_of(name), 1) for name in ("anna", "bert", "me"))


class HistoryCase(SynchronousTestCase):
    """Asks the streams of a history for their state."""

    history: History

    def stream(self, run: StreamId = ANNA) -> Stream:
        """A stream that is open."""
        stream = self.history.get(run)
        assert stream is not None
        return stream

    def marks(self, run: StreamId = ANNA) -> tuple[int, int, int]:
        """Low and head of a stream, and how many of its batches are in memory."""
        stream = self.stream(run)
        return stream.low, stream.head, len(stream)

    def served(self, first: int, last: int, most: int = 2**20) -> list[tuple[int, int]]:
        """The first and the last message of each of Anna's batches that answers a WANT."""
        pieces = self.stream().serve(first, last, most)
        return [(one.batch.first, one.batch.last) for one in pieces if not isinstance(one, Missing)]
