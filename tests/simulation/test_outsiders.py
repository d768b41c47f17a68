"""A mesh with a secret: outsiders get nothing of it, and a new secret loses no message."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.length import at_length
from twisted_mesh.network import EVERYBODY
from twisted_mesh.simulation.adversaries.outsiders import Outsider, Repeater
from twisted_mesh.simulation.handshakes import shake
from twisted_mesh.simulation.scenarios.outsiders import NEW, OLD, OUTSIDERS, content
from twisted_mesh.simulation.world import World
from twisted_mesh.trust.content import ContentPolicy
from twisted_mesh.wire.membership import Purpose


class TestOutsiders(SynchronousTestCase):
    def test_a_new_secret_loses_no_message_and_lets_no_outsider_in(self) -> None:
        for seed in at_length(range(1, 9), (1, 2)):
            stage = OUTSIDERS["outsiders"].run(seed, at_length(12, 9))
            command = f"python -m twisted_mesh.simulation --schedule outsiders --seed {seed}"
            self.assertEqual(stage.world.violations, [], command)
            self.assertEqual(stage.shares, (0.0, 0.0, 0.0), command)
            outsiders = [member for member in stage.world.members if isinstance(member, Outsider)]
            repeaters = [member for member in outsiders if isinstance(member, Repeater)]
            self.assertEqual({repeater.recorded for repeater in repeaters}, {b""})
            for member in stage.world.honest():
                self.assertEqual([secret.id for secret in member.policy.secrets], [NEW.id])
                dead = stage.world.members[-1].run
                self.assertEqual(member.delivered.get(dead, 0), stage.world.published[dead])


class TestHandshakes(SynchronousTestCase):
    """The simulated handshake is the core's."""

    def setUp(self) -> None:
        self.world = World(1, 2).start()
        self.ends = self.world.members
        for member in self.ends:
            member.policy = ContentPolicy(content([OLD]))

    def shaken(self, session: int, said: bytes | None = None) -> tuple[bytes | None, bytes, bytes]:
        """The result of a handshake in which the dialler sends *said*, if that is given."""
        words = iter(() if said is None else (said,))

        def say(data: bytes) -> bytes:
            return data if said is None else next(words, b"")

        dialler, acceptor = (member.in_handshake() for member in self.ends)
        shaken = shake(dialler, acceptor, Purpose.JOIN, session, say)
        return shaken.secret, shaken.said, shaken.heard

    def test_a_repeated_handshake_is_good_in_no_other_session(self) -> None:
        secret, said, heard = self.shaken(1)
        self.assertEqual(secret, OLD.id)
        self.assertEqual(self.shaken(1)[1:], (said, heard))
        self.assertEqual(self.shaken(2, said), (None, said, b""))

    def test_a_node_without_the_secret_is_told_nothing(self) -> None:
        for policy in (EVERYBODY, ContentPolicy(content([NEW]))):
            self.ends[0].policy = policy
            secret, _, heard = self.shaken(1)
            self.assertEqual((secret, heard), (None, b""))
