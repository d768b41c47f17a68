"""Named consumers of the application: where they begin, and the receipts that wait for them."""

from __future__ import annotations

from math import inf

from tests.core.network import asking, of, origin_of
from tests.core.replies_case import RepliesTestCase
from twisted_mesh.core.events import Behind, Consumers, Effect, Place, Placed, Taken, Timer, Unplaced

DORA = (origin_of("dora"), 1)


class TestConsumers(RepliesTestCase):
    """Dora is the author; the application has a consumer of the name "billing"."""

    def begin(self, **limits: float) -> None:
        super().begin(**limits)
        self.handle(Consumers({"billing": 0}))

    def take_by(self, handlers: int, billing: int) -> list[Effect]:
        """The application has taken messages of Dora."""
        return self.handle(Taken(DORA, handlers, {"billing": billing}))

    def test_a_new_one_is_told_what_is_held_for_it(self) -> None:
        self.get(1, 3)
        told = of(self.handle(Place("billing", inf)), Placed)
        self.assertEqual(told, [Placed("billing", [Behind(DORA, 0, 3)])])
        self.assertEqual(of(self.handle(Place("audit", 0.0)), Placed), [Placed("audit", [])])

    def test_a_receipt_says_what_the_slowest_has_taken(self) -> None:
        self.receive(1, asking("dora", 1, 3))
        self.no_receipts(self.take_by(3, 0) + self.wait(1))
        self.assertEqual(self.receipts(self.take_by(3, 2) + self.wait(1), 1), [("me", 1, 2)])
        self.assertEqual(self.receipts(self.take_by(3, 3) + self.wait(1), 1), [("me", 1, 3)])

    def test_messages_that_it_did_not_take_within_the_retention_are_missed(self) -> None:
        self.receive(1, asking("dora", 1, 3))
        self.take_by(3, 1)
        self.wait(1)
        effects = self.fire(Timer.AGE, self.now + 500) + self.wait(1)
        self.assertEqual(self.receipts(effects, 1), [("me", 1, 1)])  # again, since it may be lost
        self.receive(1, asking("dora", 4, 1))
        effects = self.fire(Timer.AGE, self.now + 200) + self.wait(1)
        self.assertEqual(self.receipts(effects, 1), [("me", 1, 1), ("me", 4, 3)])
        self.assertEqual(self.receipts(self.take_by(4, 4) + self.wait(1), 1), [("me", 1, 1), ("me", 4, 4)])

    def test_it_is_told_if_there_is_no_room_for_what_it_lacks(self) -> None:
        self.begin(open_streams=2)
        self.get(1, 3)
        self.take_by(3, 1)
        told = [of(self.get(1, 1, author), Unplaced) for author in ("emil", "fred")]
        self.assertEqual(told[-1], [Unplaced(DORA)])
