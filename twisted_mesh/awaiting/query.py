"""The query that ``aio.Mesh.query()`` returns: ``async for answer in mesh.query("who is there?")``.

Contract: as :class:`~twisted_mesh.delivery.query.Query`.  If the task is cancelled while it waits for an
answer, the next iteration gets that answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.defer import Deferred

from twisted_mesh.awaiting.loop_calls import LoopCalls
from twisted_mesh.delivery.query import Query as ServiceQuery
from twisted_mesh.message import Message
from twisted_mesh.threads.proxies import with_replies

_NOBODY: frozenset[bytes] = frozenset()


class _News(NamedTuple):
    """The next answer, or None at the end; and the members that have and have not answered."""

    answer: Message | None
    pending: frozenset[bytes]
    answered: frozenset[bytes]


class Query:
    """The answers as they come, for one task at a time.

    The iteration ends when all members that were up have answered, or when the time is over.

    :ivar pending: the ids of the members that were up, and had not answered when the last answer or the end
        came.
    :ivar answered: the ids of the nodes that had answered by then.
    """

    def __init__(self, calls: LoopCalls) -> None:
        self._calls = calls
        self._inner: ServiceQuery | None = None  # once it is asked; for the reactor's thread
        self._coming: asyncio.Future[_News] | None = None  # the next answer, or the beginning
        self._is_asked = False  # whether the beginning has come
        self._has_ended = False
        self.pending = self.answered = _NOBODY

    def begin(self, ask: Callable[[], ServiceQuery]) -> None:
        """Call *ask* in the reactor's thread."""

        def asked() -> _News:
            inner = self._inner = ask()
            return _News(None, inner.pending, inner.answered)

        self._coming = self._calls.call(asked)

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
        answer = None
        if not self._is_asked:
            await self._come()
        if not self._has_ended:
            if self._coming is None:
                self._coming = self._calls.call(self._next)
            answer = await self._come()
        if answer is None:
            self._has_ended = True
            raise StopAsyncIteration
        return with_replies(self._calls, answer)

    async def _come(self) -> Message | None:
        assert self._coming is not None
        await asyncio.wait([self._coming])  # if this is cancelled, the answer is still coming
        coming, self._coming = self._coming, None
        self._is_asked = True
        if coming.exception() is not None:
            self._has_ended = True
        answer, self.pending, self.answered = coming.result()
        return answer

    def _next(self) -> Deferred[_News]:
        """Fires with the next answer, or with None if there will be none; for the reactor's thread."""
        inner = self._inner
        assert inner is not None

        async def take() -> _News:
            try:
                answer = await anext(inner)
            except StopAsyncIteration:
                answer = None
            return _News(answer, inner.pending, inner.answered)

        return Deferred.fromCoroutine(take())

    def __repr__(self) -> str:
        return f"<query: {len(self.answered)} answered, {len(self.pending)} pending>"
