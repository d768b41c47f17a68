"""Members that are forgotten, and nodes that leave for good, on a Clock."""

from __future__ import annotations

from typing import Any

from tests.delivery.test_members import MembersCase
from twisted_mesh.core.replies.receipt_tracker import ReceiptTracker
from twisted_mesh.errors import LocalError, NotRunning
from twisted_mesh.service import MeshService


class ForgettingCase(MembersCase):
    """Nodes a - b - c in a row with keys of their own; d hangs on b."""

    def setUp(self) -> None:
        super().setUp()
        self.a, self.b, self.c = self.keyed(), self.keyed(), self.keyed(debug_level=1)
        self.d = self.keyed(label="old")
        self.link((self.a, self.b), (self.b, self.c), (self.b, self.d), after=10)

    def forget(self, asker: MeshService, member: MeshService) -> None:
        """Let *asker* have *member* forgotten everywhere."""
        asker.forget(member.id)
        self.network.pump()


class TestForget(ForgettingCase):
    def test_a_member_that_left_leaves_the_members_of_all_nodes_until_it_is_back(self) -> None:
        self.stop(self.d)
        self.forget(self.a, self.d)
        old, asker = (node.id.decode()[:8] for node in (self.d, self.a))
        told = f"member old ({old}) is forgotten: {asker} asked for that"
        self.assertIn(told, self.log("member "))
        self.assertEqual([self.state(node, self.d) for node in (self.a, self.b, self.c)], [None] * 3)
        self.assertEqual([self.told(node, self.d)[-1] for node in (self.a, self.c)], ["gone", "gone"])
        self.d.startService()
        self.link((self.d, self.c), after=1)
        self.assertEqual([self.state(node, self.d) for node in (self.a, self.b, self.c)], ["up"] * 3)

    def test_the_receipts_of_the_asker_wait_for_it_no_more_and_those_of_others_name_the_asker(self) -> None:
        self.stop(self.d)
        own, other = self.a.send("one", receipt=True), self.c.send("two", receipt=True)
        self.network.advance(1)
        waiting = own.complete(60)
        self.assertNoResult(waiting)
        self.forget(self.a, self.d)
        self.assertIs(self.successResultOf(waiting), own)
        self.assertEqual((own.pending, own.missed, own.forgotten), (set(), set(), {}))
        self.assertEqual((other.missed, other.pending, other.is_complete), ({self.d.id}, set(), False))
        self.assertEqual(other.forgotten, {self.d.id: self.a.id})

    def test_a_forgotten_member_costs_no_look_at_receipts_that_it_has_not_missed(self) -> None:
        looks: list[int] = []
        of = ReceiptTracker.of
        self.patch(
            ReceiptTracker, "of", lambda tracker, sequence: looks.append(sequence) or of(tracker, sequence)
        )
        self.stop(self.d)
        asked = [self.c.send(number, receipt=True) for number in range(20)]
        newcomer = self.keyed()
        self.link((newcomer, self.b), after=10)
        self.stop(newcomer)
        self.assertEqual(self.c.footprint()["receipts"], 20)
        looks.clear()
        self.forget(self.a, newcomer)
        self.assertEqual((self.state(self.c, newcomer), looks), (None, []))
        self.assertEqual(self.c.footprint()["receipts_forgotten"], 0)
        self.forget(self.a, self.d)
        self.assertEqual(len(looks), 20)  # now no member is pending, which each receipt reports once
        self.assertEqual(self.c.footprint()["receipts_forgotten"], 20)
        self.assertEqual([one.forgotten for one in asked], [{self.d.id: self.a.id}] * 20)

    def test_what_cannot_be(self) -> None:
        self.assertRaises(ValueError, self.a.forget, self.d.id)  # it is up
        self.assertRaises(ValueError, self.a.forget, b"1")
        self.assertRaises(ValueError, self.a.forget, self.a.id)
        wrong: Any = "1"
        self.assertRaises(TypeError, self.a.forget, wrong)
        self.assertRaises(NotRunning, self.make().forget, self.d.id)
        guest = self.node(role="guest")
        self.link((guest, self.a), after=1)
        self.stop(self.d)
        self.assertRaises(LocalError, guest.forget, self.d.id)
        self.assertEqual(self.state(self.a, self.d), "left")


class TestRetire(ForgettingCase):
    def test_a_node_that_leaves_for_good_is_waited_for_by_nobody_and_a_minute_later_on_no_list(
        self,
    ) -> None:
        stopped = self.d.stopService(retire=True)
        self.network.advance(1)
        self.successResultOf(stopped)
        self.assertEqual(self.state(self.a, self.d), "left")
        receipt = self.a.send("one", receipt=True)
        self.network.advance(1)
        self.assertTrue(receipt.is_complete)
        self.assertEqual(receipt.delivered, {self.b.id, self.c.id})
        self.network.advance(70)
        self.assertEqual(self.state(self.a, self.d), None)
        self.d.startService()
        self.link((self.d, self.b), after=1)
        self.assertEqual(self.state(self.a, self.d), "up")
