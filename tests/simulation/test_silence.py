"""Each end of a link ends it after a time of silence."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.config import MeshConfig
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.network import Line
from twisted_mesh.simulation.world import World

CONFIG = MeshConfig(ping_after=2.0, dead_after=6.0, graft_retry=1.0)


class TestSilence(SynchronousTestCase):
    """Two members with a link, which 6 s of silence end; each looks at it every 0.4 s."""

    def setUp(self) -> None:
        self.lines: list[str] = []
        self.world = World(1, 2, CONFIG, trace=self.lines.append).start()
        self.anna, self.bert = self.world.members
        self.assertIsNotNone(self.world.link(self.anna, self.bert))
        self.run_for(10)

    def run_for(self, seconds: float) -> None:
        self.world.run_until(self.world.now + seconds)

    def linked(self) -> list[bool]:
        """Whether Anna has Bert in her routing table, and Bert Anna."""
        return [bool(member.table) for member in (self.anna, self.bert)]

    def ended(self) -> list[str]:
        """The lines of the trace that say why links ended."""
        return [line for line in self.lines if " link " in line]

    def test_an_idle_link_lives_by_ping_and_pong(self) -> None:
        self.run_for(60)
        self.assertEqual((self.linked(), self.ended()), ([True, True], []))
        self.assertGreater(self.world.kinds["Ping"], 20)
        self.assertGreaterEqual(self.world.kinds["Pong"], self.world.kinds["Ping"] - 2)

    def test_where_nothing_passes_each_end_finds_out_by_itself(self) -> None:
        self.world.part(lambda member: member.number)
        self.run_for(3.5)
        self.assertEqual(self.linked(), [True, True])
        self.run_for(3)
        self.assertEqual(self.linked(), [False, False])
        (line,) = self.ended()
        self.assertIn("silent for 6 s", line)
        self.assertEqual(self.world.links, {})

    def test_so_does_who_is_left_of_two(self) -> None:
        self.world.vanish(self.bert)
        self.run_for(3.5)
        self.assertEqual(self.linked()[0], True)
        self.run_for(3)
        self.assertEqual(self.linked()[0], False)
        self.assertEqual(self.world.links, {})

    def test_a_member_that_stands_still_for_less_keeps_its_links(self) -> None:
        for _ in range(3):
            self.world.stall(self.bert, 4.0)
            self.run_for(10)
        self.assertEqual((self.linked(), self.ended()), ([True, True], []))

    def test_of_one_that_does_for_longer_the_others_end_them(self) -> None:
        self.world.stall(self.bert, 12.0)
        self.run_for(7)
        self.assertEqual(self.linked()[0], False)
        self.run_for(10)
        self.assertEqual(self.linked(), [False, False])

    def test_that_it_stood_still_itself_is_nobodys_silence(self) -> None:
        # Both members stand still: each finds all its timers late, and ends no link.
        for _ in range(3):
            self.world.stall(self.anna, 40.0)
            self.world.stall(self.bert, 40.0)
            self.run_for(50)
        self.assertEqual((self.linked(), self.ended()), ([True, True], []))

    def test_a_frame_may_take_longer_than_dead_after(self) -> None:
        for way in ("line", "uplink"):
            with self.subTest(way=way):
                self.setUp()
                setattr(self.bert, way, Line(self.world, 2_000.0))
                self.publish(self.bert if way == "uplink" else self.anna)
                self.run_for(35)
                self.assertEqual((self.linked(), self.ended()), ([True, True], []))
                self.assertEqual(self.world.violations, [])
                self.assertEqual(self.world.counts["deliveries"], 1)

    def test_so_may_one_each_way(self) -> None:
        for member in (self.anna, self.bert):
            member.line = Line(self.world, 2_000.0)
            self.publish(member)
        self.run_for(40)
        self.assertEqual((self.linked(), self.ended()), ([True, True], []))
        self.assertEqual(self.world.counts["deliveries"], 2)

    @staticmethod
    def publish(member: Member) -> None:
        """Send what a slow line takes 30 s for."""
        assert member.publish(b"x" * 60_000)
