"""By which way messages came, in a simulated mesh that is cut and healed."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.core.events import StreamId
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.scenarios.stage import Stage


class TestWays(SynchronousTestCase):
    def path(self, stage: Stage, member: Member, run: StreamId, sequence: int) -> list[int]:
        """The numbers of the members over which a message came to *member*, back to its author."""
        by_origin = {each.origin: each for each in stage.world.members}
        path = [member.number]
        while (source := self.source(by_origin[run[0]], member, run, sequence)) is not None:
            member = by_origin[source]
            self.assertNotIn(member.number, path)  # an honest way is no circle
            path.append(member.number)
        return path

    def source(self, author: Member, member: Member, run: StreamId, sequence: int) -> bytes | None:
        """Who brought the message to *member*; None if *member* is its author."""
        way, _ = member.node.way(run, sequence)
        assert way is not None, (member.number, sequence)
        self.assertEqual(way.source is None, member is author)
        return way.source

    def test_every_way_leads_back_to_the_author_whether_pushed_or_pulled(self) -> None:
        stage = Stage(1, 12)
        stage.gather()
        stage.run(10.0)
        author = stage.world.members[0]
        author.publish("to all")
        stage.run(2.0)
        stage.world.part(lambda member: member.number < 6)
        author.publish("to those on this side")
        stage.run(3.0)
        stage.world.heal()
        stage.run(90.0)
        pulled = []
        for sequence in (1, 2):
            for member in stage.world.members:
                self.assertEqual(self.path(stage, member, author.run, sequence)[-1], author.number)
                way, _ = member.node.way(author.run, sequence)
                assert way is not None
                pulled.append((sequence, way.pulled))
        self.assertNotIn((1, True), pulled)
        self.assertIn((2, True), pulled)
