"""Queries: the answers of everybody, and who has not answered, on a Clock."""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import Deferred

from tests.support.meshcase import MeshCase
from twisted_mesh.core.events import EpochConflict
from twisted_mesh.delivery.query import Query
from twisted_mesh.errors import LocalError, NotRunning
from twisted_mesh.message import Message
from twisted_mesh.service import MeshService


class QueryCase(MeshCase):
    """Four nodes in a row; the first asks."""

    def setUp(self) -> None:
        super().setUp()
        self.nodes = self.chain(4, after=2)
        self.a, self.b, self.c, self.d = self.nodes

    def answer(self, *nodes: MeshService) -> None:
        """Let *nodes* answer each message."""
        for node in nodes:
            node.on("message", lambda message, node=node: message.reply(self.nodes.index(node)))

    def ask(self, *packets: object, after: float = 1, **options: Any) -> tuple[Query, Deferred[list[Any]]]:
        """Ask everybody, and gather the answers; then let *after* seconds pass."""
        query = self.a.query(*packets, **options)

        async def gather() -> list[Any]:
            return [answer.packets[1] async for answer in query]

        answers = Deferred.fromCoroutine(gather())
        self.network.advance(after)
        return query, answers

    def ids(self, *nodes: MeshService) -> set[bytes]:
        """The ids of *nodes*."""
        return {node.id for node in nodes}


class TestQuery(QueryCase):
    def test_it_ends_when_all_that_were_up_have_answered(self) -> None:
        self.answer(self.b, self.c, self.d)
        query, answers = self.ask("who is there?", timeout=60)
        self.assertCountEqual(self.successResultOf(answers), [1, 2, 3])
        self.assertEqual((query.answered, query.pending), (self.ids(self.b, self.c, self.d), set()))
        self.assertEqual(repr(query), "<query: 3 answered, 0 pending>")
        self.assertEqual(self.a.footprint()["queries"], 0)
        self.assertEqual(self.received(self.a), [])  # the answers go nowhere else

    def test_or_when_the_time_is_over_and_says_who_has_not(self) -> None:
        self.answer(self.b, self.d)
        query, answers = self.ask("who is there?", after=4.9)
        self.assertNoResult(answers)
        self.assertEqual(query.pending, self.ids(self.c))
        self.network.advance(0.2)
        self.assertCountEqual(self.successResultOf(answers), [1, 3])
        self.assertEqual((query.answered, query.pending), (self.ids(self.b, self.d), self.ids(self.c)))

    def test_answers_that_wait_are_given_though_it_has_ended(self) -> None:
        self.answer(self.b, self.c, self.d)
        query = self.a.query("?")
        self.network.advance(10)

        async def gather() -> list[Message]:
            return [answer async for answer in query]

        answers = self.successResultOf(Deferred.fromCoroutine(gather()))
        self.assertEqual({answer.sender for answer in answers}, self.ids(self.b, self.c, self.d))
        self.assertEqual(len({answer.in_reply_to for answer in answers}), 1)

    def test_the_second_answer_of_a_node_and_late_ones_are_messages_like_any_other(self) -> None:
        self.answer(self.b)
        _, answers = self.ask("?", timeout=3)
        [message] = self.received(self.b)
        self.result_of(message.reply("again"), after=1)
        self.assertEqual(self.got(self.a), ["again"])
        self.network.advance(2)
        self.assertEqual(self.successResultOf(answers), [1])
        self.result_of(self.received(self.c)[0].reply("late"), after=1)
        self.assertEqual(self.got(self.a), ["again", "late"])

    def test_two_at_a_time_get_each_its_own_answers(self) -> None:
        for node in (self.b, self.c, self.d):
            node.on("message", lambda message: message.reply(message.packets[1]))
        asked = [self.ask(number, after=0)[1] for number in range(2)]
        self.network.advance(2)
        self.assertEqual([self.successResultOf(one) for one in asked], [[0] * 3, [1] * 3])

    def test_who_is_away_is_not_waited_for(self) -> None:
        self.answer(self.b, self.c)
        self.stop(self.d)
        self.network.advance(1)
        query, answers = self.ask("?", timeout=60)
        self.assertCountEqual(self.successResultOf(answers), [1, 2])
        self.assertEqual(query.pending, set())

    def test_who_comes_back_in_time_may_answer(self) -> None:
        self.answer(self.b, self.d)
        self.mesh.partition((0, 1, 2), (3,))
        _, answers = self.ask("?", timeout=60, after=2)
        self.assertNoResult(answers)
        self.mesh.heal()
        self.link((self.d, self.c), after=20)
        self.received(self.c)[0].reply(2)
        self.network.advance(1)
        self.assertCountEqual(self.successResultOf(answers), [1, 2, 3])

    def test_without_members_it_ends_at_once(self) -> None:
        alone = self.node()
        query = alone.query("?")
        answers = Deferred.fromCoroutine(anext(query))
        self.failureResultOf(answers, StopAsyncIteration)

    def test_one_that_is_closed_ends(self) -> None:
        query, answers = self.ask("?", timeout=None)
        query.close()
        query.close()
        self.assertEqual(self.successResultOf(answers), [])
        self.assertEqual(self.a.footprint()["queries"], 0)
        query = self.a.query("?")
        query.close()  # before its message has a number
        self.network.advance(1)
        self.assertEqual(self.a.footprint()["queries"], 0)

    def test_the_end_of_the_service_ends_it(self) -> None:
        _, answers = self.ask("?", timeout=None)
        self.stop(self.a)
        self.assertEqual(self.successResultOf(answers), [])

    def test_a_new_run_of_this_node_ends_it(self) -> None:
        _, answers = self.ask("?", timeout=None)
        self.parts_of(self.a)._epoch_conflict(EpochConflict(self.status_of(self.a).stream[1]))
        self.assertEqual(self.successResultOf(answers), [])

    def test_answers_that_nobody_takes_are_bounded(self) -> None:
        a, b, c = self.chain(3, limits={"queue_limit": 1}, after=2)
        query = a.query("?", timeout=30)
        self.network.advance(1)
        self.received(b)[0].reply("first")
        self.network.advance(1)
        second = self.received(c)[0].reply("second")
        self.network.advance(5)
        self.assertNoResult(second)  # it waits at its sender
        self.assertEqual(self.result_of(Deferred.fromCoroutine(anext(query))).packets[1], "first")
        self.result_of(second, after=10)
        del query
        gc.collect()

    def test_what_cannot_be(self) -> None:
        query: Any = self.a.query
        self.assertRaises(TypeError, query, object())
        self.assertRaises(ValueError, query, "x", type=1)
        self.assertRaises(LocalError, query, "x", timeout="soon")
        self.assertRaises(NotRunning, self.make().query, "x")
