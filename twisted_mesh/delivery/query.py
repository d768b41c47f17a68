"""The answers to a question that went to everybody."""

from __future__ import annotations

from collections.abc import Callable

from twisted_mesh.core.replies.questions import Question
from twisted_mesh.delivery.queue import MessageQueue
from twisted_mesh.identity import ids_of
from twisted_mesh.message import Message


class Query:
    """The answers as they come: ``async for answer in service.query("who is there?")``.

    The iteration ends when all members that were up have answered, or when the time is over.  Each node's
    first answer is here, and goes to no handler, listener or ``messages()``; members that were not up, and
    guests, may answer, too.  Any thread may read :attr:`pending` and :attr:`answered`.
    """

    def __init__(self, question: Question, answers: MessageQueue, close: Callable[[Query], None]) -> None:
        """:param answers: the answers that have come; :param close: is called to await no more of them."""
        self._question = question
        self._answers = answers
        self._close = close

    @property
    def pending(self) -> frozenset[bytes]:
        """The ids of the members that were up and have not answered."""
        return ids_of(self._question.pending.copy())  # copied in one step, for other threads

    @property
    def answered(self) -> frozenset[bytes]:
        """The ids of the nodes that have answered."""
        return ids_of(self._question.answered.copy())

    def close(self) -> None:
        """Do not wait for answers any more; the iteration ends after those that have come."""
        self._close(self)

    def __aiter__(self) -> Query:
        return self

    async def __anext__(self) -> Message:
        return await self._answers.__anext__()

    def __repr__(self) -> str:
        return f"<query: {len(self._question.answered)} answered, {len(self._question.pending)} pending>"
