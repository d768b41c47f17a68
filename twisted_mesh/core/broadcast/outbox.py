"""The own stream: messages become numbered, signed batches, and neighbours accept and confirm them.

Contract: :meth:`Outbox.publish` makes batches, which the history then holds.  Own messages up to
:attr:`Outbox.accepted` were announced by a neighbour, which named the hash of the header there
(:meth:`Outbox.is_hash`), or their bytes accepted by the transport of a link.  Bytes that a transport
accepted can be lost with the link: :attr:`Outbox.confirmed` is the last message that a neighbour is known
to have.  Messages that are not accepted are never given up.  The caller limits them to ``unsent_bytes``.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from twisted_mesh.core.handshake import Sign
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.storage import Missing
from twisted_mesh.wire.bodies import NestedEntry, containers_in, join_entries, split_entries
from twisted_mesh.wire.broadcast import MAX_BATCH_COUNT, Batch, SignedBatch
from twisted_mesh.wire.codec import sign_batch
from twisted_mesh.wire.framing import MAX_MESSAGE_BYTES
from twisted_mesh.wire.unpack_guard import MAX_CONTAINERS

_HASHES: Final = 4096  # own headers whose hashes are known; a neighbour is never so far behind (guess)


class Outbox:
    """The messages of this run; ``len()`` counts the batches that are not accepted.

    :ivar head: the last number given to a message.
    :ivar accepted: the last message that is accepted; :ivar confirmed: the last message that
        a neighbour is known to have.
    :ivar unsent_bytes: the bytes of the batches that are not accepted.
    """

    def __init__(self, origin: bytes, epoch: int, network: bytes, sign: Sign, batch_bytes: int) -> None:
        """
        :param network: :func:`~twisted_mesh.wire.codec.network_digest` of the network.
        :param batch_bytes: the message that brings a batch to this size is its last.
        """
        self.run = (origin, epoch)
        self._network = network
        self._sign = sign
        self._batch_bytes = batch_bytes
        self._unsent: deque[tuple[int, int]] = deque()  # by batch: last message, bytes
        self._previous = bytes(32)  # the hash of the last header
        #: By last message, the lowest first: the hashes of the newest headers.
        self._hashes: OrderedDict[int, bytes] = OrderedDict()
        self.head = self.accepted = self.confirmed = self.unsent_bytes = 0

    def __len__(self) -> int:
        return len(self._unsent)

    def publish(self, entries: Sequence[bytes], wall_ms: int, fits: bool = False) -> Iterator[SignedBatch]:
        """Number and sign packed *entries*, in as few batches as they fit in.

        :param fits: whether they are known to fit in one.  To find out takes 0.05 us a message (measured).
        """
        for group in (entries,) if fits or len(entries) == 1 else self._grouped(entries):
            body = join_entries(group)
            batch = Batch(*self.run, self.head + 1, len(group), wall_ms, 0, self._previous)
            signed = sign_batch(batch, body, self._network, self._sign)
            self._previous = signed.header.hash
            self.head += len(group)
            self._hashes[self.head] = self._previous
            if len(self._hashes) > _HASHES:
                self._hashes.popitem(last=False)
            self._unsent.append((self.head, signed.size))
            self.unsent_bytes += signed.size
            yield signed

    def unsent(self, history: History) -> list[bytes]:
        """The messages that are not accepted, each packed."""
        if (stream := history.get(self.run)) is None:
            return []
        reads = stream.serve(self.accepted + 1, self.head, self.unsent_bytes)
        batches = [read for read in reads if not isinstance(read, Missing)]
        return [packed for batch in batches for packed in split_entries(batch.body)]

    def is_hash(self, sequence: int, hash: bytes) -> bool:
        """Whether *hash* is that of the header of the batch that ends at *sequence*, one of the newest.

        Only a node that was sent this header can know that.
        """
        return self._hashes.get(sequence) == hash

    @property
    def is_confirmed(self) -> bool:
        """Whether every message is accepted, and known to be at a neighbour."""
        return min(self.accepted, self.confirmed) == self.head

    def footprint(self) -> dict[str, int]:
        """The number of entries, or of bytes, in every table."""
        return {
            "unsent_batches": len(self._unsent),
            "unsent_bytes": self.unsent_bytes,
            "own_hashes": len(self._hashes),
        }

    def accept(self, sequence: int) -> None:
        """Note that messages up to *sequence* are accepted."""
        while self._unsent and self._unsent[0][0] <= sequence:
            self.accepted, size = self._unsent.popleft()
            self.unsent_bytes -= size

    def confirm(self, low: int, high: int) -> None:
        """Note that a neighbour has said that it has messages *low* to *high*."""
        if low <= self.confirmed + 1:
            self.confirmed = max(self.confirmed, min(high, self.head))

    def _grouped(self, entries: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
        """Cut *entries* into batches: each ends with the entry that brings it to ``batch_bytes``.

        A larger entry is a batch of its own: over a slow line, small ones before it would wait for it.
        """
        sizes = list(accumulate(map(len, entries)))  # the bytes of all entries up to each, itself included
        bounds = [(sizes, MAX_MESSAGE_BYTES)]
        if sizes and sizes[-1] > MAX_CONTAINERS and NestedEntry in set(map(type, entries)):
            bounds.append((list(accumulate(map(containers_in, entries))), MAX_CONTAINERS))
        first = before = 0
        while first < len(entries):
            behind = bisect_left(sizes, before + self._batch_bytes, first, len(entries) - 1) + 1
            behind -= len(entries[behind - 1]) > self._batch_bytes
            for ends, most in bounds:
                behind = min(behind, bisect_right(ends, most + (ends[first - 1] if first else 0), first))
            behind = min(max(behind, first + 1), first + MAX_BATCH_COUNT)
            yield entries[first:behind]
            first, before = behind, sizes[behind - 1]
