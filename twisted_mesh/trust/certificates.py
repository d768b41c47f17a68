"""The certificate authority (CA) of a mesh: nodes belong to the mesh by X.509 certificates of that CA.

Contract: the certificate of a node is of its own Ed25519 key, so PROOF proves it.  A CA of the node's file
has signed it itself: no other certificates are shown, so that a peer cannot name issuers.  Whether a
certificate has expired is told by this node's own clock; nothing else here reads a clock.

The verifier of ``cryptography`` takes no Ed25519 keys, since public web sites have none.  With one issuer
there is little to verify.
"""

from __future__ import annotations

import hashlib
import stat
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from service_identity.cryptography import verify_certificate_hostname

from twisted_mesh.errors import TrustError
from twisted_mesh.identity import id_of
from twisted_mesh.trust.files import read_bytes
from twisted_mesh.wire.fields import MAX_CERTIFICATE

MAX_CAS: Final = 8  # in a file: an old one, a new one, and those above them (guess)
#: Verified certificates that a node remembers (guess: four times ``members_limit``).
CERTIFICATES_KEPT: Final = 16_384
WARNED: Final = 30 * 86_400.0  # seconds before the own certificate expires from which on a node warns
_CA: Final = "the CA's certificate"
_OWN: Final = "the certificate"
_PRIVATE: Final = b"PRIVATE KEY-----"
_BOTH: Final = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
#: The extensions of a node's certificate that may be critical: of others nothing is known.
_UNDERSTOOD: Final = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
)


class _Verified(NamedTuple):
    """A certificate that the CA has signed, and the time in which all its signers are valid, too.

    :ivar digest: its SHA-256.
    :ivar since: in seconds since 1970, as is *until*.
    """

    digest: bytes
    since: float
    until: float


class Certificates:
    """The CA of one mesh, and the certificate of one of its nodes.

    :ivar own: that certificate, as DER.
    :ivar origin: the node's key; :ivar until: when the certificate expires, in seconds since 1970.
    """

    def __init__(
        self,
        cas: Sequence[x509.Certificate],
        own: x509.Certificate,
        wall_clock: Callable[[], float],
        kept_for: float,
    ) -> None:
        """
        :param cas: the certificates of the CA: one of them has signed each certificate of a node.
        :param wall_clock: gives seconds since 1970.
        :param kept_for: seconds for which nodes hold messages: an author whose certificate has expired may
            have written messages before, so that they are taken for so long.
        :raises TrustError: *own* is good for no node.
        """
        self._cas = frozenset(cas)
        self._wall_clock = wall_clock
        self._kept_for = kept_for
        self._known: OrderedDict[bytes, _Verified] = OrderedDict()  # by origin
        self._next_end = inf  # when the next of these certificates expires, if the clock goes on from
        self._looked = wall_clock()  # when some_have_ended() was last asked
        self.own = own.public_bytes(Encoding.DER)
        self.origin = origin_of(own)
        self._check(own, wall_clock(), 0.0)
        self.until = max(each.until for each in self._issued(own))
        is_by_ca = self.until < own.not_valid_after_utc.timestamp()
        self._ending = "the CA of the certificate" if is_by_ca else _OWN

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, origin: object) -> bool:
        return origin in self._known

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificates) and (self._cas, self.own) == (other._cas, other.own)

    def __hash__(self) -> int:
        return hash((self._cas, self.own))

    def why_strange(self, certificate: bytes) -> str | None:
        """Why a peer that shows *certificate* belongs to no node of the mesh; None if it may."""
        try:
            found = x509.load_der_x509_certificate(certificate)
            if not isinstance(found.public_key(), Ed25519PublicKey):
                return "the peer shows no certificate of a node: it has none, or is a stranger"
            self._check(found, self._wall_clock(), 0.0)
        except TrustError as error:
            return f"the certificate that the peer shows {error}"
        except Exception:  # any that cryptography raises for odd bytes: it documents only some of them
            return "the peer shows a damaged certificate"
        return None

    def why_not(self, origin: bytes, certificate: bytes, name: str | None = None) -> str | None:
        """Why the node with the key *origin*, which shows *certificate*, may not link; None if it may.

        If the node has shown a newer certificate by now, that counts, too.

        :param name: the name by which this node has dialled it; None for an address or another endpoint.
        """
        shown = self._why_not(origin, certificate, 0.0)
        if name is None:
            known, now = self._known.get(origin), self._wall_clock()
            return None if known is not None and known.since <= now <= known.until else shown
        return shown or _why_not_named(certificate, name, id_of(origin).decode())

    def may_speak(self, origin: bytes, certificate: bytes) -> bool:
        """Whether messages of the author *origin*, whose record shows *certificate*, are taken."""
        return self._why_not(origin, certificate, self._kept_for) is None

    def some_have_ended(self) -> bool:
        """Whether a certificate has expired since this was last asked, and no newer one was shown."""
        before, now = self._looked, self._wall_clock()
        self._looked = now
        if before <= now <= self._next_end:
            return False
        ends = [end for known in self._known.values() for end in self._ends(known)]
        self._next_end = min(
            (end for end in ends if end >= now), default=inf
        )  # the clock may have been set back
        return any(before <= end < now for end in ends)

    def warning(self, path: Path) -> str | None:
        """What to do about the certificate of this node, which is in *path*; None for nothing."""
        now, day = self._wall_clock(), _day(self.until)
        if now > self.until:
            return f"{self._ending} {path} has expired on {day}, so no node links: have a new one made"
        if now > self.until - WARNED:
            return f"{self._ending} {path} expires on {day}: have a new one made, and put it in its place"
        return None

    def _why_not(self, origin: bytes, certificate: bytes, late: float) -> str | None:
        """Why *certificate* is not good for *origin*; it may have expired so many seconds ago."""
        name = id_of(origin).decode()
        if not certificate:
            return f"{name} shows no certificate of the mesh's CA: have one made for its key"
        now, digest = self._wall_clock(), hashlib.sha256(certificate).digest()
        known = self._known.get(origin)
        if known is not None and known.digest == digest and known.since <= now <= known.until + late:
            self._known.move_to_end(origin)
            return None
        try:
            found = x509.load_der_x509_certificate(certificate)
            if (key := origin_of(found)) != origin:
                raise TrustError(
                    f"is of the key of {id_of(key).decode()}: each node has one of its own key"
                )
            verified = self._check(found, now, late)
        except TrustError as error:
            return f"the certificate that {name} shows {error}"
        except Exception:  # as in why_strange()
            return f"{name} shows a damaged certificate: have one made for its key"
        if known is None or verified.until >= known.until:
            self._keep(origin, verified, now)
        return None

    def _keep(self, origin: bytes, verified: _Verified, now: float) -> None:
        self._known[origin] = verified
        self._known.move_to_end(origin)
        self._next_end = min([self._next_end, *(end for end in self._ends(verified) if end >= now)])
        if len(self._known) > CERTIFICATES_KEPT:
            self._known.popitem(last=False)

    def _ends(self, known: _Verified) -> tuple[float, float]:
        """When a node may link no more, and when no messages of it are taken any more."""
        return known.until, known.until + self._kept_for

    def _check(self, certificate: x509.Certificate, now: float, late: float) -> _Verified:
        """Check that *certificate*, of the key of a node, is good for it, or was *late* seconds ago.

        :raises TrustError: it is not; the text goes on after the words "the certificate".
        """
        _check_use(certificate)
        verified = _verified(certificate, certificate)
        if now < verified.since:
            raise TrustError(f"is not valid before {_day(verified.since)}: is a clock wrong?")
        if now > verified.until + late:
            raise TrustError(f"has expired on {_day(verified.until)}: have a new one made")
        if not (issued := self._issued(certificate)):
            raise TrustError("is not of the CA of this mesh")
        valid = [each for each in issued if each.since <= now <= each.until + late]
        if not valid:
            raise TrustError("is of a CA that has expired, or is not valid yet: name its new certificate")
        return max(valid, key=lambda each: each.until)

    def _issued(self, certificate: x509.Certificate) -> list[_Verified]:
        """*certificate* by each certificate of the CA that has signed it: an old and a new one can have."""
        return [_verified(certificate, ca) for ca in self._cas if _has_signed(ca, certificate)]


def _verified(certificate: x509.Certificate, ca: x509.Certificate) -> _Verified:
    """*certificate*, and when both it and *ca* are valid."""
    return _Verified(
        certificate.fingerprint(hashes.SHA256()),
        max(one.not_valid_before_utc for one in (certificate, ca)).timestamp(),
        min(one.not_valid_after_utc for one in (certificate, ca)).timestamp(),
    )


def _has_signed(ca: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _check_use(certificate: x509.Certificate) -> None:
    """Check that *certificate* is for TLS, and not for signing others.

    :raises TrustError: it is not; the text as of :meth:`Certificates._check`.
    """
    if isinstance(certificate.signature_hash_algorithm, hashes.SHA1 | hashes.MD5):
        raise TrustError("is signed with a weak hash: have one made with SHA-256")
    for extension in certificate.extensions:
        match extension.value:
            case x509.ExtendedKeyUsage() as usages if not _BOTH.issubset(usages):
                why = "have one made for serverAuth and clientAuth"
                raise TrustError(f"is not for TLS in both directions: {why}")
            case x509.KeyUsage(digital_signature=False):
                raise TrustError("is not for signatures: have one made for digitalSignature")
            case x509.BasicConstraints(ca=True):
                raise TrustError("is of a CA: have one made for a node")
        if extension.critical and not isinstance(extension.value, _UNDERSTOOD):
            oid = extension.oid.dotted_string
            raise TrustError(f"has the critical extension {oid}, which is unknown: have one made without")


def origin_of(certificate: x509.Certificate) -> bytes:
    """The key of the node that *certificate* is for.

    :raises TrustError: the key is none of a node; the text goes on after the words "the certificate".
    """
    key = certificate.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise TrustError(
            "is not of an Ed25519 key, as a node has: have one made for the key of the identity"
        )
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def read_certificates(
    ca: Path, own: Path, wall_clock: Callable[[], float], kept_for: float
) -> Certificates:
    """The CA in the file *ca*, with the first certificate in the file *own*.

    :raises TrustError: a file cannot be used; the text says what to do about it.
    """
    cas = _read(ca, _CA)
    if len(cas) > MAX_CAS:
        raise TrustError(
            f"{_CA} {ca} has {len(cas)}: whoever has a certificate of one of them would belong to the "
            f"mesh; name a file with those of its own CA, {MAX_CAS} at most"
        )
    if len(set(cas)) < len(cas):
        raise TrustError(f"{_CA} {ca} has the same certificate twice: take one of them out")
    try:
        for found in cas:
            _check_ca(found, ca)
        first, *behind = _read(own, _OWN)
        if any(each.public_key() == first.public_key() for each in behind):
            raise TrustError(f"{_OWN} {own} has several of the same key: keep the newest")
        if (size := len(first.public_bytes(Encoding.DER))) > MAX_CERTIFICATE:
            raise TrustError(
                f"{_OWN} {own} has {size} bytes, and a record has room for {MAX_CERTIFICATE}: have one "
                "made with fewer extensions, or by a CA with a smaller key"
            )
        try:
            return Certificates(cas, first, wall_clock, kept_for)
        except TrustError as error:
            raise TrustError(f"{_OWN} {own} {error}") from None
    except TrustError:
        raise
    except Exception:  # as in Certificates.why_strange()
        raise TrustError(f"{_CA} {ca} or {_OWN} {own} is damaged: name the right files") from None


def check_own(path: Path, certificates: Certificates, id: bytes) -> None:
    """Check that a node's certificate, in *path*, is of its key; :raises TrustError: it is not."""
    if (other := id_of(certificates.origin)) != id:
        raise TrustError(
            f"{_OWN} {path} is of the key of {other.decode()}, and this node is {id.decode()}: have one "
            "made for the key in its identity, or name the identity with that key"
        )


def _read(path: Path, kind: str) -> list[x509.Certificate]:
    data, _ = read_bytes(path, kind, stat.S_IWGRP | stat.S_IWOTH, "go-w")
    if _PRIVATE in data:
        raise TrustError(
            f"{kind} {path} has a private key, too: leave that in its own file, which has mode 0600"
        )
    try:
        return x509.load_pem_x509_certificates(data)
    except (ValueError, x509.InvalidVersion):
        why = "holds no certificate in PEM: name the right file, or convert it (openssl x509 -inform DER)"
        raise TrustError(f"{kind} {path} {why}") from None


def _check_ca(certificate: x509.Certificate, path: Path) -> None:
    """Check that *certificate*, of the file *path*, is one of a CA; :raises TrustError: it is not."""
    is_ca = is_barred = False
    for extension in certificate.extensions:
        match extension.value:
            case x509.BasicConstraints(ca=ca):
                is_ca = ca
            case x509.KeyUsage(key_cert_sign=usage):
                is_barred = not usage
            case x509.NameConstraints():
                why = "has name constraints, which are not checked: name another CA"
                raise TrustError(f"{_CA} {path} {why}")
    if not is_ca or is_barred:
        raise TrustError(f"{_CA} {path} is of no CA: name the file of the one that signs for the nodes")


def _why_not_named(certificate: bytes, name: str, node: str) -> str | None:
    """Why the node whose good *certificate* it is does not have the name by which it was dialled."""
    found = x509.load_der_x509_certificate(certificate)
    try:
        verify_certificate_hostname(found, name)
    except Exception:  # of service_identity, or of a parser of names that somebody has made up
        why = "dial a name that it has, or the address"
        return f"the certificate that {node} shows is not for the name {name}: {why}"
    return None


def _day(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")
