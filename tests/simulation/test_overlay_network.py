"""Many overlays: nodes become one mesh of any size, stay one, and heal.

The bounds hold with the default limits, for every seed that is run; that of dials at rest is a
mean, which one seed in twelve exceeds.  Most nodes are guests, which send no records: these tests are
about the overlay and not about the roster.
"""

from __future__ import annotations

from statistics import mean

from twisted.trial.unittest import SynchronousTestCase

from tests.support.length import at_length, only_at_length
from twisted_mesh.config import MeshConfig
from twisted_mesh.simulation.bootstrap import bootstrap
from twisted_mesh.simulation.invariants.membership import islands, limits
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.scenarios.stage import Stage

MANY = at_length(100, 30)


def seeds(few: int, many: int) -> range:
    """The seeds to run: a few, or with MESH_LONG many."""
    return range(at_length(many, few))


def alive(stage: Stage) -> list[Member]:
    """The nodes that run."""
    return [member for member in stage.world.members if member.core is not None]


def dialled(stage: Stage) -> int:
    """The number of dials so far."""
    return stage.world.dials.total()


class OverlayCase(SynchronousTestCase):
    """Builds networks, and checks their links."""

    def gathered(
        self,
        seed: int,
        nodes: int,
        within: float,
        *,
        machines: int = 0,
        hidden: float = 0.0,
        members: int = 4,
        config: MeshConfig | None = None,
    ) -> Stage:
        """Nodes that all know the first, and have joined it within so many seconds.

        :param machines: on how many machines the nodes are, 0: each on one of its own.
        :param hidden: share of the others that nobody can dial.
        :param members: the others are guests, which costs less: they are on no roster.
        """
        stage = Stage(seed, nodes, config)
        stage.speak(members)
        for member in stage.world.members:
            if machines:
                member.host = f"10.0.0.{member.number % machines}"
                member.address = (member.host, 4444 + member.number)
            if member.number and stage.world.random.random() < hidden:
                member.address = None
        stage.gather(within)
        stage.run(within + 2)
        for member in stage.world.members:
            member.caller = None  # from now on only the overlay dials
        return stage

    def assert_one(self, stage: Stage) -> None:
        """Assert that all nodes that run are connected."""
        self.assertEqual(len(islands(alive(stage))), 1, stage.world.seed)

    def degrees(self, stage: Stage) -> list[int]:
        """How many neighbours each node has, the fewest first."""
        return sorted(len(member.table) for member in alive(stage))

    def assert_degrees(self, stage: Stage, least: int, most: int) -> None:
        """Assert how many neighbours the nodes have."""
        degrees = self.degrees(stage)
        self.assertGreaterEqual(degrees[0], least, (stage.world.seed, degrees))
        self.assertLessEqual(degrees[-1], most, (stage.world.seed, degrees))


class TestGathering(OverlayCase):
    """Nodes that all know the same one."""

    def gather(self, nodes: int, seeds: range, within: float, machines: int = 0) -> None:
        # At rest a node dials once in some minutes; some still draw neighbours in this one.
        dials = [self.gather_once(nodes, seed, within, machines) for seed in seeds]
        self.assertLess(mean(dials), 3 * nodes, dials)

    def gather_once(self, nodes: int, seed: int, within: float, machines: int) -> int:
        """Gather the nodes until they rest; return the number of dials in the minute after that."""
        stage = self.gathered(seed, nodes, within, machines=machines)
        self.assert_one(stage)
        stage.run(7)
        # Some nodes still pass newcomers on to others.
        self.assert_degrees(stage, 2, 12)
        self.assertLessEqual(self.degrees(stage)[-4], 8, seed)
        stage.run(30 - stage.world.now)
        self.assert_one(stage)
        # Nodes still look for neighbours of their own drawing.  In one of eight runs that brings a node
        # more than it keeps, for some seconds (measured: up to 10).
        self.assert_degrees(stage, 3, 12)
        self.assertLessEqual(self.degrees(stage)[-4], 8, seed)
        dials = dialled(stage)
        self.assertLess(dials, 12 * nodes, seed)
        stage.run(60)
        self.assert_one(stage)
        self.assert_degrees(stage, 3, 8)
        return dialled(stage) - dials

    def test_hundred_nodes_in_a_second_become_one_mesh(self) -> None:
        only_at_length()
        self.gather(100, seeds(1, 10), 1)

    def test_many_nodes_in_five_seconds_become_one_mesh(self) -> None:
        only_at_length()
        self.gather(MANY, seeds(1, 5), 5)

    def test_few_machines_are_as_good_as_many(self) -> None:
        for machines in at_length((1, 3), (1,)):
            self.gather(MANY, seeds(1, 3), 1, machines)

    def test_nine_nodes_in_one_instant_become_one_mesh(self) -> None:
        for seed in seeds(8, 100):
            stage = self.gathered(seed, 10, 0.001)
            self.assert_one(stage)
            stage.run(28)
            self.assert_one(stage)
            self.assert_degrees(stage, 3, 7)

    def test_up_to_six_nodes_are_a_full_mesh_within_five_seconds(self) -> None:
        for nodes in range(2, 7):
            for seed in seeds(2, 50):
                stage = self.gathered(seed, nodes, seed % 3, machines=seed % 3)
                stage.run(3)
                self.assertEqual(self.degrees(stage), [nodes - 1] * nodes, seed)
                dials = dialled(stage)
                stage.run(40)
                self.assertEqual(dialled(stage), dials)  # a full mesh is left alone

    def test_nodes_that_nobody_can_dial_are_part_of_it(self) -> None:
        for seed in seeds(1, 10):
            stage = self.gathered(seed, MANY, 1, hidden=0.3)
            stage.run(7)
            self.assert_one(stage)
            stage.run(20)
            self.assert_one(stage)
            hidden = [len(member.table) for member in alive(stage) if member.address is None]
            self.assertGreaterEqual(min(hidden), 2, seed)

    def test_a_mesh_that_wants_more_links_than_it_has_places_for_comes_to_rest(self) -> None:
        # Four of five can only dial, so the others always have too many neighbours.
        nodes = at_length(60, 20)
        stage = self.gathered(1, nodes, 1, hidden=0.8)
        stage.run(120 - stage.world.now)
        self.assert_one(stage)
        dials = dialled(stage)
        stage.run(60)
        self.assertLess((dialled(stage) - dials) / nodes, 60)


class TestLosses(OverlayCase):
    """Nodes that come and go."""

    def test_when_half_of_the_nodes_fail_at_once_the_others_find_each_other(self) -> None:
        for seed in seeds(1, 6):
            stage = self.gathered(seed, MANY, 1)
            stage.run(37)
            for member in stage.world.random.sample(alive(stage), MANY // 2):
                stage.world.crash(member)
            stage.run(30)
            self.assert_one(stage)
            self.assert_degrees(stage, 3, 7)

    def test_a_mesh_lives_on_while_nodes_come_and_go(self) -> None:
        for seed in seeds(1, 10):
            stage = Stage(seed, at_length(100, 55))
            world = stage.world
            stage.speak(4)
            stage.gather(5, world.members[:40])
            stage.run(10)
            for newcomer in world.members[40:]:
                linked = [member for member in alive(stage) if member.table]
                gone = world.random.choice(linked)
                (world.crash if newcomer.number % 2 else world.leave)(gone)
                linked.remove(gone)
                bootstrap(world, [newcomer], world.random.choice(linked))
                newcomer.start()
                stage.run(1)
            stage.run(30)
            self.assert_one(stage)
            self.assert_degrees(stage, 2, 7)
            self.assertEqual(len(alive(stage)), 40, seed)

    def test_an_island_that_is_remembered_is_found_again(self) -> None:
        # The node that connects all others is lost; the others know of each other.
        # Guests would not: three guests that are each other's neighbours have no place for more,
        # and stay an island.
        for seed in seeds(2, 50):
            stage = self.gathered(seed, 12, 0.001, members=12, config=MeshConfig(active_view=2))
            stage.run(28)
            stage.world.crash(stage.contact)
            stage.run(30)
            self.assert_one(stage)


class TestFootprint(OverlayCase):
    """Everything is bounded."""

    def test_every_table_stays_within_its_limit(self) -> None:
        stage = Stage(1, MANY)
        stage.speak(4)
        stage.gather()
        for _ in range(1, at_length(60, 20)):
            stage.run(1)
            for member in alive(stage):
                footprint = member.node.footprint()
                for table, limit in limits(stage.world.config, footprint["links"]).items():
                    self.assertLessEqual(footprint[table], limit, table)
                self.assertLessEqual(footprint["active_view"], footprint["links"])
