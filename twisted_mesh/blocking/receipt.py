"""The receipt that MeshSocket.send() returns: its ``complete()`` blocks.

Contract: any thread may use a receipt, but ``complete()`` raises RuntimeError in the reactor's thread.
"""

from __future__ import annotations

from typing import Self

from twisted_mesh.core.events import Holders
from twisted_mesh.threads.proxies import ReceiptProxy
from twisted_mesh.threads.reactor_thread import ReactorThread


class Receipt(ReceiptProxy):
    """Shows which members have one message; each set is as it is when it is read."""

    __slots__ = ()

    _caller: ReactorThread

    def _holders(self) -> Holders:
        holders: Holders = self._caller.call(self.inner.refresh)
        return holders

    def complete(self, timeout: float | None = None) -> Self:
        """Wait until every member that should have the message has taken it.

        :param timeout: seconds; None to wait without a limit.
        :return: this receipt.
        :raises ReceiptTimeout: a member has not taken the message in time; NotDelivered: a member will not
            get it, or the receipt is closed.  Both errors hold this receipt.
        :raises NoMembers: no member should have the message.
        :raises NotRunning: the socket is closed first; LocalError: *timeout* is no number, or below 0.
        :raises RuntimeError: in the reactor's thread; there, listen to the event ``receipt``.
        """
        self._caller.wait(self._completion, timeout)
        return self
