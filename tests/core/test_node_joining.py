"""Where a node starts, and how it finds out where it differs from a neighbour."""

from __future__ import annotations

from random import Random

from tests.core.network import (
    batch,
    closing,
    entry,
    forged,
    have,
    local_node,
    of,
    origin_of,
    presence,
    roster,
    unproven,
    want,
)
from tests.core.node_case import ALL, PING, NodeTestCase
from twisted_mesh.core.broadcast.frontier import digest
from twisted_mesh.core.events import Effect, EpochConflict, KeyInUse, LinkClosed, LinkUp, Send
from twisted_mesh.core.link import DIGEST_PAUSE
from twisted_mesh.errors import Reason
from twisted_mesh.identity import MOST_CLAIMED
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Digest, Have, HaveEntry, Headers, Snapshot


class TestJoining(NodeTestCase):
    """The first snapshot is where a node starts: what is delivered, never what is held."""

    tells_roster = False

    def test_what_is_under_the_base_is_pulled_held_and_handed_on_but_not_delivered(self) -> None:
        # Otherwise a newcomer between two groups would hide from each the messages of the other.
        effects = self.up(1, "bert", entry("anna", 5, low=3, count=3))
        self.assertEqual(self.wants(effects, 1), [("anna", 3, 5)])
        self.up(2, "cleo", entry("anna", 2, low=1))
        effects = self.receive(1, batch("anna", 3, 3), have("anna", 3, 5, answer=True))
        self.assertEqual((self.delivered(effects), self.sent(effects, 2)), ([], [(3, 5)]))
        self.assertEqual(self.sent(self.receive(2, want("anna", 3, 5)), 2), [(3, 5)])
        self.assertEqual(self.delivered(self.receive(1, batch("anna", 6))), [(6, [6])])

    def test_a_snapshot_in_several_frames_is_one(self) -> None:
        self.open(1)
        self.receive(1, Snapshot(False, [entry("anna", 5)]))
        self.assertFalse(self.node.settled)
        self.receive(1, Snapshot(True, [entry("cleo", 7)]))
        self.assertFalse(self.node.settled)  # a record of the roster may still tell another base
        self.receive(1, roster())
        self.assertTrue(self.node.settled)
        effects = self.receive(1, batch("anna", 6), batch("cleo", 8))
        self.assertEqual(self.delivered(effects), [(6, [6]), (8, [8])])

    def test_later_snapshots_change_no_base(self) -> None:
        self.up(1, "bert", entry("anna", 5))
        self.receive(1, roster())
        self.up(2, "cleo", entry("anna", 50), entry("dora", 50))
        self.assertEqual(self.delivered(self.receive(2, batch("anna", 6))), [(6, [6])])
        self.assertEqual(self.delivered(self.receive(2, batch("dora", 1))), [(1, [1])])

    def test_of_two_snapshots_that_come_at_once_the_first_whole_one_counts(self) -> None:
        self.open(1, "bert")
        self.open(2, "cleo")
        self.receive(1, Snapshot(False, [entry("anna", 9)]))
        self.receive(2, Snapshot(True, [entry("anna", 5)]))
        self.receive(1, Snapshot(True, [entry("anna", 9)]))
        self.assertEqual(self.delivered(self.receive(2, batch("anna", 6))), [(6, [6])])
        self.assertEqual(self.node.footprint()["snapshot_entries"], 0)

    def test_what_a_node_joined_at_is_told_to_those_who_join_through_it(self) -> None:
        # No batch has come since: a node that joins here would take all before the base for a hole.
        self.up(1, "bert", entry("anna", 5))
        self.assertEqual(self.snapshots(self.open(2, "cleo")), [Snapshot(True, [entry("anna", 5)])])

    def test_an_ended_run_that_the_first_neighbour_does_not_have_is_held_and_not_delivered(self) -> None:
        # Somebody has kept it, and says it again: last week's alarm must not ring.
        self.make(history_seconds=100.0)
        self.up(1, "bert")
        self.receive(1, roster(presence("anna", 3, sequence=2, epoch=7)))
        self.up(2, "cleo")
        for first, second in ((1, 2), (3, 4)):
            effects = self.receive(1, batch("anna", second, epoch=6), batch("anna", first, epoch=6))
            self.assertEqual((self.delivered(effects), self.gaps(effects + self.wait(50))), ([], []))
            effects = self.receive(2, want("anna", first, epoch=6))
            self.assertEqual(self.sent(effects, 2), [(first, first), (second, second)])
            self.wait(300)  # the stream is closed, and more of it comes later
            self.assertEqual(self.node.footprint()["open_streams"], 0)
        self.assertEqual(self.delivered(self.receive(1, batch("anna", 3, epoch=7))), [(3, [3])])
        self.assertEqual(self.delivered(self.receive(1, batch("anna", 1, epoch=8))), [(1, [1])])

    def test_nor_is_it_delivered_if_it_comes_before_the_roster(self) -> None:
        self.up(1, "bert")
        effects = self.receive(1, batch("anna", 1, epoch=6), batch("dora", 1), batch("me", 1, epoch=0))
        self.assertEqual(self.delivered(effects), [])
        effects = self.receive(1, roster(presence("anna", 3, epoch=7)))
        self.assertEqual(self.delivered(effects), [(1, [1])])  # of Dora, who is on no roster
        self.assertEqual(
            self.delivered(self.receive(1, batch("anna", 2, epoch=6), batch("dora", 2))), [(2, [2])]
        )

    def test_of_an_ended_run_nothing_is_delivered_that_the_first_neighbour_did_not_hold(self) -> None:
        # Somebody may just be repeating it to that neighbour, and goes on.
        streams = entry("anna", 2, low=1, epoch=6), unproven("cleo", 2, epoch=6), entry("dora", 1, high=2)
        self.up(1, "bert", *streams)
        records = (presence(name, 1, epoch=7) for name in ("anna", "cleo", "dora"))
        self.receive(1, roster(*records))
        effects = self.receive(1, *(batch("anna", number, epoch=6) for number in (1, 2, 3)))
        effects += self.receive(1, batch("cleo", 3, epoch=6))
        self.assertEqual(self.delivered(effects), [])
        # Of this run it held messages that it had given to nobody.
        self.assertEqual(self.delivered(self.receive(1, batch("dora", 2))), [(2, [2])])

    def test_a_header_that_the_snapshot_has_shows_that_earlier_runs_had_ended(self) -> None:
        self.up(1, "bert", entry("anna", 5, epoch=7), unproven("dora", 5, epoch=7))
        self.receive(1, roster(presence("anna", 3, epoch=5)))
        effects = self.receive(1, batch("anna", 1, epoch=6), batch("dora", 1, epoch=6))
        self.assertEqual(self.delivered(effects), [(1, [1])])

    def test_what_had_ended_is_remembered_of_so_many_authors(self) -> None:
        self.make(ended_limit=2)
        self.up(1, "bert", entry("emil", 1, epoch=7), entry("dora", 1, epoch=9))
        self.receive(1, roster(presence("anna", 3, epoch=7), presence("dora", 3, epoch=7)))
        self.assertEqual(self.node.footprint()["ended_authors"], 2)
        effects = self.receive(1, *(batch(name, 1, epoch=6) for name in ("anna", "dora", "emil")))
        self.assertEqual(self.delivered(effects), [(1, [1])])
        effects = self.receive(1, batch("dora", 1, epoch=8))
        self.assertEqual(self.delivered(effects), [])

    def test_a_base_of_its_own_run_is_not_taken(self) -> None:
        self.publish("a", "b")
        self.up(1, "bert", entry("me", 2))
        self.assertEqual(self.sent(self.receive(1, want("me", 1)), 1), [(1, 2)])

    def test_a_giant_snapshot_closes_the_link(self) -> None:
        self.make(claims_limit=3)
        before = self.node.footprint()
        self.open(1)
        effects = self.receive(1, Snapshot(False, [entry("anna", base) for base in range(1, 4)]))
        self.assertEqual(effects, [])
        effects = self.receive(1, Snapshot(True, [entry("anna", 5)]))
        self.assertEqual(self.closed(effects), [(1, Reason.LIMIT)])
        self.assertFalse(self.node.settled)
        self.assert_untouched(before, 1)


class TestOwnKeyElsewhere(NodeTestCase):
    """Numbers of a run must never be used twice."""

    def test_an_epoch_that_others_know_is_taken(self) -> None:
        for taken, base in ((1, 4), (7, 0), (8, 3)):
            self.make(epoch=1)
            effects = self.up(1, "bert", entry("me", base + 1, epoch=taken), entry("me", 9, epoch=0))
            self.assertEqual(of(effects, EpochConflict), [EpochConflict(taken)])
            # The run ends here: the node is neither settled nor linked.
            self.assertFalse(self.node.settled)
            self.assertEqual(of(effects, LinkUp), [])

    def test_what_came_behind_it_counts_no_more(self) -> None:
        # These frames are not out of order, either: the peer is not to blame for the end of the run.
        self.open(1)
        snapshot = Snapshot(True, [entry("me", 4, epoch=7)])
        effects = self.receive(1, snapshot, roster(presence("dora")), batch("dora", 1), presence("emil"))
        self.assertEqual((self.closed(effects), self.delivered(effects)), ([], []))
        self.assertEqual(len(self.node.roster), 0)

    def test_claims_begin_one_run_in_the_life_of_a_process(self) -> None:
        # Else who claims, again and again, keeps a starting node out for as long.
        self.assertEqual(of(self.up(1, "bert", entry("me", 1, epoch=7)), EpochConflict), [EpochConflict(7)])
        self.node, _ = self.node.next_run(local_node("me", 8), Random(1))
        self.open(2, "anna")
        effects = self.up(3, "bert", entry("me", 1, epoch=9), entry("dora", 4))
        self.assertEqual((of(effects, EpochConflict), of(effects, LinkUp)), ([], [LinkUp(3)]))
        self.assertEqual(self.closed(effects), [])
        self.assertEqual(self.delivered(self.receive(3, batch("dora", 5))), [(5, [5])])

    def test_nor_does_a_claim_once_a_message_was_given_to_a_neighbour(self) -> None:
        # That neighbour would have it twice: of both runs.
        self.open(1, "anna")
        self.assertEqual(self.sent(self.publish("a"), 1), [(1, 1)])
        self.open(2, "bert")
        effects = self.receive(2, Snapshot(True, [entry("me", 1, epoch=7)]))
        self.assertEqual((of(effects, EpochConflict), self.closed(effects)), ([], []))
        self.assertEqual(of(self.receive(1, ALL), LinkUp), [LinkUp(1)])

    def test_what_the_claim_is_of_is_asked_for_and_proves_it(self) -> None:
        self.open(1, "anna")
        self.publish("a")
        effects = self.up(2, "bert", entry("me", 1, epoch=7, low=1))
        self.assertEqual(self.wants(effects, 2), [("me", 1, 1)])
        effects = self.receive(2, batch("me", 1, epoch=7))
        self.assertEqual(of(effects, KeyInUse), [KeyInUse(7)])

    def test_a_claim_of_a_later_run_is_no_proof_once_settled(self) -> None:
        # Otherwise anyone could make a node stop by such a claim.
        self.up(1)
        self.up(2, "cleo", entry("me", 9, epoch=8))
        self.receive(1, have("me", 1, 9, epoch=9))
        self.assertFalse(self.node.has_key_conflict)

    def test_a_batch_of_a_later_run_is_proof(self) -> None:
        self.up(1)
        self.up(2, "cleo")
        effects = self.receive(1, batch("me", 1, epoch=8))
        self.assertEqual(of(effects, KeyInUse), [KeyInUse(8)])
        self.assertTrue(self.node.has_key_conflict)
        # The batch is handed on like any other, but not delivered; the conflict is told once.
        self.assertEqual((self.sent(effects, 2), self.delivered(effects)), ([(1, 1)], []))
        self.assertEqual(of(self.receive(1, batch("me", 2, epoch=8)), KeyInUse), [])

    def test_a_peer_is_told_of_later_runs_of_its_key_of_which_nothing_is_held(self) -> None:
        self.make(history_seconds=100.0)
        self.up(1)
        for epoch in (3, 9, 5, 7):
            self.receive(1, batch("anna", 1, 4, epoch=epoch))
        self.receive(1, batch("cleo", 1, 4, epoch=9))
        self.wait(300)
        self.assertEqual(self.node.footprint()["open_streams"], 0)
        for number, (name, epoch, told) in enumerate(
            (
                ("anna", 4, [9]),
                ("anna", 5, [5, 9]),
                ("anna", 9, [9]),
                ("anna", 10, []),
                ("cleo", 1, [9]),
                ("bert", 1, []),
            ),
            start=2,
        ):
            entries = [unproven(name, 4, epoch=one) for one in told]
            self.assertEqual(
                self.snapshots(self.open(number, name, epoch=epoch)), [Snapshot(True, entries)]
            )

    def test_what_no_clock_can_have_given_hides_no_other_run_of_a_peers_key(self) -> None:
        self.make(history_seconds=100.0)
        self.up(1)
        for epoch in (5, MOST_CLAIMED + 1):
            self.receive(1, batch("anna", 1, 4, epoch=epoch))
        self.wait(300)
        told = [Snapshot(True, [unproven("anna", 4, epoch=5)])]
        self.assertEqual(self.snapshots(self.open(2, "anna", epoch=4)), told)

    def test_with_a_false_signature_it_is_none(self) -> None:
        self.up(1)
        effects = self.receive(1, forged(batch("me", 1, epoch=8)))
        self.assertEqual(self.closed(effects), [(1, Reason.SIGNATURE)])
        self.assertFalse(self.node.has_key_conflict)


class TestComparing(NodeTestCase):
    """Two nodes find out where they differ, in one frame each way."""

    def setUp(self) -> None:
        super().setUp()
        self.up(1, "anna")
        self.receive(1, batch("dora", 1, 5), batch("emil", 1, 2))

    def test_between_settled_nodes_a_digest_is_the_frontier(self) -> None:
        [frame, ping] = self.frames(self.open(2, "bert", settled=True), 2)
        self.assertEqual((frame, ping), (self.digest({"dora": 5, "emil": 2}), PING))

    def test_a_link_is_up_with_the_peers_digest(self) -> None:
        self.assertEqual(of(self.meet(2, "bert", dora=5, emil=2), LinkUp), [LinkUp(2)])

    def test_a_bucket_that_differs_is_answered_with_what_is_held(self) -> None:
        self.assertEqual(self.haves(self.meet(2, "bert", dora=3, emil=2), 2), [("dora", 1, 5)])
        self.assertEqual(self.haves(self.meet(3, "cleo", emil=2), 3), [("dora", 1, 5)])

    def test_with_equal_heads_the_next_message_is_pushed(self) -> None:
        # Otherwise the peer would be taken for one that has nothing, and get an announcement.
        self.meet(2, "bert", dora=5, emil=1)
        effects = self.receive(1, batch("dora", 6), batch("emil", 3))
        self.assertEqual(self.sent(effects, 2), [(6, 6)])

    def test_with_equal_heads_what_the_peer_has_is_taken(self) -> None:
        # Otherwise messages that a link took just before it broke would count as unsent for ever.
        self.publish("a", "b")
        self.assertEqual(self.node.outbox.accepted, 0)
        self.meet(2, "bert", me=1)
        self.assertEqual(self.node.outbox.accepted, 0)
        # But a peer can send this node's own DIGEST back: it must know the header, too.
        effects = self.meet(3, "cleo", me=2)
        self.assertEqual(self.node.outbox.accepted, 0)
        origin = origin_of("me")
        self.assertIn(Have([HaveEntry(origin, 1, 1, 2)], False), self.frames(effects, 3))
        self.receive(3, Headers([codec.pack_header(self.own_header(1))]))
        self.assertEqual(self.node.outbox.accepted, 2)
        effects = self.meet(4, "emil", me=2)
        self.assertNotIn(Have([HaveEntry(origin, 1, 1, 2)], False), self.frames(effects, 4))

    def test_what_a_peer_has_of_an_earlier_own_run_is_taken_if_it_knows_the_header(self) -> None:
        self.make(epoch=2)
        self.up(1, "anna")
        self.receive(1, batch("me", 1, 2))  # as a node with a store has it
        stream = self.node.history.get((origin_of("me"), 1))
        assert stream is not None
        header = codec.pack_header(stream.header)
        for claim in (have("me", 1, 2), Have([HaveEntry(*stream.run, 1, 1, 0, stream.hash)], False)):
            stream.base = 0
            self.receive(1, claim)
            self.assertEqual(stream.base, 0)
        self.receive(1, Headers([header]))
        self.assertEqual(stream.base, 2)

    def digests(self, effects: list[Effect]) -> dict[int, Digest]:
        """The DIGESTs that go out, by link."""
        sends = [send for send in of(effects, Send) if isinstance(send.frame, Digest)]
        return {link: send.frame for send in sends for link in send.links if isinstance(send.frame, Digest)}

    def over(self, low: int = 1) -> tuple[Have, Digest]:
        """Dora's run is closed here; the HAVE and the DIGEST of a peer that has it open."""
        self.make(compare_interval=30.0)
        self.up(1, "anna")
        self.up(2, "bert")
        self.receive(1, batch("dora", 1, 5), batch("emil", 1, 2))
        told = self.digest({"dora": 5, "emil": 2})
        run = (origin_of("dora"), 1)
        entry = HaveEntry(*run, low, 5, 0, batch("dora", 1, 5).header.hash)
        self.node.history.discard(run)
        return Have([entry], False), told

    def test_a_run_that_is_closed_here_and_open_there_makes_no_bucket_different(self) -> None:
        # Otherwise both would tell each other all streams of the bucket, again and again.
        for low in (1, 6):  # the peer holds the messages, or knows only that they came
            have, told = self.over(low)
            alone = self.digest({"emil": 2})
            self.assertEqual(self.wants(self.receive(2, have), 2), [])
            self.assertEqual(self.digests(self.wait(30)), {1: alone, 2: told})
            self.assertEqual(self.frames(self.receive(2, told), 2), [])
            self.assertEqual(self.node.footprint()["told_runs_over"], 1)

    def test_once_the_peer_has_closed_it_too_it_counts_no_more(self) -> None:
        have, _ = self.over()
        self.receive(2, have)
        alone = self.digest({"emil": 2})
        self.assertEqual(self.haves(self.receive(2, alone), 2), [])
        self.assertEqual(self.digests(self.wait(30)), {1: alone, 2: alone})

    def test_a_closed_run_of_which_the_peer_has_more_is_asked_for_and_open_again(self) -> None:
        have, _ = self.over()
        self.receive(2, have)
        more = HaveEntry(origin_of("dora"), 1, 1, 6, 0, b"")
        self.assertEqual(
            self.wants(self.receive(2, Have([more], False)) + self.wait(5), 2), [("dora", 6, 6)]
        )
        self.receive(2, batch("dora", 6))
        now = self.digest({"dora": 6, "emil": 2})
        self.assertEqual(self.digests(self.wait(30)), {1: now, 2: now})

    def test_a_void_run_makes_no_bucket_different_either(self) -> None:
        have, _ = self.over()
        self.receive(1, presence("dora", epoch=9, floor=9))
        old = HaveEntry(origin_of("dora"), 3, 1, 7, 0, bytes(32))
        self.receive(2, have, Have([old], False))
        heads = [
            ((origin_of("dora"), 1), 5, have.streams[0].hash),
            ((origin_of("dora"), 3), 7, bytes(32)),
            ((origin_of("emil"), 1), 2, batch("emil", 1, 2).header.hash),
        ]
        self.assertEqual(self.digests(self.wait(30))[2], digest(heads))

    def test_so_many_runs_that_are_over_are_kept_of_a_link(self) -> None:
        self.make(claims_limit=2, compare_interval=30.0)
        self.up(1, "anna")
        for name in ("cleo", "dora", "emil"):
            self.receive(1, batch(name, 1))
            self.node.history.discard((origin_of(name), 1))
            self.receive(1, have(name, 1, 1))
        self.assertEqual(self.node.footprint()["told_runs_over"], 2)

    def test_a_digest_says_nothing_against_what_was_announced(self) -> None:
        self.receive(1, have("dora", 1, 9))
        effects = self.receive(1, self.digest({"dora": 5}))
        self.assertEqual(self.sent(self.receive(1, batch("emil", 3)) + effects, 1), [])
        self.meet(2, "bert", dora=5, emil=3)
        self.assertEqual(self.sent(self.receive(2, batch("dora", 6, 4)), 1), [])

    def test_a_digest_on_a_closing_link_is_not_answered(self) -> None:
        self.meet(2, "bert", dora=5, emil=2)
        self.wait(DIGEST_PAUSE)
        self.handle(closing(2))
        effects = self.receive(2, self.digest({"dora": 3}))
        self.assertEqual(self.frames(effects, 2), [])

    def test_all_links_are_compared_in_intervals(self) -> None:
        self.make(compare_interval=30.0)
        self.up(1, "anna")
        self.up(2, "bert")
        self.open(3, "cleo")
        for _ in range(3):
            effects = [send for send in of(self.wait(30), Send) if isinstance(send.frame, Digest)]
            self.assertEqual([send.links for send in effects], [[1, 2]])

    def test_without_links_nothing_is_compared_until_there_is_one_again(self) -> None:
        self.handle(LinkClosed(1))
        self.assertEqual(of(self.wait(100), Send), [])
        self.up(2, "bert")
        self.assertEqual(len(self.frames(self.wait(31), 2)), 1)
