"""Traces: by which way a message came to each node, asked of all at once."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.support.meshcase import MeshCase, batch
from twisted_mesh.core.events import EpochConflict
from twisted_mesh.delivery.traces import ANSWERS_BURST, ASKER_BURST, ASKER_RATE, ASKERS, AT_ONCE, MOST_OPEN
from twisted_mesh.errors import Congested, LocalError, NotRunning, Unreachable
from twisted_mesh.identity import id_of
from twisted_mesh.message import MessageId
from twisted_mesh.runtime import tracing
from twisted_mesh.service import MeshService
from twisted_mesh.trace import Step, Trace
from twisted_mesh.wire.bodies import pack_entry
from twisted_mesh.wire.tracing import MOST_NAMED, LinksAnswer, Told, WayAnswer, WayQuestion

QUESTION_ENTRY, ANSWER_ENTRY = WayQuestion.entry_kind, WayAnswer.entry_kind


class TraceCase(MeshCase):
    """Three nodes in a row: *a* sends, *b* relays, *c* receives."""

    def setUp(self) -> None:
        super().setUp()
        self.a, self.b, self.c = self.chain(3, after=1)

    def publish(self, after: float = 1, **options: Any) -> MessageId:
        """A message of *a* to everybody."""
        receipt = self.a.send("fire", receipt=True, **options)
        self.network.advance(after)
        assert receipt.id is not None
        return receipt.id

    def trace(self, id: MessageId, asker: MeshService | None = None, after: float = 1) -> dict[str, Step]:
        """What each node says, by id."""
        traced: Trace = self.result_of((asker or self.a).trace(id), after=after)
        return {step.id: step for step in traced.steps}


class TestTrace(TraceCase):
    def test_each_node_says_from_whom_it_came_first_and_to_whom_it_was_pushed(self) -> None:
        id = self.publish()
        a, b, c = (node.id.decode() for node in (self.a, self.b, self.c))
        for asker in (self.a, self.b, self.c):
            steps = self.trace(id, asker)
            self.assertEqual({step.state for step in steps.values()}, {"came"})
            self.assertEqual([steps[each].source for each in (a, b, c)], [None, a, b])
            self.assertEqual([steps[each].pushed_to for each in (a, b, c)], [[b], [c], []])
            self.assertEqual([steps[each].hops for each in (a, b, c)], [0, 0, 1])
            self.assertEqual([steps[each].repaired for each in (a, b, c)], [False] * 3)
            self.assertEqual([steps[each].taken for each in (a, b, c)], [True] * 3)
            self.assertEqual(next(iter(steps)), asker.id.decode())

    def test_the_author_may_be_named_by_its_id(self) -> None:
        _, epoch, sequence = self.publish()
        for asker in (self.a, self.c):
            steps = self.trace((self.a.id, epoch, sequence), asker)
            self.assertEqual({step.state for step in steps.values()}, {"came"})

    def test_it_names_the_message_and_measures_on_each_node(self) -> None:
        queue = self.c.messages()
        id = self.publish()
        traced: Trace = self.result_of(self.c.trace(id), after=1)
        self.assertEqual((traced.author, traced.epoch, traced.sequence), (self.a.id.decode(), *id[1:]))
        own = traced.steps[0]
        self.assertEqual((own.taken, own.held_seconds), (False, None))
        self.result_of(queue.__anext__())
        self.network.advance(3)
        own = self.trace(id, self.c)[self.c.id.decode()]
        self.assertTrue(own.taken)
        assert own.held_seconds is not None
        self.assertAlmostEqual(own.held_seconds, 2, delta=0.5)
        self.assertEqual(own.age_seconds, 5)

    def test_a_consumer_with_a_name_has_taken_it_when_it_asks_for_the_next(self) -> None:
        messages = self.c.messages(name="billing")
        id = self.publish()
        self.assertIsNotNone(messages.take())
        self.network.advance(1)
        own = self.trace(id, self.c)[self.c.id.decode()]
        self.assertEqual((own.taken, own.held_seconds), (False, None))
        self.assertIsNone(messages.take())
        self.network.advance(1)
        own = self.trace(id, self.c)[self.c.id.decode()]
        self.assertTrue(own.taken)
        self.assertGreater(own.held_seconds or 0, 1)

    def test_the_application_hears_nothing_of_it(self) -> None:
        id = self.publish()
        before = [len(self.received(node)) for node in (self.a, self.b, self.c)]
        self.trace(id)
        self.assertEqual([len(self.received(node)) for node in (self.a, self.b, self.c)], before)

    def test_who_does_not_answer_and_who_has_it_not(self) -> None:
        link = self.network.between(self.host(self.b), self.host(self.c))[1]
        link.reads = False
        later = self.publish(after=0.5)
        steps = self.trace(later, after=6)
        self.assertEqual(steps[self.c.id.decode()].state, "silent")
        link.reads = True
        self.network.advance(10)
        self.assertEqual(self.trace(later)[self.c.id.decode()].state, "came")
        steps = self.trace((*later[:2], later[2] + 1))
        self.assertEqual({step.state for step in steps.values()}, {"missing"})

    def test_a_message_that_was_pulled_is_told_as_such(self) -> None:
        self.network.part([self.host(self.a)], [self.host(self.b), self.host(self.c)])
        self.network.advance(20)
        receipt = self.a.send("fire", receipt=True)
        self.network.advance(20)
        self.network.heal()
        self.network.advance(60)
        assert receipt.id is not None
        steps = self.trace(receipt.id)
        self.assertTrue(steps[self.b.id.decode()].repaired)
        self.assertFalse(steps[self.c.id.decode()].repaired)

    def test_a_member_that_is_down_is_not_waited_for(self) -> None:
        id = self.publish()
        self.kill(self.c)
        self.network.advance(60)
        steps = self.trace(id, after=0.5)
        self.assertEqual(steps[self.c.id.decode()].state, "down")
        self.assertEqual(steps[self.b.id.decode()].state, "came")

    def test_a_member_that_is_suspect_is_asked_and_not_waited_for_in_full(self) -> None:
        id = self.publish()
        self.kill(self.c)
        self.network.advance(0.1)
        self.assertEqual(self.a.members[self.c.id].state, "suspect")
        steps = self.trace(id, after=1)
        self.assertEqual([steps[node.id.decode()].state for node in (self.b, self.c)], ["came", "silent"])

    def test_of_many_batches_the_oldest_way_is_forgotten(self) -> None:
        small = self.node(limits={"ways_limit": 2})
        self.linked(self.b, small, after=1)
        ids = [self.publish() for _ in range(3)]
        states = [self.trace(id)[small.id.decode()].state for id in ids]
        self.assertEqual(states, ["forgotten", "came", "came"])
        self.assertEqual(small.footprint()["ways"], 2)


class TestGraph(TraceCase):
    def test_each_node_says_who_its_neighbours_are(self) -> None:
        a, b, c = (node.id.decode() for node in (self.a, self.b, self.c))
        for asker in (self.a, self.c):
            told = self.result_of(asker.graph(), after=1)
            found = {each.id: (each.state, set(each.neighbours)) for each in told}
            self.assertEqual(found, {a: ("up", {b}), b: ("up", {a, c}), c: ("up", {b})})

    def test_those_that_do_not_answer_are_told_as_such(self) -> None:
        self.network.between(self.host(self.b), self.host(self.c))[1].reads = False
        told = self.result_of(self.a.graph(timeout=1), after=1)
        found = {each.id: (each.state, each.neighbours) for each in told}
        self.assertEqual(found[self.c.id.decode()], ("silent", []))

    def test_the_answer_to_another_question_is_none(self) -> None:
        asked = self.a.graph()
        self.parts_of(self.b).tracing.traces._look = lambda question: self.parts_of(self.b).reporting.way(
            (b"x" * 32, 1), 1
        )
        self.network.advance(1)
        found = {each.id: each.state for each in self.successResultOf(asked)}
        self.assertEqual(found[self.b.id.decode()], "silent")

    def lies(self, answer: Told) -> None:
        """Let *b* answer so from now on."""
        self.parts_of(self.b).tracing.traces._look = lambda question: answer

    def test_of_the_nodes_that_an_answer_names_those_count_that_the_asker_knows(self) -> None:
        a, c = (node._settings.identity.origin for node in (self.a, self.c))
        made_up = [bytes([number]) * 32 for number in range(MOST_NAMED - 4)]
        self.lies(LinksAnswer([*made_up, c, a, c, a]))
        before = id_of.cache_info().misses
        told = self.result_of(self.a.graph(), after=1)
        found = {each.id: each.neighbours for each in told}
        self.assertEqual(found[self.b.id.decode()], [self.c.id.decode(), self.a.id.decode()])
        self.lies(WayAnswer(1, made_up[0], False, 0, 0, True, 0, [*made_up, c, c]))
        step = self.trace((a, 1, 1))[self.b.id.decode()]
        self.assertEqual((step.source, step.pushed_to), (None, [self.c.id.decode()]))
        self.assertEqual(id_of.cache_info().misses, before)
        kept = tracing._known({c: c}, 1, LinksAnswer([bytes(bytearray(c))]))
        assert isinstance(kept, LinksAnswer)
        self.assertIs(kept.neighbours[0], c)  # not the copy that came with the answer

    def test_all_answers_together_name_so_many_nodes(self) -> None:
        self.patch(tracing, "NAMED", 3)
        self.patch(tracing, "NAMED_EACH", 1)
        told = self.result_of(self.a.graph(), after=1)
        self.assertEqual([len(each.neighbours) for each in told], [1, 1, 1])


class TestLag(TraceCase):
    def lag(self, after: float = 1) -> dict[str, tuple[str, int | None, int | None]]:
        """What each node says, by id."""
        told = self.result_of(self.a.lag(1), after=after)
        return {each.id: (each.state, each.missing, each.untaken) for each in told}

    def test_each_node_says_how_many_messages_it_lacks(self) -> None:
        a, b, c = (node.id.decode() for node in (self.a, self.b, self.c))
        self.assertEqual(self.lag(), dict.fromkeys((a, b, c), ("up", 0, 0)))
        messages = self.c.messages()
        puppet = self.joined(self.b)
        self.send_frames(puppet, *(batch(puppet.me, number, "x") for number in (1, 3, 6)), after=1)
        self.assertEqual(self.lag(), {a: ("up", 3, 0), b: ("up", 3, 0), c: ("up", 3, 1)})
        messages.close()
        self.assertEqual(self.lag()[c], ("up", 3, 0))
        # It is looked up once a second.
        reporting = self.parts_of(self.b).reporting
        first = reporting.lag()
        self.assertIs(reporting.lag(), first)
        self.network.advance(1)
        self.assertIsNot(reporting.lag(), first)
        self.network.between(self.host(self.b), self.host(self.c))[1].reads = False
        self.assertEqual(self.lag()[c], ("silent", None, None))


class TestAsking(TraceCase):
    def ask(self, **options: Any) -> Deferred[Trace]:
        """A trace of a message that nobody has."""
        return self.a.trace((self.a._settings.identity.origin, 1, 1), **options)

    def test_what_cannot_be_asked(self) -> None:
        for wrong, kind in (
            ("x", TypeError),
            ((b"x" * 32, 1), TypeError),
            ((b"", 1, 1), ValueError),
            ((b"x" * 32, 1, -1), ValueError),
        ):
            self.assertRaises(kind, self.a.trace, wrong)
        self.failureResultOf(self.a.trace((b"x" * 64, 1, 1)), Unreachable)
        self.assertRaises(LocalError, self.a.trace, (b"x" * 32, 1, 1), timeout=-1)
        self.assertRaises(NotRunning, self.make().trace, (b"x" * 32, 1, 1))

    def test_one_trace_too_many_is_refused(self) -> None:
        asked = [self.ask() for _ in range(MOST_OPEN)]
        self.failureResultOf(self.ask(), Congested)
        self.assertEqual(self.a.footprint()["traces"], MOST_OPEN)
        self.network.advance(1)
        for each in asked:
            self.successResultOf(each)
        self.assertEqual(self.a.footprint()["traces"], 0)

    def test_one_that_is_cancelled_waits_no_more(self) -> None:
        asked = self.ask()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(self.a.footprint()["traces"], 0)
        self.network.advance(10)

    def test_it_ends_with_the_service_and_with_the_run(self) -> None:
        asked = self.ask()
        self.parts_of(self.a)._epoch_conflict(EpochConflict(self.status_of(self.a).stream[1]))
        self.assertEqual(
            [step.state for step in self.successResultOf(asked).steps], ["missing", "silent", "silent"]
        )
        self.network.advance(10)
        asked = self.ask()
        self.a.stopService()
        self.network.advance(10)
        self.successResultOf(asked)

    def test_more_nodes_than_are_asked_at_once(self) -> None:
        traces = self.parts_of(self.a).tracing.traces
        origins = [bytes([number]) * 32 for number in range(AT_ONCE + 1)]
        asked = traces.ask(WayQuestion(origins[0], 1, 1), origins, lambda answer: answer, 2.0)
        self.network.advance(1)  # nobody has heard of them
        self.assertEqual(self.successResultOf(asked), {})


class TestAnswering(TraceCase):
    def direct(self, *entry: object, answers: MessageId | None = None) -> None:
        """Send *b* a direct message of *a* that holds *entry*."""
        directs = self.parts_of(self.a).directs
        packed = pack_entry(0, entry[1:])
        packed = packed[:1] + bytes((entry[0],)) + packed[2:]  # type: ignore[arg-type]
        directs.send(self.b._settings.identity.origin, "b", packed, answers)

    def test_more_questions_than_are_answered_in_a_second(self) -> None:
        origin = self.a._settings.identity.origin
        for _ in range(ASKER_BURST + 5):
            self.direct(QUESTION_ENTRY, origin, 1, 1)
        self.network.advance(1)
        self.assertEqual(self.b.dropped["dropped_traces"], 5)
        self.network.advance(1 / ASKER_RATE)
        self.direct(QUESTION_ENTRY, origin, 1, 1)
        self.network.advance(1)
        self.assertEqual(self.b.dropped["dropped_traces"], 5)

    def test_a_node_that_asks_too_often_takes_no_answers_of_others(self) -> None:
        id = self.publish()
        for _ in range(3 * ANSWERS_BURST):
            self.direct(QUESTION_ENTRY, *id)
        self.network.advance(0.5)
        self.assertEqual(self.trace(id, self.c)[self.b.id.decode()].state, "came")
        self.assertEqual(self.b.footprint()["trace_askers"], 2)

    def test_more_questions_of_many_nodes_than_are_answered(self) -> None:
        traces = self.parts_of(self.b).tracing.traces
        origins = [number.to_bytes(32, "big") for number in range(ASKERS + 1)]
        self.assertEqual(sum(map(traces._may_ask, origins)), ANSWERS_BURST)
        self.assertEqual(self.b.footprint()["trace_askers"], ASKERS)

    def test_what_is_no_question_and_no_answer_is_ignored(self) -> None:
        asked = self.b.trace((self.a._settings.identity.origin, 1, 1))
        run = self.parts_of(self.b)
        for entry in (
            (QUESTION_ENTRY, 1),
            (ANSWER_ENTRY, "x"),
            (ANSWER_ENTRY, 1, None, False, 0, 0, True, 0, []),
        ):
            self.direct(*entry, answers=(*run._stream(), -99))
        self.network.advance(1)
        self.assertEqual([step.state for step in self.successResultOf(asked).steps], ["missing"] * 3)
        self.assertEqual(self.received(self.b), [])
