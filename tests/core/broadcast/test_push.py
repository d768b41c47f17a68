"""What a node sends over each link unasked: it pushes, prunes or announces."""

from __future__ import annotations

from tests.core.network import batch, closing, cut, entry, have, of, origin_of, prune, want
from tests.core.node_case import TriangleTestCase
from twisted_mesh.core.events import Accepted, Send
from twisted_mesh.wire.broadcast import Have, Prune, SignedBatch, Snapshot

#: Bytes of a batch of one short message that its author signed.
ARRAY = batch("dora", 1).size


class TestPushing(TriangleTestCase):
    """A new batch is pushed to a peer that lacks this batch and nothing before it."""

    def test_a_new_batch_goes_to_all_but_where_it_came_from(self) -> None:
        effects = self.receive(2, batch("anna", 1))
        [send] = [send for send in of(effects, Send) if isinstance(send.frame, SignedBatch)]
        self.assertEqual((send.links, send.frame), ([1, 3], batch("anna", 1).relayed()))

    def test_what_a_peer_announced_is_not_pushed_to_it(self) -> None:
        self.receive(3, have("dora", 1, 2))
        effects = self.receive(1, batch("dora", 1, 2))
        self.assertEqual((self.sent(effects, 2), self.sent(effects, 3)), ([(1, 2)], []))
        self.assertEqual(self.haves(self.wait(1), 3), [])

    def test_of_what_a_peer_announced_in_part_the_whole_batch_goes(self) -> None:
        self.receive(3, have("dora", 1, 2))
        self.assertEqual(self.sent(self.receive(1, batch("dora", 1, 3)), 3), [(1, 3)])

    def test_what_a_peer_holds_only_from_later_on_is_pushed_to_it(self) -> None:
        # "5 to 9" says nothing of 1 to 4: taken for all up to 9, they would never go there.
        self.receive(3, have("dora", 5, 9))
        self.assertEqual(self.sent(self.receive(1, batch("dora", 1, 2)), 3), [(1, 2)])

    def test_a_peer_that_is_behind_is_told_and_not_pushed_to(self) -> None:
        # It pulls, or will: pushed as well, each message would come to it twice.
        self.up(4, "emil")
        self.receive(1, batch("dora", 1, 5))
        self.up(5, "fred")  # knows nothing of dora's
        effects = self.receive(1, batch("dora", 6))
        self.assertEqual((self.sent(effects, 4), self.sent(effects, 5)), ([(6, 6)], []))
        self.assertEqual(self.haves(self.wait(1), 5), [("dora", 1, 6)])

    def test_a_peer_that_was_behind_is_pushed_to_once_its_pull_has_reached_the_head(self) -> None:
        self.make(answer_bytes=ARRAY)
        self.up(1, "anna")
        self.receive(1, batch("dora", 1), batch("dora", 2), batch("dora", 3))
        self.up(4, "emil")
        self.accept(4)
        self.assertEqual(self.sent(self.receive(4, want("dora", 1, 3)), 4), [(1, 1)])
        self.accept(4)
        self.assertEqual(self.sent(self.receive(1, batch("dora", 4)), 4), [])
        self.wait(1)
        for first in (2, 3, 4):
            self.accept(4)
            self.assertEqual(self.sent(self.receive(4, want("dora", first, 4)), 4), [(first, first)])
        self.assertEqual(self.sent(self.receive(1, batch("dora", 5)), 4), [(5, 5)])

    def test_a_peer_that_was_behind_is_pushed_to_once_it_announces_or_pushes_the_head(self) -> None:
        for streams, head, new in (([], have("dora", 1, 5), 6), ([entry("dora", 5, count=5)], None, 7)):
            self.triangle()
            self.receive(1, batch("dora", 1, 5))
            self.up(4, "emil", *streams)
            self.receive(4, head or batch("dora", 6))
            self.assertEqual(self.sent(self.receive(1, batch("dora", new)), 4), [(new, new)])

    def test_what_does_not_join_on_leaves_a_peer_behind(self) -> None:
        # Two nodes with the same hole would each believe that the other holds it, for ever.
        cut("dora", 4)
        self.receive(2, batch("dora", 5))
        self.assertEqual(self.sent(self.receive(1, batch("dora", 1, 4)), 2), [(1, 4)])

    def test_what_is_no_longer_held_here_leaves_nobody_behind(self) -> None:
        # It cannot be pulled here, and what waits behind a hole is claimed by nobody: not pushed, it would
        # be taken for lost by who lacks it, though a neighbour has it.
        self.make(history_seconds=100, compare_interval=1000)
        self.up(1, "anna")
        self.receive(1, batch("dora", 1, 3))
        self.wait(120)
        self.up(2, "bert", entry("dora", 2))
        self.assertEqual(self.sent(self.receive(1, batch("dora", 5)), 2), [(5, 5)])

    def test_an_announcement_replaces_what_was_pushed(self) -> None:
        # A push the peer had no room for is not held there, whatever went over the link.
        self.receive(1, batch("dora", 1, 5))  # pushed to both others
        self.receive(2, have("dora", 1, 3))
        effects = self.receive(1, batch("dora", 6))
        self.assertEqual((self.sent(effects, 2), self.sent(effects, 3)), ([], [(6, 6)]))
        self.assertEqual(self.haves(self.wait(1), 2), [("dora", 1, 6)])

    def test_before_a_peers_frontier_has_come_everything_new_is_pushed_to_it(self) -> None:
        # It is all behind the snapshot it was sent; held back, nobody would send it any more.
        self.receive(1, batch("dora", 1, 5))
        self.open(4, "emil")
        self.assertEqual(self.sent(self.receive(1, batch("dora", 6)), 4), [(6, 6)])

    def test_what_was_pushed_to_a_peer_that_turns_out_to_be_behind_is_not_all_it_holds(self) -> None:
        self.receive(1, batch("dora", 1, 5))
        self.open(4, "emil")
        self.receive(1, batch("dora", 6))
        self.receive(4, Snapshot(True, []))
        effects = self.receive(1, batch("dora", 7))
        self.assertEqual(self.sent(effects, 4), [])
        self.assertEqual(self.haves(self.wait(1), 4), [("dora", 1, 7)])

    def test_what_went_on_behind_a_hole_is_announced_where_only_its_filling_was_pushed(self) -> None:
        # Else the peer learns of it with the next batch or comparison only.
        cut("dora", 3)
        self.receive(1, have("dora", 1, 9))
        self.receive(1, batch("dora", 4, 6))
        self.wait(1)  # 4 to 9 wait, and nobody was told
        effects = self.receive(1, batch("dora", 1, 3))
        self.assertEqual((self.sent(effects, 2), self.delivered(effects)[-1][0]), ([(1, 3)], 4))
        self.assertEqual(self.haves(self.wait(1), 2), [("dora", 1, 9)])

    def test_a_closing_link_gets_nothing(self) -> None:
        self.handle(closing(2))
        effects = self.receive(1, batch("dora", 1), batch("dora", 1))
        self.assertEqual((self.frames(effects, 2), self.sent(effects, 3)), ([], [(1, 1)]))


class TestPruning(TriangleTestCase):
    """If a copy comes unasked, its link is pruned for the author, provided that another link serves it."""

    def test_a_second_copy_prunes_the_link_that_brought_it(self) -> None:
        self.receive(1, batch("dora", 1))
        effects = self.receive(2, batch("dora", 1))
        self.assertEqual((self.prunes(effects, 2), self.prunes(effects, 1)), (["dora"], []))

    def test_one_prune_is_enough(self) -> None:
        self.receive(1, batch("dora", 1), batch("dora", 2))
        self.receive(2, batch("dora", 1))
        self.assertEqual(self.frames(self.receive(2, batch("dora", 2)), 2), [])

    def test_the_same_copy_from_the_same_link_prunes_nothing(self) -> None:
        # The only link it comes over pruned, the origin would be heard of no more.
        self.receive(1, batch("dora", 1))
        self.assertEqual(self.prunes(self.receive(1, batch("dora", 1)), 1), [])

    def test_a_copy_prunes_nothing_when_the_first_arrival_is_gone(self) -> None:
        for politely in (True, False):
            self.triangle()
            self.receive(1, batch("dora", 1))
            if politely:
                self.handle(closing(1))
            else:
                self.receive(1, Snapshot(True, []))  # which breaks the rules: closed and forgotten
            for number in (2, 3):  # whoever was grafted has nothing new
                self.receive(number, have("dora", 1, 1, answer=True))
            self.assertEqual(self.prunes(self.receive(2, batch("dora", 1)), 2), [])

    def test_a_copy_prunes_nothing_when_the_first_link_is_lazy(self) -> None:
        # Two links that are pruned for each other, and none is left.
        self.receive(1, batch("dora", 1))
        self.receive(2, batch("dora", 1))  # 2 is lazy
        self.receive(2, batch("dora", 2))  # which was under way
        self.assertEqual(self.prunes(self.receive(1, batch("dora", 2)), 1), [])

    def test_a_copy_prunes_nothing_when_its_first_arrival_is_forgotten(self) -> None:
        self.receive(1, batch("dora", 1))
        self.wait(10.1)
        self.receive(1, batch("dora", 2))
        self.assertEqual(self.prunes(self.receive(2, batch("dora", 1)), 2), [])

    def test_a_copy_that_was_asked_for_prunes_nothing(self) -> None:
        # The link was grafted just now: pruned for the answer, the tree is as broken as before.
        self.assertEqual(self.wants(self.receive(1, have("dora", 1, 2)), 1), [("dora", 1, 2)])
        self.receive(2, batch("dora", 1, 2))
        self.assertEqual(self.prunes(self.receive(1, batch("dora", 1, 2)), 1), [])
        self.receive(1, have("dora", 1, 2, answer=True))
        # With the answer closed it is as any other.
        self.assertEqual(self.prunes(self.receive(1, batch("dora", 1, 2)), 1), ["dora"])

    def test_own_messages_that_come_back_prune_at_once(self) -> None:
        self.publish("a")
        self.assertEqual(self.prunes(self.receive(1, batch("me", 1)), 1), ["me"])

    def test_a_closing_link_is_not_pruned(self) -> None:
        self.receive(1, batch("dora", 1))
        self.handle(closing(2))
        self.assertEqual(self.frames(self.receive(2, batch("dora", 1)), 2), [])

    def test_prune_is_for_one_origin(self) -> None:
        self.receive(1, batch("dora", 1), batch("emil", 1))
        self.receive(2, batch("dora", 1))
        self.assertEqual(self.prunes(self.receive(2, batch("emil", 1)), 2), ["emil"])

    def test_of_too_many_origins_the_oldest_is_pruned_again(self) -> None:
        # A table that each new author adds to, on every link, for ever.
        self.triangle(claims_limit=3)
        names = [f"author {number}" for number in range(10)]
        for name in names:
            self.receive(1, batch(name, 1))
            self.assertEqual(len(of(self.receive(2, batch(name, 1)), Send)), 1)
        self.assertEqual(self.node.footprint()["lazy_by_us"], 3)
        for name, prunes in (("author 9", []), ("author 6", [Prune([origin_of("author 6")])])):
            self.assertEqual(self.frames(self.receive(2, batch(name, 1)), 2), prunes)

    def test_a_new_link_begins_with_nothing_pruned(self) -> None:
        self.receive(1, batch("dora", 1))
        self.receive(2, batch("dora", 1), prune("dora"))
        self.handle(closing(2))
        self.up(5, "bert", entry("dora", 1))
        self.assertEqual(self.sent(self.receive(1, batch("dora", 2)), 5), [(2, 2)])
        self.assertEqual(self.prunes(self.receive(5, batch("dora", 2)), 5), ["dora"])


class TestMute(TriangleTestCase):
    """A peer that wants no pushes of an author gets announcements until it grafts."""

    def test_a_lazy_link_is_told_and_not_pushed_to(self) -> None:
        self.receive(2, prune("dora"))
        effects = self.receive(1, batch("dora", 1))
        self.assertEqual((self.sent(effects, 2), self.sent(effects, 3)), ([], [(1, 1)]))
        self.assertEqual(self.haves(self.wait(1), 2), [("dora", 1, 1)])

    def test_other_origins_are_pushed_to_it_as_ever(self) -> None:
        self.receive(2, prune("emil"))
        self.assertEqual(self.sent(self.receive(1, batch("dora", 1)), 2), [(1, 1)])

    def test_an_announcement_of_the_peer_does_not_make_it_eager(self) -> None:
        self.receive(2, prune("dora"), have("dora", 1, 1))
        self.receive(1, batch("dora", 1))
        self.assertEqual(self.sent(self.receive(1, batch("dora", 2)), 2), [])

    def test_only_a_want_with_graft_makes_it_eager(self) -> None:
        for graft in (False, True):
            self.triangle()
            self.receive(2, prune("dora"))
            self.receive(1, batch("dora", 1))
            asked = want("dora", 1, 1)
            self.receive(2, type(asked)(asked.origin, 1, 1, 1, graft))
            self.assertEqual(self.sent(self.receive(1, batch("dora", 2)), 2), [(2, 2)] * graft)

    def test_of_too_many_origins_the_oldest_is_pushed_again(self) -> None:
        # It prunes again; closed for it, an honest link would go after the 65,536th author.
        self.triangle(claims_limit=3)
        for number in range(10):
            self.assertEqual(self.receive(2, prune(f"author {number}")), [])
        self.assertEqual(self.node.footprint()["lazy_by_peer"], 3)
        for number, pushed in ((7, []), (6, [(1, 1)])):
            self.assertEqual(self.sent(self.receive(1, batch(f"author {number}", 1)), 2), pushed)

    def test_own_messages_are_not_pushed_over_a_lazy_link_either(self) -> None:
        self.receive(2, prune("me"))
        effects = self.publish("a")
        self.assertEqual((self.sent(effects, 1), self.sent(effects, 2)), ([(1, 1)], []))
        self.assertEqual(self.haves(self.wait(1), 2), [("me", 1, 1)])


class TestAnnouncing(TriangleTestCase):
    """Announcements are gathered, and left out if the peer knows of the messages."""

    def make_lazy(self, *numbers: int) -> None:
        """Let the peers of links *numbers* ask for no pushes of Dora's and Emil's messages."""
        for number in numbers:
            self.receive(number, prune("dora", "emil"))

    def test_what_comes_within_the_delay_is_told_in_one_frame(self) -> None:
        self.triangle(have_delay=0.03)
        self.make_lazy(2)
        effects = self.receive(1, batch("dora", 1))
        effects += self.wait(0.02)
        effects += self.receive(1, batch("dora", 2), batch("emil", 1))
        self.assertEqual(self.haves(effects, 2), [])
        effects = self.wait(0.011)
        self.assertEqual(len(of(effects, Send)), 1)
        self.assertEqual(sorted(self.haves(effects, 2)), [("dora", 1, 2), ("emil", 1, 1)])
        self.assertEqual(self.haves(self.wait(1), 2), [])

    def test_a_peer_that_announced_as_much_is_not_told(self) -> None:
        # Two lazy neighbours would tell each other of every message.
        self.make_lazy(2, 3)
        self.receive(1, batch("dora", 1, 2))
        self.receive(2, have("dora", 1, 2))
        self.receive(3, have("dora", 1, 1))
        effects = self.wait(1)
        self.assertEqual((self.haves(effects, 2), self.haves(effects, 3)), ([], [("dora", 1, 2)]))

    def test_only_what_is_held_without_a_hole_is_announced(self) -> None:
        self.make_lazy(2)
        self.receive(1, batch("dora", 1, 2), batch("dora", 9))
        self.assertEqual(self.haves(self.wait(1), 2), [("dora", 1, 2)])

    def test_what_is_known_and_no_longer_held_is_told_as_that(self) -> None:
        self.make(history_seconds=100, compare_interval=1000)
        self.up(1, "anna")
        self.receive(1, batch("dora", 1, 2))
        self.wait(95)
        self.receive(1, batch("dora", 3))
        self.wait(20)
        self.up(2, "bert")
        self.assertEqual(self.haves(self.receive(2, want("dora", 1)), 2, answer=True), [("dora", 3, 3)])
        self.wait(100)
        self.assertEqual(self.haves(self.receive(2, want("dora", 1)), 2, answer=True), [("dora", 4, 3)])

    def test_many_streams_take_several_frames_each_small_enough(self) -> None:
        names = [f"author {number}" for number in range(1500)]
        self.receive(2, prune(*names))
        self.receive(1, *(batch(name, 1) for name in names))
        frames = [send for send in of(self.wait(1), Send) if 2 in send.links]
        self.assertEqual(len(frames), 2)
        for send in frames:
            self.assertLessEqual(send.size, 2**16)

    def test_what_is_owed_to_who_reads_nothing_is_bounded(self) -> None:
        # Each run of each author adds to it for as long as the link is slow.
        self.triangle(claims_limit=3, link_queue_bytes=1)
        for number in range(10):
            self.receive(1, batch(f"author {number}", 1))
        self.assertEqual(self.node.footprint()["owed"], 6)  # links 2 and 3
        self.handle(Accepted(2, 2**20))
        [told] = of(self.frames(self.wait(1), 2), Have)
        last = sorted(origin_of(f"author {number}") for number in (7, 8, 9))
        self.assertEqual([one.origin for one in told.streams], last)

    def test_where_nothing_is_owed_nothing_is_sent(self) -> None:
        self.receive(1, batch("dora", 1))
        self.assertEqual(of(self.wait(4), Send), [])

    def test_what_a_new_link_is_owed_is_told_when_its_peers_frontier_has_come(self) -> None:
        self.open(4, "emil")
        self.receive(4, prune("dora"))
        self.receive(1, batch("dora", 1))
        effects = self.wait(1)
        effects += self.receive(4, Snapshot(True, []))
        effects += self.wait(1)
        self.assertEqual(self.haves(effects, 4), [("dora", 1, 1)])
