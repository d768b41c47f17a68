"""Requests: messages to one member to which the application awaits an answer.

Contract: all objects here belong to one run of a service.  The first ``reply()`` of the member to the
request fires its Deferred, and goes to no handler, listener or ``messages()``.  Any other reply is a
message like any other: a second one, one that comes after the time, and one of another node.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from typing import NoReturn

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twisted_mesh.core.events import Deliver, StreamId
from twisted_mesh.core.replies.questions import Questions
from twisted_mesh.delivery.delivery import messages_of
from twisted_mesh.delivery.direct import PendingDirects
from twisted_mesh.errors import Congested, NoReply, Unreachable
from twisted_mesh.message import Message, MessageId, Source

_STOPPED = "the service stopped before the answer came"
_NEW_RUN = "a new run of this node has begun, which gets no answer to messages of the old one"


class _Request:
    """A message to one member.

    :ivar sent: fires when the member has acknowledged the message; :ivar is_there: whether it has.
    """

    __slots__ = ("answer", "is_there", "name", "sent")

    def __init__(self, name: str, answer: Deferred[Message]) -> None:
        self.name = name
        self.answer = answer
        self.sent: Deferred[None] | None = None
        self.is_there = False


class Requests:
    """The requests of one run of a service to which no answer has come."""

    def __init__(
        self, clock: IReactorTime, limit: int, directs: PendingDirects, run: Callable[[], StreamId]
    ) -> None:
        """:param limit: how many may be open; :param run: gives the stream of this node's present run."""
        self._clock = clock
        self._limit = limit
        self._directs = directs
        self._run = run
        self._questions = Questions()
        self._requests: dict[MessageId, _Request] = {}

    def request(self, origin: bytes, name: str, entry: bytes, seconds: float) -> Deferred[Message]:
        """Send a packed message to the node *origin*, and await its answer; error texts call it *name*.

        :return: fires with the answer.  Fails with Unreachable, or with NoReply after *seconds*.
        """
        if len(self._requests) >= self._limit:
            return fail(Congested(f"{self._limit} requests wait for their answers"))
        id = (*self._run(), -self._directs.next_number)
        answer: Deferred[Message] = Deferred(lambda _: self._close(id))
        request = self._requests[id] = _Request(name, answer)
        self._questions.ask(id, (origin,))
        sent = request.sent = self._directs.send(origin, name, entry)
        sent.addCallbacks(partial(self._acknowledged, request), partial(self._failed, id))
        if seconds < inf:
            answer.addTimeout(seconds, self._clock, partial(self._too_late, request))
        return answer

    def answered(self, deliver: Deliver, source: Source) -> bool:
        """Whether a direct message is the answer to a request, to which it was given."""
        if (id := self._questions.credit(deliver)) is None:
            return False
        facts = (deliver.size, source, deliver.number, deliver.answers)
        message, *_ = (message for message, _ in messages_of(deliver.entries, 0, *facts))
        answer = self._requests[id].answer
        self._close(id)
        answer.callback(message)
        return True

    def new_run(self, _: object) -> None:
        """Fail all requests: a new run of the core has begun, of which the members know nothing."""
        self._fail_all(_NEW_RUN)

    def stop(self) -> None:
        """Fail all requests."""
        self._fail_all(_STOPPED)

    def footprint(self) -> dict[str, int]:
        return {"requests": len(self._requests)}

    def _acknowledged(self, request: _Request, _: None) -> None:
        request.is_there = True

    def _failed(self, id: MessageId, failure: Failure) -> None:
        if (request := self._requests.get(id)) is not None:
            self._close(id)
            request.answer.errback(failure)

    def _too_late(self, request: _Request, result: object, seconds: float) -> NoReturn:
        assert isinstance(result, Failure)
        result.trap(CancelledError)
        if request.is_there:
            raise NoReply(f"{request.name}: it has the message, and did not answer in {seconds:g} s")
        raise Unreachable(f"{request.name}: it did not acknowledge the message in {seconds:g} s")

    def _close(self, id: MessageId) -> None:
        """Await the answer no more."""
        self._questions.close(id)
        request = self._requests.pop(id, None)
        if request is not None and request.sent is not None:
            request.sent.cancel()  # does nothing if it has fired

    def _fail_all(self, why: str) -> None:
        for id, request in list(self._requests.items()):
            if id in self._requests:  # if not, the callback of an earlier one has ended it
                self._close(id)
                request.answer.errback(Failure(Unreachable(f"{request.name}: {why}")))
