"""The costs of the promises, each with a bound: copies, announcements, time and bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from tests.support.length import at_length, only_at_length
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import StreamId
from twisted_mesh.simulation.invariants.judge import check_at_rest, check_complete
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.network import Line
from twisted_mesh.simulation.report import quantile
from twisted_mesh.simulation.scenarios.schedules import SCHEDULES, Play, Schedule, random_graph
from twisted_mesh.simulation.trace import AnyFrame
from twisted_mesh.simulation.world import World
from twisted_mesh.wire.broadcast import Prune, SignedBatch

MIB = 2**20
WARM = 10  # batches of a sender, after which its tree is settled


class Measured(World):
    """A world that counts separately the batches that are sent once their sender's tree is settled."""

    pushed = 0  # warm batches that went over links
    delivered = 0

    def __init__(self, seed: int, count: int, latency: tuple[float, float]) -> None:
        self.warm: list[float] = []
        super().__init__(seed, count, latency=latency)

    def transmit(self, source: Member, number: int, frame: AnyFrame, size: int) -> None:
        """Count warm batches."""
        if isinstance(frame, SignedBatch) and frame.batch.first > WARM:
            self.pushed += 1
        super().transmit(source, number, frame, size)

    def count_delivery(self, run: StreamId, first: int, count: int) -> None:
        """Count warm deliveries."""
        super().count_delivery(run, first, count)
        if first > WARM:
            self.delivered += count
            self.warm.append(self.now - self.born[run, first])

    @property
    def redundancy(self) -> float:
        """Warm copies for each delivery, less the one it takes."""
        return self.pushed / self.delivered - 1

    def slowest(self, share: float = 0.99) -> float:
        """The latency in seconds that *share* of warm deliveries stay below."""
        return quantile(sorted(self.warm), share)


class Flooded(Measured):
    """A world in which no PRUNE ever arrives: everything goes over every link, by the fastest way."""

    def transmit(self, source: Member, number: int, frame: AnyFrame, size: int) -> None:
        """Lose PRUNEs."""
        if not isinstance(frame, Prune):
            super().transmit(source, number, frame, size)


def calm(
    kind: type[Measured],
    nodes: int,
    jitter: float,
    senders: str,
    interval: float,
    rounds: int,
    seed: int = 1,
) -> Measured:
    """Play a network without faults.

    :param senders: "one", "random" members one at a time, or "all" at once.
    :param interval: seconds between two messages of one sender, on average.
    """
    world = kind(seed, nodes, (0.02, jitter)).start()
    random_graph(world, world.members, 5)
    world.run_until(2.0)
    saying = world.members[:1] if senders == "one" else world.members
    for number in range(rounds):
        for member in saying:
            author = world.random.choice(saying) if senders == "random" else member
            push = 0.0 if senders == "all" else world.random.random() * interval
            world.at(2.0 + number * interval + push, partial(author.publish, "x"))
    world.run_until(2.0 + rounds * interval + 3.0)
    check_at_rest(world)
    check_complete(world)
    return world


#: Streams, bytes of each message, seconds that the line takes for all of them.
PULLS = ((4, 65_000, 16), (16, 100_000, 8), (2, 250_000, 8))
#: Senders, nodes, seconds between messages of one, messages of each.
CALM = (("one", 30, 0.2, 60), ("random", 14, 1.4, 21), ("all", 14, 0.5, 21))


class TestCalm(SynchronousTestCase):
    """Without faults each message reaches each node over its fastest link only."""

    def assert_cheap(self, jitter: float, redundancy: float) -> None:
        """Assert bounds for all kinds of senders."""
        for senders, nodes, interval, rounds in at_length(CALM, CALM[:1]):
            world = calm(Measured, nodes, jitter, senders, interval, rounds)
            self.assertEqual(world.violations, [])
            self.assertGreater(world.delivered, 1000)
            self.assertLessEqual(world.redundancy, redundancy, senders)
            flooded = calm(Flooded, nodes, jitter, senders, interval, rounds)
            self.assertGreater(flooded.redundancy, 2.0)
            self.assertLessEqual(world.slowest(), 1.2 * flooded.slowest(), senders)

    def test_trees_stand_though_each_frame_takes_its_own_time(self) -> None:
        # With 10 ms of jitter, a rule that always prunes the slower copy would never come to rest.
        self.assert_cheap(0.01, 0.03)

    def test_trees_stand_on_even_links(self) -> None:
        only_at_length()
        self.assert_cheap(0.001, 0.02)

    def test_announcements_are_few_and_fewer_the_more_there_is_to_say(self) -> None:
        announced = []
        seeds = at_length((1, 2, 3), (1,))
        for interval in at_length((1.0, 0.1, 0.03, 0.01), (1.0, 0.01)):
            worlds = [calm(Measured, at_length(30, 20), 0.01, "one", interval, 40, seed) for seed in seeds]
            haves = sum(world.kinds["Have"] for world in worlds)
            announced.append(haves / sum(world.counts["deliveries"] for world in worlds))
        self.assertLessEqual(announced[0], 3.0)
        self.assertEqual(announced, sorted(announced, reverse=True))
        self.assertLess(announced[-1], 1.0)


class TestRepairing(SynchronousTestCase):
    """The costs of getting messages that were missed."""

    def test_links_that_come_and_go_delay_little(self) -> None:
        schedule = Schedule(seconds=5.0, rate=8.0, cuts=5.0, latency=(0.01, 0.04))
        world = Play(schedule, 1, at_length(100, 20)).run()
        self.assertEqual(world.violations, [])
        self.assertLess(quantile(sorted(world.latencies), 0.99), 0.5)

    def test_after_a_minute_in_two_halves_both_have_everything(self) -> None:
        schedule = Schedule(seconds=70.0, rate=3.0, partition=60.0)
        world = Play(schedule, 1, 14).run()
        self.assertEqual((world.violations, world.counts["gaps"]), ([], 0))
        # The last messages came soon after the halves were joined.
        self.assertGreater(max(world.latencies), 50.0)
        self.assertLess(max(world.latencies), 63.0)

    def pull(self, streams: int, size: int, total: int, line: float) -> tuple[float, float, float]:
        """A newcomer pulls *total* bytes through a *line* of so many bytes a second, from five neighbours.

        Live messages go on meanwhile.

        :return: bytes sent to it for each useful one; how often the ideal time it took; the slowest
            live delivery to another, in seconds.
        """
        world = World(1, streams + 4, latency=(0.005, 0.01)).start()
        *others, newcomer = world.members
        world.crash(newcomer)
        random_graph(world, others, 5)
        world.run_until(1.0)
        for number in range(total // size):
            world.at(1 + number * 0.01, partial(others[number % streams].publish, b"x" * size))
        world.run_until(1 + total // size * 0.01 + 3)
        start = world.now
        world.latencies.clear()
        newcomer.start()
        newcomer.line = Line(world, line)
        for other in others[-5:]:
            world.link(other, newcomer)
        live = others[0] if streams < 3 else others[-1]
        while not all(has_all_of(newcomer, author) for author in others[:streams]):
            self.assertLess(world.now, start + 10 * total / line)
            live.publish("live")
            world.run_until(world.now + 0.05)
        took = world.now - start
        sent = sum(link.wires[link.other(newcomer)].given for link in newcomer.links.values())
        world.run_until(world.now + 3)
        self.assertEqual(world.violations, [])
        useful = sum(
            signed.size
            for stream in newcomer.node.history
            for signed in stream.serve(1, stream.head, total * 2)
        )
        # At least one delivery in five is the newcomer's, behind all messages that it pulls.
        slowest = quantile(sorted(world.latencies), 0.75)
        self.assertGreater(useful, 0.95 * total)
        return sent / useful, took * line / useful, slowest

    def test_a_long_pull_over_a_slow_line_brings_everything_once_and_in_little_more_time(self) -> None:
        line = at_length(MIB, MIB // 2)
        for streams, size, seconds in at_length(PULLS, PULLS[1:]):
            sent, took, slowest = self.pull(streams, size, seconds * line, line)
            self.assertLessEqual(sent, 1.1, streams)
            self.assertLessEqual(took, 1.2, streams)
            self.assertLess(slowest, 0.2, streams)

    def test_and_so_over_one_that_is_slower(self) -> None:
        only_at_length()
        sent, took, _ = self.pull(16, 50_000, 3 * MIB, MIB // 4)
        self.assertLessEqual(sent, 1.1)
        self.assertLessEqual(took, 1.2)


def has_all_of(member: Member, author: Member) -> bool:
    """Whether *member* has every message of *author*."""
    return member.node.history.head(author.run) == author.node.outbox.head


class TestMemories(SynchronousTestCase):
    """Nodes that hold messages for different times, that join, and that are gone."""

    def world(self, seed: int, configs: Sequence[MeshConfig]) -> World:
        """Twelve nodes with traffic of all for a minute, each with the next of *configs*."""
        count = 12
        world = World(seed, count)
        world.configs = {number: configs[number % len(configs)] for number in range(count)}
        world.start()
        random_graph(world, world.members, 4)
        world.run_until(1.0)
        return world

    def talk(self, world: World, seconds: float) -> None:
        """Let members that are up publish five messages a second for so many *seconds*."""
        until = world.now + seconds
        while world.now < until:
            world.random.choice(world.alive()).publish("x" * 100)
            world.run_until(world.now + 0.2)

    def assert_no_storm(self, world: World, most: float) -> None:
        """Assert that no promise is broken, with at most *most* copies for each delivery."""
        world.run_until(world.now + 45)
        check_at_rest(world)
        check_complete(world)
        self.assertEqual(world.violations, [])
        self.assertLess(world.kinds["SignedBatch"] / world.counts["deliveries"], most)

    def test_where_each_holds_for_another_time_nothing_is_sent_in_circles(self) -> None:
        world = self.world(
            3,
            [
                MeshConfig(history_seconds=10, compare_interval=5),
                MeshConfig(history_bytes=20_000, compare_interval=5),
                MeshConfig(compare_interval=5),
            ],
        )
        self.talk(world, 60)
        self.assertLess(world.members[0].node.history.held_bytes, world.members[2].node.history.held_bytes)
        self.assert_no_storm(world, 1.2)

    def join(self, world: World, neighbours: int) -> Member:
        """A node starts without memory and is linked to so many of the others."""
        joiner = world.members[0]
        world.crash(joiner)
        world.run_until(world.now + 1)
        joiner.start()
        for other in world.members[1 : 1 + neighbours]:
            world.link(joiner, other)
        return joiner

    def test_joins_through_one_and_through_two_neighbours(self) -> None:
        for neighbours in (1, 2):
            world = self.world(4, [MeshConfig()])
            self.talk(world, 10)
            joiner = self.join(world, neighbours)
            self.talk(world, 10)
            # It was delivered new messages, and holds old ones for others.
            held = sum(len(stream) for stream in joiner.node.history)
            self.assertGreater(held, sum(world.published.values()) * 0.9)
            self.assert_no_storm(world, 2.0)

    def test_restarts_without_memory_one_after_the_other(self) -> None:
        world = self.world(5, [MeshConfig()])
        for _ in range(10):
            self.talk(world, 2)
            member = world.random.choice(world.members)
            around = [link.other(member) for link in member.links.values()]
            world.crash(member)
            world.run_until(world.now + 0.5)
            member.start()
            for other in around:
                world.link(member, other)
        self.assert_no_storm(world, 4.0)

    def test_authors_that_vanish_leave_what_they_said_to_all(self) -> None:
        world = self.world(6, [MeshConfig()])
        self.talk(world, 5)
        for author in world.members[:3]:
            author.publish("last words")
            world.run_until(world.now + 0.1)
            around = [link.other(author) for link in author.links.values()]
            world.crash(author)
            for a, b in pairwise(around):
                world.link(a, b)
            self.talk(world, 2)
        self.assert_no_storm(world, 2.0)
        for author in world.members[:3]:
            heads = {member.node.history.head(author.run) for member in world.alive()}
            self.assertEqual(heads, {world.published[author.run]})

    def test_links_that_flap_swallow_no_push(self) -> None:
        # A message that was not pushed would come late, at the next comparison.
        schedule = replace(SCHEDULES["flapping"], seconds=10.0)
        for seed in range(20, at_length(23, 21)):
            world = Play(schedule, seed, 15).run()
            self.assertEqual(world.violations, [])
            self.assertLess(max(world.latencies), 4.0, seed)
