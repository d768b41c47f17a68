"""The receipt that ``aio.Mesh.send()`` returns: its ``complete()`` is awaited.

Contract: the sets are read without a wait.  They are as they were at the node's last ``receipt`` event.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from twisted_mesh.identity import id_of
from twisted_mesh.threads.proxies import ReceiptProxy


class Receipt(ReceiptProxy):
    """Shows which members have one message, and changes while members take it."""

    __slots__ = ()

    @property
    def delivered(self) -> frozenset[bytes]:
        """The ids of the members that have taken the message: each has signed for that."""
        return _ids(self.inner.last_seen.delivered)

    @property
    def pending(self) -> frozenset[bytes]:
        """The ids of the members that should have the message and have not confirmed it yet."""
        return _ids(self.inner.last_seen.pending)

    @property
    def missed(self) -> frozenset[bytes]:
        """The ids of members that will not get the message: they began later, lost it or are gone."""
        return _ids(self.inner.last_seen.missed)

    async def complete(self, timeout: float | None = None) -> Self:
        """Wait until every member that should have the message has taken it.

        :param timeout: seconds; None to wait without a limit.
        :return: this receipt.
        :raises ReceiptTimeout: a member has not taken the message in time; NotDelivered: a member will not
            get it, or the receipt is closed.  Both errors hold this receipt.
        :raises NoMembers: no member should have the message.
        :raises NotRunning: the mesh is closed first; LocalError: *timeout* is no number, or below 0.
        """
        await self._caller.call(self._completion, timeout)
        return self

    def __repr__(self) -> str:
        has, pending, missed = self.inner.last_seen
        return f"<receipt: {len(has)} delivered, {len(pending)} pending, {len(missed)} missed>"


def _ids(origins: Iterable[bytes]) -> frozenset[bytes]:
    return frozenset(map(id_of, origins))
