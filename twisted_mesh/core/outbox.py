"""The own stream: messages become numbered, signed batches, kept until a neighbour has them.

Contract: :meth:`Outbox.publish` makes batches; :meth:`Outbox.after` gives the one that continues what
a link was given, so that a link is fed no faster than it accepts; :attr:`Outbox.taken` is the
highest message some live link's transport has accepted.  What no link has taken is never dropped:
beyond ``unsent_bytes`` the caller is told Congested instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from twisted_mesh.core.handshake import Sign
from twisted_mesh.wire import native
from twisted_mesh.wire.native import Batch, SignedBatch
from twisted_mesh.wire.packets import join_entries


class Outbox:
    """The messages of this run.

    :ivar oldest: the lowest message that is kept, or head + 1.
    :ivar head: the last number given to a message.
    :ivar taken: the highest that a link has taken.
    :ivar unsent_bytes: of the batches above :attr:`taken`.
    :ivar lagging_bytes: of those at or under it, kept for links that are behind.
    """

    def __init__(self, origin: bytes, epoch: int, network: bytes, sign: Sign, batch_bytes: int) -> None:
        """
        :param network: :func:`~twisted_mesh.wire.native.network_digest` of the network.
        :param batch_bytes: a batch is closed at this size.
        """
        self.run = (origin, epoch)
        self._network = network
        self._sign = sign
        self._batch_bytes = batch_bytes
        self._batches: dict[int, SignedBatch] = {}  # by first sequence, without holes up to head
        self.oldest = 1
        self.head = 0
        self.taken = 0
        self.unsent_bytes = 0
        self.lagging_bytes = 0

    def __len__(self) -> int:
        """Batches that are kept."""
        return len(self._batches)

    def publish(self, entries: Sequence[bytes], wall_ms: int) -> None:
        """Number and sign packed *entries*, in as few batches as they fit in."""
        for group in self._grouped(entries):
            first, count = self.head + 1, len(group)
            batch = Batch(*self.run, first, count, wall_ms, 0, join_entries(group))
            array = native.pack(batch)
            signature = self._sign(native.signed_text(self._network, array))
            self._batches[first] = SignedBatch(batch, signature, array)
            self.head += count
            self.unsent_bytes += len(array)

    def after(self, sequence: int) -> SignedBatch | None:
        """The batch behind message *sequence*, the last of one, or None at the head."""
        return self._batches.get(sequence + 1)

    def accepted(self, sequence: int) -> None:
        """A link has taken everything up to *sequence*, the last of a batch."""
        while self.taken < sequence:
            signed = self._batches[self.taken + 1]
            self.taken = signed.batch.last
            self.unsent_bytes -= len(signed.array)
            self.lagging_bytes += len(signed.array)

    def release(self, sequence: int) -> None:
        """No link needs what is at or under *sequence* any more; what none has taken stays."""
        while self.oldest <= min(sequence, self.taken):
            signed = self._batches.pop(self.oldest)
            self.oldest = signed.batch.last + 1
            self.lagging_bytes -= len(signed.array)

    def _grouped(self, entries: Sequence[bytes]) -> Iterator[list[bytes]]:
        group: list[bytes] = []
        size = 0
        for entry in entries:
            full = size + len(entry) > self._batch_bytes or len(group) == native.MAX_BATCH_COUNT
            if group and full:
                yield group
                group, size = [], 0
            group.append(entry)
            size += len(entry)
        if group:
            yield group
