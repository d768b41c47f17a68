"""Batches of authors that have not shown yet that they may speak.

Contract: :meth:`WaitingBatches.put` keeps a verified batch until its author's record has come, which has
the author's credential; then :meth:`WaitingBatches.take` gives it back.  Meanwhile the batch is not held in
the history, and not pushed on.  Of each link, :data:`BATCHES_MOST` batches and :data:`BYTES_MOST` bytes
wait; for more, the oldest are dropped, and come again if they are missing.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from twisted_mesh.wire.broadcast import SignedBatch

BATCHES_MOST: Final = 64  # of a link (guess: a record comes within a round trip)
BYTES_MOST: Final = 1024 * 1024  # of a link, or one larger batch (guess)


class WaitingBatches:
    """The batches that wait, by the number of the link that brought them."""

    def __init__(self) -> None:
        self._waiting: dict[int, deque[SignedBatch]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, link: int, signed: SignedBatch) -> tuple[bool, int]:
        """Keep a batch that came over *link*.

        :return: whether no other batch of its author from that link waits, and how many were dropped.
        """
        waiting = self._waiting.setdefault(link, deque())
        is_first = all(other.batch.origin != signed.batch.origin for other in waiting)
        waiting.append(signed)
        dropped = 0
        while len(waiting) > 1 and (len(waiting) > BATCHES_MOST or _bytes(waiting) > BYTES_MOST):
            waiting.popleft()
            dropped += 1
        return is_first, dropped

    def take(self, origin: bytes) -> list[tuple[int, SignedBatch]]:
        """Give the batches of *origin*, each with the number of its link, and keep them no longer."""
        taken = [
            (link, signed)
            for link, waiting in self._waiting.items()
            for signed in waiting
            if signed.batch.origin == origin
        ]
        for link in dict(taken):
            rest = deque(signed for signed in self._waiting[link] if signed.batch.origin != origin)
            self._waiting[link] = rest
            if not rest:
                del self._waiting[link]
        return taken

    def link_gone(self, link: int) -> None:
        """Drop the batches that *link* brought: others have them, too."""
        self._waiting.pop(link, None)

    def footprint(self) -> dict[str, int]:
        """Batches and bytes that wait."""
        return {
            "unproven_batches": sum(map(len, self._waiting.values())),
            "unproven_bytes": sum(map(_bytes, self._waiting.values())),
        }


def _bytes(waiting: deque[SignedBatch]) -> int:
    return sum(signed.size for signed in waiting)
