"""The promises hold in all schedules, and the checks see promises that are broken on purpose."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.shortened import shortened
from tests.support.length import at_length, only_at_length
from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.simulation.__main__ import nodes_for
from twisted_mesh.simulation.adversaries.relays import RELAY_ADVERSARIES, Deafener, ManyRuns, SlowRelay
from twisted_mesh.simulation.invariants.judge import check_at_rest, check_complete
from twisted_mesh.simulation.keys import real_keys
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.observing import COUNTED
from twisted_mesh.simulation.scenarios.schedules import SCHEDULES, Play, random_graph
from twisted_mesh.simulation.storage import SimStore
from twisted_mesh.simulation.trace import AnyFrame
from twisted_mesh.simulation.world import World
from twisted_mesh.wire.broadcast import Have, Want
from twisted_mesh.wire.fields import MAX_NUMBER

#: Runs of each schedule, with 12 nodes or a few more.  Nodes and seconds of traffic are fewer than the
#: command line's, and what happens in one is the same.
RUNS = at_length(5, 1)
SEEDS = {name: range(5 * number, 5 * number + RUNS) for number, name in enumerate(SCHEDULES)}
SECONDS = 3.0


def play(name: str, seed: int, nodes: int = 0, seconds: float = SECONDS) -> World:
    """One run of a schedule to its end."""
    return Play(shortened(SCHEDULES[name], seconds), seed, nodes or nodes_for(seed)).run()


class TestPromises(SynchronousTestCase):
    """Exactly once, in order, nothing missed, no false gap, no stall."""

    def assert_kept(self, name: str) -> None:
        """Assert that every promise holds in each run of a schedule."""
        for seed in SEEDS[name]:
            world = play(name, seed, at_length(0, 9 + seed % 3))
            self.assertEqual(world.violations, [], f"--schedule {name} --seed {seed}")
            self.assertGreater(world.counts["deliveries"], 200)

    def test_in_calm(self) -> None:
        self.assert_kept("calm")

    def test_when_links_come_and_go(self) -> None:
        self.assert_kept("flapping")

    def test_when_nodes_crash_and_come_back_without_memory_or_never(self) -> None:
        self.assert_kept("crashes")

    def test_when_the_network_is_parted_and_healed(self) -> None:
        self.assert_kept("partition")

    def test_when_nodes_join_under_fire(self) -> None:
        self.assert_kept("joins")

    def test_when_readers_are_slow(self) -> None:
        self.assert_kept("slow")

    def test_when_some_lie(self) -> None:
        self.assert_kept("liars")

    def test_when_nodes_crash_and_go_on_with_what_they_had_stored(self) -> None:
        self.assert_kept("restarts")

    def test_when_everything_happens_at_once(self) -> None:
        self.assert_kept("everything")

    def test_in_many_nodes(self) -> None:
        only_at_length()
        for name, nodes in (("flapping", 100), ("everything", 60)):
            world = play(name, 7, nodes=nodes, seconds=3.0)
            self.assertEqual(world.violations, [], name)

    def test_every_schedule_is_played(self) -> None:
        self.assertEqual(sum(len(seeds) for seeds in SEEDS.values()), 9 * RUNS)

    def test_with_real_keys(self) -> None:
        class Signing(World):
            keys = staticmethod(real_keys)

        world = Signing(3, 5).start()
        random_graph(world, world.members, 3)
        world.run_until(1.0)
        for _ in range(4):
            for member in world.members:
                member.publish("signed")
            world.run_until(world.now + 0.5)
        check_at_rest(world)
        check_complete(world)
        self.assertEqual((world.violations, world.counts["deliveries"]), ([], 5 * 4 * 4))


class Hasty(ManyRuns):
    """Opens more streams than anybody keeps."""

    pace = 0.05


class TestAdversaries(SynchronousTestCase):
    """With adversaries, all honest members get all messages of honest members."""

    def test_each_kind_of_adversary_alone(self) -> None:
        for kind in RELAY_ADVERSARIES:
            world = World(11, at_length(14, 9), latency=(0.01, 0.04), members=[kind] * 3).start()
            adversaries, honest = world.members[:3], world.members[3:]
            random_graph(world, honest, 4)
            for number, adversary in enumerate(adversaries):
                for other in honest[number::3]:
                    world.link(adversary, other)
            world.run_until(1.0)
            for round_ in range(at_length(40, 16)):
                world.random.choice(world.members).publish("x" * world.random.randrange(200))
                if round_ % 8 == 7:  # honest links come and go, so that messages are pulled
                    link = world.random.choice([one for one in world.links.values() if not lies(one.ends)])
                    world.cut(link.number)
                    world.at(world.now + 1.0, partial(world.link, *link.ends))
                world.run_until(world.now + 0.2)
            world.run_until(world.now + 40)
            check_at_rest(world)
            check_complete(world)
            self.assertEqual(world.violations, [], kind.__name__)

    def test_a_trickle_holds_nobody_up_who_can_ask_another(self) -> None:
        world = World(1, 3, members=[SlowRelay]).start()
        adversary, author, newcomer = world.members
        world.crash(newcomer)
        world.link(adversary, author)
        for _ in range(200):
            author.publish("x")
            world.run_until(world.now + 0.05)
        newcomer.replay = MAX_NUMBER
        newcomer.start()
        world.link(newcomer, adversary)
        world.run_until(world.now + 2)
        world.link(newcomer, author)
        world.run_until(world.now + 10)
        self.assertEqual((newcomer.delivered[author.run], world.violations), (200, []))

    def test_an_author_with_runs_without_end_pushes_nobody_out(self) -> None:
        world = World(1, 4, MeshConfig(open_streams=32), members=[Hasty]).start()
        adversary, author, busy, newcomer = world.members
        world.crash(newcomer)
        for one, other in ((adversary, author), (author, busy), (busy, adversary)):
            world.link(one, other)
        world.run_until(1.0)
        for count, member in ((5, author), (200, busy)):
            for _ in range(count):
                member.publish("x")
                world.run_until(world.now + 0.05)
        self.assertGreater(busy.node.history.footprint()["closed_streams"], 100)
        newcomer.replay = MAX_NUMBER
        newcomer.start()
        world.link(newcomer, busy)
        world.run_until(world.now + 5)
        heads = [newcomer.delivered.get(member.run) for member in (author, busy)]
        self.assertEqual((heads, world.violations), ([5, 200], []))

    def test_neighbours_that_keep_messages_for_different_times_agree_in_the_end(self) -> None:
        lines: list[str] = []
        world = World(1, 4, MeshConfig(compare_interval=10.0, history_seconds=200.0), trace=lines.append)
        brief, lasting, author, away = world.members
        world.configs[brief.number] = replace(world.config, history_seconds=5.0)
        away.store = SimStore()
        world.start()
        for one, other in ((brief, lasting), (brief, author), (lasting, author), (brief, away)):
            world.link(one, other)
        world.run_until(5.0)
        world.crash(away)
        for number in range(10):
            author.publish(number)
        world.run_until(12.0)
        world.crash(author)
        world.run_until(60.0)
        self.assertIsNone(brief.node.history.get(author.run))
        away.start()
        world.link(brief, away)
        for until, is_open in ((190.0, True), (400.0, False)):
            world.run_until(until - 60.0)
            lines.clear()
            world.run_until(until)
            told = [line.split()[1] for line in lines if " HAVE" in line or " WANT" in line]
            self.assertLessEqual(set(told), {"1->3", "3->1"})  # an exchange is a new link each time
            self.assertEqual(lasting.node.history.get(author.run) is not None, is_open)
            self.assertEqual(away.node.history.head(author.run), 10)  # it came by an exchange
        self.assertEqual(world.violations, [])

    def test_a_newcomer_whose_first_neighbour_lies_about_where_to_start_misses_nothing(self) -> None:
        for seed in range(1, 6):
            world = World(seed, 4, members=[Deafener]).start()
            liar, author, honest, newcomer = world.members
            world.crash(newcomer)
            world.link(author, liar)
            world.link(author, honest)
            for _ in range(20):
                author.publish("x")
                world.run_until(world.now + 0.1)
            newcomer.start()
            world.link(newcomer, liar)
            world.run_until(world.now + 1)
            world.link(newcomer, honest)
            for _ in range(60):
                author.publish("x")
                world.run_until(world.now + 0.1)
            world.run_until(world.now + 30)
            self.assertEqual((world.violations, newcomer.delivered[author.run]), ([], 80))
            stream = newcomer.node.history.get(author.run)
            assert stream is not None
            self.assertLess(stream.base, 30)


def lies(ends: tuple[Member, Member]) -> bool:
    """Whether one of two members is an adversary."""
    return any(member.lies for member in ends)


class Swallower(Member):
    """A member whose application does not get every tenth delivery."""

    handed = 0

    def _take(self, deliver: events.Deliver) -> None:
        self.handed += 1
        if self.handed % 10:
            super()._take(deliver)


class Doubler(Member):
    """A member whose application gets every tenth delivery twice."""

    handed = 0

    def _take(self, deliver: events.Deliver) -> None:
        self.handed += 1
        super()._take(deliver)
        if not self.handed % 10:
            super()._take(deliver)


class Unheard(Member):
    """A member whose application gets nothing."""

    def _take(self, deliver: events.Deliver) -> None:
        pass


class Unasking(Member):
    """A node that never asks."""

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        if not isinstance(frame, Want):
            super().transmit(number, frame, size)


class Unannouncing(Member):
    """A node that sends no announcements, but answers."""

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        if not isinstance(frame, Have) or frame.answer:
            super().transmit(number, frame, size)


class Forgetful(Member):
    """A node that forgets what is asked of it."""

    def handle(self, event: events.Event) -> None:
        if isinstance(event, events.Received):
            frames = [frame for frame in event.frames if not isinstance(frame, Want)]
            event = events.Received(event.link, frames)
        super().handle(event)


class TestJudge(SynchronousTestCase):
    """The checks see promises that are broken on purpose."""

    def broken(self, name: str, kind: type[Member]) -> set[str]:
        """The kinds of promises that are broken in a run in which all members are of *kind*."""
        playing = Play(shortened(SCHEDULES[name], SECONDS), 1, 8)
        # Records tell the last message of each author, which would heal much: let none be sent.
        config = MeshConfig(presence_settle=1e6, presence_interval=3000.0, suspect_patience=1e6)
        playing.world = World(1, 8, config, latency=playing.schedule.latency, members=[kind] * 8).start()
        world = playing.run()
        return {promise for promise in COUNTED[2:] if world.counts[promise]}

    def of_member(self, kind: type[Member]) -> World:
        """A world without faults, in which the application of one member is told the wrong things."""
        world = World(1, 6, members=[kind]).start()
        random_graph(world, world.members, 3)
        world.run_until(1.0)
        for _ in range(30):
            world.members[3].publish("x")
            world.run_until(world.now + 0.1)
        check_at_rest(world)
        return world

    def test_a_message_that_is_swallowed(self) -> None:
        self.assertGreater(self.of_member(Swallower).counts["disorder"], 0)

    def test_a_message_that_comes_twice(self) -> None:
        self.assertEqual(self.of_member(Doubler).counts["duplicates"], 3)

    def test_the_last_message_that_is_swallowed(self) -> None:
        world = World(1, 2, members=[Member, Unheard]).start()
        world.link(*world.members)
        world.run_until(1.0)
        world.members[0].publish("x")
        world.run_until(2.0)
        check_at_rest(world)
        self.assertEqual(world.counts["missed"], 1)

    def test_nodes_that_never_ask(self) -> None:
        self.assertEqual(self.broken("flapping", Unasking), {"false gaps", "missed"})

    def test_nodes_that_announce_nothing(self) -> None:
        self.assertIn("missed", self.broken("partition", Unannouncing))

    def test_nodes_that_forget_what_is_asked_of_them(self) -> None:
        self.assertIn("missed", self.broken("partition", Forgetful))

    def test_a_gap_of_what_a_neighbour_holds(self) -> None:
        world = World(1, 2).start()
        author, reader = world.members
        world.link(author, reader)
        world.run_until(1.0)
        author.publish("x")
        world.run_until(2.0)
        world.count_gap(reader, events.GapFound(*author.run, 2, 3))
        self.assertEqual((world.counts["gaps"], world.counts["false gaps"]), (1, 0))
        world.count_gap(reader, events.GapFound(*author.run, 1, 3))
        self.assertEqual((world.counts["gaps"], world.counts["false gaps"]), (2, 1))

    def test_a_hole_that_is_left(self) -> None:
        world = World(1, 2).start()
        author, reader = world.members
        world.link(author, reader)
        world.run_until(1.0)
        for _ in range(3):
            author.publish("x")
        stream = author.node.history.get(author.run)
        assert stream is not None
        [third] = stream.serve(3, 3, 1)
        [link] = reader.links
        # The first two messages are still under way, and so is the reader's WANT.
        reader.handle(events.Received(link, (third,)))
        check_at_rest(world)
        self.assertEqual((world.counts["stalls"], world.counts["missed"]), (1, 1))

    def test_own_messages_that_come_back_as_news(self) -> None:
        world = World(1, 1).start()
        [member] = world.members
        member._take(events.Deliver(0, *member.run, 1, 0, 1, [None]))
        self.assertEqual(world.counts["duplicates"], 1)
