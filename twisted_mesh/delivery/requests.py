"""Requests, queries and pings: messages to one member or to everybody of which something comes back.

Contract: all objects here belong to one run of a service.  The first ``reply()`` of the member to the
request fires its Deferred, the first of each node to a query is one of its answers; they go to no handler,
listener or ``messages()``.  Any other reply is a message like any other: a second one, one that comes after
the time, and one of a node that was not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twisted_mesh.core.events import Deliver, NewRun, Numbered, StreamId
from twisted_mesh.core.replies.questions import Question, Questions
from twisted_mesh.delivery.delivery import Delivery, share_of
from twisted_mesh.delivery.direct import PendingDirects
from twisted_mesh.delivery.query import Query
from twisted_mesh.delivery.queue import MessageQueue
from twisted_mesh.errors import Congested, NoReply, Unreachable
from twisted_mesh.eventloop.deadlines import Deadlines
from twisted_mesh.message import Message, MessageId, Source
from twisted_mesh.wire.bodies import USERS, join_entries

_STOPPED = "the service stopped before the answer came"
_NEW_RUN = "a new run of this node has begun, which gets no answer to messages of the old one"


class _Request:
    """A message to one member.

    :ivar token: of the message; :ivar is_there: whether the member has acknowledged it.
    """

    __slots__ = ("_failed", "answer", "id", "is_there", "name", "seconds", "token")

    def __init__(
        self, id: MessageId, name: str, seconds: float, failed: Callable[[_Request, str], None]
    ) -> None:
        """
        :param seconds: within which the answer must come.
        :param failed: called if the message is given up, with the reason.
        """
        self.id = id
        self.name = name
        self.seconds = seconds
        self._failed = failed
        self.answer: Deferred[Message]
        self.token = 0
        self.is_there = False

    def ended(self, why: str | None, hops: int) -> None:
        if why is None:
            self.is_there = True
        else:
            self._failed(self, why)


class _OpenQuery:
    """A message to all that asks for answers.

    :ivar id: its id; None before it has a number; :ivar timer: ends the query.
    """

    __slots__ = ("answers", "id", "question", "timer")

    def __init__(self, question: Question, answers: MessageQueue) -> None:
        self.question = question
        self.answers = answers
        self.id: MessageId | None = None
        self.timer: IDelayedCall | None = None


class Requests:
    """The requests and queries of one run of a service that await answers."""

    def __init__(
        self,
        clock: IReactorTime,
        limit: int,
        delivery: Delivery,
        directs: PendingDirects,
        run: Callable[[], StreamId],
    ) -> None:
        """:param limit: how many may be open; :param run: gives the stream of this node's present run."""
        self._clock = clock
        self._limit = limit
        self._delivery = delivery
        self._directs = directs
        self._run = run
        self._questions = Questions()
        self._deadlines = Deadlines(clock, self._too_late)
        self._requests: dict[MessageId, _Request] = {}
        self._queries: dict[Query, _OpenQuery] = {}
        self._by_id: dict[MessageId, Query] = {}  # those whose messages have numbers
        self._unnumbered: dict[int, Query] = {}  # by place, in order
        self._numbered = 0  # how many messages to all have a number, or had one

    def check_room(self) -> None:
        """:raises Congested: too many requests and queries are open."""
        if len(self._requests) + len(self._queries) >= self._limit:
            raise Congested(f"{self._limit} requests wait for their answers")

    def request(self, origin: bytes, name: str, entry: bytes, seconds: float) -> Deferred[Message]:
        """Send a packed message to the node *origin*, and await its answer; error texts call it *name*.

        :return: fires with the answer.  Fails with Unreachable, or with NoReply after *seconds*.
        """
        id = (*self._run(), -self._directs.next_number)
        request = self._requests[id] = _Request(id, name, seconds, self._unreachable)
        answer = request.answer = Deferred(lambda _: self._close(id))
        self._questions.ask(id, Question({origin}))
        request.token = self._directs.put(origin, join_entries((entry,)), request, None)
        if seconds < inf and not answer.called:
            self._deadlines.set(request, seconds)
        return answer

    def ping(self, origin: bytes, name: str, seconds: float) -> Deferred[tuple[float, int]]:
        """Have the node *origin* acknowledge a message that holds nothing; error texts call it *name*.

        :return: fires with the seconds that it took, and the number of relays over which the
            acknowledgement came; fails with Unreachable, after *seconds* at the latest.
        """
        began, asked = self._clock.seconds(), self._directs.ping(origin, name)

        def too_late(result: object, _: float) -> NoReturn:
            raise Unreachable(f"{name}: it did not answer in {seconds:g} s")

        if seconds < inf:
            asked.addTimeout(seconds, self._clock, too_late)
        return asked.addCallback(lambda hops: (self._clock.seconds() - began, hops))

    def query(self, place: int, members: Iterable[bytes], seconds: float) -> Query:
        """The answers to the message to all at *place*, for *seconds* or until all *members* have."""
        opened = _OpenQuery(Question(set(members), is_open=True), self._delivery.answer_queue())
        query = Query(opened.question, opened.answers, self._end)
        self._queries[query] = opened
        self._unnumbered[place] = query
        if not opened.question.pending:
            self._end(query)
        elif seconds < inf:
            opened.timer = self._clock.callLater(seconds, self._end, query)
        return query

    def numbered(self, numbered: Numbered) -> None:
        """Await the answers to queries whose messages have numbers now."""
        before, self._numbered = self._numbered, self._numbered + numbered.count
        while self._unnumbered and (place := next(iter(self._unnumbered))) < self._numbered:
            query = self._unnumbered.pop(place)
            if (opened := self._queries.get(query)) is not None:  # if not, it is closed
                opened.id = (*numbered.run, numbered.first + place - before)
                self._questions.ask(opened.id, opened.question)
                self._by_id[opened.id] = query

    def answered(self, deliver: Deliver, source: Source) -> bool:
        """Whether a direct message is an answer that is awaited, and was given to the application."""
        if deliver.answers is None:
            return False
        users = [entry for entry in deliver.entries if entry[0] in USERS]
        if len(users) != 1 or (id := self._questions.credit(deliver)) is None:
            return False
        message = Message(users[0], None, source, deliver.direct_number, deliver.answers)
        if (request := self._requests.get(id)) is not None:
            self._close(id)
            request.answer.callback(message)
        else:
            query = self._by_id[id]
            opened = self._queries[query]
            opened.answers.put(message, share_of(deliver.size, deliver.entries))
            if not opened.question.pending:
                self._end(query)
            opened.answers.wake()
        return True

    def new_run(self, new_run: NewRun) -> None:
        """Fail all requests, and end the queries: a new run of the core gets no answers to them."""
        self._numbered -= new_run.again
        self._fail_all(_NEW_RUN)

    def stop(self) -> None:
        """Fail all requests, and end the queries."""
        self._fail_all(_STOPPED)

    def footprint(self) -> dict[str, int]:
        return {"requests": len(self._requests), "queries": len(self._queries)}

    def _end(self, query: Query) -> None:
        """Await no more answers to a query."""
        if (opened := self._queries.pop(query, None)) is not None:
            if opened.timer is not None and opened.timer.active():
                opened.timer.cancel()
            if opened.id is not None:
                self._questions.close(opened.id)
                del self._by_id[opened.id]
            opened.answers.close()

    def _unreachable(self, request: _Request, why: str) -> None:
        if request.id in self._requests:
            self._close(request.id)
            request.answer.errback(Failure(Unreachable(f"{request.name}: {why}")))

    def _too_late(self, request: _Request) -> None:
        self._close(request.id)
        name, within = request.name, f"in {request.seconds:g} s"
        if request.is_there:
            error: Exception = NoReply(f"{name}: it has the message, and did not answer {within}")
        else:
            error = Unreachable(f"{name}: it did not acknowledge the message {within}")
        request.answer.errback(Failure(error))

    def _close(self, id: MessageId) -> None:
        """Do not wait for the answer any more."""
        self._questions.close(id)
        if (request := self._requests.pop(id, None)) is not None:
            self._directs.forget(request.token)
            self._deadlines.clear(request, request.seconds)

    def _fail_all(self, why: str) -> None:
        for id, request in list(self._requests.items()):
            if id in self._requests:  # if not, the callback of an earlier one has ended it
                self._close(id)
                request.answer.errback(Failure(Unreachable(f"{request.name}: {why}")))
        for query in list(self._queries):
            self._end(query)
