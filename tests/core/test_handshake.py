"""The handshake: both sides of it, and the peers that it must refuse."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
from msgspec import structs
from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.core.handshake import (
    FRESH_BYTES,
    NONCE_BYTES,
    Handshake,
    LocalNode,
    Nonces,
    Peer,
    Profile,
    Side,
    Stage,
    error_of,
)
from twisted_mesh.errors import (
    EncryptionMismatch,
    HandshakeTimeout,
    IdentityMismatch,
    NotAMember,
    Reason,
    RemoteError,
    SelfConnection,
    SubnetMismatch,
)
from twisted_mesh.identity import Identity, verify
from twisted_mesh.network import EVERYBODY, Policy, Protocol
from twisted_mesh.runtime.sealing import HpkeKeys
from twisted_mesh.wire import codec
from twisted_mesh.wire import greeting as greetings
from twisted_mesh.wire.authority import Grant
from twisted_mesh.wire.broadcast import Snapshot
from twisted_mesh.wire.fields import Kind
from twisted_mesh.wire.framing import FrameReader
from twisted_mesh.wire.greeting import Greeting
from twisted_mesh.wire.link import Bye, Certificate, Intro, Knock, Ping, Proof
from twisted_mesh.wire.membership import Purpose, Role

HERE = Protocol("here", "SSL")


def exporter() -> bytes:
    """The exporter of the TLS session that both ends share."""
    return b"s" * 32


def other_exporter() -> bytes:
    """The exporter of another session."""
    return b"t" * 32


def node(
    network: Protocol = HERE, *, epoch: int = 7, settled: bool = False, policy: Policy = EVERYBODY
) -> LocalNode:
    """A node with a key of its own."""
    key = Identity.generate()
    address = ("node.example", 4444)
    ends = (key.origin, epoch, network, address, settled, key.sign, verify, HpkeKeys())
    return LocalNode(key.id, *ends, policy=policy)


def payloads(data: bytes) -> list[bytes]:
    """The payloads of the frames in *data*, all of which are whole."""
    reader = FrameReader()
    found = list(reader.feed(data))
    assert not reader.kept
    return found


class Party:
    """One end of a connection."""

    def __init__(
        self,
        side: Side,
        local_node: LocalNode,
        expected: bytes | None = None,
        exporter: Callable[[], bytes] = exporter,
        purpose: Purpose = Purpose.JOIN,
        nonces: Nonces | None = None,
    ) -> None:
        fresh = bytes([len(side.value)])
        nonces = nonces or Nonces(side.value)
        self.shake = Handshake(
            side,
            local_node,
            nonce=nonces.make(fresh * FRESH_BYTES),
            time=1_700_000_000,
            expected=expected,
            purpose=purpose,
            is_own=nonces.is_own,
        )
        self._exporter = exporter

    def take(self, data: bytes) -> bytes:
        """Take the frames of *data* one after the other; the bytes of all answers."""
        return b"".join(self.shake.receive(payload, self._exporter) for payload in payloads(data))


class HandshakeTestCase(SynchronousTestCase):
    """Two nodes of one network: Anna dials, and Bert accepts."""

    def setUp(self) -> None:
        self.anna = node(epoch=7)
        self.bert = node(epoch=8, settled=True)
        self.dialler = Party(Side.DIALLER, self.anna)
        self.acceptor = Party(Side.ACCEPTOR, self.bert)

    def refusal(
        self, kind: type[RemoteError], reason: Reason, do: Callable[..., object], *given: object
    ) -> str:
        """Assert that *do* of *given* raises exactly *kind* for *reason*; its sentence for people."""
        error = self.assertRaises(RemoteError, do, *given)
        self.assertIs(type(error), kind)
        self.assertIs(error.reason, reason)
        return error.detail

    def introduced(self) -> tuple[bytes, bytes]:
        """Bring both ends to PROOF; the dialler's PROOF, which has not come yet, and Bert's INTRO."""
        hello = self.dialler.take(self.acceptor.shake.start())
        intro = self.acceptor.take(hello)
        return self.dialler.take(intro), intro


class TestBothSides(HandshakeTestCase):
    """Nodes that may connect."""

    def test_both_sides_learn_who_is_there(self) -> None:
        proof, _ = self.introduced()
        self.assertEqual([type(codec.decode(one)) for one in payloads(proof)], [Proof])
        answer = self.acceptor.take(proof)
        self.assertEqual(self.dialler.take(answer), b"")
        self.assertEqual(
            (self.acceptor.shake.peer, self.dialler.shake.peer),
            (
                Peer(self.anna.id, self.anna.origin, 7, ("node.example", 4444), False),
                Peer(self.bert.id, self.bert.origin, 8, ("node.example", 4444), True),
            ),
        )
        self.assertEqual(self.acceptor.shake.stage, Stage.DONE)
        self.assertEqual(self.dialler.shake.stage, Stage.DONE)

    def test_plain_text_connects_without_an_exporter(self) -> None:
        plain = Protocol("here", "Plaintext")
        self.dialler = Party(Side.DIALLER, node(plain), exporter=bytes)
        self.acceptor = Party(Side.ACCEPTOR, node(plain), exporter=bytes)
        proof, _ = self.introduced()
        self.dialler.take(self.acceptor.take(proof))
        self.assertIsNotNone(self.dialler.shake.peer)

    def test_each_side_learns_what_the_other_is_and_the_acceptor_what_it_was_dialled_for(self) -> None:
        for role, purpose in ((Role.GUEST, Purpose.EXCHANGE), (Role.MEMBER, Purpose.URGENT)):
            self.setUp()
            anna = structs.replace(self.anna, profile=Profile(role=role))
            self.dialler = Party(Side.DIALLER, anna, purpose=purpose)
            proof, _ = self.introduced()
            self.dialler.take(self.acceptor.take(proof))
            who, other = self.acceptor.shake.peer, self.dialler.shake.peer
            assert who is not None and other is not None
            self.assertEqual((who.role, who.purpose), (role, purpose))
            self.assertIs(self.dialler.shake.purpose, purpose)
            self.assertEqual((other.role, other.purpose), (Role.MEMBER, Purpose.JOIN))

    def test_what_a_later_version_calls_itself_or_wants_counts_as_the_usual(self) -> None:
        later = structs.replace(self.anna, profile=Profile(role=7))  # type: ignore[arg-type]
        self.dialler = Party(Side.DIALLER, later, purpose=9)  # type: ignore[arg-type]
        proof, _ = self.introduced()
        self.dialler.take(self.acceptor.take(proof))
        who = self.acceptor.shake.peer
        assert who is not None
        self.assertEqual((who.role, who.purpose), (Role.MEMBER, Purpose.JOIN))

    def test_it_knows_what_it_said_of_itself(self) -> None:
        self.assertEqual((self.dialler.shake.said_settled, self.acceptor.shake.said_settled), (False, True))

    def test_the_dialler_says_nothing_before_the_greeting_and_proves_itself_first(self) -> None:
        self.assertEqual(self.dialler.shake.start(), b"")
        hello = self.dialler.take(self.acceptor.shake.start())
        _greeting, intro = payloads(hello)
        self.assertIsInstance(codec.decode(intro), Intro)
        answer = self.acceptor.take(hello)
        self.assertEqual([type(codec.decode(one)) for one in payloads(answer)], [Intro])

    def test_the_expected_id_may_be_met(self) -> None:
        self.dialler = Party(Side.DIALLER, self.anna, expected=self.bert.id)
        proof, _ = self.introduced()
        self.dialler.take(self.acceptor.take(proof))
        self.assertIsNotNone(self.dialler.shake.peer)

    def test_feeding_a_handshake_that_is_over_is_our_fault(self) -> None:
        proof, _ = self.introduced()
        self.acceptor.take(proof)
        self.assertRaises(AssertionError, self.acceptor.take, proof)


class Word:
    """A stand-in for a secret: a word."""

    def __init__(self, word: bytes) -> None:
        self.id = word[:8]
        self._word = word

    def knock(self, text: bytes) -> bytes:
        return hashlib.sha256(self._word + text).digest()

    def proof(self, text: bytes) -> bytes:
        return hashlib.sha256(b"proof" + self._word + text).digest()


class Guarded(Policy):
    """A policy of secrets, and of origins that may not link."""

    mode = "secret"

    def __init__(self, *words: bytes, refused: bytes = b"") -> None:
        self.secrets = [Word(word) for word in words]
        self.refused = refused

    def may_link(self, origin: bytes, secret: bytes) -> str | None:
        return f"not {secret.decode()}" if origin == self.refused else None


class Granting(Policy):
    """A policy by which any grant with a *word* in it is good."""

    mode = "authority"

    def __init__(self, grant: bytes, word: bytes = b"good") -> None:
        self.grant = grant
        self._word = word

    def why_not_granted(self, origin: bytes, grant: bytes, is_guest: bool) -> str | None:
        if self._word not in grant:
            return f"no good grant: {grant!r}"
        return "members only" if is_guest and b"member" in grant else None


class TestGrants(HandshakeTestCase):
    """Nodes to which an authority has given grants."""

    def granted(self, dialler: Policy, acceptor: Policy) -> None:
        """Give both ends a policy."""
        self.anna, self.bert = node(policy=dialler), node(policy=acceptor)
        self.dialler, self.acceptor = Party(Side.DIALLER, self.anna), Party(Side.ACCEPTOR, self.bert)

    def grant(self, word: bytes) -> bytes:
        """Bytes with *word* in them, as long as a grant."""
        return bytes(64) + word

    def test_each_side_shows_its_grant_before_its_proof(self) -> None:
        self.granted(Granting(self.grant(b"good")), Granting(self.grant(b"also good")))
        shown, _ = self.introduced()
        frames = [codec.decode(one) for one in payloads(shown)]
        self.assertEqual(frames[0], Grant(bytes(64), b"good"))
        self.assertEqual([type(frame) for frame in frames], [Grant, Proof])
        self.dialler.take(self.acceptor.take(shown))
        found = [party.shake.peer.grant for party in (self.acceptor, self.dialler) if party.shake.peer]
        self.assertEqual(found, [self.grant(b"good"), self.grant(b"also good")])

    def test_whoever_shows_no_good_grant_is_told_so_once_it_has_proven_its_key(self) -> None:
        for mine, theirs in ((b"bad", b"good"), (b"", b"good")):
            self.granted(Granting(self.grant(mine)), Granting(self.grant(theirs)))
            shown, _ = self.introduced()
            said = self.refusal(NotAMember, Reason.TRUST, self.acceptor.take, shown)
            self.assertEqual(said, f"no good grant: {self.grant(mine)!r}")
            self.assertIsNone(self.acceptor.shake.peer)
            self.assertEqual(
                self.acceptor.shake.farewell(Reason.TRUST, said), codec.encode(Bye("trust", said))
            )

    def test_whoever_shows_none_is_refused_at_its_proof(self) -> None:
        self.granted(Granting(self.grant(b"good")), Granting(self.grant(b"good")))
        _, proof = payloads(self.introduced()[0])
        receive = self.acceptor.shake.receive
        said = self.refusal(NotAMember, Reason.TRUST, receive, proof, exporter)
        self.assertEqual(said, "no good grant: b''")

    def test_a_grant_comes_once_and_only_where_grants_are_needed(self) -> None:
        self.granted(Granting(self.grant(b"good")), Granting(self.grant(b"good")))
        grant, _ = payloads(self.introduced()[0])
        self.assertEqual(self.acceptor.shake.receive(grant, exporter), b"")
        self.refusal(RemoteError, Reason.ORDER, self.acceptor.shake.receive, grant, exporter)
        self.granted(EVERYBODY, EVERYBODY)
        self.introduced()
        said = self.refusal(RemoteError, Reason.ORDER, self.acceptor.shake.receive, grant, exporter)
        self.assertEqual(said, "Grant where PROOF was expected")

    def test_a_grant_is_for_a_member_or_a_guest(self) -> None:
        self.granted(Granting(self.grant(b"good member")), Granting(self.grant(b"good")))
        self.anna = structs.replace(self.anna, profile=Profile(role=Role.GUEST))
        self.dialler = Party(Side.DIALLER, self.anna)
        shown, _ = self.introduced()
        said = self.refusal(NotAMember, Reason.TRUST, self.acceptor.take, shown)
        self.assertEqual(said, "members only")


class Certified(Policy):
    """A policy by which a certificate is good if it has a *word* in it, and the dialled name."""

    mode = "certificates"

    def __init__(self, certificate: bytes, word: bytes = b"good") -> None:
        self.certificate = certificate
        self._word = word

    def why_not_certified(self, origin: bytes, certificate: bytes, name: str | None = None) -> str | None:
        if self._word not in certificate:
            return f"no good certificate: {certificate!r}"
        return None if name is None or name.encode() in certificate else f"not {name}"


class Both(Certified):
    """As that, with a grant, too."""

    grant = bytes(64) + b"granted"


class TestCertificates(HandshakeTestCase):
    """Nodes with certificates of a CA."""

    def certified(self, dialler: Policy, acceptor: Policy) -> None:
        """Give both ends a policy."""
        self.anna, self.bert = node(policy=dialler), node(policy=acceptor)
        self.dialler, self.acceptor = Party(Side.DIALLER, self.anna), Party(Side.ACCEPTOR, self.bert)

    def test_each_side_shows_its_certificate_before_its_proof_and_behind_its_grant(self) -> None:
        for kind, before in ((Certified, []), (Both, [Grant])):
            self.certified(kind(b"good"), kind(b"also good"))
            shown, _ = self.introduced()
            frames = [codec.decode(one) for one in payloads(shown)]
            self.assertEqual([type(frame) for frame in frames], [*before, Certificate, Proof])
            self.assertEqual(frames[-2], Certificate(b"good"))
            self.dialler.take(self.acceptor.take(shown))
            peers = [party.shake.peer for party in (self.acceptor, self.dialler) if party.shake.peer]
            self.assertEqual([peer.certificate for peer in peers], [b"good", b"also good"])

    def test_whoever_shows_no_good_one_is_told_so_once_it_has_proven_its_key(self) -> None:
        for mine in (b"bad", b"worse"):
            self.certified(Certified(mine), Certified(b"good"))
            shown, _ = self.introduced()
            said = self.refusal(NotAMember, Reason.TRUST, self.acceptor.take, shown)
            self.assertEqual(said, f"no good certificate: {mine!r}")
            self.assertIsNone(self.acceptor.shake.peer)

    def test_whoever_shows_none_is_refused_at_its_proof(self) -> None:
        self.certified(Certified(b"good"), Certified(b"good"))
        _, proof = payloads(self.introduced()[0])
        said = self.refusal(NotAMember, Reason.TRUST, self.acceptor.shake.receive, proof, exporter)
        self.assertEqual(said, "no good certificate: b''")

    def test_one_comes_once_and_only_where_certificates_are_needed(self) -> None:
        self.certified(Certified(b"good"), Certified(b"good"))
        shown, _ = payloads(self.introduced()[0])
        self.assertEqual(self.acceptor.shake.receive(shown, exporter), b"")
        self.refusal(RemoteError, Reason.ORDER, self.acceptor.shake.receive, shown, exporter)
        self.certified(EVERYBODY, EVERYBODY)
        self.introduced()
        said = self.refusal(RemoteError, Reason.ORDER, self.acceptor.shake.receive, shown, exporter)
        self.assertEqual(said, "Certificate where PROOF was expected")

    def test_the_dialler_checks_the_name_that_it_was_given(self) -> None:
        for name, why in ((None, None), ("web", None), ("db", "not db")):
            self.certified(Certified(b"good"), Certified(b"good web"))
            self.dialler.shake.name = name
            proof, _ = self.introduced()
            answer = self.acceptor.take(proof)
            if why is None:
                self.dialler.take(answer)
                self.assertIsNotNone(self.dialler.shake.peer)
            else:
                self.assertEqual(self.refusal(NotAMember, Reason.TRUST, self.dialler.take, answer), why)


class TestKnock(HandshakeTestCase):
    """Nodes that share a secret."""

    def guarded(self, dialler: Policy, acceptor: Policy) -> None:
        """Give both ends a policy."""
        self.anna, self.bert = node(policy=dialler), node(policy=acceptor)
        self.dialler, self.acceptor = Party(Side.DIALLER, self.anna), Party(Side.ACCEPTOR, self.bert)

    def knock(self) -> bytes:
        """The dialler's KNOCK, before which nobody says anything."""
        self.assertEqual((self.dialler.shake.start(), self.acceptor.shake.start()), (b"", b""))
        self.assertEqual(self.acceptor.shake.session_made(exporter), b"")
        self.assertFalse(self.dialler.shake.has_knocked)
        knock = self.dialler.shake.session_made(exporter)
        self.assertTrue(self.dialler.shake.has_knocked)
        return knock

    def test_each_side_knocks_before_it_greets_and_learns_by_which_secret(self) -> None:
        self.guarded(Guarded(b"new", b"old"), Guarded(b"older", b"old", b"new"))
        knock = self.knock()
        self.assertEqual([type(codec.decode(one)) for one in payloads(knock)], [Knock])
        answer = self.acceptor.take(knock)
        first, greeting = payloads(answer)
        self.assertIsInstance(codec.decode(first), Knock)
        self.assertNotEqual(first, *payloads(knock))
        self.assertEqual(greetings.decode(greeting).id, self.bert.id)
        proof = self.dialler.take(self.acceptor.take(self.dialler.take(answer)))
        self.dialler.take(self.acceptor.take(proof))
        for party in (self.dialler, self.acceptor):
            assert party.shake.peer is not None
            self.assertEqual(party.shake.peer.secret, b"new")

    def test_whoever_does_not_knock_rightly_is_told_nothing(self) -> None:
        self.guarded(Guarded(b"word"), Guarded(b"another"))
        junk = (
            b"GET / HTTP/1.1",
            bytes(40),
            b"\x17\0\xc1",
            codec.encode(Ping(1))[4:],
            codec.encode(Bye("full", ""))[4:],
        )
        elsewhere = Word(b"another").knock(b"twisted_mesh/1/knockdialler" + other_exporter())
        other = codec.encode(Knock(elsewhere))[4:]
        for payload in (*junk, *payloads(self.knock()), other):
            acceptor = Party(Side.ACCEPTOR, self.bert)
            said = self.refusal(NotAMember, Reason.TRUST, acceptor.shake.receive, payload, exporter)
            self.assertIn("another secret, or is a stranger", said)
            for reason in (Reason.TRUST, Reason.FULL, Reason.TIMEOUT):
                self.assertEqual(acceptor.shake.farewell(reason, "the reason"), b"")

    def test_a_dialler_that_gets_no_right_knock_says_nothing_more(self) -> None:
        self.guarded(Guarded(b"word"), EVERYBODY)
        self.dialler.shake.session_made(exporter)
        reflected = self.dialler.shake._sent
        for answer in (self.acceptor.shake.start(), reflected, codec.encode(Bye("full", ""))):
            said = self.refusal(NotAMember, Reason.TRUST, self.dialler.take, answer)
            self.assertIn("does not know the secret", said)
        self.assertEqual(self.dialler.shake.farewell(Reason.TRUST, said), b"")

    def test_what_it_means_that_the_connection_is_lost_at_the_knock(self) -> None:
        self.guarded(Guarded(b"word"), Guarded(b"word"))
        lost = RemoteError("the connection was lost", Reason.LOST)
        self.assertIs(self.dialler.shake.why_lost(lost), lost)
        knock = self.knock()
        why = self.dialler.shake.why_lost(lost)
        self.assertEqual((type(why), why.reason), (NotAMember, Reason.TRUST))
        self.assertIn("the secret differs, or it is no node of this mesh", why.detail)
        expired = NotAMember("the certificate has expired")  # so it was not the secret
        self.assertIs(self.dialler.shake.why_lost(expired), expired)
        self.dialler.take(self.acceptor.take(knock))
        self.assertIs(self.dialler.shake.why_lost(lost), lost)

    def test_a_node_without_a_secret_tells_a_knock_from_junk(self) -> None:
        self.guarded(Guarded(b"word"), EVERYBODY)
        knock = self.dialler.shake.session_made(exporter)
        said = self.refusal(NotAMember, Reason.TRUST, self.acceptor.take, knock)
        self.assertIn("this node has no secret", said)
        self.assertEqual(Party(Side.DIALLER, self.bert).shake.session_made(exporter), b"")

    def test_the_proof_shows_the_secret_and_not_the_name_of_the_subnet_alone(self) -> None:
        self.guarded(Guarded(b"word"), Guarded(b"word"))
        proof = self.dialler.take(self.acceptor.take(self.dialler.take(self.acceptor.take(self.knock()))))
        (payload,) = payloads(proof)
        real = codec.decode(payload)
        assert isinstance(real, Proof)
        text = self.acceptor.shake._proof_text(Side.DIALLER, exporter)
        self.assertEqual(real.mac, Word(b"word").proof(text))
        false = structs.replace(real, mac=hashlib.sha256(b"word" + text).digest())
        self.refusal(SubnetMismatch, Reason.SUBNET, self.acceptor.take, codec.encode(false))

    def test_whoever_may_not_link_is_told_why_once_it_has_proven_its_key(self) -> None:
        self.guarded(Guarded(b"word"), Guarded(b"word"))
        self.bert.policy.refused = self.anna.origin  # type: ignore[attr-defined]
        proof = self.dialler.take(self.acceptor.take(self.dialler.take(self.acceptor.take(self.knock()))))
        said = self.refusal(NotAMember, Reason.TRUST, self.acceptor.take, proof)
        self.assertEqual(said, "not word")
        self.assertIsNone(self.acceptor.shake.peer)
        last = self.acceptor.shake.farewell(Reason.TRUST, said)
        self.assertEqual(last, codec.encode(Bye("trust", said)))
        self.refusal(NotAMember, Reason.TRUST, self.dialler.take, last)

    def test_a_node_with_the_own_key_may_prove_that_even_if_it_may_not_link(self) -> None:
        policy = Guarded(b"word", refused=self.anna.origin)
        nodes = [structs.replace(self.anna, epoch=epoch, policy=policy) for epoch in (7, 9)]
        self.dialler, self.acceptor = Party(Side.DIALLER, nodes[0]), Party(Side.ACCEPTOR, nodes[1])
        proof = self.dialler.take(self.acceptor.take(self.dialler.take(self.acceptor.take(self.knock()))))
        self.dialler.take(self.acceptor.take(proof))
        assert self.dialler.shake.peer is not None
        self.assertEqual(self.dialler.shake.peer.epoch, 9)


class TestGreeting(HandshakeTestCase):
    """Who is refused at the first frame."""

    def test_other_subnet(self) -> None:
        for other in (Protocol("there", "SSL"), Protocol("here", "Plaintext")):
            acceptor = Party(Side.ACCEPTOR, node(other))
            dialler = Party(Side.DIALLER, self.anna)
            said = self.refusal(SubnetMismatch, Reason.SUBNET, dialler.take, acceptor.shake.start())
            self.assertEqual(said, "another subnet, or trust by other means")
            self.assertIsNone(dialler.shake.peer)

    def test_a_peer_that_is_turned_away_is_told_so_if_it_is_of_this_network(self) -> None:
        for network, reason in ((HERE, Reason.FULL), (Protocol("there", "SSL"), Reason.SUBNET)):
            turned_away = Handshake(Side.ACCEPTOR, node(), nonce=bytes(32), time=1)
            turned_away.refusal = RemoteError("too many", Reason.FULL)
            peer = Handshake(Side.ACCEPTOR, node(network), nonce=bytes(32), time=1)
            (greeting,) = payloads(peer.start())
            error = self.assertRaises(RemoteError, turned_away.receive, greeting, exporter)
            self.assertIs(error.reason, reason)

    def test_py2p_peer(self) -> None:
        hello = greetings.encode(Greeting(self.bert.id, HERE.id, None, False, 0))
        said = self.refusal(RemoteError, Reason.GREETING, self.dialler.take, hello)
        self.assertIn("py2p", said)

    def test_another_id_than_the_expected(self) -> None:
        self.dialler = Party(Side.DIALLER, self.anna, expected=node().id)
        hello = self.acceptor.shake.start()
        said = self.refusal(IdentityMismatch, Reason.IDENTITY, self.dialler.take, hello)
        self.assertIn(self.bert.id.decode(), said)

    def test_something_else_than_a_greeting(self) -> None:
        for junk in (b"GET / HTTP/1.1\r\n", b"\0", bytes(40), b"\xff" * 100):
            self.refusal(
                RemoteError, Reason.GREETING, Party(Side.ACCEPTOR, self.bert).shake.receive, junk, exporter
            )

    def test_tls_on_a_plain_port_is_named(self) -> None:
        framing = RemoteError("a frame of 369295616 bytes", Reason.FRAMING)
        better = self.acceptor.shake.not_a_frame(b"\x16\x03\x01\x02\x00", framing)
        self.assertIsInstance(better, EncryptionMismatch)
        self.assertIs(better.reason, Reason.ENCRYPTION)

    def test_any_other_framing_error_stays_itself(self) -> None:
        framing = RemoteError("a frame of 1195725856 bytes", Reason.FRAMING)
        self.assertIs(self.acceptor.shake.not_a_frame(b"GET ", framing), framing)
        self.acceptor.take(self.dialler.take(self.acceptor.shake.start()))
        # Behind a greeting, the same two bytes can only be the beginning of a length.
        self.assertIs(self.acceptor.shake.not_a_frame(b"\x16\x03", framing), framing)


class TestOwnKey(HandshakeTestCase):
    """A greeting with the node's own id comes from this node, from another with its key, or from a liar."""

    def one_key(self, epochs: tuple[int, int], nonces: Nonces | None = None) -> None:
        """Give both ends Anna's key, in runs of those *epochs*; with *nonces* they are one node."""
        dialler, acceptor = (structs.replace(self.anna, epoch=epoch) for epoch in epochs)
        self.dialler = Party(Side.DIALLER, dialler, nonces=nonces)
        self.acceptor = Party(Side.ACCEPTOR, acceptor, nonces=nonces)

    def test_a_node_that_meets_itself_is_told_so_at_both_ends(self) -> None:
        for expected in (None, self.anna.id, self.bert.id):
            nonces = Nonces(b"the node's")
            self.one_key((7, 7), nonces)
            self.dialler = Party(Side.DIALLER, self.anna, expected=expected, nonces=nonces)
            hello, intro = payloads(self.dialler.take(self.acceptor.shake.start()))
            answer = self.acceptor.shake.receive(hello, exporter)
            for party, data in ((self.acceptor, intro), (self.dialler, *payloads(answer))):
                self.refusal(SelfConnection, Reason.SELF, party.shake.receive, data, exporter)

    def test_so_is_one_that_has_begun_a_new_run_meanwhile(self) -> None:
        self.one_key((7, 9), Nonces(b"the node's"))
        hello = self.dialler.take(self.acceptor.shake.start())
        self.refusal(SelfConnection, Reason.SELF, self.acceptor.take, hello)

    def test_another_node_with_the_key_proves_itself_and_shows_its_run(self) -> None:
        for epochs in ((7, 9), (9, 7), (7, 7)):
            self.one_key(epochs)
            proof, _ = self.introduced()
            self.dialler.take(self.acceptor.take(proof))
            met = [party.shake.peer for party in (self.acceptor, self.dialler)]
            self.assertEqual([peer and (peer.id, peer.epoch) for peer in met], [
                (self.anna.id, epoch) for epoch in epochs
            ])  # fmt: skip

    def test_it_does_so_whatever_id_was_expected(self) -> None:
        self.one_key((7, 9))
        self.dialler = Party(Side.DIALLER, self.anna, expected=self.bert.id)
        proof, _ = self.introduced()
        self.dialler.take(self.acceptor.take(proof))
        self.assertEqual(self.dialler.shake.peer and self.dialler.shake.peer.id, self.anna.id)

    def test_who_has_not_the_key_proves_nothing(self) -> None:
        liar = structs.replace(self.anna, epoch=99, sign=node().sign)
        for side in Side:
            self.one_key((7, 7))
            if side is Side.DIALLER:
                self.dialler, cheated = Party(side, liar), self.acceptor
            else:
                self.acceptor, cheated = Party(side, liar), self.dialler
            proof, _ = self.introduced()
            with self.assertRaises(RemoteError) as caught:
                self.dialler.take(self.acceptor.take(proof))
            self.assertIs(caught.exception.reason, Reason.PROOF)
            self.assertIsNone(cheated.shake.peer)

    def test_the_own_id_with_another_key_is_refused(self) -> None:
        self.acceptor = Party(Side.ACCEPTOR, structs.replace(self.bert, id=self.anna.id))
        intro = self.acceptor.take(self.dialler.take(self.acceptor.shake.start()))
        self.refusal(IdentityMismatch, Reason.IDENTITY, self.dialler.take, intro)

    def test_nobody_else_makes_a_nodes_nonces(self) -> None:
        nonces, fresh = Nonces(b"the node's"), b"n" * FRESH_BYTES
        made = nonces.make(fresh)
        self.assertEqual(len(made), NONCE_BYTES)
        self.assertTrue(nonces.is_own(made))
        for other in (Nonces(b"another's").make(fresh), bytes(NONCE_BYTES), made[:-1] + b"?", fresh * 2):
            self.assertFalse(nonces.is_own(other))


class TestIntro(HandshakeTestCase):
    """Who is refused at INTRO."""

    def setUp(self) -> None:
        super().setUp()
        self.hello, self.intro = payloads(self.dialler.take(self.acceptor.shake.start()))
        self.acceptor.shake.receive(self.hello, exporter)

    def take(self, frame: bytes) -> bytes:
        """Let the acceptor take *frame* where it waits for INTRO."""
        return self.acceptor.take(frame)

    def changed(self, **changes: object) -> bytes:
        """Anna's INTRO with *changes*."""
        intro = codec.decode(self.intro)
        assert isinstance(intro, Intro)
        return codec.encode(msgspec.structs.replace(intro, **changes))

    def test_other_version(self) -> None:
        said = self.refusal(RemoteError, Reason.VERSION, self.take, self.changed(version=2))
        self.assertIn("version 2", said)

    def test_an_id_that_is_not_the_keys(self) -> None:
        stolen = self.changed(public_key=node().origin)
        self.refusal(IdentityMismatch, Reason.IDENTITY, self.take, stolen)

    def test_frames_out_of_order(self) -> None:
        for early in (Proof(bytes(64), bytes(32)), Ping(1), Snapshot(True, [])):
            said = self.refusal(RemoteError, Reason.ORDER, self.take, codec.encode(early))
            self.assertIn(f"{type(early).__name__} where INTRO", said)

    def test_a_kind_unknown_so_far_is_out_of_order(self) -> None:
        self.refusal(RemoteError, Reason.ORDER, self.acceptor.shake.receive, b"\x63\0\x90", exporter)

    def test_a_second_greeting_is_refused(self) -> None:
        error = self.assertRaises(RemoteError, self.acceptor.shake.receive, self.hello, exporter)
        self.assertIn(error.reason, (Reason.ORDER, Reason.SHAPE))


class TestProof(HandshakeTestCase):
    """Who is refused at PROOF."""

    def false(self, do: Callable[..., object], *given: object) -> None:
        """Assert that *do* finds the proof false."""
        self.refusal(RemoteError, Reason.PROOF, do, *given)

    def test_false_proof(self) -> None:
        self.introduced()
        for party in (self.acceptor, self.dialler):
            self.false(party.take, codec.encode(Proof(bytes(64), bytes(32))))
            self.assertIsNone(party.shake.peer)

    def test_replayed_proof(self) -> None:
        # All that Anna has said is said again; but Bert has another nonce now.
        heard = self.dialler.take(self.acceptor.shake.start())
        proof = self.dialler.take(self.acceptor.take(heard))
        again = Handshake(Side.ACCEPTOR, self.bert, nonce=b"n" * 32, time=1_700_000_000)
        again.start()
        for payload in payloads(heard):
            again.receive(payload, exporter)
        self.false(again.receive, *payloads(proof), exporter)

    def test_reflected_proof(self) -> None:
        # The acceptor sends the dialler's own proof back. Here all keys are one, so that nothing
        # but the side can tell the two apart.
        def sign(text: bytes) -> bytes:
            return hashlib.sha512(text).digest()

        keyless = msgspec.structs.replace(
            self.anna, sign=sign, verify=lambda _key, signature, text: signature == sign(text)
        )
        self.dialler = Party(Side.DIALLER, keyless)
        ours, _ = self.introduced()
        self.false(self.dialler.take, ours)

    def test_reflection_of_everything_meets_itself(self) -> None:
        mirror = greetings.encode(Greeting(self.anna.id, HERE.id, None, True, 0))
        _greeting, intro = payloads(self.dialler.take(mirror))
        self.refusal(SelfConnection, Reason.SELF, self.dialler.shake.receive, intro, exporter)

    def test_proof_relayed_into_another_tls_session(self) -> None:
        # A man in the middle passes every byte on; he ends two TLS sessions, with two exporters.
        self.acceptor = Party(Side.ACCEPTOR, self.bert, exporter=other_exporter)
        proof, _ = self.introduced()
        self.false(self.acceptor.take, proof)

    def test_proof_over_another_greeting(self) -> None:
        # The man in the middle changes where Bert can be dialled.
        hello, *_ = payloads(self.acceptor.shake.start())
        bert = greetings.decode(hello)
        forged = greetings.encode(msgspec.structs.replace(bert, address=("evil.example", 1)))
        intro = self.acceptor.take(self.dialler.take(forged))
        proof = self.dialler.take(intro)
        self.false(self.acceptor.take, proof)

    def test_proof_of_another_key(self) -> None:
        # Mallory says she is Anna and signs with her own key.
        mallory = node()
        self.dialler = Party(Side.DIALLER, msgspec.structs.replace(self.anna, sign=mallory.sign))
        proof, _ = self.introduced()
        self.false(self.acceptor.take, proof)

    def test_who_does_not_know_the_subnets_name_is_refused_though_it_repeats_the_hash_of_it(self) -> None:
        class Echo(Protocol):
            """A network of another name that greets with the id of this one."""

            def id_with(self, mode: str) -> bytes:
                return HERE.id

        stranger = node(Echo("there", "SSL"))
        self.dialler = Party(Side.DIALLER, stranger)
        proof, _ = self.introduced()
        said = self.refusal(SubnetMismatch, Reason.SUBNET, self.acceptor.take, proof)
        self.assertEqual(said, "another subnet, or trust by other means")
        self.assertIsNone(self.acceptor.shake.peer)
        # A node that accepts and is not of the subnet is refused, too.
        self.dialler, self.acceptor = Party(Side.DIALLER, self.anna), Party(Side.ACCEPTOR, stranger)
        self.introduced()
        text = self.acceptor.shake._proof_text(Side.ACCEPTOR, exporter)
        forged = codec.encode(Proof(stranger.sign(text), self.acceptor.shake._mac(text)))
        self.refusal(SubnetMismatch, Reason.SUBNET, self.dialler.take, forged)
        self.assertIsNone(self.dialler.shake.peer)

    def test_a_proof_signs_the_lengths_of_what_was_said(self) -> None:
        # A byte that moves from the end of one side's words to the beginning of the other's is noticed.
        self.introduced()
        shake = self.acceptor.shake
        before = shake._proof_text(Side.DIALLER, exporter)
        shake._received, shake._sent = shake._received + shake._sent[:1], shake._sent[1:]
        self.assertNotEqual(shake._proof_text(Side.DIALLER, exporter), before)

    def test_nothing_else_that_is_signed_can_be_a_proof(self) -> None:
        self.introduced()
        text = self.acceptor.shake._proof_text(Side.DIALLER, exporter)
        for kind in Kind:
            signed = codec.signed_text(codec.network_digest(HERE.id), b"", kind)
            self.assertFalse(text.startswith(signed[: len(codec.DOMAIN) + 1]), kind)

    def test_frames_out_of_order(self) -> None:
        _, intro = self.introduced()
        for party in (self.acceptor, self.dialler):
            said = self.refusal(RemoteError, Reason.ORDER, party.take, intro)
            self.assertIn("Intro where PROOF", said)


class TestFarewell(HandshakeTestCase):
    """What a node tells a peer that it refuses, and what the peer makes of that."""

    def test_bye_at_each_stage_becomes_the_matching_error(self) -> None:
        kinds = {
            Reason.SUBNET: SubnetMismatch,
            Reason.ENCRYPTION: EncryptionMismatch,
            Reason.SELF: SelfConnection,
            Reason.TIMEOUT: HandshakeTimeout,
            Reason.IDENTITY: IdentityMismatch,
            Reason.TRUST: NotAMember,
        }
        for reason in Reason:
            bye = codec.encode(Bye(reason.value, "so it is"))
            for stage in (Stage.INTRO, Stage.PROOF):
                self.setUp()
                if stage is Stage.INTRO:
                    self.dialler.take(self.acceptor.shake.start())
                else:
                    self.introduced()
                self.assertIs(self.dialler.shake.stage, stage)
                said = self.refusal(kinds.get(reason, RemoteError), reason, self.dialler.take, bye)
                self.assertIn("so it is", said)

    def test_bye_in_place_of_a_greeting_is_no_greeting_but_a_diallers(self) -> None:
        bye = codec.encode(Bye("full", "no room"))
        self.refusal(RemoteError, Reason.GREETING, self.dialler.take, bye)
        said = self.refusal(RemoteError, Reason.FULL, self.acceptor.take, bye)
        self.assertIn("no room", said)
        ping = codec.encode(Ping(1))
        self.refusal(RemoteError, Reason.GREETING, self.acceptor.take, ping)

    def test_a_reason_of_a_later_version_is_still_told(self) -> None:
        error = error_of(Bye("tired", ""))
        self.assertIs(error.reason, Reason.LOST)
        self.assertIn("tired", error.detail)

    def test_a_dialler_tells_another_subnet_nothing_of_itself(self) -> None:
        stranger = Party(Side.ACCEPTOR, node(Protocol("there", "SSL")))
        error = self.assertRaises(SubnetMismatch, self.dialler.take, stranger.shake.start())
        last = self.dialler.shake.farewell(error.reason, error.detail)
        self.assertEqual(last, codec.encode(Bye("subnet", "another subnet, or trust by other means")))
        said = self.refusal(SubnetMismatch, Reason.SUBNET, stranger.take, last)
        self.assertEqual(said, "the peer closed: another subnet, or trust by other means")

    def test_and_so_does_who_accepts(self) -> None:
        self.acceptor.shake.start()
        hello = greetings.encode(Greeting(self.anna.id, Protocol("there", "SSL").id, None, True, 0))
        error = self.assertRaises(SubnetMismatch, self.acceptor.take, hello)
        last = self.acceptor.shake.farewell(error.reason, error.detail)
        self.assertEqual(last, codec.encode(Bye("subnet", "another subnet, or trust by other means")))

    def test_whoever_has_not_greeted_is_told_the_reason_alone(self) -> None:
        self.acceptor.shake.start()
        for party in (self.acceptor, self.dialler):
            last = party.shake.farewell(Reason.TIMEOUT, "the handshake was not over after 10 s")
            self.assertEqual(last, codec.encode(Bye("timeout", "")))

    def test_whoever_is_of_the_subnet_is_told_more(self) -> None:
        self.introduced()
        for party in (self.acceptor, self.dialler):
            last = party.shake.farewell(Reason.FULL, "no room")
            self.assertEqual(last, codec.encode(Bye("full", "no room")))

    def test_farewell_to_py2p_is_silence(self) -> None:
        hello = greetings.encode(Greeting(self.bert.id, HERE.id, None, False, 0))
        self.assertRaises(RemoteError, self.dialler.take, hello)
        self.assertEqual(self.dialler.shake.farewell(Reason.GREETING, "py2p"), b"")
