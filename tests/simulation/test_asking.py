"""Receipts are true and come in time, and direct messages come once, in all schedules."""

from __future__ import annotations

from dataclasses import replace

from msgspec.structs import replace as replace_field
from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.shortened import shortened
from tests.support.length import at_length, only_at_length
from twisted_mesh.core import events
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.replies.routes import DETOURS, MOST_HOPS
from twisted_mesh.simulation.__main__ import nodes_for
from twisted_mesh.simulation.adversaries.adversary import Adversary
from twisted_mesh.simulation.adversaries.receipts import RECEIPT_ADVERSARIES, Swallower
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.scenarios import asking as scenario
from twisted_mesh.simulation.scenarios.asking import ASKING, Asker, Asking, Book
from twisted_mesh.simulation.scenarios.schedules import random_graph
from twisted_mesh.simulation.trace import AnyFrame
from twisted_mesh.simulation.world import World
from twisted_mesh.wire.replies import Direct, DirectAck, DirectKey, Receipts
from twisted_mesh.wire.signed import SignedRecord

SECONDS = at_length(3.0, 2.0)


def play(name: str, seed: int, nodes: int = 0, seconds: float = SECONDS) -> Asking:
    """One run of a schedule to its end."""
    playing = Asking(shortened(ASKING[name], seconds), seed, nodes or nodes_for(seed))
    playing.run()
    return playing


def asking(count: int, members: tuple[type[Member], ...] = (), seed: int = 1) -> World:
    """A mesh of *count* members after two seconds; the first of them are of the kinds *members*."""
    Asker.book = Book()
    world = World(
        seed, count, latency=(0.01, 0.04), members=[*members, *[Asker] * (count - len(members))]
    ).start()
    Asker.book.adversaries = {member.origin for member in world.members if member.lies}
    Asker.book.members = world.members
    honest = [member for member in world.members if not member.lies]
    random_graph(world, honest, 4)  # the network is connected without the adversaries
    for adversary in world.members[: len(members)]:
        for other in world.random.sample(honest, min(4, len(honest))):
            world.link(adversary, other)
    world.run_until(2.0)
    return world


def askers(world: World) -> list[Asker]:
    """The honest members."""
    return [member for member in world.members if isinstance(member, Asker)]


def unknown(asker: Asker, members: list[Asker]) -> set[tuple[int, int]]:
    """Pairs of a message of *asker* and a member that is not known to have it, by their numbers."""
    found = set()
    for sequence in asker.asked:
        holders = asker.node.replies.holders(sequence)
        assert holders is not None
        found |= {(sequence, one.number) for one in members if one.origin not in holders.delivered}
    return {(sequence, number) for sequence, number in found if number != asker.number}


class TestPromises(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(Adversary, "pace", at_length(Adversary.pace, 1.0))

    def test_they_hold_in_every_schedule(self) -> None:
        for number, name in enumerate(ASKING):
            for seed in range(2 * number, 2 * number + at_length(2, 1)):
                playing = play(name, seed, nodes=at_length(0, 7))
                self.assertEqual(playing.world.violations, [], f"--schedule {name} --seed {seed}")
                self.assertGreater(len(playing.book.letters), 20)
                self.assertGreater(playing.world.kinds["Receipts"], 50)

    def test_nobody_asks_while_all_stand_still(self) -> None:
        playing = Asking(ASKING["asking-flapping"], 1, 3)
        for member in playing.world.members:
            playing.world.stall(member, 5.0)
        playing._publish()
        self.assertEqual(playing.book.letters, [])

    def test_in_a_hundred_nodes(self) -> None:
        only_at_length()
        playing = play("asking-flapping", 7, nodes=100, seconds=2.0)
        self.assertEqual(playing.world.violations, [])
        # A message strays for at most DETOURS hops, and then goes a way from the author.
        self.assertLessEqual(playing.book.hops, DETOURS + playing.book.way + 1)

    def test_with_each_kind_of_adversary(self) -> None:
        for kind in RECEIPT_ADVERSARIES:
            world = asking(at_length(14, 8), (kind, kind, kind), seed=5)
            honest = askers(world)
            for number in range(at_length(12, 6)):
                honest[number % 4].ask("x", number)
                for reader in honest:
                    if reader is not honest[number % 4]:
                        honest[number % 4].write(reader)
                        honest[number % 4].request(reader)
                world.run_until(world.now + 0.1)
            end = world.now + 160
            while world.now < end and any(unknown(asker, honest) for asker in honest[:4]):
                world.run_until(world.now + 5)
            world.run_until(world.now + 30)
            self.assertEqual(world.violations, [], kind.__name__)
            for asker in honest[:4]:
                self.assertEqual(unknown(asker, honest), set(), kind.__name__)
            self.assertEqual({letter.ended for letter in Asker.book.letters}, {""}, kind.__name__)


class TestCost(SynchronousTestCase):
    def test_none_when_nobody_asks(self) -> None:
        world = asking(20)
        for asker in askers(world):
            asker.publish("x")
            world.run_until(world.now + 0.1)
        world.run_until(world.now + 60)
        self.assertGreater(world.counts["deliveries"], 300)
        self.assertEqual(world.kinds.get("Receipts", 0), 0)

    def test_one_message_costs_each_edge_of_its_tree_a_frame_or_two(self) -> None:
        count = at_length(100, 30)
        world = asking(count)
        world.run_until(20.0)
        author = askers(world)[0]
        author.ask("x")
        world.run_until(world.now + 2.0)
        holders = author.node.replies.holders(author.node.outbox.head)
        assert holders is not None
        self.assertEqual((len(holders.delivered), len(holders.pending)), (count - 1, 0))
        # A relay sends its own receipt at once, and those that it gathers after that.
        self.assertLessEqual(world.kinds["Receipts"], 2 * (count - 1) + 10)

    def test_many_cost_each_edge_a_frame_each_interval(self) -> None:
        count = at_length(20, 10)
        world = asking(count)
        world.run_until(20.0)
        author = askers(world)[0]
        for _ in range(300):
            author.ask("x")
            world.run_until(world.now + 0.01)
        intervals = 3.0 / world.config.receipt_delay
        self.assertLessEqual(world.kinds["Receipts"], 1.1 * (count - 1) * intervals)
        self.assertEqual(world.violations, [])  # Asker checks the time between two frames

    def test_a_direct_message_costs_its_way_and_back(self) -> None:
        world = asking(20)
        world.run_until(20.0)
        before = world.kinds.get("Direct", 0), world.kinds.get("DirectAck", 0)
        self.assertEqual(before, (0, 0))
        first, second, *_ = askers(world)
        first.write(second)
        world.run_until(world.now + 60)
        self.assertEqual(Asker.book.letters[0].ended, "")
        self.assertLess(Asker.book.hops, 6)


class Liar(Asker):
    """Sends receipts for messages that it has not taken."""

    def _take(self, deliver: events.Deliver) -> None:
        if deliver.first:
            self.delivered[deliver.origin, deliver.epoch] = deliver.first
        else:
            super()._take(deliver)


class Twice(Asker):
    """A member whose application gets each direct message twice."""

    def _take(self, deliver: events.Deliver) -> None:
        super()._take(deliver)
        if not deliver.first:
            super()._take(deliver)


class Early(Asker):
    """Acknowledges direct messages that its application never gets."""

    def _take(self, deliver: events.Deliver) -> None:
        if deliver.first:
            super()._take(deliver)


class Open(Asker):
    """Sends direct messages unsealed."""

    def _local_node(self) -> LocalNode:
        node = super()._local_node()
        node.sealing.encrypt = lambda text, key, context: text  # type: ignore[method-assign]
        return node


class Stolen(Asker):
    """A member whose application gets direct messages as those of another member."""

    def _take(self, deliver: events.Deliver) -> None:
        super()._take(deliver if deliver.first else replace_field(deliver, origin=self.origin))


class Jumbled(Asker):
    """A member whose application gets direct messages in another order than they were sent."""

    kept: events.Deliver | None = None

    def _take(self, deliver: events.Deliver) -> None:
        if deliver.direct_number and self.kept is None:
            self.kept = deliver
            return
        super()._take(deliver)
        if deliver.direct_number and self.kept is not None:
            super()._take(self.kept)
            self.kept = None


class Heedless(Asker):
    """A member whose application gets direct messages though it has no room."""

    def handle(self, event: events.Event) -> None:
        if not isinstance(event, events.DirectRoom):
            super().handle(event)


class Credulous(Asker):
    """Takes each direct message of a member for the answers to all requests that it has sent to it."""

    def _credit(self, deliver: events.Deliver) -> None:
        for id in list(self.questions._open):
            super()._credit(replace_field(deliver, answers=id))


class Deaf(Asker):
    """Gives no answer to a request."""

    def _credit(self, deliver: events.Deliver) -> None:
        pass


class Chatty(Asker):
    """Sends every receipt twice."""

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        super().transmit(number, frame, size)
        if isinstance(frame, Receipts):
            super().transmit(number, frame, size)


class Mute(Asker):
    """Sends no receipts, acknowledgements or direct messages."""

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        back = isinstance(frame, SignedRecord) and isinstance(frame.record, Direct | DirectAck | DirectKey)
        if not back and not isinstance(frame, Receipts):
            super().transmit(number, frame, size)


class TestJudge(SynchronousTestCase):
    """The checks see promises that are broken on purpose."""

    def broken(self, kind: type[Asker], seconds: float = SECONDS) -> dict[str, int]:
        """The broken promises of a calm run with one member of *kind*, to which others write."""
        schedule = replace(ASKING["asking-calm"], seconds=seconds)
        playing = Asking(schedule, 4, 6)
        world = playing.world = World(4, 6, latency=schedule.latency, members=[kind, *[Asker] * 5]).start()
        playing.run()
        return {name: world.counts[name] for name in ("receipts", "directs")}

    def test_a_false_receipt(self) -> None:
        self.assertGreater(self.broken(Liar)["receipts"], 0)

    def test_a_message_that_comes_twice(self) -> None:
        self.assertGreater(self.broken(Twice)["directs"], 0)

    def test_one_that_never_comes_and_is_acknowledged(self) -> None:
        self.assertGreater(self.broken(Early)["directs"], 0)

    def test_one_that_can_be_read_on_its_way(self) -> None:
        self.assertGreater(self.broken(Open)["directs"], 0)

    def test_one_that_comes_as_another_members(self) -> None:
        self.assertGreater(self.broken(Stolen)["directs"], 0)

    def test_one_that_comes_before_an_earlier_one(self) -> None:
        self.assertGreater(self.broken(Jumbled)["directs"], 0)

    def test_one_that_comes_without_room(self) -> None:
        self.patch(scenario, "_FULL", 1.0)
        self.assertGreater(self.broken(Heedless)["directs"], 0)

    def test_an_answer_to_another_request(self) -> None:
        self.assertGreater(self.broken(Credulous, 10.0)["directs"], 0)

    def test_an_answer_that_is_not_given_to_its_request(self) -> None:
        self.assertGreater(self.broken(Deaf, 10.0)["directs"], 0)

    def test_frames_that_come_too_often(self) -> None:
        self.assertGreater(self.broken(Chatty)["receipts"], 0)

    def test_receipts_that_never_come_and_messages_that_are_not_acknowledged(self) -> None:
        counts = self.broken(Mute)
        self.assertGreater(counts["receipts"], 0)
        self.assertGreater(counts["directs"], 0)

    def test_what_goes_too_far(self) -> None:
        schedule = replace(ASKING["asking-calm"], seconds=SECONDS)
        playing = Asking(schedule, 3, 8)
        playing.book.hops = MOST_HOPS
        self.assertEqual(len(playing.run().violations), 1)

    def test_all_swallow(self) -> None:
        world = asking(6, (Swallower,) * 3)
        for asker in askers(world):
            asker.ask("x")
        world.run_until(world.now + 30)
        self.assertEqual(world.violations, [])  # an unknown receipt is not a false one
