"""Asks other nodes by which way a message came to them, who their neighbours are or how much they lack.

This node answers the same questions of others.

Contract: a question and its answer are direct messages that the application does not get.  An answer counts
if its node was asked, and is its first.  A trace ends when all have answered or cannot be reached, or when
its time is over.  Nodes that may be gone are waited for no longer than :data:`DOUBTFUL` seconds.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twisted_mesh.core.events import Deliver, StreamId
from twisted_mesh.core.rate import RateLimit
from twisted_mesh.core.replies.questions import Question, Questions
from twisted_mesh.delivery.direct import PendingDirects
from twisted_mesh.errors import Congested, PoisonedBody, Unreachable
from twisted_mesh.identity import id_of
from twisted_mesh.message import MessageId
from twisted_mesh.wire.bodies import USERS
from twisted_mesh.wire.tracing import (
    Asked,
    LagAnswer,
    LagQuestion,
    LinksAnswer,
    LinksQuestion,
    Told,
    WayAnswer,
    WayQuestion,
    unpack,
)

MOST_OPEN: Final = 16  # traces at a time; one more fails with Congested (guess: each is a person's)
AT_ONCE: Final = 32  # questions that are sent in one turn of the reactor: 4 ms (measured, of pings)
DOUBTFUL: Final = 1.0  # seconds for nodes that may be gone: an answer takes milliseconds (guess)
ANSWERS_BURST: Final = 64  # questions that are answered in a row (guess: so many pages follow the mesh) ...
ANSWERS_RATE: Final = 16.0  # ... and a second on average; others are dropped
ASKER_BURST: Final = MOST_OPEN  # questions of one node in a row: it has no more traces open ...
ASKER_RATE: Final = 2.0  # ... and a second on average (guess: a page asks every two seconds)
ASKERS: Final = 1024  # nodes whose questions are counted apart, those that asked last (guess)
Answers = dict[bytes, Told]  # by origin
_ANSWERS: Final[dict[type[Asked], type[Told]]] = {
    WayQuestion: WayAnswer,
    LinksQuestion: LinksAnswer,
    LagQuestion: LagAnswer,
}
Keep = Callable[[Told], Told]


class _Open:
    """A question to many nodes that awaits answers; *type* is that of the answers."""

    __slots__ = ("answers", "done", "entry", "ids", "keep", "left", "pending", "timers", "type")

    def __init__(
        self, question: Asked, asked: Iterable[bytes], keep: Keep, done: Deferred[Answers]
    ) -> None:
        self.entry = question.pack()
        self.type = _ANSWERS[type(question)]
        self.left = deque(asked)  # origins that are to be asked
        self.pending = set(self.left)
        self.answers: Answers = {}
        self.keep = keep
        self.done = done
        self.ids: list[MessageId] = []
        self.timers: list[IDelayedCall] = []


class Traces:
    """The traces of one run of a service, and its answers to those of other nodes.

    :ivar refused: how many questions were not answered, since there were too many.
    """

    def __init__(
        self,
        clock: IReactorTime,
        directs: PendingDirects,
        run: Callable[[], StreamId],
        look: Callable[[Asked], Told],
    ) -> None:
        """
        :param run: gives the stream of this node's present run.
        :param look: gives this node's own answer.
        """
        self._clock = clock
        self._directs = directs
        self._run = run
        self._look = look
        self._questions = Questions()
        self._open: dict[_Open, None] = {}
        self._by_id: dict[MessageId, _Open] = {}
        self._rate = RateLimit(ANSWERS_BURST, ANSWERS_RATE)
        self._rates: OrderedDict[bytes, RateLimit] = OrderedDict()  # by asker; the last to ask is last
        self.refused = 0

    def ask(
        self,
        question: Asked,
        asked: Iterable[bytes],
        keep: Keep,
        seconds: float,
        doubtful: Collection[bytes] = (),
    ) -> Deferred[Answers]:
        """Ask the nodes *asked*, by their origins.

        :param keep: gives the part of an answer that is kept.
        :param doubtful: those of the nodes that may be gone.
        :return: fires with the answers after *seconds* at the latest.
        :raises Congested: too many traces are open.
        """
        if len(self._open) >= MOST_OPEN:
            raise Congested(f"{MOST_OPEN} traces wait for their answers")
        done: Deferred[Answers] = Deferred(lambda _: self._cancelled(opened))
        opened = _Open(question, asked, keep, done)
        self._open[opened] = None
        opened.timers.append(self._clock.callLater(seconds, self._end, opened))
        if doubtful:
            opened.timers.append(self._clock.callLater(DOUBTFUL, self._doubted, opened, doubtful))
        self._send(opened)
        return done

    def arrived(self, deliver: Deliver) -> bool:
        """Whether a direct message is a question or an answer of a trace; it is taken in then."""
        if len(deliver.entries) != 1 or deliver.entries[0][0] in USERS:
            return False
        try:
            match unpack(deliver.entries[0]):
                case WayQuestion() | LinksQuestion() | LagQuestion() as question:
                    self._asked(deliver, question)
                case WayAnswer() | LinksAnswer() | LagAnswer() as answer:
                    self._answered(deliver, answer)
                case _:
                    return False
        except PoisonedBody:
            pass  # nobody but its author is to blame
        return True

    def stop(self, _: object = None) -> None:
        """End all traces with the answers that have come."""
        for opened in list(self._open):
            self._end(opened)

    def footprint(self) -> dict[str, int]:
        return {"traces": len(self._open), "trace_askers": len(self._rates)}

    # ── asking ──────────────────────────────────────────────────────────────────────

    def _send(self, opened: _Open) -> None:
        """Ask the next nodes."""
        for _ in range(min(AT_ONCE, len(opened.left))):
            origin = opened.left.popleft()
            id = (*self._run(), -self._directs.next_number)
            self._questions.ask(id, Question({origin}))
            self._by_id[id] = opened
            opened.ids.append(id)
            sent = self._directs.send(origin, id_of(origin).decode(), opened.entry)
            sent.addErrback(self._unreached, opened, origin)
        if not opened.pending:
            self._end(opened)
        elif opened.left and opened in self._open:
            self._clock.callLater(0, self._send, opened)

    def _unreached(self, failure: Failure, opened: _Open, origin: bytes) -> None:
        failure.trap(Unreachable)
        self._heard(opened, origin)

    def _answered(self, deliver: Deliver, answer: Told) -> None:
        if (id := self._questions.credit(deliver)) is not None:
            opened = self._by_id[id]
            if isinstance(answer, opened.type):
                opened.answers[deliver.origin] = opened.keep(answer)
            self._heard(opened, deliver.origin)

    def _heard(self, opened: _Open, origin: bytes) -> None:
        """Do not wait for the node *origin* any more."""
        opened.pending.discard(origin)
        if not opened.pending:
            self._end(opened)

    def _doubted(self, opened: _Open, doubtful: Collection[bytes]) -> None:
        """Do not wait for the *doubtful* nodes any more."""
        for origin in doubtful:
            self._heard(opened, origin)

    def _end(self, opened: _Open) -> None:
        if self._close(opened):
            opened.done.callback(opened.answers)

    def _cancelled(self, opened: _Open) -> None:
        self._close(opened)

    def _close(self, opened: _Open) -> bool:
        """Do not wait for answers any more; return whether any were awaited."""
        if opened not in self._open:
            return False
        del self._open[opened]
        for id in opened.ids:
            self._questions.close(id)
            del self._by_id[id]
        opened.left.clear()
        for timer in opened.timers:
            if timer.active():
                timer.cancel()
        return True

    # ── answering ───────────────────────────────────────────────────────────────────

    def _asked(self, deliver: Deliver, question: Asked) -> None:
        if not self._may_ask(deliver.origin):
            self.refused += 1
            return
        answer = self._look(question)
        id = (deliver.origin, deliver.epoch, -deliver.direct_number)
        sent = self._directs.send(deliver.origin, id_of(deliver.origin).decode(), answer.pack(), id)
        sent.addErrback(lambda failure: failure.trap(Unreachable) and None)

    def _may_ask(self, origin: bytes) -> bool:
        """Whether a question of the node *origin* is answered: one that asks too often takes no other's."""
        now = self._clock.seconds()
        rate = self._rates.pop(origin, None) or RateLimit(ASKER_BURST, ASKER_RATE)
        self._rates[origin] = rate
        if len(self._rates) > ASKERS:
            self._rates.popitem(last=False)
        return rate.take(now) and self._rate.take(now)
