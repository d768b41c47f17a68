"""Which answer belongs to which question."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import origin_of
from twisted_mesh.core.events import Deliver
from twisted_mesh.core.replies.questions import Question, Questions
from twisted_mesh.wire.fields import MessageId

ID: MessageId = (origin_of("me"), 1, -1)


def answer(name: str, answers: MessageId | None = ID) -> Deliver:
    """A direct message of *name* in answer to *answers*."""
    return Deliver(0, origin_of(name), 1, 0, 0, 9, [[0, 2]], True, 1, answers)


class TestQuestions(SynchronousTestCase):
    def setUp(self) -> None:
        self.questions = Questions()

    def test_the_first_answer_of_the_node_that_was_asked_counts(self) -> None:
        self.questions.ask(ID, Question({origin_of("anna")}))
        self.assertIsNone(self.questions.credit(answer("bert")))
        self.assertEqual(self.questions.credit(answer("anna")), ID)
        self.assertIsNone(self.questions.credit(answer("anna")))

    def test_a_message_that_answers_nothing_or_another_does_not(self) -> None:
        self.questions.ask(ID, Question({origin_of("anna")}))
        for other in (None, (origin_of("me"), 1, 1), (origin_of("me"), 2, -1), (origin_of("you"), 1, -1)):
            self.assertIsNone(self.questions.credit(answer("anna", other)))

    def test_an_open_question_is_answered_by_anybody_once(self) -> None:
        question = Question({origin_of("anna"), origin_of("bert")}, is_open=True)
        self.questions.ask(ID, question)
        self.assertEqual(self.questions.credit(answer("cleo")), ID)
        self.assertIsNone(self.questions.credit(answer("cleo")))
        self.assertEqual(self.questions.credit(answer("anna")), ID)
        self.assertEqual(question.pending, {origin_of("bert")})
        self.assertEqual(question.answered, {origin_of("anna"), origin_of("cleo")})

    def test_one_that_is_closed_has_no_answer(self) -> None:
        self.questions.ask(ID, Question({origin_of("anna")}))
        self.assertEqual(len(self.questions), 1)
        self.questions.close(ID)
        self.questions.close(ID)
        self.assertEqual(len(self.questions), 0)
        self.assertIsNone(self.questions.credit(answer("anna")))
