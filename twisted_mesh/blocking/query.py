"""The query that MeshSocket.query() returns: its iteration blocks."""

from __future__ import annotations

from typing import Self

from twisted_mesh.delivery.query import Query as ServiceQuery
from twisted_mesh.message import Message
from twisted_mesh.threads.proxies import Proxy, next_answer, with_replies
from twisted_mesh.threads.reactor_thread import ReactorThread


class Query(Proxy[ServiceQuery]):
    """The answers as they come: ``for answer in socket.query("who is there?")``.

    The iteration ends when all members that were up have answered, or when the time is over.  It raises
    RuntimeError in the reactor's thread.
    """

    __slots__ = ()

    _caller: ReactorThread

    @property
    def pending(self) -> frozenset[bytes]:
        """The ids of the members that were up and have not answered, as they are now."""
        return self.inner.pending

    @property
    def answered(self) -> frozenset[bytes]:
        """The ids of the nodes that have answered, as they are now."""
        return self.inner.answered

    def close(self) -> None:
        """Await no more answers; the iteration ends after those that have come."""
        self._caller.call(self.inner.close)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        answer: Message | None = self._caller.wait(next_answer, self.inner)
        if answer is None:
            raise StopIteration
        return with_replies(self._caller, answer)

    def __repr__(self) -> str:
        return repr(self.inner)
