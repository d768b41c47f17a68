"""The parts of the simulator for membership, and its checks of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import ForgetMember
from twisted_mesh.core.membership.roster import HEARSAY, State
from twisted_mesh.simulation.bootstrap import bootstrap
from twisted_mesh.simulation.invariants.membership import (
    MembershipChecks,
    check_membership,
    islands,
    patience,
)
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.scenarios.stage import Stage
from twisted_mesh.simulation.trace import AnyFrame
from twisted_mesh.simulation.world import World
from twisted_mesh.wire import membership
from twisted_mesh.wire.membership import Presence, Purpose, Role
from twisted_mesh.wire.signed import SignedRecord


class Wordless(Member):
    """A member that never sends its record."""

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        if isinstance(frame, membership.Roster):
            frame = membership.Roster(frame.last, [], frame.vote)
        if not (isinstance(frame, SignedRecord) and self.is_own(frame)):
            super().transmit(number, frame, size)

    def is_own(self, frame: SignedRecord) -> bool:
        return isinstance(frame.record, Presence) and frame.record.origin == self.origin


class Unlisting(Member):
    """A member that sends no roster."""

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        if not isinstance(frame, membership.Roster):
            super().transmit(number, frame, size)


def gathered(count: int, members: Sequence[type[Member]] = (), config: MeshConfig | None = None) -> Stage:
    """A mesh that has had ten seconds to form."""
    stage = Stage(1, count, config, members)
    stage.gather()
    stage.run(10.0)
    return stage


class TestJudge(SynchronousTestCase):
    """The checks see promises that are broken on purpose."""

    def counted(self, stage: Stage) -> set[str]:
        """The kinds of promises that are broken in *stage*."""
        check_membership(stage.world)
        return {kind for kind in ("islands", "rosters", "downs", "limits") if stage.world.counts[kind]}

    def test_nothing_where_nothing_is_wrong(self) -> None:
        self.assertEqual(self.counted(gathered(8)), set())

    def test_an_island(self) -> None:
        stage = gathered(8)
        stage.world.part(lambda member: member.number < 3)
        stage.run(20.0)  # long enough to lose links, too short to give members up
        self.assertEqual(self.counted(stage), {"islands"})
        self.assertEqual([len(group) for group in islands(stage.world.members)], [5, 3])

    def test_a_member_that_is_not_shown(self) -> None:
        stage = gathered(8, [Member, Wordless])
        self.assertEqual(self.counted(stage), {"rosters"})
        self.assertEqual(stage.world.counts["rosters"], 7)

    def test_a_node_that_was_told_no_roster(self) -> None:
        self.assertEqual(self.counted(gathered(2, [Unlisting])), {"rosters"})

    def test_a_member_that_is_shown_and_gone(self) -> None:
        stage = gathered(6, config=MeshConfig(presence_missed=100))
        gone = stage.world.members[3]
        for member in stage.world.members:
            member.role = Role.GUEST  # guests accuse nobody
        stage.world.crash(gone)
        gone.since = -10_000.0
        self.assertEqual(self.counted(stage), {"rosters"})

    def test_a_table_over_its_limit(self) -> None:
        stage = gathered(8)
        stage.world.configs[2] = MeshConfig(members_limit=3)
        self.assertEqual(self.counted(stage), {"limits"})

    def test_who_is_wrongly_shown_as_gone_and_for_how_long(self) -> None:
        stage = gathered(3)
        stage.run(patience(stage.world.config))
        viewer, subject, _ = stage.world.members
        entry = viewer.node.roster.get(subject.origin)
        assert entry is not None
        entry.state = State.DOWN
        stage.world.has_changed(viewer, subject.origin)
        self.assertEqual(stage.world.counts["downs"], 1)
        stage.run(5.0)
        entry.state = State.UP
        stage.world.has_changed(viewer, subject.origin)
        self.assertEqual(stage.membership.wrongs, [5.0])


class TestPeers(SynchronousTestCase):
    """The simulator dials configured peers as a service does."""

    def world(self, count: int, *peers: int) -> World:
        """Members that do not run yet, each of which has *peers* as its configured peers."""
        world = World(1, count, overlay=True)
        MembershipChecks(world)
        bootstrap(world, world.members, *(world.members[peer] for peer in peers))
        return world

    def test_a_peer_that_is_not_up_is_dialled_until_it_is(self) -> None:
        world = self.world(2, 0)
        contact, member = world.members
        member.start()
        world.run_until(500.0)
        assert contact.address is not None
        dials = world.dials[contact.address]
        self.assertTrue(500 / 62 < dials < 30, dials)
        contact.start()
        world.run_until(world.now + 62.0)
        self.assertEqual(set(member.table), {contact.id})

    def test_a_peer_that_had_no_room_is_visited_now_and_then(self) -> None:
        world = self.world(20, 0)
        world.config = replace(world.config, peer_interval=120.0)
        for member in world.members:
            member.start()
        world.run_until(30.0)
        contact = world.members[0]
        assert contact.address is not None
        self.assertLess(len(contact.table), 12)
        before = world.dials[contact.address]
        world.run_until(30.0 + world.config.peer_interval)
        apart = 19 - len(contact.table)
        # Some of them are linked with the contact again by then.
        self.assertGreater(world.dials[contact.address] - before, apart * 3 // 4)

    def test_who_was_linked_with_is_remembered_over_a_crash(self) -> None:
        world = self.world(6, 0)
        for member in world.members:
            member.start()
        world.run_until(30.0)
        contact, member = world.members[:2]
        world.crash(contact)
        world.crash(member)
        world.run_until(60.0)
        member.start()
        world.run_until(90.0)
        self.assertGreater(len(member.table), 0)
        self.assertEqual(len(islands(world.honest())), 1)

    def test_nobody_is_dialled_over_the_border_of_a_partition(self) -> None:
        world = self.world(6, 0)
        for member in world.members:
            member.start()
        world.run_until(10.0)
        world.part(lambda member: member.number % 2)
        world.run_until(200.0)
        self.assertTrue(all(world.reaches(*link.ends) for link in world.links.values()))
        self.assertEqual(sorted(map(len, islands(world.members))), [3, 3])

    def test_a_node_finds_neither_itself_nor_another_under_an_id(self) -> None:
        world = self.world(2)
        one, other = world.members
        one.start()
        other.start()
        assert one.address is not None and other.address is not None
        failed: list[float] = []
        for address, id in ((one.address, None), (other.address, one.id), (("192.0.2.1", 1), None)):
            world.call(one, address, id, Purpose.JOIN, lambda: failed.append(world.now))
        world.run_until(30.0)
        self.assertEqual((len(failed), len(world.links)), (3, 0))
        self.assertGreater(
            failed[-1], world.config.connect_timeout - 1e-9
        )  # nothing answers at that address

    def test_who_leaves_says_so(self) -> None:
        stage = gathered(6)
        gone = stage.world.members[2]
        stage.world.leave(gone)
        stage.run(1.0)
        for member in stage.world.honest():
            entry = member.node.roster.get(gone.origin)
            assert entry is not None
            self.assertIs(entry.state, State.LEFT)

    def test_who_stalls_handles_what_came_when_it_is_over(self) -> None:
        stage = gathered(4)
        held = stage.world.members[2]
        stage.world.stall(held, 5.0)
        author = stage.world.members[0]
        author.publish("x")
        stage.run(4.9)
        self.assertEqual(held.delivered.get(author.run), None)
        stage.run(0.2)
        self.assertEqual(held.delivered.get(author.run), 1)

    def test_a_link_that_ends_meanwhile_was_up_for_a_moment_only(self) -> None:
        world = World(1, 2).start()
        held, other = world.members
        world.stall(held, 5.0)
        link = world.link(held, other)
        assert link is not None
        world.run_until(4.0)
        world.cut(link.number)
        world.run_until(6.0)
        self.assertEqual((held.table, other.table), ({}, {}))


class TestHearsay(SynchronousTestCase):
    """A newcomer knows of the members that are away as long as others do."""

    def test_others_that_knew_it_go_on_to_tell_of_a_member_that_is_away(self) -> None:
        stage = Stage(1, 8)
        *members, newcomer = stage.world.members
        away = members[4]
        stage.gather(members=members)
        stage.run(30.0)
        stage.world.crash(away)
        stage.run(200.0)
        stage.gather(members=[newcomer])
        for _ in range(10):
            stage.run(2 * HEARSAY / 5)
            entry = newcomer.node.roster.get(away.origin)
            assert entry is not None
            self.assertEqual((entry.state, entry.spoke_again), (State.DOWN, False))


class TestForgetting(SynchronousTestCase):
    def test_nodes_that_were_cut_off_forget_the_member_when_they_meet_the_others(self) -> None:
        stage = gathered(6, config=MeshConfig(presence_interval=5.0, exchange_interval=10.0))
        world = stage.world
        *members, gone = world.members
        world.crash(gone)
        world.part(lambda member: member.number < 3)
        stage.run(patience(world.config))
        members[0].handle(ForgetMember(gone.origin))
        stage.run(1.0)

        def shown() -> list[int]:
            return [member.number for member in members if gone.origin in member.node.roster]

        self.assertEqual(shown(), [3, 4])
        world.heal()
        stage.run(60.0)
        self.assertEqual(shown(), [])
        self.assertEqual(world.violations, [])
        stage.gather(members=[gone])
        stage.run(10.0)
        self.assertEqual(shown(), [0, 1, 2, 3, 4])
