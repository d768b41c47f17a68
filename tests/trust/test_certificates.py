"""Certificates of a CA: the files that hold them, and which of them are good."""

from __future__ import annotations

import base64
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tests.support.certificates import DAY, ODD, CertificateAuthority, der, pem, write
from tests.support.length import at_length
from tests.trust.test_shared_secret import ANNA, MESH, SecretCase
from twisted_mesh.errors import LocalError, TrustError
from twisted_mesh.identity import Identity, id_of
from twisted_mesh.network import Policy, Protocol
from twisted_mesh.trust import certificates
from twisted_mesh.trust.authority import roles_of
from twisted_mesh.trust.certificates import Certificates
from twisted_mesh.trust.grants import AuthorityFiles
from twisted_mesh.trust.policy import FilePolicy, Trust
from twisted_mesh.wire.fields import MAX_CERTIFICATE
from twisted_mesh.wire.membership import Credential

USAGES = {
    **dict.fromkeys(("digital_signature", "content_commitment", "key_encipherment"), False),
    **dict.fromkeys(("data_encipherment", "key_agreement", "key_cert_sign", "crl_sign"), False),
    **dict.fromkeys(("encipher_only", "decipher_only"), False),
}

#: A CA, and a certificate that it has signed with SHA-1, which cryptography does not do any more.
CA = b"""\
-----BEGIN CERTIFICATE-----
MIIBeTCCAR+gAwIBAgIUWYnUl72VvGH6wuZuSNnZK8mopr0wCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGdGhlIENBMCAXDTI2MTEzMDE0MzcwOFoYDzIxMDkwMTE5MTQz
NzA4WjARMQ8wDQYDVQQDDAZ0aGUgQ0EwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AAQOBlafaboYSxdTk9aR7k9CBdhQvrhy4KAG1hakT7RGq3PXChq5/Haj/Kb1a/Gp
ipZ1zPdnIerUbh4GH5VvhX0uo1MwUTAdBgNVHQ4EFgQU4vHNE0JTzREMAXZIPXRZ
IMd/6xgwHwYDVR0jBBgwFoAU4vHNE0JTzREMAXZIPXRZIMd/6xgwDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiBlyYJKtt2fl0XzEnEeL+zj3GX9ZCJ2
z82kHq0gU/k2+AIhAMIpRDg4PNz5eC5LFt/EIjY3QLhVoxTG7gv9LPx+eFua
-----END CERTIFICATE-----
"""
SIGNED_WITH_SHA1 = b"""\
-----BEGIN CERTIFICATE-----
MIHZMIGCAgEHMAkGByqGSM49BAEwETEPMA0GA1UEAwwGdGhlIENBMCAXDTI2MTEz
MDE0MzcwOFoYDzIxMDkwMTE5MTQzNzA4WjARMQ8wDQYDVQQDDAZhIG5vZGUwKjAF
BgMrZXADIQCcrr8a+TTdFqoHJlQ2aoSQ9J1x3PrfoZEY8JmbB67eGDAJBgcqhkjO
PQQBA0cAMEQCICJ1Ewi7QGUO3TTjl14tbkM61A047+06hK57NUaioxLyAiAnR4XJ
sO/6z0P/4YkIcmyZhYVJKBGjGVgscSISVFpE1w==
-----END CERTIFICATE-----
"""


class CertificateCase(SecretCase):
    """A CA, and a node with a certificate of it."""

    def setUp(self) -> None:
        self.ca = CertificateAuthority("the CA")
        self.me, self.other = Identity.generate(), Identity.generate()
        self.now = 100 * DAY

    def clock(self) -> float:
        """The wall clock."""
        return self.now

    def put(self, *found: x509.Certificate) -> Path:
        """A new file with certificates."""
        return write(Path(self.mktemp()), pem(*found))

    def signed(self, key: Any, *extensions: x509.ExtensionType) -> x509.Certificate:
        """A certificate of any *key*."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a node")])
        return self.ca.sign(name, key, 0.0, 200 * DAY, extensions=extensions)

    def trust(self, own: x509.Certificate | None = None, *cas: x509.Certificate) -> Trust:
        """The trust of a node with the certificate *own*."""
        own = own or self.ca.certify(self.me.origin)
        return Trust.certificates(self.put(*(cas or (self.ca.certificate,))), self.put(own))

    def policy(self, own: x509.Certificate | None = None, *cas: x509.Certificate) -> Policy:
        """The policy of that node."""
        return self.trust(own, *cas).load(MESH, self.clock, 10 * DAY)

    def refused_by(self, trust: Trust, *words: str) -> str:
        """Assert that *trust* cannot be used, and that the error has *words*; the error."""
        said = str(self.assertRaises(TrustError, trust.load, MESH, self.clock, 1.0))
        for word in words:
            self.assertIn(word, said)
        return said

    def mine(self, *cas: CertificateAuthority, kept_for: float = 10 * DAY) -> Certificates:
        """The certificates of the node."""
        found = [each.certificate for each in cas or (self.ca,)]
        return Certificates(found, (cas or (self.ca,))[0].certify(self.me.origin), self.clock, kept_for)


class TestFiles(CertificateCase):
    """Each file that cannot be used is an error that says what to do about it."""

    def test_a_good_pair_is_read(self) -> None:
        own = self.ca.certify(self.me.origin)
        policy = self.policy(own)
        self.assertEqual((policy.certificate, policy.mode), (der(own), "certificates"))
        self.assertTrue(policy.needs_credentials)
        self.assertEqual(policy.told, "nodes with a certificate of the CA")
        policy.fit(self.me.id, False)
        shown = msgspec.msgpack.decode(policy.credential(self.me.origin), type=Credential)
        self.assertEqual(shown, Credential(b"", b"", b"", b"", der(own)))

    def test_what_is_behind_the_own_certificate_is_not_shown(self) -> None:
        own = self.ca.certify(self.me.origin)
        chain = write(Path(self.mktemp()), pem(own, self.ca.certificate))
        policy = Trust.certificates(self.put(self.ca.certificate), chain).load(MESH, self.clock, 1.0)
        self.assertEqual(policy.certificate, der(own))

    def test_of_two_of_the_own_key_none_is_chosen(self) -> None:
        older, newer = (self.ca.certify(self.me.origin) for _ in range(2))
        for other in (older, newer):
            both = write(Path(self.mktemp()), pem(older, other))
            trust = Trust.certificates(self.put(self.ca.certificate), both)
            self.refused_by(trust, f"{both} has several of the same key: keep the newest")

    def test_files_that_hold_something_else(self) -> None:
        good = self.put(self.ca.certificate), self.put(self.ca.certify(self.me.origin))
        key = self.me.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pairs: list[tuple[bytes, str]] = [
            (b"", "holds no certificate in PEM"),
            (b"\xff\xfe", "holds no certificate in PEM"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no certificate"),
            (der(self.ca.certificate), "openssl x509 -inform DER"),
            (pem(self.ca.certify(self.me.origin)) + key, "has a private key, too"),
        ]
        for content, words in pairs:
            for at in (0, 1):
                files = list(good)
                files[at] = write(Path(self.mktemp()), content)
                said = self.refused_by(Trust.certificates(*files), words, str(files[at]))
                self.assertNotIn(key.decode().splitlines()[1], said)

    def test_files_of_another_version(self) -> None:
        ca, own = self.ca.certificate, self.ca.certify(self.me.origin)
        files = self.put(ca), self.put(own)
        for good, at in ((ca, 0), (own, 1)):
            bad = der(good).replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03", 1)
            body = base64.encodebytes(bad)
            content = b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"
            named = list(files)
            named[at] = write(Path(self.mktemp()), content)
            self.refused_by(Trust.certificates(*named), f"{named[at]} holds no certificate in PEM")

    def test_files_that_cannot_be_read_or_that_others_can_change(self) -> None:
        good = self.put(self.ca.certificate), self.put(self.ca.certify(self.me.origin))
        for at in (0, 1):
            files = list(good)
            files[at] = Path(self.mktemp())
            self.refused_by(Trust.certificates(*files), "No such file", str(files[at]))
            files[at] = write(Path(self.mktemp()), good[at].read_bytes())
            files[at].chmod(0o664)
            self.refused_by(Trust.certificates(*files), "can be changed by others: chmod go-w")

    def test_files_that_are_exchanged(self) -> None:
        ca, own = self.put(self.ca.certificate), self.put(self.ca.certify(self.me.origin))
        self.refused_by(Trust.certificates(own, ca), "is of no CA: name the file of the one that signs")

    def test_certificates_of_the_ca_that_are_none(self) -> None:
        constrained = x509.NameConstraints([x509.DNSName("example")], None)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the CA")])
        for extension, words in (
            (constrained, "has name constraints, which are not checked"),
            (x509.KeyUsage(**(USAGES | {"digital_signature": True})), "is of no CA"),
        ):
            key = self.ca.key.public_key()
            bad = self.ca.sign(name, key, 0.0, 200 * DAY, is_ca=True, extensions=[extension])
            self.refused_by(self.trust(None, bad), words)
        signs = x509.KeyUsage(**(USAGES | {"key_cert_sign": True}))
        good = self.ca.sign(name, key, 0.0, 200 * DAY, is_ca=True, extensions=[signs])
        self.policy(None, good)

    def test_all_the_cas_of_a_system_are_too_many(self) -> None:
        cas = [CertificateAuthority("the CA").certificate for _ in range(certificates.MAX_CAS)]
        self.refused_by(self.trust(None, *cas, self.ca.certificate), "has 9: whoever has a certificate")
        self.policy(None, *cas[1:], self.ca.certificate)

    def test_a_certificate_of_the_ca_that_is_there_twice(self) -> None:
        twice = self.trust(None, self.ca.certificate, self.ca.certificate)
        self.refused_by(twice, "has the same certificate twice: take one of them out")

    def test_certificates_that_are_good_for_no_node(self) -> None:
        node = self.me.private_key.public_key()
        client = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        odd = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\0")
        for own, words in (
            (self.signed(ec.generate_private_key(ec.SECP256R1()).public_key()), "is not of an Ed25519 key"),
            (self.signed(node, client), "have one made for serverAuth and clientAuth"),
            (
                self.ca.sign(x509.Name([]), node, 0.0, 200 * DAY, is_ca=True),
                "is of a CA: have one made for a node",
            ),
            (self.signed(node, x509.KeyUsage(**USAGES)), "have one made for digitalSignature"),
            (CertificateAuthority("the CA").certify(self.me.origin), "is not of the CA of this mesh"),
            (CertificateAuthority("another").certify(self.me.origin), "is not of the CA of this mesh"),
            (self.ca.certify(self.me.origin, until=99 * DAY), "has expired on 1970-04-10 00:00 UTC"),
            (self.ca.certify(self.me.origin, since=101 * DAY), "is not valid before 1970-04-12 00:00 UTC"),
            (
                self.ca.certify(self.me.origin, names=["x" * 60 + ".example"] * 12),
                "a record has room for 960",
            ),
        ):
            self.refused_by(self.trust(own), words)
        self.policy(self.signed(node, odd))
        critical = self.ca.sign(x509.Name([]), node, 0.0, 200 * DAY, extensions=[odd], are_critical=True)
        self.refused_by(self.trust(critical), "has the critical extension 1.2.3.4, which is unknown")

    def test_a_damaged_extension(self) -> None:
        good = der(self.ca.certify(self.me.origin, names=["web.example"]))
        bad = x509.load_der_x509_certificate(good.replace(b"\x82\x0bweb.example", b"\x9e\x0bweb.example"))
        self.refused_by(self.trust(bad), "is damaged: name the right files")

    def test_a_ca_that_has_expired(self) -> None:
        old = CertificateAuthority("the CA", until=99 * DAY)
        self.refused_by(
            self.trust(old.certify(self.me.origin), old.certificate), "is of a CA that has expired"
        )
        newer = CertificateAuthority("the CA", key=old.key)
        self.policy(old.certify(self.me.origin), old.certificate, newer.certificate)

    def test_a_ca_that_another_ca_has_signed_needs_not_that_one(self) -> None:
        root = CertificateAuthority("root")
        between = CertificateAuthority("between", above=root)
        self.policy(between.certify(self.me.origin), between.certificate)
        self.refused_by(self.trust(between.certify(self.me.origin), root.certificate), "is not of the CA")

    def test_a_ca_with_another_kind_of_key(self) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the CA")])
        for key, hash in (
            (ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()),
            (rsa.generate_private_key(65537, 2048), hashes.SHA256()),
        ):
            self.ca.key, self.ca.hash = key, hash
            ca = self.ca.sign(name, key.public_key(), 0.0, 200 * DAY, is_ca=True)
            self.policy(self.ca.certify(self.me.origin), ca)

    def test_a_weak_signature(self) -> None:
        self.now = 30_000 * DAY
        files = write(Path(self.mktemp()), CA), write(Path(self.mktemp()), SIGNED_WITH_SHA1)
        self.refused_by(
            Trust.certificates(*files), "is signed with a weak hash: have one made with SHA-256"
        )

    def test_it_may_be_too_long_beside_a_grant(self) -> None:
        key = Path(self.mktemp())
        grant = Path(self.mktemp())
        AuthorityFiles.create(key, "mesh").grant(self.me.id.decode(), roles_of("link,author"), grant)
        authority = Trust.authority(key.with_name(f"{key.name}.pub"), grant)
        long = self.ca.certify(self.me.origin, names=["x" * 60 + ".example"] * 9)
        self.assertLess(len(der(long)), MAX_CERTIFICATE)
        self.policy(long)
        self.refused_by(authority & self.trust(long), "is too long beside a grant, by ")
        (authority & self.trust()).load(MESH, self.clock, 1.0)

    def test_it_needs_encryption_and_one_file_of_each(self) -> None:
        self.assertRaises(LocalError, self.trust().load, Protocol("mesh", "Plaintext"), self.clock, 1.0)
        self.assertRaises(LocalError, lambda: self.trust() & self.trust())

    def test_it_is_shown_as_it_is_written(self) -> None:
        trust = Trust.certificates("/ca.pem", "/node.pem") & Trust.only("/members")
        self.assertEqual(repr(trust), "Trust.certificates('/ca.pem', '/node.pem') & Trust.only('/members')")
        self.assertEqual(str(trust), "nodes with a certificate of the CA and nodes on a list")

    def test_the_file_that_is_written_again(self) -> None:
        ca, own = self.put(self.ca.certificate), self.put(self.ca.certify(self.me.origin))
        policy = Trust.certificates(ca, own).load(MESH, self.clock, 1.0)
        assert isinstance(policy, FilePolicy)
        policy.fit(self.me.id, False)
        self.assertTrue(policy.may_speak(self.other.origin, self.shown(self.other)))
        self.assertFalse(policy.reload())
        self.assertEqual(policy.footprint()["certificates"], 1)  # what was verified is known still
        newer = self.ca.certify(self.me.origin, until=300 * DAY)
        write(own, pem(newer))
        self.assertTrue(policy.reload())
        self.assertEqual(policy.certificate, der(newer))
        write(own, pem(self.ca.certify(self.other.origin)))
        self.assertRaises(TrustError, policy.reload)
        self.assertEqual(policy.certificate, der(newer))
        self.assertIsNone(policy.warning)
        self.assertFalse(Trust.only(self.file(self.me.id.decode())).load(MESH, self.clock, 1.0).certificate)

    def shown(self, node: Identity) -> bytes:
        """The credential of a node."""
        return msgspec.msgpack.encode(Credential(b"", b"", b"", b"", der(self.ca.certify(node.origin))))


class TestCertificates(CertificateCase):
    """Which certificates of other nodes are good."""

    def test_one_is_good_for_its_own_key_alone(self) -> None:
        mine, shown = self.mine(), der(self.ca.certify(self.other.origin))
        self.assertIsNone(mine.why_not(self.other.origin, shown))
        self.assertTrue(mine.may_speak(self.other.origin, shown))
        said = mine.why_not(ANNA, shown)
        self.assertIn(f"{id_of(ANNA).decode()} shows is of the key of {self.other.id.decode()}", str(said))
        self.assertFalse(mine.may_speak(ANNA, shown))

    def test_nobody_can_make_up_a_node_with_one(self) -> None:
        policy = self.policy()
        self.assertFalse(policy.vouches(self.other.origin))
        self.assertIsNone(
            policy.why_not_certified(self.other.origin, der(self.ca.certify(self.other.origin)))
        )
        self.assertTrue(policy.vouches(self.other.origin))
        self.assertFalse(policy.vouches(self.me.origin))

    def test_whatever_the_parser_says_of_one_that_it_cannot_read(self) -> None:
        """Anybody can make these; a parser raises KeyError for one, TypeError for the next, and so on."""
        mine, origin = self.mine(), self.other.origin
        key, good = self.other.private_key.public_key(), der(self.ca.certify(origin))
        of_version_4 = good.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03", 1)
        self.assertIn("shows no certificate of the mesh's CA", str(mine.why_not(origin, b"")))
        cut = b"\x30", good[:-1], good + b"x"
        for junk in (*cut, *(der(self.signed(key, one)) for one in ODD), of_version_4):
            for name in (None, "web.example"):
                self.assertIn("shows a damaged certificate", str(mine.why_not(origin, junk, name)))
            self.assertEqual(mine.why_strange(junk), "the peer shows a damaged certificate")
            self.assertFalse(mine.may_speak(origin, junk))
        self.assertEqual(len(mine), 0)
        own = self.signed(self.me.private_key.public_key(), ODD[0])
        self.refused_by(self.trust(own), "is damaged: name the right files")

    def test_no_bytes_of_a_peer_raise_an_error(self) -> None:
        mine, random = self.mine(), Random(1)
        good = der(self.ca.certify(self.other.origin, names=["web.example"]))
        for _ in range(at_length(3_000, 300)):
            at = random.randrange(len(good))
            shown = good[:at] + random.randbytes(random.choice((1, 1, 2))) + good[at + 1 :]
            for why in (
                mine.why_not(self.other.origin, shown),
                mine.why_not(self.other.origin, shown, "web.example"),
                mine.why_strange(shown),
            ):
                self.assertTrue(why is None or "certificate" in why)
        self.flushWarnings()  # cryptography's, of serial numbers that are not positive

    def test_a_session_of_a_stranger_is_refused(self) -> None:
        mine = self.mine()
        self.assertIsNone(mine.why_strange(der(self.ca.certify(self.other.origin))))
        strange = der(CertificateAuthority("the CA").certify(self.other.origin))
        said = "the certificate that the peer shows is not of the CA of this mesh"
        self.assertEqual(mine.why_strange(strange), said)
        web = der(self.signed(ec.generate_private_key(ec.SECP256R1()).public_key()))
        self.assertIn("no certificate of a node", str(mine.why_strange(web)))

    def test_the_own_clock_tells_whether_one_has_expired(self) -> None:
        mine, shown = self.mine(), der(self.ca.certify(self.other.origin, 99 * DAY, 110 * DAY))
        for day, links, speaks in (
            *((98, False, False), (99, True, True), (110, True, True)),
            *((111, False, True), (120, False, True), (120.1, False, False), (105, True, True)),
        ):
            self.now = day * DAY
            for look in (mine, self.mine()):
                self.assertEqual(look.why_not(self.other.origin, shown) is None, links, day)
                self.assertEqual(look.may_speak(self.other.origin, shown), speaks, day)
                self.assertEqual(look.why_strange(shown) is None, links, day)

    def test_a_ca_whose_newer_certificate_is_not_valid_yet(self) -> None:
        later = CertificateAuthority("the CA", since=120 * DAY, until=900 * DAY, key=self.ca.key)
        old = CertificateAuthority("the CA", until=130 * DAY, key=self.ca.key)
        ended = CertificateAuthority("the CA", until=50 * DAY, key=self.ca.key)
        mine, shown = self.mine(old, later, ended), der(self.ca.certify(self.other.origin))
        for day, links, speaks in (
            (100, True, True),
            (125, True, True),
            (500, True, True),
            (901, False, True),
        ):
            self.now = day * DAY
            self.assertEqual(mine.why_not(self.other.origin, shown) is None, links, day)
            self.assertEqual(mine.may_speak(self.other.origin, shown), speaks, day)
        self.assertEqual((mine.until, mine._ending), (900 * DAY, "the CA of the certificate"))

    def test_a_newer_one_that_was_shown_counts_for_a_link_that_stands(self) -> None:
        mine = self.mine()
        old = der(self.ca.certify(self.other.origin, until=110 * DAY))
        newer = der(self.ca.certify(self.other.origin, until=210 * DAY))
        for shown in (old, newer, old):
            self.assertIsNone(mine.why_not(self.other.origin, shown))
        self.now = 150 * DAY
        self.assertIsNone(mine.why_not(self.other.origin, old))
        self.assertIn("expired", str(mine.why_not(self.other.origin, old, "web.example")))
        self.assertFalse(mine.may_speak(self.other.origin, old))

    def test_when_one_has_expired_that_is_told_once(self) -> None:
        mine = self.mine()
        for end in (110, 120):
            key = Identity.generate().origin
            mine.why_not(key, der(self.ca.certify(key, until=end * DAY)))
        told = []
        for day in range(100, 135):
            self.now = day * DAY + 1
            if mine.some_have_ended():
                told.append(day)
        self.assertEqual(told, [110, 120, 130])  # for links, and ten days later for messages
        mine, key = self.mine(), Identity.generate().origin
        for end in (140, 900):
            mine.why_not(key, der(self.ca.certify(key, until=end * DAY)))
        self.now = 141 * DAY
        self.assertFalse(mine.some_have_ended())  # it was renewed

    def test_so_it_is_after_the_clock_was_wrong_for_a_while(self) -> None:
        mine, shown = self.mine(), der(self.ca.certify(self.other.origin, until=120 * DAY))
        told = []
        for day in (100, 500, 101, 110, 121, 122):
            self.now = day * DAY
            if mine.some_have_ended():
                told.append(day)
            mine.why_not(self.other.origin, shown)
        self.assertEqual(told, [500, 121])

    def test_a_name_that_was_dialled(self) -> None:
        mine, shown = self.mine(), der(self.ca.certify(self.other.origin, names=["web.example"]))
        self.assertIsNone(mine.why_not(self.other.origin, shown, "web.example"))
        for name in ("db.example", "not a name", "", "exämple..", "10.0.0.1"):
            said = str(mine.why_not(self.other.origin, shown, name))
            self.assertIn(f"is not for the name {name}: dial a name that it has", said)
        plain = der(self.ca.certify(self.other.origin))
        self.assertIn("is not for the name", str(mine.why_not(self.other.origin, plain, "web.example")))

    def test_those_that_are_kept_are_bounded(self) -> None:
        self.patch(certificates, "CERTIFICATES_KEPT", 3)
        mine = self.mine()
        keys = [Identity.generate().origin for _ in range(5)]
        first = der(self.ca.certify(keys[0]))
        for key in keys:
            mine.why_not(key, der(self.ca.certify(key)))
            self.assertIn(keys[0], mine)  # it was asked for lately
            mine.why_not(keys[0], first)
        self.assertEqual(len(mine), 3)
        self.assertEqual(set(mine._known), {keys[0], *keys[-2:]})

    def test_the_warning_comes_thirty_days_ahead(self) -> None:
        mine, path = self.mine(), Path("node.pem")
        self.now = 969 * DAY
        self.assertIsNone(mine.warning(path))
        self.now = 971 * DAY
        self.assertIn("node.pem expires on 1972-09-27 00:00 UTC: have a new one", str(mine.warning(path)))
        self.now = 1001 * DAY
        self.assertIn("node.pem has expired on 1972-09-27", str(mine.warning(path)))
        self.now = 100 * DAY
        ending = CertificateAuthority("the CA", until=110 * DAY)
        said = str(self.mine(ending).warning(path))
        self.assertIn("the CA of the certificate node.pem expires on 1970-04-21", said)

    def test_two_are_equal_if_their_files_are(self) -> None:
        own = self.ca.certify(self.me.origin)
        one, same = (Certificates([self.ca.certificate], own, self.clock, 1.0) for _ in range(2))
        self.assertEqual((one, hash(one)), (same, hash(same)))
        self.assertNotEqual(
            one, Certificates([self.ca.certificate], self.ca.certify(self.me.origin, 1.0), self.clock, 1.0)
        )
        self.assertNotEqual(one, 1)
