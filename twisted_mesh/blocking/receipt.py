"""The receipt that MeshSocket.send() returns: its ``complete()`` blocks.

Contract: any thread may use a receipt, but ``complete()`` raises RuntimeError in the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from twisted_mesh.threads.proxies import ReceiptProxy
from twisted_mesh.threads.reactor_thread import ReactorThread


class Receipt(ReceiptProxy):
    """Shows which members have one message; each set is as it is when it is read."""

    __slots__ = ()

    _caller: ReactorThread

    @property
    def delivered(self) -> frozenset[bytes]:
        """The ids of the members that have taken the message: each has signed for that."""
        return self._look(lambda: self.inner.delivered)

    @property
    def pending(self) -> frozenset[bytes]:
        """The ids of the members that should have the message and have not confirmed it yet."""
        return self._look(lambda: self.inner.pending)

    @property
    def missed(self) -> frozenset[bytes]:
        """The ids of members that will not get the message: they began later, lost it or are gone."""
        return self._look(lambda: self.inner.missed)

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

    def _look(self, look: Callable[[], frozenset[bytes]]) -> frozenset[bytes]:
        seen: frozenset[bytes] = self._caller.call(look)
        return seen

    def __repr__(self) -> str:
        shown: str = self._caller.call(repr, self.inner)
        return shown
