"""Moving neighbours on: in whatever order things happen, what was connected stays connected."""

from __future__ import annotations

from collections import deque
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import contact_of, link_of
from tests.core.overlay_case import OverlayCase
from tests.support.length import at_length
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Send
from twisted_mesh.core.link import Link
from twisted_mesh.core.overlay import rewiring
from twisted_mesh.core.overlay.rewiring import Rewiring
from twisted_mesh.core.overlay.views import ActiveView, Neighbour
from twisted_mesh.errors import Reason
from twisted_mesh.wire.membership import Contact, ForwardJoin, Purpose

GRAPHS = at_length(30_000, 80)
STEPS = 300  # in each graph

#: One neighbour is enough for everybody, so that all who have more move them on, all at once.
RESTLESS = MeshConfig(active_view=1, overlay_interval=0.5, shuffle_interval=0.5, move_timeout=4.0)


class Line:
    """A link: the frames on their way to either end, and the ends at which it is open."""

    def __init__(self, ends: tuple[Member, Member]) -> None:
        self.ends = ends
        self.open: set[Member] = set()
        self.stands = False  # open at both ends, and neither has closed it
        self.queues: dict[Member, deque[object]] = {end: deque() for end in ends}
        self.ways = tuple(self.queues.items())
        self.slow: set[Member] = set()  # ends that news reach late

    def other(self, end: Member) -> Member:
        """The other end."""
        return self.ends[self.ends[0] is end]


class Member:
    """One node that does nothing but move its neighbours, on a clock of its own."""

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.index = index
        self.contact = contact_of(index)
        self.now = 0.0
        self.active = ActiveView()
        self.links: dict[int, Link] = {}
        effects = Effects((self.contact.id, 1))
        self.made = effects.begin()
        self.moves = Rewiring(self.active, RESTLESS, world.random, effects, self.dial)

    def carry_out(self) -> None:
        """Put the frames that the rewiring sends on their way."""
        for effect in self.made:
            assert isinstance(effect, Send)
            [number] = effect.links
            line = self.world.lines[number]
            line.queues[line.other(self)].append(effect.frame)
        self.made.clear()

    def dial(self, contact: Contact, purpose: Purpose, now: float) -> bool:
        """Begin a dial, or refuse it now and then."""
        if self.world.random.random() < 0.1:
            return False
        self.world.dials.append((self, contact))
        return True

    def close(self, link: Link | None) -> None:
        """Close a link from this end, if there is one to end."""
        self.carry_out()
        if link is not None:
            line = self.world.lines[link.number]
            self.end(link.number)
            line.queues[line.other(self)].append(Reason.ROOM)

    def open(self, number: int, other: Member) -> None:
        """Open a link to a peer that has proven itself; the frontier of this end follows."""
        line = self.world.lines[number]
        link = self.links[number] = link_of(number, other.contact, host="10.0.0.1")
        self.active.add(link, self.now).contact = other.contact
        line.open.add(self)
        line.queues[other].append("frontier")
        self.moves.review(self.now)

    def end(self, number: int) -> None:
        """Note that a link is closed, by either end."""
        link = self.links.pop(number, None)
        node = None if link is None else self.active.remove(link)
        if link is None or node is None:
            return
        self.world.lines[number].stands = False
        self.world.check()
        self.moves.closed(node, link)
        self.carry_out()
        self.moves.review(self.now)

    def receive(self, number: int, what: object) -> None:
        """Receive a frame, or the news of an end, over a link."""
        link = self.links.get(number)
        node = None if link is None else self.active.over(link)
        if link is None or node is None:
            return
        if what == "open":
            self.open(number, self.world.lines[number].other(self))
        elif isinstance(what, Reason):
            self.end(number)
        elif isinstance(what, ForwardJoin):
            if what.left:
                self.moves.answered(link, node, what.contact.id, self.now)
            elif what.contact.id in (self.contact.id, node.id):
                self.moves.refuse(link, what.contact)
                self.carry_out()
            else:
                self.close(self.moves.asked(link, what.contact, self.now))
        else:
            node.links[link] = True
            self.close(self.moves.up(node.id))


class World:
    """A small connected graph, and a scheduler that lets anything happen next."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.slow = 0.0 if seed % 2 else 0.4  # so much of what is on its way takes long
        self.lines: dict[int, Line] = {}
        self.dials: list[tuple[Member, Contact]] = []
        self.moved = 0
        self.nodes = [Member(self, index) for index in range(self.random.randint(3, 7))]
        for index in range(1, len(self.nodes)):
            self.link(self.nodes[index], self.nodes[self.random.randrange(index)])
        for _ in range(self.random.randrange(len(self.nodes))):
            self.link(*self.random.sample(self.nodes, 2))
        self.settle()

    def link(self, one: Member, other: Member) -> None:
        """Make a link; it is open first at the end that was dialled."""
        number = len(self.lines) + 1
        line = self.lines[number] = Line((one, other))
        line.slow = {end for end in line.ends if self.random.random() < self.slow}
        other.open(number, one)
        # The acceptor's proof goes ahead of all else that it sends.
        line.queues[one].appendleft("open")

    def settle(self) -> None:
        """Let all that is on its way arrive."""
        while self.deliver(hasty=True):
            pass
        self.check()

    def deliver(self, *, hasty: bool = False) -> bool:
        """Let the next frame on a random link arrive; whether there was one."""
        ways = [(n, end) for n, line in self.lines.items() for end, queue in line.ways if queue]
        if not ways:
            return False
        number, end = self.random.choice(ways)
        line = self.lines[number]
        if not hasty and end in line.slow and self.random.random() < 0.95:
            return True
        what = line.queues[end].popleft()
        if what == "open":
            end.open(number, line.other(end))
            line.stands = number in line.other(end).links
        else:
            end.receive(number, what)
        return True

    def step(self) -> None:
        """Let anything happen next."""
        randomness = self.random.random()
        if randomness < 0.6 and self.deliver():
            return
        if randomness < 0.8 and self.dials:
            dialler, contact = self.dials.pop(self.random.randrange(len(self.dials)))
            if self.random.random() < 0.2:
                dialler.moves.failed(contact.id)
                dialler.carry_out()
            else:
                self.link(dialler, self.nodes[int(contact.id)])
            return
        node = self.random.choice(self.nodes)
        node.now += self.random.choice((0.5, 1.0, 2.0))
        node.moves.tick(node.now)
        node.carry_out()

    def check(self) -> None:
        """Assert that links that stand connect all nodes."""
        left = set(self.nodes)
        edge = [left.pop()]
        while edge:
            node = edge.pop()
            for line in self.lines.values():
                if line.stands and node in line.ends and line.other(node) in left:
                    left.discard(line.other(node))
                    edge.append(line.other(node))
        if left:
            raise AssertionError("the graph fell apart")


class TestAnyOrder(SynchronousTestCase):
    """Moves alone never part a connected graph."""

    def test_nothing_falls_apart(self) -> None:
        # Move as many as possible, from all links alike: this is harder than what a node does.
        self.patch(rewiring, "SPARE", 0)
        self.patch(rewiring, "KEPT", 0)
        self.patch(rewiring, "PART", 1)
        closed = 0
        for seed in range(GRAPHS):
            world = World(seed)
            try:
                for _ in range(STEPS):
                    world.step()
            except AssertionError as error:
                raise AssertionError(f"seed {seed}") from error
            closed += sum(len(line.open) == 2 and not line.stands for line in world.lines.values())
        self.assertGreater(closed, GRAPHS)  # it was not for want of moves


class TestRules(OverlayCase):
    """One node, step by step: each rule that the argument needs."""

    def setUp(self) -> None:
        super().setUp()
        self.active = ActiveView()
        self.closed: list[int] = []
        self.config = MeshConfig()
        self.moves = Rewiring(self.active, self.config, Random(1), self.effects, self.dial)

    def asked(self, number: int, contact: Contact) -> None:
        """The node over that link asks this one to link with *contact* instead."""
        self.note(self.moves.asked(self.over(number), contact, self.now))

    def up(self, index: int) -> None:
        """Let a link to node *index* be up."""
        self.note(self.moves.up(contact_of(index).id))

    def note(self, link: Link | None) -> None:
        """Note the link that is to end, if there is one."""
        self.closed += [] if link is None else [link.number]

    def node(
        self, index: int, *, up: bool = True, address: bool = True, host: str = "10.0.0.1"
    ) -> Neighbour:
        """Add node *index* as a neighbour, over the link of that number."""
        link = self.over(index)
        link.host = host
        node = self.active.add(link, 0)
        node.contact = contact_of(index) if address else None
        node.links[link] = up
        self.moves.review(self.now)
        return node

    def nodes(self, count: int) -> list[Neighbour]:
        """Add nodes 1 to *count* as neighbours."""
        return [self.node(index) for index in range(1, count + 1)]

    def ask(self) -> tuple[Neighbour, Neighbour]:
        """Let one round begin one move; the moved node and its target."""
        self.sent.clear()
        self.pass_rounds(1)
        self.assertEqual(len(self.sent), 1)
        number, frame = self.sent.pop()
        moved, target = self.active.over(self.over(number)), self.active.get(frame.contact.id)
        assert moved is not None and target is not None
        self.assertEqual((frame.left, frame.instead, frame.contact), (0, True, target.contact))
        self.assertIsNot(moved, target)
        return moved, target

    def pass_rounds(self, rounds: int) -> None:
        """Let *rounds* rounds come."""
        for _ in range(rounds):
            assert self.moves.wake is not None
            self.now = self.moves.wake
            self.moves.tick(self.now)

    def refusals(self) -> list[tuple[int, bytes]]:
        """The refusals of this node: over which link each went, and which target it names."""
        self.assertTrue(all(frame.instead and frame.left == 1 for _, frame in self.sent))
        return [(number, frame.contact.id) for number, frame in self.sent]

    # ── the requester ──────────────────────────────────────────────────────────────────

    def test_when_there_are_too_many_again_a_round_comes_soon(self) -> None:
        for index in range(1, 2 + self.config.active_view):
            self.node(index)
        for _ in range(40):  # rounds without success, each later than the one before
            assert self.moves.wake is not None
            self.now = self.moves.wake
            self.moves.tick(self.now)
        self.assertGreater(self.moves.wake - self.now, 3 * self.config.overlay_interval)
        later = self.moves.wake
        self.moves.review(self.now)  # as when a neighbour seeks no more
        self.assertEqual(self.moves.wake, later)
        self.node(90)
        self.assertLessEqual(self.moves.wake - self.now, 1.5 * self.config.overlay_interval)  # jitter

    def test_nothing_is_moved_while_there_are_not_too_many(self) -> None:
        self.nodes(self.config.active_view)
        self.assertIsNone(self.moves.wake)
        self.moves.tick(self.now + 100)
        self.node(6)  # one too many is no reason, either
        self.pass_rounds(5)
        self.assertEqual(self.sent, [])

    def test_one_too_many_is_moved_to_who_looks_for_neighbours(self) -> None:
        nodes = self.nodes(6)
        nodes[2].seeks = True
        _, target = self.ask()
        self.assertIs(target, nodes[2])
        self.pass_rounds(5)
        self.assertEqual(self.sent, [])  # once

    def test_a_part_of_what_is_too_much_is_moved_at_once(self) -> None:
        self.nodes(22)
        self.pass_rounds(1)
        self.assertEqual(len(self.sent), 4)
        moved = {number for number, _ in self.sent}
        targets = {int(frame.contact.id) for _, frame in self.sent}
        self.assertEqual(len(moved), 4)
        self.assertEqual(moved & targets, set())
        self.pass_rounds(1)
        self.assertEqual(len(self.sent), 7)

    def test_each_round_that_helps_nothing_makes_the_next_wait_longer(self) -> None:
        self.nodes(7)
        waits = []
        for _ in range(60):
            before = self.now
            self.pass_rounds(1)
            waits.append(self.now - before)
        self.assertLess(max(waits[:3]), 1)
        self.assertTrue(5 < max(waits[-10:]) <= 1.5 * self.config.shuffle_interval)
        self.moves.joined()
        self.pass_rounds(2)
        self.active.remove(self.over(7))
        self.moves.review(self.now)
        self.active.remove(self.over(6))
        self.moves.review(self.now)
        self.assertIsNone(self.moves.wake)

    def test_a_target_is_not_moved_and_whom_it_has_asked_is_no_target(self) -> None:
        self.nodes(8)
        roles: dict[int, set[bytes]] = {0: set(), 1: set()}
        for _ in range(40):  # nobody answers, and rounds go on
            self.now += self.config.move_timeout
            self.pass_rounds(1)
        for number, frame in self.sent:
            roles[0].add(contact_of(number).id)
            roles[1].add(frame.contact.id)
        self.assertEqual(roles[0] & roles[1], set())
        self.assertEqual(len(self.sent), len(roles[0]))  # and nobody is asked twice

    def test_who_says_no_is_asked_again_later(self) -> None:
        self.nodes(7)
        moved, target = self.ask()
        self.moves.answered(moved.way, moved, contact_of(99).id, self.now)  # to another question
        self.assertEqual(self.moves.footprint()["moves_asked"], 1)
        self.moves.answered(moved.way, moved, target.id, self.now)
        self.assertEqual(self.moves.footprint(), {"moves_asked": 0, "moves_declined": 1})
        other, _ = self.ask()
        self.assertIsNot(other, moved)
        self.moves.answered(moved.way, moved, target.id, self.now)  # unasked

    def test_a_moved_node_that_goes_makes_its_target_free(self) -> None:
        self.nodes(7)
        moved, target = self.ask()
        self.moves.answered(moved.way, moved, target.id, self.now)
        moved, target = self.ask()
        way = moved.way
        self.active.remove(way)
        self.moves.closed(moved, way)
        self.assertEqual(self.moves.footprint()["moves_asked"], 0)

    def test_the_refusal_of_an_earlier_request_is_no_answer_to_a_later_one(self) -> None:
        # The earlier one went over a link that is gone.  Without an answer, the moved node may still move.
        self.nodes(7)
        moved, target = self.ask()
        earlier = link_of(50, contact_of(int(moved.id)), host="10.0.0.1")
        self.active.add(earlier, 0).links[earlier] = True
        self.moves.answered(earlier, moved, target.id, self.now)
        self.active.remove(earlier)
        self.moves.closed(moved, earlier)
        self.assertEqual(self.moves.footprint()["moves_asked"], 1)

    def test_a_request_ends_with_the_link_it_went_over(self) -> None:
        self.nodes(7)
        moved, _ = self.ask()
        way, later = moved.way, link_of(50, contact_of(int(moved.id)), host="10.0.0.1")
        self.active.add(later, 0).links[later] = True
        self.active.remove(way)
        self.moves.closed(moved, way)
        self.assertEqual(self.moves.footprint()["moves_asked"], 0)

    def test_whom_the_application_wants_stays_and_two_this_node_has_dialled(self) -> None:
        nodes = self.nodes(9)
        for node in nodes[:5]:
            node.drawn = node.pinned = True
        for node in nodes[5:7]:
            node.drawn = True
        for _ in range(40):
            self.now += self.config.move_timeout
            self.pass_rounds(1)
        self.assertEqual({number for number, _ in self.sent} & set(range(1, 6)), set())
        self.active = ActiveView()
        self.setUp()
        for node in self.nodes(9)[:2]:
            node.drawn = True
        for _ in range(40):
            self.now += self.config.move_timeout
            self.pass_rounds(1)
        self.assertEqual({number for number, _ in self.sent} & {1, 2}, set())

    def test_who_has_just_come_stays_for_a_moment(self) -> None:
        for node in self.nodes(8):
            node.since = self.now + 100
        self.pass_rounds(3)
        self.assertEqual(self.sent, [])

    def test_without_addresses_nothing_can_be_moved(self) -> None:
        for index in range(1, 9):
            self.node(index, address=False)
        self.pass_rounds(3)
        self.assertEqual(self.sent, [])
        # Nodes on other hosts cannot use an address of the own host, either.
        self.active.over(self.over(1)).contact = Contact(contact_of(1).id, "127.0.0.1", 1)  # type: ignore[union-attr]
        self.pass_rounds(3)
        self.assertEqual(self.sent, [])

    # ── the moved node ─────────────────────────────────────────────────────────────────

    def test_a_request_is_followed_when_the_other_link_is_up(self) -> None:
        self.node(1)
        self.asked(1, contact_of(2))
        self.assertEqual(self.dialled, [(2, Purpose.URGENT)])
        self.node(2, up=False)
        self.up(3)
        self.assertEqual(self.closed, [])
        self.node(2)
        self.up(2)
        self.assertEqual((self.closed, self.sent, self.moves.deadline), ([1], [], None))

    def test_with_the_other_link_up_it_is_followed_at_once(self) -> None:
        self.node(1)
        self.node(2)
        self.asked(1, contact_of(2))
        self.assertEqual((self.closed, self.dialled), ([1], []))

    def test_with_the_other_link_coming_it_is_waited_for(self) -> None:
        self.node(1)
        self.node(2, up=False)
        self.asked(1, contact_of(2))
        self.assertEqual((self.closed, self.dialled), ([], []))
        self.node(2)
        self.up(2)
        self.assertEqual(self.closed, [1])

    def test_one_request_at_a_time(self) -> None:
        self.node(1)
        self.node(2)
        self.asked(1, contact_of(3))
        self.asked(2, contact_of(4))
        self.assertEqual(self.refusals(), [(2, contact_of(4).id)])

    def test_what_comes_to_nothing_is_answered(self) -> None:
        self.node(1)
        self.may_dial = False
        self.asked(1, contact_of(2))
        self.assertEqual(self.refusals(), [(1, contact_of(2).id)])
        self.may_dial = True
        self.asked(1, contact_of(3))
        self.moves.failed(contact_of(9).id)
        self.moves.failed(contact_of(3).id)
        self.asked(1, contact_of(4))
        deadline = self.moves.deadline
        assert deadline is not None
        self.moves.tick(deadline - 0.1)
        self.assertEqual(len(self.sent), 2)
        self.moves.tick(deadline)
        self.assertEqual([int(id) for _, id in self.refusals()], [2, 3, 4])
        self.assertEqual(self.closed, [])

    def test_a_target_that_ends_its_link_before_it_is_up_is_told(self) -> None:
        self.node(1)
        self.asked(1, contact_of(2))
        self.node(2, up=False)
        node = self.active.remove(self.over(2))
        assert node is not None
        self.moves.closed(node, self.over(2))
        self.assertEqual(self.refusals(), [(1, contact_of(2).id)])

    def test_a_request_ends_with_its_link(self) -> None:
        node = self.node(1)
        self.asked(1, contact_of(2))
        self.active.remove(self.over(1))
        self.moves.closed(node, self.over(1))
        self.node(2)
        self.up(2)
        self.assertEqual((self.closed, self.sent), ([], []))
        # Nor is it answered over another link to the requester.
        node = self.node(3)
        self.asked(3, contact_of(4))
        other = self.links[5] = link_of(5, contact_of(3), host="10.0.0.1")
        self.active.add(other, 0).links[other] = True
        self.active.remove(self.over(3))
        self.moves.closed(node, self.over(3))
        self.assertEqual((self.closed, self.sent, self.moves.deadline), ([], [], None))

    def test_a_link_that_came_after_the_request_is_not_ended(self) -> None:
        self.node(1)
        self.asked(1, contact_of(2))
        self.active.add(link_of(5, contact_of(1)), 0)
        self.node(2)
        self.up(2)
        self.assertEqual((self.closed, self.refusals()), ([], [(1, contact_of(2).id)]))

    def test_a_target_of_its_own_is_not_left(self) -> None:
        self.nodes(7)
        _, target = self.ask()
        self.asked(target.way.number, contact_of(50))
        self.node(50)
        self.up(50)
        self.assertEqual((self.closed, self.refusals()), ([], [(target.way.number, contact_of(50).id)]))

    def test_whom_it_has_asked_to_go_is_not_counted_on(self) -> None:
        self.nodes(7)
        moved, target = self.ask()
        requester = next(node for node in self.active if node not in (moved, target))
        self.asked(requester.way.number, contact_of(int(moved.id)))
        self.assertEqual((self.closed, self.refusals()), ([], [(requester.way.number, moved.id)]))
