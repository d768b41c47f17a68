"""TLS for links: throw-away certificates, and the bytes that bind a PROOF to its session.

Contract: links use TLS 1.3 and nothing older.  Each process makes a certificate, which no peer checks: the
frame PROOF proves a node's key, and is bound to the session by the session's exporter (RFC 9266).  If the
mesh has a certificate authority, both sides show their certificates of it in TLS, too, so that a stranger
gets no byte of a handshake.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Final, cast, runtime_checkable
from typing import Protocol as Interface

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, X509, dump_certificate
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    ISSLTransport,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.internet.tcp import Connection
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mesh.errors import NotAMember, Reason, RemoteError
from twisted_mesh.identity import Identity
from twisted_mesh.links.in_transit import Records
from twisted_mesh.network import EVERYBODY, Policy

EXPORTER_LABEL: Final = b"EXPORTER-Channel-Binding"  # RFC 9266
EXPORTER_BYTES: Final = 32
#: Bytes that a peer may send before its TLS session is made (guess: ten times what an honest peer sends).
HELLO_BYTES: Final = 8 * 1024
_LIFETIME: Final = timedelta(days=3650)


class Tls:
    """Adds TLS to the connections of one node."""

    def __init__(
        self, clock: IReactorTime, policy: Policy = EVERYBODY, identity: Identity | None = None
    ) -> None:
        """
        :param policy: of the node; :param identity: its key, which is needed if it shows a certificate.
        """
        self._clock = clock
        # Make the context now: if that failed in a connection creator, connect() would hang.
        if policy.certificate:
            assert identity is not None
            self._creator: _AnyPeer | _Certified = _Certified(policy, identity)
        else:
            self._creator = _AnyPeer(_throw_away().getContext())

    def factory(self, acceptor: IProtocolFactory) -> IProtocolFactory:
        """A factory that speaks TLS in front of *acceptor*."""
        return _Acceptor(self._creator, False, acceptor, clock=self._clock)

    def client(self, endpoint: IStreamClientEndpoint) -> IStreamClientEndpoint:
        return _Client(self._creator, endpoint, self._clock)


@runtime_checkable
class Begins(Interface):
    """A protocol that decides when the first bytes of its connection are read."""

    def begins(self, go_on: Callable[[], None]) -> bool: ...  # pragma: no cover


class Session(TLSMemoryBIOProtocol):
    """Twisted's TLS session, which here does not gather small writes: a link's queue has joined them.

    The records of one write go to the system at once (:func:`~twisted_mesh.links.in_transit.Records`), if
    a connection of Twisted is right below; transports of other kinds are left alone.

    If a peer has sent over :data:`HELLO_BYTES`, and there is no session, the connection is cut.

    :ivar read_bytes: bytes that have come so far, also of an incomplete record: over a slow line, a record
        of 16 KiB takes seconds.
    :ivar refusal: why the peer's certificate was refused; None if it was not.
    """

    read_bytes = 0
    refusal: str | None = None
    _is_made = False  # whether the session was seen to be made
    _records: Records | None = None

    def makeConnection(self, transport: ITransport) -> None:
        super().makeConnection(transport)
        if isinstance(transport, Connection):
            self._records = Records(transport)
            self.transport = cast(ITransport, self._records)

    def write(self, bytes: bytes) -> None:
        if (records := self._records) is None:
            super().write(bytes)
            return
        records.gathered = []
        try:
            super().write(bytes)
        finally:
            records.send()

    def dataReceived(self, bytes: bytes) -> None:
        self.read_bytes += len(bytes)
        if self._is_made:
            super().dataReceived(bytes)
        elif not isinstance(self.wrappedProtocol, Begins) or self.wrappedProtocol.begins(
            lambda: self._make(bytes)
        ):
            self._make(bytes)
        if getattr(self.transport, "disconnecting", False):
            # The session is over, by an error or by the peer.  A transport may wait for its producer.
            self.unregisterProducer()

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        """End the session because of *reason*, which forgets the stack frames in which it was raised.

        A frame of Twisted refers to *reason* and to this session: only the garbage collector would free
        them.
        """
        if reason is not None:
            reason.cleanFailure()
        super()._tlsShutdownFinished(reason)

    def _make(self, bytes: bytes) -> None:
        """Begin the session with its first *bytes*."""
        super().dataReceived(bytes)
        self._is_made = self.getHandle().get_peer_finished() is not None
        if self.read_bytes > HELLO_BYTES and not self._is_made:
            self.abortConnection()


class _Sessions(TLSMemoryBIOFactory):
    protocol = Session


@implementer(IStreamClientEndpoint)
@dataclass(eq=False)
class _Client:
    """An endpoint with TLS, as ``wrapClientTLS`` makes one."""

    creator: IOpenSSLClientConnectionCreator
    endpoint: IStreamClientEndpoint
    clock: IReactorTime

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect, and speak TLS in front of the protocol that *protocolFactory* makes."""
        factory = _Sessions(self.creator, True, protocolFactory, clock=self.clock)
        return self.endpoint.connect(factory).addCallback(attrgetter("wrappedProtocol"))


class _Acceptor(_Sessions):
    """Makes sessions for accepted connections, unless the factory behind it refuses a connection."""

    def buildProtocol(self, addr: IAddress | None) -> TLSMemoryBIOProtocol | None:  # type: ignore[override]
        acceptor = self.wrappedFactory.buildProtocol(addr)
        return None if acceptor is None else self.protocol(self, acceptor)


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
@dataclass(eq=False)
class _AnyPeer:
    """Accepts any certificate: PROOF tells which node the peer is."""

    context: SSL.Context

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return SSL.Connection(self.context, None)

    serverConnectionForTLS = clientConnectionForTLS


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class _Certified:
    """Shows this node's certificate, and accepts those that the policy takes, of this or any other node.

    The handshake decides whether a certificate is of the key that PROOF proves.
    """

    def __init__(self, policy: Policy, identity: Identity) -> None:
        self._policy = policy
        self._key = identity.private_key
        self._shown = b""  # the certificate that sessions of the context show
        self._context = self._made()

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        if self._shown != self._policy.certificate:  # it was read again, and is another one now
            self._context = self._made()
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(tlsProtocol)
        return connection

    serverConnectionForTLS = clientConnectionForTLS

    def _made(self) -> SSL.Context:
        self._shown = self._policy.certificate
        options = CertificateOptions(
            privateKey=self._key,  # type: ignore[arg-type]
            certificate=x509.load_der_x509_certificate(self._shown),  # type: ignore[arg-type]
            raiseMinimumTo=TLSVersion.TLSv1_3,
        )
        context: SSL.Context = options.getContext()
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._takes)
        return context

    def _takes(self, session: SSL.Connection, shown: X509, error: int, depth: int, ok: int) -> bool:
        """Called by OpenSSL for each certificate that the peer shows, the node's own last, at depth 0.

        OpenSSL knows no CA here, so that the policy alone decides, by its own clock.
        """
        if depth:
            return True
        # As bytes: what OpenSSL can read may be damaged for cryptography, and errors here end the session.
        refusal = self._policy.why_strange(dump_certificate(FILETYPE_ASN1, shown))
        session.get_app_data().refusal = refusal
        return refusal is None


def exporter(transport: object) -> bytes:
    """The 32 bytes that bind a PROOF to the session of *transport*; empty for plain text."""
    if not ISSLTransport.providedBy(transport):
        return b""
    connection = transport.getHandle()  # type: ignore[attr-defined]
    keyed: bytes = connection.export_keying_material(EXPORTER_LABEL, EXPORTER_BYTES)
    return keyed


def abort_unfinished(transport: object) -> None:
    """Cut *transport* if its TLS handshake is not over, since no BYE could be sent.

    Otherwise a peer that sends nothing would delay the end of a connection by ``close_timeout``.
    """
    if not isinstance(transport, TLSMemoryBIOProtocol) or (session := transport.getHandle()) is None:
        return  # the connection has ended if there is no session any more
    if session.get_peer_finished() is None:
        transport.abortConnection()


def failure_text(error: SSL.Error) -> str:
    """The reasons that OpenSSL gives for *error*."""
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(entry[-1] for entry in reasons if entry[-1]) or "the TLS session failed"


def why_no_session(transport: object, error: SSL.Error, is_certified: bool) -> RemoteError:
    """Why the connection of *transport*, over which no frame has come, ended with *error*.

    :param is_certified: whether this node shows a certificate of a CA.
    """
    if isinstance(transport, Session) and transport.refusal is not None:
        return NotAMember(transport.refusal)
    text = failure_text(error)
    if "did not return a certificate" in text:
        return NotAMember("the peer shows no certificate: it is a stranger, or a node that was given none")
    if "certificate" in text or "unknown ca" in text:
        if not is_certified:  # then it has shown one that nobody has signed
            return NotAMember("the node there wants a certificate of its mesh's CA, and this node has none")
        why = "is it of the CA of that mesh, and valid?"
        return NotAMember(f"the node there refuses the certificate of this node ({text}): {why}")
    return RemoteError.of(Reason.ENCRYPTION, f"no TLS session: {text}; is the other side Plaintext?")


@lru_cache(maxsize=1)  # without the cache, making a service would take twice as long (measured)
def _throw_away() -> CertificateOptions:
    """Make the key and the certificate of this process."""
    key = ec.generate_private_key(ec.SECP256R1())
    # A stranger, which gets this certificate, must not see that a mesh is here.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _LIFETIME)
        .sign(key, hashes.SHA256())
    )
    return CertificateOptions(
        # Twisted accepts these objects, though it is annotated for deprecated classes of pyOpenSSL.
        privateKey=key,  # type: ignore[arg-type]
        certificate=certificate,  # type: ignore[arg-type]
        raiseMinimumTo=TLSVersion.TLSv1_3,
    )
