"""Meshes that not everybody may join."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.meshcase import PORT, MeshCase, Puppet, Raw, batch
from twisted_mesh.core.signing import Signer
from twisted_mesh.errors import LocalError, NotAMember, TrustError
from twisted_mesh.network import Protocol
from twisted_mesh.service import MeshService
from twisted_mesh.trust.policy import Trust
from twisted_mesh.trust.shared_secret import create
from twisted_mesh.wire.broadcast import SignedBatch, Want
from twisted_mesh.wire.membership import Presence
from twisted_mesh.wire.signed import SignedRecord


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


class TestAuthors(TrustCase):
    """A member passes on what authors have signed that have not shown that they have the secret."""

    def setUp(self) -> None:
        super().setUp()
        self.trust = Trust.secret(self.secret())
        self.policy = self.trust.load(Protocol())
        self.near, self.far = self.chain(2, trust=self.trust)
        self.relay: Puppet = self.joined(self.near, policy=self.policy)
        self.author = self.puppet(policy=self.policy).me

    def record(self, counter: int, credential: bytes) -> SignedRecord:
        """A record of the author."""
        presence = Presence(
            self.author.origin, 1, counter, 1, None, 0, None, {}, 0, 30_000, 0, credential, 0, bytes(32)
        )
        return Signer(self.author).signed(presence)

    def message(self, packet: object) -> SignedBatch:
        """The author's first message."""
        return batch(self.author, 1, packet)

    def test_a_message_is_taken_and_passed_on_once_its_author_has_shown_its_credential(self) -> None:
        self.send_frames(self.relay, self.message("first"), after=1)
        self.assertEqual([self.got(node) for node in (self.near, self.far)], [[], []])
        (want,) = [frame for frame in self.relay.frames() if isinstance(frame, Want)]
        self.assertEqual((want.origin, want.first, want.last), (self.author.origin, 2, 1))
        self.send_frames(self.relay, self.record(1, b""), after=1)
        self.send_frames(self.relay, self.record(2, self.policy.credential(self.far.id[:32])), after=1)
        self.assertEqual([self.got(node) for node in (self.near, self.far)], [[], []])
        self.assertNotIn(self.author.id, {**self.near.members, **self.far.members})
        self.assertEqual(self.near.dropped["refused_authors"], 2)
        self.send_frames(self.relay, self.record(3, self.policy.credential(self.author.origin)), after=1)
        self.assertEqual([self.got(node) for node in (self.near, self.far)], [["first"]] * 2)
        self.assertIn(self.author.id, self.far.members)
        self.assertIsNone(self.relay.lost)
