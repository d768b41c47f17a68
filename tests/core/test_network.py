"""Nodes, links and chance: whatever comes first, the promises hold."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import Member, Mesh
from tests.support.length import at_length
from twisted_mesh.core.events import GapFound


class TestNetwork(SynchronousTestCase):
    """Nodes, links and chance."""

    def assert_all_got(self, mesh: Mesh, *, from_first: bool = True) -> None:
        """Assert that each member has each message of each other's run, once and in order."""
        for reader in mesh.members.values():
            for author in mesh.members.values():
                if author is not reader and from_first:
                    self.assertEqual(
                        reader.got(author), list(range(1, author.published + 1)), (reader.name, author.name)
                    )
            self.assertEqual(reader.all_of(GapFound), [])
            self.assertNotIn((reader.peer.origin, 1), reader.delivered)

    def members(self, mesh: Mesh, names: str) -> list[Member]:
        """A member for each letter."""
        return [mesh.add(name) for name in names]

    def chatter(self, mesh: Mesh, seed: int, rounds: int = 12) -> None:
        """Members publish now and then while frames are under way."""
        random = Random(seed)
        for _ in range(rounds):
            random.choice(list(mesh.members.values())).publish(random.randint(1, 4))
            for _ in range(random.randrange(15)):
                mesh.step()
        mesh.settle()

    def test_chain(self) -> None:
        for seed in range(8):
            mesh = Mesh(seed)
            members = self.members(mesh, "abcde")
            mesh.linked(*pairwise(members))
            self.chatter(mesh, seed)
            self.assert_all_got(mesh)
            self.assertEqual([member.node.counts["duplicates"] for member in members], [0] * 5)

    def test_triangle_gives_each_exactly_once(self) -> None:
        for seed in range(at_length(10, 3)):
            mesh = Mesh(seed)
            a, b, c = self.members(mesh, "abc")
            mesh.linked((a, b), (b, c), (c, a))
            self.chatter(mesh, seed)
            self.assert_all_got(mesh)

    def test_full_mesh_under_small_batches(self) -> None:
        for seed in range(4):
            mesh = Mesh(seed, batch_bytes=1)
            members = self.members(mesh, "abcde")
            mesh.linked(*((a, b) for a in members for b in members if a.name < b.name))
            self.chatter(mesh, seed, 8)
            self.assert_all_got(mesh)

    def test_two_unsettled_nodes_settle_each_other(self) -> None:
        for seed in range(5):
            mesh = Mesh(seed)
            a, b = self.members(mesh, "ab")
            a.publish(3)
            b.publish(2)
            mesh.linked((a, b))
            self.assertTrue(a.node.settled and b.node.settled)
            self.assert_all_got(mesh)

    def test_messages_published_while_links_come_up_arrive(self) -> None:
        for seed in range(at_length(10, 3)):
            mesh = Mesh(seed)
            members = self.members(mesh, "abc")
            for one, other in ((0, 1), (1, 2), (2, 0)):
                mesh.dial(members[one], members[other])
            self.chatter(mesh, seed)
            for reader in members:
                for author in members:
                    self.assert_whole_from_its_base_on(reader, author)
                self.assertEqual(reader.all_of(GapFound), [])

    def test_who_joins_through_who_just_joined_misses_nothing_later(self) -> None:
        for seed in range(5):
            mesh = Mesh(seed)
            a, b, c, d = self.members(mesh, "abcd")
            mesh.linked((b, a))
            a.publish(5)
            mesh.settle()
            mesh.linked((c, a))
            mesh.linked((d, c))
            a.publish(2)
            mesh.settle()
            self.assertEqual(d.got(a), [6, 7])
            # What is under its base is held there all the same.
            self.assertEqual(d.node.footprint()["held_batches"], 2)

    def assert_whole_from_its_base_on(self, reader: Member, author: Member) -> None:
        """Assert that from its base on, whatever that is, nothing is missing or comes twice."""
        got = reader.got(author)
        self.assertEqual(got, list(range(author.published + 1 - len(got), author.published + 1)))

    def test_joining_under_fire_leaves_no_hole(self) -> None:
        for seed in range(at_length(15, 5)):
            mesh = Mesh(seed)
            a, b = self.members(mesh, "ab")
            mesh.linked((a, b))
            a.publish(2)
            b.publish(2)
            joiner = mesh.add("j")
            for number in range(10):
                (a, b)[number % 2].publish()
                mesh.step()
                if number == seed % 5:
                    mesh.dial(joiner, a)
                if number == seed % 7:
                    mesh.dial(joiner, b)
            mesh.settle()
            for author in (a, b):
                self.assert_whole_from_its_base_on(joiner, author)
            self.assertEqual(joiner.node.footprint()["waiting_bytes"], 0)

    def test_dials_that_cross_or_repeat_settle_on_one_link_without_loss(self) -> None:
        for seed in range(at_length(60, 12)):
            random = Random(seed)
            mesh = Mesh(seed, batch_bytes=1, crossing_silence=5.0)
            a, b, c = members = self.members(mesh, "abc")
            mesh.linked((c, a))
            for _ in range(random.randint(2, 4)):
                mesh.dial(*random.choice(((a, b), (b, a))))
                for _ in range(random.choice((0, 2, 5, 50))):
                    mesh.step()
                mesh.now += random.choice((0, 0, 5))
                random.choice(members).publish(2)
            self.chatter(mesh, seed)
            for member, linked in ((a, "bc"), (b, "a"), (c, "a")):
                footprint = member.node.footprint()
                self.assertEqual((footprint["links"], footprint["fed_links"]), (len(linked),) * 2, seed)
                live = {end.number for end in member.ends.values() if not end.gone}
                self.assertEqual(sorted(member.table), list(linked), seed)
                self.assertEqual(set(member.table.values()), live, seed)
                for author in members:
                    self.assert_whole_from_its_base_on(member, author)
            self.assertEqual((len(a.got(c)), len(c.got(a))), (c.published, a.published))
            self.assertEqual({bye.reason for bye in a.byes + b.byes}, {"duplicate"})

    def test_while_a_link_is_replaced_there_is_always_one_at_the_end_that_replaces_it(self) -> None:
        for seed in range(at_length(20, 5)):
            mesh = Mesh(seed)
            a, b = self.members(mesh, "ab")
            mesh.linked((a, b))
            first = b.table["a"]
            mesh.dial(a, b)
            while mesh.step():
                self.assertEqual(list(b.table), ["a"])
            self.assertNotEqual(b.table["a"], first)

    def test_closing_a_link_politely_loses_nothing(self) -> None:
        for seed in range(at_length(10, 3)):
            mesh = Mesh(seed)
            a, b, c = self.members(mesh, "abc")
            mesh.linked((a, b), (b, c), (c, a))
            end = next(iter(a.ends.values()))
            self.chatter(mesh, seed, 4)
            for member in (a, b, c):
                member.publish(2)
            end.hang_up()
            self.chatter(mesh, seed, 4)
            self.assert_all_got(mesh)
            self.assertEqual([one.node.footprint()["links"] for one in (a, b, c)], [1, 1, 2])

    def test_a_ring_that_loses_a_link_under_fire_loses_no_message(self) -> None:
        for seed in range(at_length(20, 5)):
            random = Random(seed)
            mesh = Mesh(seed)
            members = self.members(mesh, "abcd")
            mesh.linked(*zip(members, members[1:] + members[:1], strict=True))
            for _ in range(12):
                random.choice(members).publish(random.randint(1, 4))
                for _ in range(random.randrange(8)):
                    mesh.step()
            mesh.ends[0].cut()
            self.chatter(mesh, seed, 6)
            mesh.advance(31)
            self.assert_all_got(mesh)

    def test_whatever_is_cut_everything_arrives_once_all_are_linked_again(self) -> None:
        for seed in range(at_length(12, 4)):
            random = Random(seed)
            mesh = Mesh(seed, gap_patience=30.0)
            members = self.members(mesh, "abcd")
            pairs = [(a, b) for a in members for b in members if a.name < b.name]
            mesh.linked(*pairs)
            for _ in range(6):
                random.choice(members).publish(2)
                for _ in range(random.randrange(8)):
                    mesh.step()
                mesh.ends[random.randrange(len(mesh.ends))].cut()
                mesh.dial(*random.choice(pairs))
            mesh.linked(*pairs)
            mesh.advance(31)
            self.assert_all_got(mesh)
            for member in members:
                self.assertEqual(member.node.footprint()["waiting_bytes"], 0)

    def test_a_stuck_link_slows_nobody_and_has_everything_afterwards(self) -> None:
        mesh = Mesh(3, batch_bytes=1, waiting_bytes=1000, link_queue_bytes=1000, answer_bytes=1000)
        a, b, c = self.members(mesh, "abc")
        mesh.linked((a, b), (a, c))
        stuck = next(end for end in a.ends.values() if end.other.member is c)
        stuck.stuck = True
        for _ in range(30):
            a.publish()
            mesh.settle()
        self.assertEqual(b.got(a), list(range(1, 31)))
        self.assertLess(sum(len(frame) for frame, _ in stuck.queue), 1500)
        self.assertEqual((a.closed, c.got(a)), ([], []))
        stuck.stuck = False
        mesh.settle()
        self.assertEqual(c.got(a), list(range(1, 31)))
        self.assertEqual(a.node.footprint()["unsent_batches"], 0)

    def test_a_restarted_node_is_a_new_run(self) -> None:
        for seed in range(5):
            mesh = Mesh(seed)
            a, b, c = self.members(mesh, "abc")
            mesh.linked((a, b), (b, c), (c, a))
            a.publish(3)
            mesh.settle()
            for end in list(a.ends.values()):
                end.cut()
            again = mesh.add("a", epoch=2)
            mesh.linked((again, b), (again, c))
            again.publish(2)
            b.publish()
            mesh.settle()
            self.assertEqual([one.got(a) for one in (b, c)], [[1, 2, 3]] * 2)
            self.assertEqual([one.got(again) for one in (b, c)], [[1, 2]] * 2)
            self.assertEqual((again.got(a), again.got(b)), ([], [1]))

    def test_the_same_seed_gives_the_same_run(self) -> None:
        def run() -> list[object]:
            mesh = Mesh(11)
            members = self.members(mesh, "abcd")
            mesh.linked(*((a, b) for a in members for b in members if a.name < b.name))
            self.chatter(mesh, 11)
            return [(member.delivered, member.happened, member.node.counts) for member in members]

        self.assertEqual(run(), run())
