"""The changes of a history that are to be stored: which streams changed since the last flush.

Contract: :meth:`Changes.flush` gathers all changes, and :meth:`Changes.stored` or :meth:`Changes.failed`
ends that flush.  There is one flush at a time.  Nothing is copied or queued before a flush, since the
streams hold all that is to be stored.  So a store that cannot be written costs no memory.  Once it can
be written, it gets everything that is still held.  If reading finds that storage lacks batches, their
stream no longer announces them from the next flush on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.storage import (
    AuthorMarks,
    BatchOrMissing,
    Flush,
    Flushed,
    Missing,
    StoredBatches,
    StoredRun,
)
from twisted_mesh.core.history.stream import Stream

Streams = Callable[[StreamId], Stream | None]
"""Gives the open stream of a run."""


class Reading:
    """Reads stored batches for a history, and notes those that are missing.

    :ivar missed: by stream, the last message that was missing or damaged.
    """

    def __init__(self, storage: StoredBatches) -> None:
        self._storage = storage
        self.missed: dict[StreamId, int] = {}

    def read(self, run: StreamId, first: int, last: int, most: int) -> Iterator[BatchOrMissing]:
        """As :meth:`StoredBatches.read`; all of *first* to *last* should be stored."""
        end = first - 1
        for read in self._storage.read(run, first, last, most):
            missed = read.last if isinstance(read, Missing) else read.batch.first - 1
            if missed > end:
                self._miss(run, missed)
            end = read.last if isinstance(read, Missing) else read.batch.last
            yield read
        if end < first:
            self._miss(run, last)

    def first_since(self, run: StreamId, seconds: float) -> int | None:
        """As :meth:`StoredBatches.first_since`."""
        return self._storage.first_since(run, seconds)

    def runs(self) -> Mapping[StreamId, StoredRun]:
        """As :meth:`StoredBatches.runs`."""
        return self._storage.runs()

    def _miss(self, run: StreamId, last: int) -> None:
        self.missed[run] = max(last, self.missed.get(run, 0))


class Changes:
    """The changes of one history.

    :ivar storage: reads the store; :ivar settled: whether the store knows that the node has a base.
    """

    def __init__(self, storage: StoredBatches) -> None:
        self.storage = Reading(storage)
        self._changed: dict[StreamId, None] = {}
        self._closed: OrderedDict[StreamId, int] = OrderedDict()  # the heads, the oldest first
        self._forgotten: OrderedDict[StreamId, None] = OrderedDict()  # the oldest first
        self._authors: OrderedDict[bytes, AuthorMarks] = OrderedDict()  # by origin, the oldest first
        self._consumers: Mapping[str, int] | None = None
        self.settled = False
        self._flushing: Flush | None = None

    def __len__(self) -> int:
        """The number of streams and authors whose changes are not stored, and 1 if consumers changed."""
        streams = len(self._changed) + len(self._closed) + len(self._forgotten) + len(self.storage.missed)
        return streams + len(self._authors) + (self._consumers is not None)

    def changed(self, run: StreamId) -> None:
        """Note that something of *run* is to be stored."""
        self._changed[run] = None
        self._closed.pop(run, None)

    def closed(self, run: StreamId, head: int, most: int) -> None:
        """Note that of *run* only the *head* is kept.

        If more than *most* closed and forgotten runs are not stored yet, the one that was noted first is
        dropped, and not stored.
        """
        self._changed.pop(run, None)
        self._closed[run] = head
        self._limit_closed(most)

    def forgotten(self, run: StreamId, most: int) -> None:
        """Note that nothing of *run*, a closed one, is kept; *most* is as for :meth:`closed`."""
        self._closed.pop(run, None)
        self._forgotten[run] = None
        self._limit_closed(most)

    def author_changed(self, marks: AuthorMarks, most: int) -> None:
        """Note which runs of an author are over.

        If more than *most* authors are noted, the one noted longest ago is dropped, and not stored.
        """
        self._authors[marks.origin] = marks
        self._authors.move_to_end(marks.origin)
        while len(self._authors) > most:
            self._authors.popitem(last=False)

    def consumers_changed(self, names: Mapping[str, int]) -> None:
        """Note which named consumers there are, as in :class:`Flush`."""
        self._consumers = names

    def flush(
        self,
        streams: Streams,
        own: tuple[StreamId, int],
        settled: bool,
        wall_ms: Callable[[float], int],
        anyway: bool = False,
    ) -> Flush | None:
        """All that is to be stored now; None if there is nothing, or if a flush has not ended.

        :param own: this node's run, and the last message of it that a neighbour has.
        :param wall_ms: converts a time of this node to ms since 1970.
        :param anyway: whether to give an empty flush if there is nothing to store.
        """
        if self._flushing is not None:
            return None
        self._pass_over_missed(streams)
        if not (self or anyway or settled != self.settled):
            return None
        batches, marks = [], []
        unsettled: dict[StreamId, None] = {}
        for run in self._changed:
            stream = streams(run)
            assert stream is not None  # a stream that is not open is in _closed
            if stream.settles:  # after a crash its base would be unknown
                unsettled[run] = None
                continue
            batches += [(wall_ms(arrived), signed) for arrived, signed in stream.unstored()]
            stream.storing = stream.head
            marks.append(stream.marks(_taken(stream, own)))
        past = tuple(self._forgotten), tuple(self._authors.values()), self._consumers
        flush = Flush(batches, marks, list(self._closed.items()), own, settled, *past)
        self._flushing, self._changed = flush, unsettled
        self._closed, self._forgotten, self._authors = OrderedDict(), OrderedDict(), OrderedDict()
        self._consumers = None
        return flush

    def stored(self, flushed: Flushed, streams: Streams) -> None:
        """End the flush: all of it is stored."""
        flush = self._end()
        self.settled = flush.settled
        for marks in flush.marks:
            stream = streams(marks.run)
            # A stream that was closed, forgotten and begun anew since is another stream.
            if stream is not None and marks.head <= stream.storing:
                stream.stored = max(stream.stored, marks.head)
                stream.kept = marks.slowest
        for run, low in flushed.lows:
            if (stream := streams(run)) is not None:
                stream.given_up(low)

    def failed(self, streams: Streams) -> None:
        """End the flush: nothing of it is stored, so the next flush has all of it again."""
        flush = self._end()
        since, self._closed = self._closed, OrderedDict(flush.closed)
        for run in self._changed:
            self._closed.pop(run, None)
        for run in self._forgotten:
            self._closed.pop(run, None)
        for run, head in since.items():
            self._closed.pop(run, None)  # so that it is the newest
            self._closed[run] = head
        self._forgotten = OrderedDict.fromkeys([*flush.forgotten, *self._forgotten])
        self._authors = OrderedDict({marks.origin: marks for marks in flush.authors}) | self._authors
        if self._consumers is None:
            self._consumers = flush.consumers
        for marks in flush.marks:
            if (stream := streams(marks.run)) is not None:
                stream.storing = stream.stored
                self._changed[marks.run] = None

    def _pass_over_missed(self, streams: Streams) -> None:
        """Let each stream announce only messages above those that reading has missed."""
        missed, self.storage.missed = self.storage.missed, {}
        for run, last in missed.items():
            if (stream := streams(run)) is not None and stream.low <= last:
                stream.begin_behind(last)
                self._changed[run] = None

    def _limit_closed(self, most: int) -> None:
        while len(self._closed) + len(self._forgotten) > most:
            (self._forgotten or self._closed).popitem(last=False)

    def _end(self) -> Flush:
        flush, self._flushing = self._flushing, None
        assert flush is not None
        return flush


def _taken(stream: Stream, own: tuple[StreamId, int]) -> int:
    """The last message that the application has taken; in this node's own stream, that a neighbour has."""
    if stream.run == own[0]:
        return own[1]
    return stream.base if stream.run[0] == own[0][0] else stream.taken
