"""Meshes of the nodes to which a certificate authority (CA) has given X.509 certificates."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory
from zope.interface import implementer

from tests.service.test_trust import TrustCase, record_of
from tests.support.certificates import DAY, ODD, CertificateAuthority, der, pem, write
from tests.support.meshcase import PORT, Puppet, Raw, batch
from twisted_mesh.errors import NotAMember, TrustError
from twisted_mesh.identity import Identity
from twisted_mesh.links.tls import Tls
from twisted_mesh.network import Policy, Protocol
from twisted_mesh.service import MeshService
from twisted_mesh.trust.policy import Trust
from twisted_mesh.wire.membership import Roster

PAGE = " ".join((Path(__file__).parent.parent.parent / "docs" / "trust.rst").read_text().split())


class CertificateCase(TrustCase):
    """A mesh with a CA."""

    def setUp(self) -> None:
        super().setUp()
        self.ca = CertificateAuthority("the CA")
        self.cas = self.file(self.ca.certificate)
        self.identities: dict[MeshService, Identity] = {}
        self.files: dict[MeshService, Path] = {}
        self.member: tuple[Policy, Identity] | None = None  # whose TLS sessions scripted peers make

    @property
    def now(self) -> float:
        """The time that the wall clocks of the nodes show."""
        return self.network.clock.seconds()

    def file(self, *certificates: x509.Certificate) -> Path:
        """A new file with *certificates*."""
        return write(Path(self.mktemp()), pem(*certificates))

    def certified(
        self,
        *,
        identity: Identity | None = None,
        by: CertificateAuthority | None = None,
        cas: Path | None = None,
        until: float = 1000 * DAY,
        names: tuple[str, ...] = (),
        beside: Trust | None = None,
        **options: Any,
    ) -> MeshService:
        """A node with a certificate."""
        me = identity or Identity.create(self.mktemp())
        file = self.file((by or self.ca).certify(me.origin, until=until, names=names))
        trust = Trust.certificates(cas or self.cas, file) & (beside or Trust.open())
        node = self.node(identity=me, trust=trust, **options)
        self.identities[node], self.files[node] = me, file
        return node

    def policy(self, identity: Identity, by: CertificateAuthority | None = None) -> Any:
        """The policy of a scripted peer with that key."""
        by = by or self.ca
        trust = Trust.certificates(self.file(by.certificate), self.file(by.certify(identity.origin)))
        return trust.load(Protocol(), lambda: self.now, 1.0)

    def tls(self) -> Tls:
        if self.member is None:
            return super().tls()
        return Tls(self.network.clock, *self.member)


class TestCertificates(CertificateCase):
    def test_nodes_with_a_certificate_link_and_talk(self) -> None:
        one, middle, other = self.linked(*(self.certified() for _ in range(3)))
        self.send(one, "for those of the CA")
        self.assertEqual([self.got(node) for node in (middle, other)], [["for those of the CA"]] * 2)
        self.assertEqual(set(one.members), {middle.id, other.id})
        self.assertEqual(one.status().node.trust, "nodes with a certificate of the CA")
        self.assertEqual(one.footprint()["certificates"], 2)

    def test_a_node_of_another_ca_is_refused_in_both_directions(self) -> None:
        inside, another = self.certified(), CertificateAuthority("the CA")
        for cas in (self.file(another.certificate), self.file(self.ca.certificate, another.certificate)):
            outside = self.certified(by=another, cas=cas)
            for dialler, acceptor in ((outside, inside), (inside, outside)):
                self.assertIn("certificate", self.refused(dialler, acceptor, NotAMember))
        self.assertEqual(set(self.reasons(inside)), {"trust"})
        self.assertEqual(dict(inside.members), {})
        self.assertTrue(self.log("refuses the certificate of this node (tlsv1 alert unknown ca)"))
        words = "the certificate that the peer shows is not of the CA of this mesh"
        self.assertTrue(self.log(words))
        self.assertIn(f"``{words}``", PAGE)

    def test_a_node_without_a_certificate_is_refused_and_told_why(self) -> None:
        inside, outside = self.certified(), self.node()
        said = self.refused(outside, inside, NotAMember)
        words = "wants a certificate of its mesh's CA, and this node has none"
        self.assertIn(words, said)
        self.assertIn(f"``{words}``", PAGE)
        self.assertTrue(self.log("the peer shows no certificate of a node"))
        self.assertIn("shows no certificate of a node", self.refused(inside, outside, NotAMember))

    def test_a_stranger_gets_no_byte_in_its_session(self) -> None:
        inside = self.certified()
        for opening in (b"GET / HTTP/1.1\r\n\r\n", bytes(60)):
            stranger: Raw = self.dial(Raw(), inside)
            self.network.pump()
            stranger.write(opening)
            self.network.pump()
            self.assertEqual((stranger.received, stranger.lost is not None), (b"", True))
        bare: Any = Raw()
        endpoint = self.network.dial_from("10.9.9.9")(self.host(inside), PORT)
        shows_none = ClientCreator(SSL.Context(SSL.TLS_METHOD))
        wrapClientTLS(shows_none, endpoint, clock=self.network.clock).connect(
            Factory.forProtocol(lambda: bare)
        )
        self.network.advance(1)
        self.assertEqual((bare.received, bare.lost is not None), (b"", True))
        self.assertTrue(self.log("the peer shows no certificate: it is a stranger"))

    def test_whoever_has_stolen_a_certificate_has_not_its_key(self) -> None:
        inside, victim, accomplice = self.linked(*(self.certified() for _ in range(3)))
        insider = self.identities[accomplice]
        self.member = self.policy(insider), insider  # it lends its TLS session to the thief
        thief, stolen = Identity.generate(), self.policy(self.identities[victim])
        puppet = self.met(inside, identity=thief, policy=stolen)
        self.network.advance(1)
        self.assertIsNotNone(puppet.lost)
        self.assertNotIn(thief.id, {**inside.routing_table, **inside.members})
        self.assertTrue(self.log(f"is of the key of {victim.id.decode()}"))
        self.assertEqual([frame for frame in puppet.frames() if isinstance(frame, Roster)], [])
        puppet = self.met(inside, identity=thief, policy=_Silent(stolen))
        self.assertIsNotNone(puppet.lost)
        self.assertTrue(self.log("shows no certificate of the mesh's CA"))

    def test_certificates_that_a_peer_shows_behind_its_own_are_not_looked_at(self) -> None:
        between = CertificateAuthority("between", above=self.ca)
        inside = self.certified(by=between, cas=self.file(between.certificate))
        peer = Identity.generate()
        policy = self.policy(peer, by=between)
        tls: Any = Tls(self.network.clock, policy, peer)
        tls._creator._context.add_extra_chain_cert(between.certificate)
        self.patch(self, "tls", lambda: tls)
        self.met(inside, identity=peer, policy=policy)
        self.assertIn(peer.id, inside.routing_table)

    def test_a_stranger_with_another_certificate_has_no_session_also_if_it_cannot_be_read(self) -> None:
        inside, stranger = self.certified(), Identity.generate()
        another, key = CertificateAuthority("another"), stranger.private_key.public_key()
        odd = [another.sign(x509.Name([]), key, 0.0, 1000 * DAY, extensions=[one]) for one in ODD]
        for shown in (another.certify(stranger.origin), *odd):
            self.member = _Gullible(SimpleNamespace(certificate=der(shown))), stranger
            puppet = self.met(inside, identity=stranger, policy=self.policy(stranger, by=another))
            self.network.advance(1)
            self.assertEqual((puppet.received, puppet.lost is not None), (b"", True))
        self.assertEqual(len(self.log("the peer shows a damaged certificate")), len(ODD))
        self.assertEqual(len(self.log("is not of the CA of this mesh")), 1)

    def test_modes_combine(self) -> None:
        secret = Trust.secret(self.secret())
        one, other = self.linked(*(self.certified(beside=secret) for _ in range(2)))
        self.send(one, "for those with both")
        self.assertEqual(self.got(other), ["for those with both"])
        self.assertIn("and", str(one.trust))
        outside = self.certified()
        self.refused(outside, one, Exception, after=outside.config.handshake_timeout + 1)
        unsigned = self.node(trust=secret)
        self.assertIn("wants a certificate", self.refused(unsigned, one, NotAMember))

    def test_a_certificate_of_another_key_is_refused_before_anything_listens(self) -> None:
        me, someone = Identity.create(self.mktemp()), Identity.generate()
        trust = Trust.certificates(self.cas, self.file(self.ca.certify(someone.origin)))
        said = str(self.assertRaises(TrustError, self.node, trust=trust, identity=me))
        self.assertIn(f"is of the key of {someone.id.decode()}, and this node is {me.id.decode()}", said)
        self.assertIn("have one made for the key in its identity", said)
        self.assertEqual(self.network.ports, {})


@implementer(IOpenSSLClientConnectionCreator)
class ClientCreator:
    """Makes TLS sessions of a client without a certificate."""

    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        return SSL.Connection(self._context, None)


class _Gullible(Policy):
    """The policy of a node that shows a certificate, and takes any of a peer."""

    def __init__(self, other: Any) -> None:
        self.certificate = other.certificate


class _Silent(Policy):
    """The policy of a node of the same network that shows no certificate in its handshake."""

    def __init__(self, other: Policy) -> None:
        self.mode = other.mode


class TestNames(CertificateCase):
    """A host name that is dialled is checked."""

    def dialled(self, names: tuple[str, ...], host: str) -> tuple[MeshService, MeshService, Any]:
        """A node, one with a certificate for *names*, and the first dialling the second as *host*."""
        other = self.certified(names=names)
        node = self.certified(
            dial=lambda _, port: self.network.dial_from("10.8.8.8")(self.host(other), port)
        )
        return node, other, node.connect(host, PORT)

    def test_a_node_that_has_the_name_is_linked(self) -> None:
        for names, host in (
            (("web.example",), "web.example"),
            (("*.web.example",), "a.web.example"),
            ((), "10.0.0.7"),
        ):
            node, other, waiting = self.dialled(names, host)
            self.network.pump()
            self.assertEqual(self.result_of(waiting).id, other.id)
            self.assertIn(node.id, other.routing_table)

    def test_a_node_that_has_another_name_is_refused(self) -> None:
        for names in ((), ("db.example",), ("*.web.example",)):
            node, other, waiting = self.dialled(names, "web.example")
            said = str(self.failure_of(waiting, NotAMember))
            self.assertIn(f"{other.id.decode()} shows is not for the name web.example", said)
            self.network.advance(1)
            self.assertEqual((dict(node.routing_table), dict(other.routing_table)), ({}, {}))


class TestAuthors(CertificateCase):
    """A member passes on what authors have signed that are no neighbours."""

    def setUp(self) -> None:
        super().setUp()
        self.near, self.far = self.linked(self.certified(), self.certified())
        relay, self.author = Identity.generate(), Identity.generate()
        policy = self.policy(relay)
        self.member = policy, relay
        self.relay: Puppet = self.joined(self.near, identity=relay, policy=policy)
        self.own = self.policy(self.author)
        self.me = self.puppet(identity=self.author, policy=self.own).me

    def test_messages_are_taken_only_of_authors_whose_record_has_a_certificate_of_their_key(self) -> None:
        self.send_frames(self.relay, batch(self.me, 1, "first"), after=1)
        strange = self.policy(self.author, by=CertificateAuthority("the CA"))
        stolen = self.policy(self.identities[self.far])
        for counter, policy in enumerate((Policy(), strange, stolen), 1):
            self.send_frames(
                self.relay, record_of(self.me, counter, policy.credential(self.author.origin)), after=1
            )
            self.assertEqual([self.got(node) for node in (self.near, self.far)], [[], []])
            self.assertNotIn(self.author.id, {**self.near.members, **self.far.members})
        self.assertEqual(self.near.dropped["refused_authors"], 3)
        self.send_frames(
            self.relay, record_of(self.me, 4, self.own.credential(self.author.origin)), after=1
        )
        self.assertEqual([self.got(node) for node in (self.near, self.far)], [["first"]] * 2)
        self.assertIn(self.author.id, self.far.members)
        self.assertIsNone(self.relay.lost)


class TestTime(CertificateCase):
    """Certificates expire by the clock of the node that looks, and are renewed before."""

    def renew(self, node: MeshService, until: float, by: CertificateAuthority | None = None) -> None:
        """Put a newer certificate in the place of the old one."""
        newer = (by or self.ca).certify(self.identities[node].origin, until=until)
        write(self.files[node], pem(newer))
        node.reload_trust()
        self.network.advance(1)

    def test_a_node_warns_once_a_day_from_thirty_days_ahead(self) -> None:
        limits = {"trust_interval": 3600.0, "presence_interval": 600.0}  # so that a day has fewer steps
        node = self.certified(until=self.now + 30.5 * DAY, limits=limits)
        self.network.advance(0.4 * DAY)
        self.assertEqual(self.log("expires on"), [])
        self.network.advance(0.3 * DAY)
        (warning,) = [each for each in node.status().warnings if "certificate" in each]
        self.assertIn(f"the certificate {self.files[node].absolute()} expires on ", warning)
        self.assertIn("have a new one made", warning)
        self.assertEqual(len(self.log("expires on")), 1)
        self.network.advance(1.1 * DAY)
        self.assertEqual(len(self.log("expires on")), 2)
        self.renew(node, self.now + 100 * DAY)
        self.assertEqual([each for each in node.status().warnings if "certificate" in each], [])
        self.network.advance(1.1 * DAY)
        self.assertEqual(len(self.log("expires on")), 2)

    def test_an_expired_one_links_no_more_and_its_messages_are_taken_a_while(self) -> None:
        limits = {"store_seconds": 60.0, "history_seconds": 60.0}
        one, gone = self.linked(
            self.certified(limits=limits), self.certified(until=self.now + 20, limits=limits), after=6
        )
        self.send(gone, "before", after=30)
        self.assertEqual((dict(one.routing_table), dict(gone.routing_table)), ({}, {}))
        self.assertTrue(self.log(f"the certificate that {gone.id.decode()} shows has expired on"))
        self.assertIn("has expired on", str(gone.status().warnings))
        newcomer = self.certified(limits=limits, replay="all")
        self.link((newcomer, one), after=2)
        self.assertEqual(self.got(newcomer), ["before"])
        self.network.advance(60)
        self.assertNotIn(gone.id, one.members)
        late = self.certified(limits=limits, replay="all")
        self.link((late, newcomer), after=2)
        self.assertNotIn("before", self.got(late))

    def test_whoever_renews_too_late_is_back(self) -> None:
        one, late = self.linked(self.certified(), self.certified(until=self.now + 10))
        self.network.advance(20)
        self.assertEqual(dict(one.routing_table), {})
        self.send(late, "said meanwhile")
        self.renew(late, self.now + 500)
        self.network.advance(60)
        self.assertIn(late.id, one.routing_table)
        self.assertEqual(self.got(one), ["said meanwhile"])

    def test_whoever_renews_in_time_loses_neither_links_nor_messages(self) -> None:
        one, other = self.linked(self.certified(), self.certified(until=self.now + 100), after=6)
        (link,) = one.routing_table.values()
        self.renew(other, self.now + 500)
        self.network.advance(120)
        self.assertEqual(list(one.routing_table.values()), [link])
        self.send(other, "still here", after=1)
        self.assertEqual(self.got(one), ["still here"])
        again = self.certified()
        self.link((again, other), after=1)
        self.assertIn(other.id, again.routing_table)

    def test_a_new_ca_comes_in_by_three_steps_and_no_message_is_lost(self) -> None:
        newer = CertificateAuthority("the CA")
        nodes = self.linked(*(self.certified() for _ in range(3)), after=6)
        sent = 0
        for cas, by in (
            ((self.ca, newer), self.ca),
            ((self.ca, newer), newer),
            ((newer,), newer),
        ):
            write(self.cas, pem(*(each.certificate for each in cas)))
            for node in nodes:
                self.renew(node, 1000 * DAY, by)
                for author in nodes:
                    author.send(f"message {sent}")
                    sent += 1
            self.network.advance(5)
        self.network.advance(40)
        for at, node in enumerate(nodes):
            others = [f"message {number}" for number in range(sent) if number % 3 != at]
            self.assertEqual(sorted(self.got(node)), sorted(others))
        forgotten = self.certified(cas=self.file(self.ca.certificate))
        self.refused(forgotten, nodes[0], NotAMember)
