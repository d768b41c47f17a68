"""The query that ``aio.Mesh.query()`` returns: ``async for answer in mesh.query("who is there?")``.

Contract: as :class:`~twisted_mesh.delivery.query.Query`.  If the task is cancelled while it waits for an
answer, the next iteration gets that answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from twisted.internet.defer import Deferred

from twisted_mesh.awaiting.loop_calls import LoopCalls
from twisted_mesh.delivery.query import Query as ServiceQuery
from twisted_mesh.message import Message
from twisted_mesh.threads.proxies import next_answer, with_replies

_NOBODY: frozenset[bytes] = frozenset()


class Query:
    """The answers as they come, for one task at a time.

    The iteration ends when all members that were up have answered, or when the time is over.
    """

    def __init__(self, calls: LoopCalls) -> None:
        self._calls = calls
        self._inner: ServiceQuery | None = None  # once it is asked
        self._coming: asyncio.Future[Message | None] | None = None  # the next answer, or None at the end
        self._has_ended = False

    def begin(self, ask: Callable[[], ServiceQuery]) -> None:
        """Call *ask* in the reactor's thread."""

        def first() -> Deferred[Message | None]:
            self._inner = ask()
            return next_answer(self._inner)

        self._coming = self._calls.call(first)

    @property
    def pending(self) -> frozenset[bytes]:
        """The ids of the members that were up and have not answered, as they are now."""
        return _NOBODY if self._inner is None else self._inner.pending

    @property
    def answered(self) -> frozenset[bytes]:
        """The ids of the nodes that have answered, as they are now."""
        return _NOBODY if self._inner is None else self._inner.answered

    def close(self) -> None:
        """Await no more answers; the iteration ends after those that have come."""
        self._calls.later(self._close)

    def _close(self) -> None:
        if self._inner is not None:
            self._inner.close()

    def __aiter__(self) -> Query:
        return self

    async def __anext__(self) -> Message:
        """The next answer.

        :raises Congested: too many requests and queries wait for answers.  Other errors are those of
            ``Mesh.send()``; all are raised by the first iteration.
        """
        answer = None if self._has_ended else await self._next()
        if answer is None:
            raise StopAsyncIteration
        return with_replies(self._calls, answer)

    async def _next(self) -> Message | None:
        if self._coming is None:
            self._coming = self._calls.call(next_answer, self._inner)
        await asyncio.wait([self._coming])  # if this is cancelled, the answer is still coming
        coming, self._coming = self._coming, None
        self._has_ended = coming.exception() is not None or coming.result() is None
        return coming.result()

    def __repr__(self) -> str:
        return f"<query: {len(self.answered)} answered, {len(self.pending)} pending>"
