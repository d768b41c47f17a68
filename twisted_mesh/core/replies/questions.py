"""The messages to which a run waits for answers: which answer belongs to which of them.

Contract: an answer is a direct message that names the message it answers.  It counts only if it comes from
a node that was asked, and is the first of that node.  Every other one is a message like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from twisted_mesh.core.events import Deliver
from twisted_mesh.wire.fields import MessageId


@dataclass(eq=False, slots=True)
class Question:
    """A message to which answers are awaited; the nodes are origins.

    :ivar pending: the nodes that were asked and have not answered.
    :ivar is_open: whether other nodes may answer, too.
    """

    pending: set[bytes]
    is_open: bool = False
    answered: set[bytes] = field(default_factory=set)


class Questions:
    """The open questions of one node; ``len()`` counts them."""

    def __init__(self) -> None:
        self._open: dict[MessageId, Question] = {}

    def __len__(self) -> int:
        return len(self._open)

    def ask(self, id: MessageId, question: Question) -> None:
        """Await answers to the message *id*."""
        self._open[id] = question

    def close(self, id: MessageId) -> None:
        """Await no more answers to the message *id*."""
        self._open.pop(id, None)

    def credit(self, deliver: Deliver) -> MessageId | None:
        """The open question to which *deliver* is the first answer of its sender; None if it is no such."""
        question = None if deliver.answers is None else self._open.get(deliver.answers)
        sender = deliver.origin
        if question is None or sender in question.answered:
            return None
        if sender not in question.pending and not question.is_open:
            return None
        question.pending.discard(sender)
        question.answered.add(sender)
        return deliver.answers
