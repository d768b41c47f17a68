"""Many overlays together: a mesh of any size becomes one, stays one, and heals.

The numbers are those of the defaults; each holds for every seed that is run.
"""

from __future__ import annotations

from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from tests.core.overlay_network import Host, Network
from tests.support.length import at_length
from twisted_mesh.config import MeshConfig


def seeds(few: int, many: int) -> range:
    """The seeds to run: a few, or with MESH_LONG many."""
    return range(at_length(many, few))


class OverlayCase(SynchronousTestCase):
    """What is asked of a whole network."""

    def assert_one(self, network: Network, note: object) -> None:
        """Assert that all nodes that are there hang together."""
        self.assertEqual(len(network.components()), 1, note)

    def assert_degrees(self, network: Network, least: int, most: int, note: object) -> None:
        """Assert how many neighbours the nodes have."""
        degrees = network.degrees()
        self.assertGreaterEqual(degrees[0], least, (note, degrees))
        self.assertLessEqual(degrees[-1], most, (note, degrees))


class TestGathering(OverlayCase):
    """Nodes that all know the same one."""

    def gather(self, seed: int, within: float, **options: object) -> None:
        network = Network(seed, **options)  # type: ignore[arg-type]
        first = network.gather(100, within)
        network.run(within + 2)
        self.assert_one(network, seed)
        network.run(within + 9)
        self.assert_degrees(network, 2, 12, seed)
        others = [host for host in network.alive() if host is not first]
        # Two of a hundred are still handing on what came last.
        self.assertLessEqual(network.degrees(others)[-3], 8, seed)
        self.assertLessEqual(len(first.neighbours()), 12, seed)
        network.run(30)
        self.assert_one(network, seed)
        self.assert_degrees(network, 3, 7, seed)
        dialled = sum(host.dialled for host in network.alive())
        self.assertLess(dialled, 1000, seed)
        network.run(90)
        self.assert_one(network, seed)
        # It is at rest: a node dials once in some minutes.
        self.assertLess(sum(host.dialled for host in network.alive()) - dialled, 150, seed)

    def test_hundred_nodes_in_a_second_become_one_mesh(self) -> None:
        for seed in seeds(1, 40):
            self.gather(seed, 1)

    def test_hundred_nodes_in_five_seconds_become_one_mesh(self) -> None:
        for seed in seeds(1, 40):
            self.gather(seed, 5, rosters=True)

    def test_few_machines_are_as_good_as_many(self) -> None:
        for seed in seeds(1, 20):
            self.gather(seed, 1, machines=1)
            self.gather(seed, 1, machines=3)

    def test_nine_nodes_in_one_instant_become_one_mesh(self) -> None:
        for seed in seeds(8, 500):
            network = Network(seed)
            network.gather(10, 0)
            network.run(3)
            self.assert_one(network, seed)
            network.run(30)
            self.assert_one(network, seed)
            self.assert_degrees(network, 3, 7, seed)

    def test_up_to_six_nodes_are_a_full_mesh_within_five_seconds(self) -> None:
        for nodes in range(2, 7):
            for seed in seeds(2, 200):
                network = Network(seed, rosters=bool(seed % 2), machines=seed % 3)
                network.gather(nodes, seed % 3)
                network.run(seed % 3 + 5)
                self.assertEqual(network.degrees(), [nodes - 1] * nodes, (nodes, seed))

    def test_nodes_that_nobody_can_dial_are_part_of_it(self) -> None:
        for seed in seeds(1, 40):
            network = Network(seed, rosters=bool(seed % 2))
            network.gather(100, 1, undialable=0.3)
            network.run(10)
            self.assert_one(network, seed)
            network.run(30)
            self.assert_one(network, seed)
            hidden = [host for host in network.alive() if not host.dialable]
            self.assertGreaterEqual(network.degrees(hidden)[0], 2, seed)

    def test_a_mesh_that_wants_more_links_than_it_has_places_for_comes_to_rest(self) -> None:
        # Four of five can only dial: the others are never rid of what they have too many.
        network = Network(1)
        network.gather(60, 1, undialable=0.8)
        network.run(120)
        self.assert_one(network, "full")
        dialled = sum(host.dialled for host in network.alive())
        network.run(180)
        self.assertLess((sum(host.dialled for host in network.alive()) - dialled) / 60, 60)


class TestLosses(OverlayCase):
    """Nodes that come and go."""

    def test_when_half_of_the_nodes_fail_at_once_the_others_find_each_other(self) -> None:
        for seed in seeds(1, 20):
            network = Network(seed)
            network.gather(100, 1)
            network.run(40)
            for host in network.random.sample(network.alive(), 50):
                network.kill(host)
            network.run(70)
            self.assert_one(network, seed)
            self.assert_degrees(network, 3, 7, seed)

    def test_a_mesh_lives_on_while_nodes_come_and_go(self) -> None:
        for seed in seeds(1, 20):
            network = Network(seed, rosters=True)
            network.gather(40, 5)
            network.run(10)
            for index in range(100, 160):
                network.at(10 + index - 100, partial(self.one_comes_and_one_goes, network, index))
            network.run(100)
            self.assert_one(network, seed)
            self.assert_degrees(network, 2, 7, seed)
            self.assertEqual(len(network.alive()), 40, seed)

    def one_comes_and_one_goes(self, network: Network, index: int) -> None:
        """In either way that a node can go."""
        alive = [host for host in network.alive() if host.neighbours()]
        gone = network.random.choice(alive)
        (network.kill if index % 2 else network.leave)(gone)
        contact = network.random.choice([host for host in alive if host is not gone])
        network.join(network.add(index), contact)

    def test_an_island_that_is_remembered_is_found_again(self) -> None:
        # The one node all others hang on is lost; what they were told of each other is not.
        for seed in seeds(2, 50):
            network = Network(seed, MeshConfig(active_view=2))
            first = network.gather(12, 0)
            network.run(30)
            network.kill(first)
            network.run(60)
            self.assert_one(network, seed)


class TestFootprint(OverlayCase):
    """Everything is bounded."""

    def test_every_table_stays_within_its_limit(self) -> None:
        network = Network(1, rosters=True)
        network.gather(100, 1)
        for second in range(1, at_length(60, 20)):
            network.run(second)
            for host in network.alive():
                self.assert_bounded(host)

    def assert_bounded(self, host: Host) -> None:
        """Assert that no table of a node has outgrown its limit."""
        config = host.network.config
        footprint = {**host.overlay.footprint(), **host.dials.footprint()}
        self.assertLessEqual(footprint["passive_view"], config.passive_view)
        self.assertLessEqual(footprint["shuffle_walks"], config.shuffle_walks)
        self.assertLessEqual(footprint["dials_under_way"], config.dials_at_once)
        self.assertLessEqual(footprint["failed_dials"], config.failed_dials)
        for table in ("moves_asked", "moves_declined", "walk_rates", "active_view"):
            self.assertLessEqual(footprint[table], footprint["active_links"], table)
        self.assertEqual(footprint["active_links"], len(host.wires))
