"""Nodes with stores: crashes, and absences shorter and longer than the store's retention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.storage import Flush, Marks
from twisted_mesh.simulation.invariants.judge import check_at_rest, check_complete
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.scenarios.schedules import SCHEDULES, Play
from twisted_mesh.simulation.storage import SimStore
from twisted_mesh.simulation.world import World
from twisted_mesh.wire.broadcast import SignedBatch

SHORT = MeshConfig(history_seconds=10.0)  # memory holds messages for 10 s only


class TestAbsence(SynchronousTestCase):
    """An author, a relay with a store, and a node behind it that is away for two minutes."""

    def away(self, keeps: float, *, remembers: bool = True) -> tuple[World, Member, Member]:
        """The world at rest, the author, and the node that is back; the relay *keeps* so many seconds."""
        world = World(1, 3, SHORT).start()
        author, relay, away = world.members
        relay.store = SimStore(seconds=keeps)
        relay.start()
        if remembers:
            away.store = SimStore()
            away.start()
        world.link(author, relay)
        world.link(relay, away)
        world.run_until(1.0)
        self.say(world, author, 5)
        world.crash(away)
        self.say(world, author, 120)
        away.start()
        world.link(relay, away)
        self.say(world, author, 60)
        return world, author, away

    def say(self, world: World, author: Member, seconds: int) -> None:
        """A message a second."""
        for _ in range(seconds):
            author.publish("x")
            world.run_until(world.now + 1)

    def test_longer_than_the_absence_nothing_is_missed(self) -> None:
        world, author, away = self.away(keeps=1000)
        check_at_rest(world)
        check_complete(world)
        self.assertEqual((world.violations, world.counts["gaps"]), ([], 0))
        self.assertEqual(away.delivered[author.run], 185)

    def test_shorter_than_it_the_rest_is_told(self) -> None:
        world, author, away = self.away(keeps=30)
        check_at_rest(world)
        self.assertEqual((world.violations, world.counts["gaps"]), ([], 1))
        self.assertEqual(away.delivered[author.run], 185)

    def test_without_memory_of_its_own_it_joins(self) -> None:
        world, author, away = self.away(keeps=1000, remembers=False)
        check_at_rest(world)
        self.assertEqual((world.violations, world.counts["gaps"]), ([], 0))
        stream = away.node.history.get(author.run)
        assert stream is not None
        self.assertGreater(stream.base, 100)


class TestCrash(SynchronousTestCase):
    """Crashes before and after the flush that stores a message."""

    def crashed(self, at: float) -> tuple[World, Member, Member, int]:
        """Crash a node *at* seconds after the first message, and start it; return its stored mark, too."""
        world = World(1, 2, latency=(0.01, 0.0)).start()
        author, node = world.members
        node.store = SimStore()
        node.start()
        world.link(author, node)
        world.run_until(1.0)
        for _ in range(20):
            author.publish("x")
            world.run_until(world.now + at / 20)
        world.crash(node)
        stored = {marks.run: marks.taken for marks in node.store.restored().marks}
        node.start()
        world.link(author, node)
        world.run_until(world.now + 5)
        return world, author, node, stored.get(author.run, 0)

    def test_at_every_moment_what_follows_the_stored_mark_comes_again_and_nothing_else(self) -> None:
        marks = set()
        for step in range(60):
            world, author, node, stored = self.crashed(0.005 * step)
            marks.add(stored)
            check_at_rest(world)
            check_complete(world)  # the judge also compared each delivery with the stored mark
            self.assertEqual((world.violations, node.delivered[author.run]), ([], 20), step)
        self.assertGreater(len(marks), 5)

    def test_a_base_that_was_stored_stands_though_nothing_up_to_it_came(self) -> None:
        # Its author had proven it.
        world = World(1, 3).start()
        author, other, node = world.members
        world.link(author, other)
        world.run_until(1.0)
        for _ in range(12):
            author.publish("x")
        world.run_until(2.0)
        node.store = SimStore()
        marks = Marks(author.run, 0, 1, 12, 0, False)
        node.store.flush(Flush([], [marks], [], (node.run, 0), True), world.now)
        node.start()
        world.link(author, node)
        world.run_until(20.0)
        self.assertEqual((world.violations, node.delivered[author.run]), ([], 12))
        author.publish("x")
        world.run_until(21.0)
        self.assertEqual((world.violations, node.delivered[author.run]), ([], 13))

    def test_what_is_not_delivered_again_is_seen_by_the_judge(self) -> None:
        class Unreadable(SimStore):
            """A store that reads nothing of what it stored."""

            def read(self, run: StreamId, first: int, last: int, most: int) -> Iterator[SignedBatch]:
                return iter(())

        play = Play(replace(SCHEDULES["restarts"], seconds=4.0), 3, 12)
        for member in play.world.members:
            member.store = Unreadable()
            member.start()
        self.assertNotEqual(play.run().violations, [])
