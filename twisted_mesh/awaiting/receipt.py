"""The receipt that ``aio.Mesh.send()`` returns: its ``complete()`` is awaited.

Contract: the sets are read without a wait.  They are as they were at the node's last ``receipt`` event.
"""

from __future__ import annotations

from typing import Self

from twisted_mesh.core.events import Holders
from twisted_mesh.threads.proxies import ReceiptProxy


class Receipt(ReceiptProxy):
    """Shows which members have one message, and changes while members take it."""

    __slots__ = ()

    def _holders(self) -> Holders:
        return self.inner.last_seen

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
