"""A node later gets what it missed while a link or a node was down: once, and in order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from tests.support.length import at_length
from tests.support.meshcase import MeshCase, batch
from twisted_mesh.identity import Identity
from twisted_mesh.service import MeshService
from twisted_mesh.wire.broadcast import Have, HaveEntry, Prune, Want


class HealingCase(MeshCase):
    def assert_all_have(self, nodes: Sequence[MeshService], authors: dict[MeshService, list[Any]]) -> None:
        """Assert that each of *nodes* was delivered what *authors* sent, once, in order, without a gap."""
        for node in nodes:
            for author, said in authors.items():
                if node is not author:
                    self.assertEqual(self.got(node, author), said)
            self.assertEqual(self.happened(node, "gap") + self.happened(node, "failure"), [])

    def crash(self, service: MeshService) -> None:
        """Cut every connection of a node, then stop it."""
        for other in self.services:
            self.network.cut(self.host(service), self.host(other))
        self.stop(service)


class TestRestartedRelay(HealingCase):
    """A chain of three; the middle stops for a while, and has no memory of before."""

    def setUp(self) -> None:
        super().setUp()
        self.b = self.node()
        self.a, self.c = (self.node(peers=[self.address(self.b)]) for _ in range(2))
        self.network.pump()
        self.said: dict[MeshService, list[Any]] = {self.a: [], self.c: []}
        self.say("before")
        self.assertEqual(self.got(self.b), ["before"] * 2)

    def say(self, *packets: object) -> None:
        for packet in packets:
            for author, said in self.said.items():
                author.send(packet)
                said.append(packet)
            self.network.advance(0.1)

    def test_both_ends_have_what_was_said_meanwhile(self) -> None:
        for leave in (self.stop, self.crash):
            self.say(f"before {leave.__name__}")
            leave(self.b)
            self.say(*range(20))
            before = len(self.got(self.b))
            self.b.startService()
            self.network.advance(30)
            self.say("after")
            self.assert_all_have([self.a, self.c], self.said)
            # It is a newcomer then: it need not be delivered everything from the time when it was away.
            came = self.received(self.b)[before:]
            self.assertEqual(len({message.id for message in came}), len(came))
            self.assertEqual([message.packets[1] for message in came[-2:]], ["after"] * 2)

    def test_what_the_restarted_node_says_itself(self) -> None:
        self.crash(self.b)
        self.b.startService()
        self.send(self.b, "new run", after=30)
        self.assertEqual(self.got(self.a, self.b), ["new run"])
        self.assertEqual(self.got(self.c, self.b), ["new run"])


class TestPartition(HealingCase):
    """Six nodes in a ring, whose halves are separated for a while."""

    def setUp(self) -> None:
        super().setUp()
        self.nodes = [self.node() for _ in range(6)]
        self.link(*pairwise([*self.nodes, self.nodes[0]]))
        self.said: dict[MeshService, list[Any]] = {node: [] for node in self.nodes}

    def say(self, *packets: object) -> None:
        for packet in packets:
            for node in self.nodes:
                node.send(packet)
                self.said[node].append(packet)
            self.network.advance(0.1)

    def part(self) -> None:
        hosts = [self.host(node) for node in self.nodes]
        self.network.part(hosts[:3], hosts[3:])

    def test_both_sides_have_everything_when_it_is_over(self) -> None:
        for seconds in at_length((1, 60), (60,)):  # shorter and longer than dead_after
            self.say("before")
            self.part()
            self.say(*range(5))
            self.network.advance(seconds)
            self.say("late")
            self.assertNotIn("late", self.got(self.nodes[5], self.nodes[0])[-1:])
            self.network.heal()
            self.network.advance(90)
            self.say("after")
            self.assert_all_have(self.nodes, self.said)


class TestTrees(HealingCase):
    def triangle(self) -> tuple[MeshService, MeshService, MeshService]:
        a, b, c = (self.node() for _ in range(3))
        self.link((a, b), (b, c), (c, a))
        a.send("warm")  # goes over all links; the redundant ones are pruned
        self.network.advance(1)
        return a, b, c

    def test_a_dead_line_in_the_tree_is_grafted_around_before_it_is_noticed(self) -> None:
        a, b, c = self.triangle()
        self.network.unplug(self.host(a), self.host(b))
        self.send(a, "around", after=0.5)
        self.assertEqual(self.got(b), ["warm", "around"])
        self.assertEqual(set(a.routing_table), {b.id, c.id})  # no node has noticed that the line is dead
        a.send("over the new branch")
        self.network.pump()  # without waiting
        self.assertEqual(self.got(b)[2:], ["over the new branch"])
        self.network.advance(60)
        self.assert_all_have([b, c], {a: ["warm", "around", "over the new branch"]})

    def test_what_is_due_sooner_is_not_kept_waiting_by_what_is_due_later(self) -> None:
        a = self.node()
        one, other, author = self.joined(a), self.joined(a), self.puppet().me
        for puppet in (one, other):  # the second gets a PRUNE for that author
            self.send_frames(puppet, batch(author, 1, "first"))
        self.assertIn(Prune([author.origin]), other.frames())
        # The first is asked at once, with a second to answer; the second only after a wait for its push.
        one.send(Have([HaveEntry(one.me.origin, 1, 1, 5)], False))
        self.send_frames(other, Have([HaveEntry(author.origin, 1, 1, 2)], False), after=0.1)
        self.assertEqual((len(self.wants(one)), self.wants(other)), (1, []))
        self.network.advance(0.1)
        self.assertEqual(self.wants(other), [Want(author.origin, 1, 2, 2, True)])

    def wants(self, puppet: Any) -> list[Want]:
        """The WANTs that *puppet* has got."""
        return [frame for frame in puppet.frames() if isinstance(frame, Want)]


class TestGap(HealingCase):
    def test_a_hole_that_another_neighbour_fills_late_is_none(self) -> None:
        a, b = self.chain(2)
        key = Identity.generate()
        here, there = self.joined(a, identity=key), self.puppet(identity=key)
        one, two, three = (batch(here.me, number, number) for number in (1, 2, 3))
        self.send_frames(here, one, three, after=14)
        self.assertEqual(self.got(a), [1])
        self.dial(there, b, host="10.8.8.8")
        self.network.pump()
        self.send_frames(there, one, two, after=1)
        self.assertEqual((self.got(a), self.got(b)), ([1, 2, 3], [1, 2, 3]))
        self.network.advance(60)
        self.assertEqual(self.happened(a, "gap") + self.happened(b, "gap"), [])

    def test_what_nobody_has_any_more_is_told_to_who_was_away(self) -> None:
        a, b, c = self.chain(3, limits={"history_bytes": 200_000})
        self.network.part([self.host(a), self.host(b)], [self.host(c)])
        self.network.cut(self.host(b), self.host(c))
        for number in range(50):
            a.send(number, b"x" * 10_000)
            self.network.advance(0.1)
        self.assertLess(b.footprint()["held_bytes"], 200_001)
        self.network.heal()
        self.network.advance(50)
        (gap,) = self.happened(c, "gap")
        self.assertEqual((gap.sender, gap.first), (a.id, 1))
        self.assertEqual(self.got(c), list(range(gap.last, 50)))
        self.assertGreater(len(self.got(c)), 5)
        self.assertEqual(self.got(b), list(range(50)))

    def test_what_only_the_author_had_is_lost_with_it_and_told_to_nobody(self) -> None:
        # No other node has evidence of a message that none of them got.
        a, b = self.chain(2)
        self.network.part([self.host(a)], [self.host(b)])
        self.network.cut(self.host(a), self.host(b))
        a.send("to nobody")
        self.stop(a)
        self.network.heal()
        a.startService()
        self.link((a, b))
        self.send(a, "new", after=60)
        self.assertEqual(self.got(b), ["new"])
        self.assertEqual(self.happened(b, "gap"), [])
        self.assertEqual(self.log("taken by no neighbour"), ["1 message was taken by no neighbour"])
