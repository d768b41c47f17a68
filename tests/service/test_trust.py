"""Meshes that not everybody may join."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.meshcase import PORT, MeshCase, Raw
from twisted_mesh.errors import LocalError, NotAMember, TrustError
from twisted_mesh.service import MeshService
from twisted_mesh.trust.policy import Trust
from twisted_mesh.trust.shared_secret import create


class TrustCase(MeshCase):
    def secret(self) -> Path:
        """A new file with a secret."""
        path = Path(self.mktemp())
        create(path)
        return path

    def refused(
        self, dialler: MeshService, other: MeshService, error: type[Exception], after: float = 0
    ) -> str:
        """Assert that *dialler* is refused a link with *other*; what ``connect()`` says."""
        failure = self.failure_of(dialler.connect(self.host(other), PORT), error, after=after)
        self.assertNotIn(other.id, dialler.routing_table)
        self.assertNotIn(dialler.id, other.routing_table)
        return str(failure)


class TestSharedSecret(TrustCase):
    def test_nodes_with_the_secret_link_and_talk(self) -> None:
        trust = Trust.secret(self.secret())
        one, middle, other = self.chain(3, trust=trust)
        self.send(one, "for those inside")
        self.assertEqual([self.got(node) for node in (middle, other)], [["for those inside"]] * 2)

    def test_a_node_with_another_secret_is_refused_and_says_why_itself(self) -> None:
        inside, outside = (self.node(trust=Trust.secret(self.secret())) for _ in range(2))
        said = self.refused(outside, inside, NotAMember)
        self.assertIn("closed at our knock: the secret differs, or it is no node of this mesh", said)
        self.assertEqual((self.reasons(outside), self.reasons(inside)), (["trust"], ["trust"]))
        self.assertEqual(len(self.log("no right knock: the peer has another secret")), 1)

    def test_a_stranger_gets_no_byte_whatever_it_says(self) -> None:
        inside = self.node(trust=Trust.secret(self.secret()))
        for opening in (b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x05\x17\0\x91\xc4\0", bytes(20_000), bytes(60)):
            stranger: Raw = self.dial(Raw(), inside)
            self.network.pump()
            stranger.write(opening)
            self.network.pump()
            self.assertEqual((stranger.received, stranger.lost is not None), (b"", True))
        silent: Raw = self.dial(Raw(), inside)
        self.network.advance(inside.config.handshake_timeout + 0.1)
        self.assertEqual((silent.received, silent.lost is not None), (b"", True))
        self.assertEqual(inside.routing_table, {})

    def test_a_node_without_a_secret_says_within_two_seconds_that_it_may_want_one(self) -> None:
        inside, outside = self.node(trust=Trust.secret(self.secret())), self.node()
        waiting = outside.connect(self.host(inside), PORT)
        self.network.advance(2.0)
        self.assertEqual(len(self.log("it may want a secret")), 1)
        said = str(self.failure_of(waiting, Exception, after=outside.config.handshake_timeout))
        self.assertIn("it may want a secret", said)

    def test_a_node_with_a_secret_says_nothing_to_a_node_without_one(self) -> None:
        inside, outside = self.node(trust=Trust.secret(self.secret())), self.node()
        said = self.refused(inside, outside, NotAMember)
        self.assertIn("does not know the secret of this mesh", said)

    def test_an_unusable_file_is_an_error_before_anything_listens(self) -> None:
        self.assertRaises(TrustError, self.node, trust=Trust.secret(Path(self.mktemp())))
        self.assertEqual(self.network.ports, {})

    def test_a_link_without_encryption_proves_nothing_and_is_refused(self) -> None:
        path = self.secret()
        error = self.assertRaises(LocalError, self.node, trust=Trust.secret(path), encryption="Plaintext")
        self.assertIn("encryption='SSL'", str(error))
        self.assertRaises(LocalError, self.node, trust=os.fspath(path))

    def test_the_name_of_the_subnet_still_counts(self) -> None:
        trust = Trust.secret(self.secret())
        one, other = self.node(trust=trust), self.node(trust=trust, subnet="another")
        self.assertIn("closed at our knock", self.refused(one, other, NotAMember))
