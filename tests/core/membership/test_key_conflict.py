"""A key conflict: another node has the own key and a newer run, until it stops."""

from __future__ import annotations

from random import Random

from tests.core.membership_case import MembershipTestCase
from tests.core.network import batch, closing, forged, local_node, of, presence, roster, suspect
from tests.core.node_case import ALL, contact
from twisted_mesh.core.events import (
    Close,
    Dial,
    DialFailed,
    Effect,
    EpochConflict,
    KeyInUse,
    Leaving,
    SameKey,
)
from twisted_mesh.core.handshake import Profile
from twisted_mesh.core.renewal import NEW_RUN_PAUSE
from twisted_mesh.errors import Reason
from twisted_mesh.wire.membership import PresenceFlags, Purpose
from twisted_mesh.wire.signed import SignedRecord

INTERVAL = 30.0  # ``presence_interval``


class ConflictTestCase(MembershipTestCase):
    """A node "me" of run 1 with the neighbours Anna and Bert."""

    def setUp(self) -> None:
        super().setUp()
        self.star("anna", "bert")
        self.receive(1, presence("anna"), presence("bert"))

    def other(self, counter: int = 1, epoch: int = 2, flags: int = 0, host: str = "") -> SignedRecord:
        """A record of the other node with the own key, which can be dialled at *host* if there is one."""
        address = (host, 4444) if host else None
        return presence("me", counter, epoch=epoch, flags=flags, address=address)

    def in_use(self, effects: list[Effect]) -> list[KeyInUse]:
        """The events that tell that the key is used elsewhere."""
        return of(effects, KeyInUse)

    def begins(self, effects: list[Effect]) -> list[EpochConflict]:
        """The events that ask for a new run, above the epoch in them."""
        return of(effects, EpochConflict)


class TestTheOthersWord(ConflictTestCase):
    """While there is another node with the key, that one is shown everywhere."""

    def test_its_records_go_on_like_any_others(self) -> None:
        effects = self.receive(1, self.other())
        self.assertEqual((self.presences(effects, 2), self.presences(effects, 1)), ([("me", 1, 0)], []))
        effects = self.receive(2, self.other())
        self.assertEqual(self.presences(effects, 1), [])
        effects = self.receive(2, self.other(2))
        self.assertEqual(self.presences(effects, 1), [("me", 2, 0)])

    def test_this_node_says_nothing_of_itself(self) -> None:
        self.receive(1, self.other())
        effects = self.wait(INTERVAL * 2) + self.receive(1, suspect("anna", "me"))
        effects += self.handle(Leaving())
        self.assertEqual(self.presences(effects, 1) + self.presences(effects, 2), [])

    def test_nor_before_its_first_link_is_up(self) -> None:
        self.make()
        self.open(1, "anna")
        self.receive(1, self.other())
        effects = self.receive(1, ALL)
        self.assertEqual(self.presences(effects, 1), [])

    def test_whom_it_links_with_is_told_of_the_other_node(self) -> None:
        self.receive(1, self.other(7))
        self.wait(10)
        told = self.told(self.open(3, "cleo"), 3)
        self.assertEqual(told["me"], (7, 10_000))

    def test_it_accuses_nobody(self) -> None:
        # A suspicion by this node would be taken for the other node's.
        self.receive(1, self.other())
        effects = self.handle(closing(1, Reason.LOST))
        self.assertEqual(self.suspicions(effects, 2), [])


class TestProof(ConflictTestCase):
    """What proves that the other node runs now; late records may be of a forgotten own run."""

    def test_one_that_speaks_on_is_proven_once(self) -> None:
        self.assertEqual(self.in_use(self.receive(1, self.other())), [KeyInUse(2)])
        self.wait(5)
        self.assertEqual(self.in_use(self.receive(1, self.other(2))), [KeyInUse(2, proven=True)])
        self.wait(5)
        self.assertEqual(self.in_use(self.receive(1, self.other(3))), [])

    def test_nothing_that_is_said_again_proves_anything(self) -> None:
        self.receive(1, self.other(5))
        self.wait(5)
        again = (self.other(5), self.other(4), roster(self.other(5)))
        self.up(3, "cleo")
        for number, record in ((1, again[0]), (2, again[1]), (3, again[2])):
            self.assertEqual(self.in_use(self.receive(number, record)), [])

    def test_nor_what_was_still_on_its_way(self) -> None:
        self.receive(1, self.other())
        self.wait(1)
        self.assertEqual(self.in_use(self.receive(2, self.other(2))), [])

    def test_nor_what_a_roster_tells_that_came_before(self) -> None:
        self.receive(1, self.other())
        self.wait(5)
        self.up(3, "cleo")
        self.assertEqual(self.in_use(self.receive(3, roster(self.other(2), age=20_000))), [])

    def test_nor_that_it_has_stopped(self) -> None:
        self.receive(1, self.other())
        self.wait(5)
        effects = self.receive(1, self.other(2, flags=PresenceFlags.LEAVING))
        self.assertEqual(self.in_use(effects), [])

    def test_nor_a_record_behind_messages_of_that_run(self) -> None:
        # Messages are held and handed on for long after their run.
        self.assertEqual(self.in_use(self.receive(1, batch("me", 1, epoch=2))), [KeyInUse(2)])
        self.wait(5)
        self.assertEqual(self.in_use(self.receive(1, self.other())), [])


class TestMeeting(ConflictTestCase):
    """The other node has proven in a handshake with this one that it has the key."""

    def setUp(self) -> None:
        super().setUp()
        self.make(epoch=5)  # with nobody else there

    def meet(self, epoch: int, outgoing: bool = True) -> list[Effect]:
        """Meet the other node in its run *epoch*; assert that the link to it is closed."""
        effects = self.handle(SameKey(9, epoch, outgoing))
        (close,) = of(effects, Close)
        self.assertEqual((close.link, close.reason), (9, Reason.KEY))
        self.assertIn("give each an identity of its own", close.detail)
        return effects

    def test_a_later_run_is_proven_at_once(self) -> None:
        for outgoing in (True, False):
            self.make(epoch=5)
            self.assertEqual(self.in_use(self.meet(7, outgoing)), [KeyInUse(7), KeyInUse(7, proven=True)])
            self.assertTrue(self.node.has_key_conflict)
            self.assertEqual(self.in_use(self.meet(7, outgoing)), [])

    def test_so_is_one_of_which_a_record_had_come(self) -> None:
        self.up(1, "anna")
        self.assertEqual(self.in_use(self.receive(1, self.other(epoch=7))), [KeyInUse(7)])
        self.assertEqual(self.in_use(self.meet(7)), [KeyInUse(7, proven=True)])

    def test_an_earlier_run_changes_nothing(self) -> None:
        for outgoing in (True, False):
            effects = self.meet(3, outgoing)
            self.assertEqual((self.in_use(effects), self.begins(effects)), ([], []))
            self.assertFalse(self.node.has_key_conflict)

    def test_of_one_number_for_two_runs_the_end_that_was_dialled_begins_another(self) -> None:
        self.assertEqual(self.begins(self.meet(5, outgoing=True)), [])
        self.assertEqual(self.begins(self.meet(5, outgoing=False)), [EpochConflict(5)])
        self.assertFalse(self.node.has_key_conflict)

    def test_of_one_number_for_two_runs_again_a_minute_passes_first(self) -> None:
        self.assertEqual(self.begins(self.meet(5, outgoing=False)), [EpochConflict(5)])
        self.node, _ = self.node.next_run(local_node("me", 6), Random(1))
        self.assertEqual(self.begins(self.meet(6, outgoing=False)), [])
        self.assertEqual(self.begins(self.wait(NEW_RUN_PAUSE - 1)), [])
        self.assertEqual(self.begins(self.wait(1)), [EpochConflict(6)])

    def test_a_new_run_begins_once_it_was_not_met_for_long(self) -> None:
        self.meet(7)
        self.wait(2 * INTERVAL)
        self.meet(7)
        self.assertEqual(self.begins(self.wait(3 * INTERVAL - 1)), [])
        self.assertEqual(self.begins(self.wait(1)), [EpochConflict(7)])

    def test_who_is_met_is_suspected_no_more(self) -> None:
        self.star("anna")
        self.receive(1, presence("anna"))
        self.receive(1, self.other(), suspect("anna", "me", 1, epoch=2))
        self.wait(5)
        self.meet(2)
        self.assertEqual(self.begins(self.wait(3 * INTERVAL - 1)), [])


class TestTheEnd(ConflictTestCase):
    """When the other node is gone, a new run begins above its epoch."""

    def test_when_it_has_said_that_it_stops(self) -> None:
        self.receive(1, self.other())
        self.wait(5)
        effects = self.receive(1, self.other(2, flags=PresenceFlags.LEAVING)) + self.wait(0)
        self.assertEqual(self.begins(effects), [EpochConflict(2)])

    def test_when_a_roster_says_that_it_has_stopped_or_is_down(self) -> None:
        for flags, age in ((PresenceFlags.LEAVING, 1000), (0, 3 * INTERVAL * 1000)):
            self.setUp()
            self.up(3, "cleo")
            effects = self.receive(3, roster(self.other(flags=flags), age=age)) + self.wait(0)
            self.assertEqual(self.in_use(effects), [KeyInUse(2)])
            self.assertEqual(self.begins(effects), [EpochConflict(2)])

    def test_when_it_has_said_nothing_for_long(self) -> None:
        self.receive(1, self.other())
        self.wait(INTERVAL)
        self.receive(1, self.other(2))
        self.assertEqual(self.begins(self.wait(3 * INTERVAL - 1)), [])
        self.assertEqual(self.begins(self.wait(1)), [EpochConflict(2)])

    def test_when_only_its_messages_came_and_nobody_has_a_record(self) -> None:
        self.receive(1, batch("me", 1, epoch=8))
        self.assertEqual(self.begins(self.wait(3 * INTERVAL - 1)), [])
        self.assertEqual(self.begins(self.wait(4)), [EpochConflict(8)])

    def test_when_a_neighbour_has_lost_it_and_it_says_nothing(self) -> None:
        self.receive(1, self.other())
        effects = self.receive(1, suspect("anna", "me", 1, epoch=2))
        self.assertEqual(self.suspicions(effects, 2), [("anna", "me", 1)])  # it must hear of it
        self.assertEqual(self.begins(self.wait(14)), [])
        self.assertEqual(self.begins(self.wait(1)), [EpochConflict(2)])

    def test_not_when_it_refutes_that(self) -> None:
        self.receive(1, self.other())
        self.receive(1, suspect("anna", "me", 1, epoch=2))
        self.wait(5)
        self.receive(2, self.other(2))
        self.assertEqual(self.begins(self.wait(30)), [])

    def test_not_when_an_older_record_is_suspected_or_by_whom_nobody_knows(self) -> None:
        self.receive(1, self.other(3))
        effects = self.receive(1, suspect("anna", "me", 2, epoch=2), suspect("dora", "me", 3, epoch=2))
        self.assertEqual(self.presences(effects, 1), [])  # it knows that one
        self.assertEqual(self.begins(self.wait(30)), [])

    def test_the_time_this_node_was_held_up_itself_does_not_count(self) -> None:
        self.receive(1, self.other())
        self.now += 200
        self.assertEqual(self.begins(self.wait(0)), [])
        self.assertEqual(self.begins(self.wait(3 * INTERVAL)), [EpochConflict(2)])

    def test_at_most_once_a_minute_however_many_later_runs_there_were(self) -> None:
        # The key's epochs were lost, and the clock went back: an attacker has kept what it signed.
        leaving = PresenceFlags.LEAVING
        effects = self.receive(1, self.other(flags=leaving)) + self.wait(0)
        self.assertEqual(self.begins(effects), [EpochConflict(2)])
        self.node, _ = self.node.next_run(local_node("me", 3), Random(1))
        self.up(3, "cleo")
        self.receive(3, self.other(epoch=4, flags=leaving), self.other(epoch=5, flags=leaving))
        self.assertTrue(self.node.has_key_conflict)
        self.assertEqual(self.begins(self.wait(NEW_RUN_PAUSE - 1)), [])
        self.assertEqual(self.begins(self.wait(1)), [EpochConflict(5)])

    def test_where_no_run_can_begin_it_is_tried_again_in_key_retry(self) -> None:
        self.receive(1, self.other(flags=PresenceFlags.LEAVING))
        self.wait(0)
        self.assertEqual(self.begins(self.wait(14)), [])
        self.assertEqual(self.begins(self.wait(1)), [EpochConflict(2)])


class TestDials(ConflictTestCase):
    """During a conflict, others are dialled seldom."""

    manner: dict[str, object] = {"profile": Profile(overlay=True)}

    def dials(self, seconds: float) -> int:
        """How many nodes are dialled in that time, of which none lets this one in."""
        count, until = 0, self.now + seconds
        while self.now < until:
            for dial in of(self.wait(0.5), Dial):
                self.handle(DialFailed(dial.contact.id))
                count += 1
        return count

    def test_none_more_often_than_once_in_key_retry(self) -> None:
        for is_in_use in (False, True):
            self.star("anna", authors_burst=100)
            for number in range(40):
                address = (f"192.0.2.{number}", 4444)
                self.receive(1, presence(f"author {number}", address=address))
            if not is_in_use:
                self.assertGreater(self.dials(60), 10)
            else:
                self.receive(1, self.other())
                self.assertIn(self.dials(60), (3, 4))

    def test_the_other_node_is_dialled_where_it_says_it_is_so_that_both_can_prove_themselves(self) -> None:
        self.star("anna")
        self.receive(1, presence("anna"), self.other(host="192.0.2.2"))
        dials = of(self.wait(5), Dial)
        self.assertEqual(dials, [Dial(contact("me", "192.0.2.2"), Purpose.EXCHANGE)])
        self.handle(DialFailed(contact("me").id))
        self.receive(1, self.other(2, host="192.0.2.2"))
        self.assertEqual(self.dials(50), 0)  # of ``dial_again``
        self.assertEqual(self.dials(15), 1)

    def test_not_where_that_is_not_believed_or_it_has_stopped(self) -> None:
        stopped = self.other(host="192.0.2.2", flags=PresenceFlags.LEAVING)
        for record in (self.other(host="127.0.0.1"), self.other(host="192.168.0.256"), stopped):
            self.star("anna")
            self.receive(1, presence("anna"), record)
            self.assertEqual(of(self.wait(40), Dial), [])

    def test_not_by_the_word_of_an_earlier_run_or_of_who_has_not_the_key(self) -> None:
        self.make(epoch=5)
        self.up(1, "anna")
        self.receive(1, roster(), self.other(epoch=1, host="192.0.2.2"))
        self.receive(1, forged(self.other(epoch=7, host="192.0.2.2")))
        self.assertEqual(of(self.wait(40), Dial), [])
        self.assertFalse(self.node.has_key_conflict)
