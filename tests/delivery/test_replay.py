"""A newcomer that asks for what was sent before it came."""

from __future__ import annotations

from tests.support.meshcase import MeshCase
from twisted_mesh.errors import LocalError
from twisted_mesh.service import MeshService


class TestReplay(MeshCase):
    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = self.chain(2, limits={"history_seconds": 20})
        for number in range(10):  # one message a second, the last one now
            self.network.advance(1)
            self.send(self.a, number)
        self.send(self.b, "b's")

    def join(self, replay: float | str | None, through: MeshService) -> MeshService:
        newcomer = self.node(replay=replay)
        self.link((newcomer, through), after=2)
        return newcomer

    def test_without_it_a_newcomer_starts_with_what_is_sent_from_then_on(self) -> None:
        c = self.join(None, self.b)
        self.send(self.a, "next")
        self.assertEqual(self.got(c), ["next"])

    def test_all_that_is_held_is_delivered_in_order_and_once(self) -> None:
        for through in (self.b, self.a):
            c = self.join("all", through)
            self.send(self.a, "next")
            self.assertEqual(self.got(c, self.b), ["b's"])
            self.assertEqual(self.got(c, self.a), [*range(10), "next", "next"][: 11 + (through is self.a)])
            self.assertEqual(self.happened(c, "gap"), [])

    def test_seconds_count_since_the_answering_node_received_it(self) -> None:
        c = self.join(3.5, self.b)  # the wire carries whole seconds, rounded up
        self.assertEqual(self.got(c, self.a), [5, 6, 7, 8, 9])
        self.assertEqual(self.got(c, self.b), ["b's"])

    def test_what_is_not_held_any_more_is_not_asked_for(self) -> None:
        self.network.advance(13)
        c = self.join("all", self.b)
        self.assertEqual(self.happened(c, "gap"), [])
        self.assertEqual(self.got(c, self.a), list(range(10))[-len(self.got(c, self.a)) :])
        self.assertTrue(0 < len(self.got(c, self.a)) < 10)

    def test_a_node_that_is_settled_is_not_told_again_what_it_has(self) -> None:
        c = self.join("all", self.b)
        before = self.got(c)
        self.link((c, self.a))
        self.unlink(c, self.b, after=61)
        self.link((c, self.b), after=5)
        self.assertEqual(self.got(c), before)

    def test_what_it_may_be(self) -> None:
        for wrong in (0, -1, True, float("nan"), float("inf"), 2**62, "ALL", "60", b"all", [1]):
            error = self.assertRaises(LocalError, self.make, replay=wrong)
            self.assertEqual(str(error), f"replay is a positive number of seconds or 'all', not {wrong!r}")
