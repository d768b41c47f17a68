"""Members that cause gaps and failures without end: the events are bounded, and no range is lost."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.meshcase import MeshCase, batch
from twisted_mesh.config import MeshConfig
from twisted_mesh.delivery import losses
from twisted_mesh.delivery.losses import Cause, Losses, Ranges, in_words, joined
from twisted_mesh.errors import PoisonedBody
from twisted_mesh.message import Gap

LIAR, HONEST = b"liar", b"honest"


def cause(sender: bytes, epoch: int = 1, why: str = "nobody has them") -> Cause:
    """The loss of messages of one run."""
    return Cause(sender, epoch, "gap", why)


class LossesCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[tuple[Cause, Ranges]] = []
        self.losses = Losses(self.clock, MeshConfig(), lambda *told: self.told.append(told))
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def numbers(self) -> Counter[tuple[bytes, int, int]]:
        """How often each number was told."""
        return Counter(
            (cause.sender, cause.epoch, number)
            for cause, ranges in self.told
            for first, last in ranges
            for number in range(first, last + 1)
        )


class TestRates(LossesCase):
    def test_one_author_has_twenty_a_minute_and_the_rest_is_told_together(self) -> None:
        for number in range(1, 2001, 2):
            self.losses.add(cause(LIAR), number, number)
        self.assertEqual(len(self.told), 20)
        self.clock.pump([1] * 61)
        self.assertEqual(len(self.told), 21)
        told, ranges = self.told[-1]
        self.assertEqual((told, len(ranges), ranges[:2]), (cause(LIAR), 980, ((41, 41), (43, 43))))
        self.assertEqual(set(self.numbers().values()), {1})
        self.assertEqual((len(self.numbers()), len(self.losses)), (1000, 0))

    def test_a_listener_can_cause_losses_while_it_is_told(self) -> None:
        self.patch(losses, "WAITING_MOST", 2)
        for author in (LIAR, HONEST):
            for number in range(1, 43, 2):
                self.losses.add(cause(author), number, number)
            self.clock.pump([1] * 2)
        self.assertEqual(len(self.losses), 2)

        def tell(*told: Any) -> None:
            self.told.append(told)
            if told[0] == cause(LIAR):
                for number in (43, 45, 47):  # as one that takes messages from a slow queue
                    self.losses.add(cause(HONEST), number, number)

        self.losses._tell = tell
        self.clock.pump([1] * 65)
        self.assertEqual((set(self.numbers().values()), len(self.numbers())), ({1}, 45))
        self.assertEqual(len(self.losses), 0)

    def test_an_author_that_causes_few_does_not_wait_for_one_that_causes_many(self) -> None:
        for epoch in range(1000):
            self.losses.add(cause(LIAR, epoch), 1, 1)
        self.clock.pump([1])
        self.losses.add(cause(HONEST), 1, 5)
        self.assertEqual(self.told[-1], (cause(HONEST), ((1, 5),)))
        self.losses.tell_all()

    def test_many_authors_have_twenty_a_second_together_in_turns(self) -> None:
        for number in range(100):
            for epoch in (1, 2):
                self.losses.add(cause(b"%d" % number, epoch), 1, 1)
        self.losses.add(cause(HONEST), 1, 1)
        counts = [len(self.told)]
        for _ in range(10):
            self.clock.pump([1])
            counts.append(len(self.told))
        self.assertEqual(counts, [20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 201])
        # Each author with something to tell had its turn before any had another one.
        self.assertLess([told.sender for told, _ in self.told].index(HONEST), 120)

    def test_different_causes_are_not_joined(self) -> None:
        for number in range(1, 60, 2):
            self.losses.add(cause(LIAR, why="one"), number, number)
            self.losses.add(cause(LIAR, why="other"), number, number)
        self.losses.tell_all()
        self.assertEqual([told.why for told, _ in self.told[20:]], ["one", "other"])
        self.assertEqual(set(self.numbers().values()), {2})

    def test_if_too_many_ranges_wait_the_oldest_are_told_all_the_same(self) -> None:
        self.patch(losses, "WAITING_MOST", 10)
        for epoch in range(40):
            self.losses.add(cause(LIAR, epoch), 1, 1)
            self.assertLessEqual(len(self.losses), 10)
        self.assertEqual([told.epoch for told, _ in self.told], list(range(30)))
        self.losses.tell_all()
        self.assertEqual(len(self.numbers()), 40)

    def test_whatever_comes_each_loss_is_told_once(self) -> None:
        random = Random(7)
        added: Counter[tuple[bytes, int, int]] = Counter()
        for number in range(5000):
            sender, epoch = b"%d" % random.randrange(30), random.randrange(3)
            self.losses.add(cause(sender, epoch), number, number)
            added[sender, epoch, number] += 1
            self.clock.pump([random.random() / 50])
        self.losses.tell_all()
        self.assertEqual(self.numbers(), added)


class TestWords(SynchronousTestCase):
    def test_ranges_are_joined_where_they_meet(self) -> None:
        self.assertEqual(joined([(7, 9), (1, 2), (3, 4), (8, 8), (11, 11)]), ((1, 4), (7, 9), (11, 11)))

    def test_few_are_named_and_of_many_the_ends(self) -> None:
        self.assertEqual(in_words(((1, 2), (5, 5))), "messages 1 to 2, 5")
        self.assertEqual(in_words(((1, 2), (5, 5)), 1), "messages in 2 ranges from 1 to 5")

    def test_one_is_one(self) -> None:
        self.assertEqual([in_words(((5, 5),)), in_words(((5, 6),))], ["message 5", "messages 5 to 6"])


class TestEvents(MeshCase):
    """Gaps and messages that cannot be read, as an application is told of them."""

    def test_a_member_that_leaves_out_every_other_message(self) -> None:
        a, b = self.chain(2)
        puppet = self.joined(b)
        self.send_frames(puppet, *(batch(puppet.me, number, number) for number in range(1, 202, 2)))
        self.network.advance(300)
        for node in (a, b):
            gaps: list[Gap] = self.happened(node, "gap")
            told = [
                number for gap in gaps for first, last in gap.ranges for number in range(first, last + 1)
            ]
            self.assertEqual(told, list(range(2, 201, 2)))
            self.assertLess(len(gaps), 100)
            self.assertEqual((gaps[-1].first, gaps[-1].last), (gaps[-1].ranges[0][0], 200))
            self.assertEqual(node.footprint()["untold_ranges"], 0)

    def test_the_log_names_the_author_as_people_do(self) -> None:
        a, b = self.linked(self.node(label="web"), self.node(debug_level=1), after=1)
        for kind in ("gap", "poisoned", "cut", "forked"):
            b._delivery._losses.add(Cause(a.id, 1, kind, "no list"), 1, 1)
        name = f"web ({a.id.decode()[:8]})"
        self.assertEqual(
            self.log(name)[-4:],
            [
                f"message 1 of {name} is lost: no list",
                f"message 1 of {name} cannot be read: no list",
                f"message 1 of {name} was delivered here and is not elsewhere: no list",
                f"{name} signed two different messages 1: no list",
            ],
        )
        self.stop(a)
        self.assertEqual(len(self.log(f"link with {name} ended")), 1)

    def test_a_service_that_stops_tells_what_waits(self) -> None:
        node = self.node()
        delivery = node._delivery
        for number in range(1, 100, 2):
            delivery._losses.add(Cause(b"liar", 1, "poisoned", "no list"), number, number)
        self.assertEqual(len(self.happened(node, "failure")), 20)
        self.stop(node)
        *_, last = self.happened(node, "failure")
        self.assertIs(last.type, PoisonedBody)
        self.assertIn("messages 41, 43, ", last.getErrorMessage())
        self.assertIn(", 99 of liar cannot be read: no list", last.getErrorMessage())
