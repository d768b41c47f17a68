"""A certificate authority (CA) for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

DAY = 86_400.0
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)

#: Extensions at which a parser of certificates fails in ways of its own: TLS features (RFC 7633) that are
#: unknown, or no numbers.
ODD = [
    x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.5.5.7.1.24"), features)
    for features in (b"\x30\x03\x02\x01\x63", b"\x30\x02\x30\x00")
]


class CertificateAuthority:
    """A CA, which another one may have signed.

    :ivar certificate: its own.
    :ivar hash: with which it signs; None for a key that needs none.
    """

    def __init__(
        self,
        name: str,
        since: float = 0.0,
        until: float = 60_000 * DAY,
        above: CertificateAuthority | None = None,
        key: Ed25519PrivateKey | None = None,
    ) -> None:
        """:param since: when its certificate begins, in seconds since 1970, and *until* when it ends."""
        self.key: Any = key or Ed25519PrivateKey.generate()
        self.hash: hashes.HashAlgorithm | None = None
        self._name = _named(name)
        self.certificate: x509.Certificate = (above or self).sign(
            self._name, self.key.public_key(), since, until, is_ca=True
        )

    def sign(
        self,
        name: x509.Name,
        key: Any,
        since: float,
        until: float,
        *,
        is_ca: bool = False,
        extensions: Iterable[x509.ExtensionType] = (),
        are_critical: bool = False,
    ) -> x509.Certificate:
        """A certificate of *key*."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(7)
            .not_valid_before(datetime.fromtimestamp(since, UTC))
            .not_valid_after(datetime.fromtimestamp(until, UTC))
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=are_critical)
        return builder.sign(self.key, self.hash)

    def certify(
        self,
        origin: bytes,
        since: float = 0.0,
        until: float = 1_000 * DAY,
        names: Sequence[str] = (),
        usages: Sequence[x509.ObjectIdentifier] = BOTH,
    ) -> x509.Certificate:
        """A certificate of the node with the key *origin*."""
        extensions: list[x509.ExtensionType] = [x509.ExtendedKeyUsage(usages)]
        if names:
            extensions.append(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]))
        key = Ed25519PublicKey.from_public_bytes(origin)
        return self.sign(_named("a node"), key, since, until, extensions=extensions)


def pem(*certificates: x509.Certificate) -> bytes:
    """The content of a file with *certificates*."""
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def der(certificate: x509.Certificate) -> bytes:
    """*certificate* as nodes show it."""
    return certificate.public_bytes(Encoding.DER)


def write(path: Path, content: bytes) -> Path:
    """Write a file that others can read."""
    path.write_bytes(content)
    path.chmod(0o644)
    return path


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
