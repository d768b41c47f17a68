"""The handshake of one connection: KNOCK if there is a secret, greeting, INTRO, PROOF, from both sides.

Contract: :meth:`Handshake.receive` takes the payload of each frame until :attr:`Handshake.peer` is set.  It
returns the bytes to answer with, and raises :class:`~twisted_mesh.errors.RemoteError` to refuse the peer.

The order of frames::

    acceptor                          dialler
    greeting            ------>
                        <------       greeting, INTRO
    INTRO               ------>
                        <------       PROOF
    PROOF               ------>

If the nodes of the mesh share a secret, a KNOCK of each side comes first, the dialler's before the
acceptor's.  It proves the secret over the exporter of the TLS session, so no other session can use it.  An
end that gets no right KNOCK closes the connection, and says nothing: a scanner does not learn that a node
of a mesh is there.

If the mesh has an authority, each side shows its GRANT just before its PROOF, which proves the key that the
grant is for.  If it has a CA, each side shows its CERTIFICATE there, too.

The dialler waits for the greeting, so that it sends only a BYE to a node of another network.  It proves
its key first, so that a scanner gets nothing signed.  A PROOF signs its sender's side, all bytes that both
sides sent up to the end of their INTROs, and under TLS the exporter of the session (RFC 9266).  So a PROOF
is false if it is replayed (other nonces), reflected (other side) or relayed (other session).  Its MAC, of
the same text, shows the network's key: anybody can repeat the greeting's hash of the network's name.

A greeting with this node's id comes from this node itself, or from another node with its key.  The nonce in
INTRO tells which: if this node made it, the node has dialled itself.  Another node goes on to its PROOF,
which shows that it has the key, but it does not become a peer.
"""

from __future__ import annotations

import hashlib
import hmac
import typing
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from enum import Enum
from math import inf
from typing import Final, TypeVar, assert_never

import msgspec

from twisted_mesh.errors import (
    EncryptionMismatch,
    IdentityMismatch,
    NotAMember,
    Reason,
    RemoteError,
    SelfConnection,
    SubnetMismatch,
)
from twisted_mesh.identity import id_of
from twisted_mesh.network import EVERYBODY, LinkSecret, Policy, Protocol
from twisted_mesh.wire import codec
from twisted_mesh.wire import greeting as greetings
from twisted_mesh.wire.authority import Grant, grant_of
from twisted_mesh.wire.framing import frame
from twisted_mesh.wire.greeting import Address, Greeting
from twisted_mesh.wire.link import Bye, Certificate, Intro, Knock, Proof
from twisted_mesh.wire.membership import Purpose, Role

NONCE_BYTES: Final = 32
FRESH_BYTES: Final = NONCE_BYTES // 2  # the random bytes of a nonce: enough to make each unique
_PROOF_DOMAIN: Final = b"twisted_mesh/1/proof"  # before the text that PROOF signs, and before no other text
_KNOCK_DOMAIN: Final = b"twisted_mesh/1/knock"  # before the text of a KNOCK's MAC, and no other text
_OTHER_NETWORK: Final = "another subnet, or trust by other means"  # for the peer, too: it must name neither
_TLS_RECORD: Final = b"\x16\x03"  # a ClientHello's first bytes, any version

_Word = TypeVar("_Word", Role, Purpose)
Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes, bytes], bool]


class Side(Enum):
    """An end of a connection; a PROOF signs the value of its sender's side."""

    DIALLER = b"dialler"
    ACCEPTOR = b"acceptor"

    @property
    def other(self) -> Side:
        """The side of the far end."""
        return Side.ACCEPTOR if self is Side.DIALLER else Side.DIALLER


class Stage(Enum):
    """The frame that the peer must send next."""

    KNOCK = "KNOCK"
    GREETING = "greeting"
    INTRO = "INTRO"
    PROOF = "PROOF"
    DONE = "done"


class Profile(msgspec.Struct, frozen=True):
    """The part of a node's description that the application chooses."""

    role: Role = Role.MEMBER
    label: str | None = None  # a text that is shown to people; *label* and *tags* are sent in PRESENCE
    tags: dict[str, str] = {}
    overlay: bool = False  # whether the node looks for neighbours by itself
    replay: int = 0  # seconds: the past messages that the node wants delivered, as in INTRO


class SealingKeys(typing.Protocol):
    """The keys of one run with which others seal direct messages to it.

    The core has neither ciphers nor randomness: the driver's are ``runtime.sealing.HpkeKeys``.
    """

    def __len__(self) -> int:
        """How many keys of texts for others and of others are remembered."""

    def renew(self) -> bytes:
        """Make a new key, and forget all but the one before it.

        :return: its public half, 32 bytes.
        """

    def encrypt(self, text: bytes, key: bytes, context: bytes) -> bytes | None:
        """Seal *text* so that only the owner of *key* can open it; None if *key* is no key.

        :param key: the public half of another node's key.
        :param context: the seal is bound to these bytes.
        """

    def decrypt(self, sealed: bytes, context: bytes) -> bytes | None:
        """The text that was sealed with one of these keys and *context*; None if none of them opens it."""


class LocalNode(msgspec.Struct, frozen=True):
    """The description of this node in one run: its key, and the values that it sends to others."""

    id: bytes
    origin: bytes
    epoch: int
    network: Protocol
    address: Address | None  # the address at which others can dial it; None for none
    settled: bool  # whether it has a base (docs/protocol.rst, Joining)
    sign: Sign  # makes the signature of a text; *verify* checks one
    verify: Verify
    sealing: SealingKeys
    profile: Profile = Profile()
    retention: int = 0  # the seconds for which it holds messages for others, as in PRESENCE
    ephemeral: bool = False  # whether its key was made for this run alone
    #: Epochs of its earlier runs, each with the seconds for which others may hold messages of it.  Epoch 0
    #: stands for all runs of which the node knows nothing.
    earlier: tuple[tuple[int, float], ...] = ((0, inf),)
    policy: Policy = EVERYBODY  # who may link with it, and whose messages it takes

    @property
    def network_id(self) -> bytes:
        """The protocol id of its network, as in the greeting."""
        return self.network.id_with(self.policy.mode)


class Peer(msgspec.Struct, frozen=True):
    """The node at the far end of a link, which has proven its key."""

    id: bytes
    origin: bytes
    epoch: int
    address: Address | None
    settled: bool  # *settled* and the fields below are as in the peer's INTRO
    replay: int = 0
    role: Role = Role.MEMBER
    purpose: Purpose = Purpose.JOIN
    secret: bytes = b""  # the id of the secret by which both ends have proven themselves; empty for none
    grant: bytes = b""  # that it has shown; empty for none
    certificate: bytes = b""  # the same

    def why_not(self, policy: Policy, name: str | None = None) -> str | None:
        """Why it may not link with a node of *policy*; None if it may.

        :param name: the name by which that node has dialled it; None where there is none to check.
        """
        is_guest = self.role is Role.GUEST
        return (
            policy.may_link(self.origin, self.secret)
            or policy.why_not_granted(self.origin, self.grant, is_guest)
            or policy.why_not_certified(self.origin, self.certificate, name)
        )


class Nonces:
    """Makes the nonces of one node, and recognises them later without a table."""

    def __init__(self, secret: bytes) -> None:
        """:param secret: 32 random bytes that never leave the node."""
        self._secret = secret

    def make(self, fresh: bytes) -> bytes:
        """A nonce made of :data:`FRESH_BYTES` random bytes that were never used before."""
        return fresh + self._mark(fresh)

    def is_own(self, nonce: bytes) -> bool:
        """Whether this node has made *nonce*."""
        return nonce[FRESH_BYTES:] == self._mark(nonce[:FRESH_BYTES])

    def _mark(self, fresh: bytes) -> bytes:
        return hashlib.blake2b(fresh, digest_size=NONCE_BYTES - FRESH_BYTES, key=self._secret).digest()


@dataclass(eq=False)
class Handshake:
    """The handshake of one connection.

    :ivar purpose: the purpose of the link that this end sends; only the dialler's purpose counts.
    :ivar name: the host name that this node has dialled; None for an address or another endpoint.
    :ivar is_own: tells whether this node has made a nonce (:meth:`Nonces.is_own`).
    :ivar refusal: the error to refuse any peer of this network with; None to accept peers.
    :ivar peer: the node at the far end, once it has proven its key, which can also be this node's.
    """

    side: Side
    local_node: LocalNode
    _: KW_ONLY
    nonce: bytes  # 32 bytes, never used before (:meth:`Nonces.make`)
    time: int  # the wall clock, in whole seconds since 1970
    expected: bytes | None = None  # the id that the peer must have; None if it may have any
    purpose: Purpose = Purpose.JOIN
    name: str | None = None
    is_own: Callable[[bytes], bool] = lambda nonce: False
    stage: Stage = Stage.GREETING  # the frame that the peer must send next
    refusal: RemoteError | None = None
    greeting: Greeting | None = None  # the peer's greeting, once it has come
    peer: Peer | None = None
    _sent: bytes = b""
    _received: bytes = b""
    _intro: Intro | None = None
    _secret: LinkSecret | None = None  # the secret of the KNOCK that was sent, or accepted
    _grant: bytes | None = None  # that the peer has shown
    _certificate: bytes | None = None  # the same

    def __post_init__(self) -> None:
        if self.local_node.policy.secrets:
            self.stage = Stage.KNOCK

    @property
    def said_settled(self) -> bool:
        """Whether this node's INTRO says that it is settled."""
        return self.local_node.settled

    @property
    def awaits_greeting(self) -> bool:
        """Whether the peer, which this node has dialled, must greet first."""
        return self.side is Side.DIALLER and self.stage is Stage.GREETING

    @property
    def awaits_knock(self) -> bool:
        """Whether the peer, which has dialled, must send its KNOCK."""
        return self.side is Side.ACCEPTOR and self.stage is Stage.KNOCK

    @property
    def has_knocked(self) -> bool:
        """Whether this node, which has dialled, has sent its KNOCK."""
        return self.side is Side.DIALLER and self._secret is not None

    def start(self) -> bytes:
        """The first bytes to send: an acceptor's greeting, if there is no secret; else none."""
        return self._greet() if (self.side, self.stage) == (Side.ACCEPTOR, Stage.GREETING) else b""

    def session_made(self, exporter: Callable[[], bytes]) -> bytes:
        """Take in that there is a TLS session; return the bytes to send: a dialler's KNOCK."""
        if self.side is Side.ACCEPTOR or self.stage is not Stage.KNOCK:
            return b""
        self._secret = self.local_node.policy.secrets[0]
        return self._note(codec.encode(Knock(self._secret.knock(_knock_text(self.side, exporter)))))

    def receive(self, payload: bytes, exporter: Callable[[], bytes]) -> bytes:
        """Take in the *payload* of the next frame; return the bytes to answer with.

        :param exporter: returns 32 bytes bound to the TLS session, or none for plain text.
        :raises RemoteError: the peer is refused; :meth:`farewell` returns the last bytes for it.
        """
        match self.stage:
            case Stage.KNOCK:
                return self._on_knock(payload, exporter)
            case Stage.GREETING:
                return self._on_greeting(payload)
            case Stage.INTRO:
                return self._on_intro(payload, exporter)
            case Stage.PROOF:
                return self._on_proof(payload, exporter)
            case Stage.DONE:
                raise AssertionError("a handshake that is over was fed")
            case _:
                assert_never(self.stage)

    def farewell(self, reason: Reason, detail: str) -> bytes:
        """The last bytes for a peer that is refused: a BYE with the reason.

        The BYE has no detail unless the peer has shown that it is of the same subnet.  A peer that has not
        shown that it knows the secret gets no BYE.
        """
        if self.stage is Stage.KNOCK:
            return b""
        if self.greeting is not None and not self.greeting.native:
            return b""  # a peer of another network would take a BYE for damaged bytes
        if self.stage is Stage.GREETING and reason is not Reason.SUBNET:
            detail = ""
        return codec.encode(Bye(reason.value, detail))

    def not_a_frame(self, opening: bytes, error: RemoteError) -> RemoteError:
        """*error*, or EncryptionMismatch if the connection began with the first bytes of TLS."""
        if self.stage is Stage.GREETING and opening.startswith(_TLS_RECORD):
            return EncryptionMismatch("the peer speaks TLS, this node plain text")
        return error

    def why_lost(self, error: RemoteError) -> RemoteError:
        """*error*, by which the connection was lost; or what it means that the peer closed at a KNOCK."""
        if self.stage is Stage.KNOCK and self.has_knocked and error.reason is not Reason.TRUST:
            return NotAMember("closed at our knock: the secret differs, or it is no node of this mesh")
        return error

    def _greet(self) -> bytes:
        me = self.local_node
        return self._note(greetings.encode(Greeting(me.id, me.network_id, me.address, True, self.time)))

    def _introduce(self) -> bytes:
        me = self.local_node
        role, replay = me.profile.role, me.profile.replay
        intro = Intro(
            codec.VERSION, me.epoch, role, me.settled, me.origin, self.nonce, self.purpose, replay
        )
        return self._note(codec.encode(intro))

    def _note(self, data: bytes) -> bytes:
        self._sent += data
        return data

    def _on_knock(self, payload: bytes, exporter: Callable[[], bytes]) -> bytes:
        known = self.local_node.policy.secrets if self._secret is None else (self._secret,)
        try:
            knock = codec.decode(payload)
        except RemoteError:
            knock = None
        text = _knock_text(self.side.other, exporter)
        right = [
            secret
            for secret in known
            if isinstance(knock, Knock) and hmac.compare_digest(secret.knock(text), knock.mac)
        ]
        if not right:
            if self.side is Side.ACCEPTOR:
                raise NotAMember("no right knock: the peer has another secret, or is a stranger")
            raise NotAMember("the node there does not know the secret of this mesh")
        self._received += frame(payload)
        self.stage = Stage.GREETING
        if self.side is Side.DIALLER:
            return b""
        self._secret = right[0]
        return self._note(codec.encode(Knock(self._secret.knock(_knock_text(self.side, exporter))))) + (
            self._greet()
        )

    def _on_greeting(self, payload: bytes) -> bytes:
        greeting = self.greeting = self._read_greeting(payload)
        self._received += frame(payload)
        me = self.local_node
        if greeting.protocol_id != me.network_id:
            raise SubnetMismatch(_OTHER_NETWORK)
        if not greeting.native:  # a peer of an older protocol would be served here: there is none
            raise RemoteError("the peer is a py2p node", Reason.GREETING)
        if self.refusal is not None:
            raise self.refusal
        # If the greeting has this node's own id, INTRO explains it, whatever id is expected.
        if greeting.id != me.id and self.expected not in (None, greeting.id):
            found, expected = (id.decode(errors="replace") for id in (greeting.id, self.expected or b""))
            raise IdentityMismatch(f"the node there is {found}, not {expected}")
        self.stage = Stage.INTRO
        hello = self._greet() if self.side is Side.DIALLER else b""
        return hello + self._introduce()

    def _read_greeting(self, payload: bytes) -> Greeting:
        try:
            return greetings.decode(payload)
        except RemoteError as error:
            # A dialler that refuses this node's greeting sends a BYE instead of a greeting.
            refusal = _refusal_in(payload) if self.side is Side.ACCEPTOR else None
            raise refusal or error from None

    def _on_intro(self, payload: bytes, exporter: Callable[[], bytes]) -> bytes:
        intro = codec.decode(payload)
        if not isinstance(intro, Intro):
            raise self._out_of_order(intro)
        if intro.version != codec.VERSION:
            raise RemoteError(
                f"the peer speaks version {intro.version}, this node {codec.VERSION}", Reason.VERSION
            )
        assert self.greeting is not None
        if id_of(intro.public_key) != self.greeting.id:
            raise IdentityMismatch("the peer's id is not the one of its key")
        if intro.nonce == self.nonce or self.is_own(intro.nonce):
            raise SelfConnection("the address leads back to this node")
        self._intro = intro
        self._received += frame(payload)
        self.stage = Stage.PROOF
        return self._prove(exporter) if self.side is Side.DIALLER else b""

    def _prove(self, exporter: Callable[[], bytes]) -> bytes:
        text, policy = self._proof_text(self.side, exporter), self.local_node.policy
        shown = codec.encode(grant_of(policy.grant)) if policy.needs_grants else b""
        if policy.certificate:
            shown += codec.encode(Certificate(policy.certificate))
        return shown + codec.encode(Proof(self.local_node.sign(text), self._mac(text)))

    def _proof_text(self, side: Side, exporter: Callable[[], bytes]) -> bytes:
        ways = (self._sent, self._received)
        dialler, acceptor = ways if self.side is Side.DIALLER else reversed(ways)
        transcript = hashlib.sha256()
        for part in (dialler, acceptor, exporter()):
            transcript.update(len(part).to_bytes(8, "big") + part)
        return _PROOF_DOMAIN + side.value + transcript.digest()

    def _mac(self, text: bytes) -> bytes:
        if self._secret is not None:
            return self._secret.proof(text)
        me = self.local_node
        return hmac.digest(me.network.key_with(me.policy.mode), text, "sha256")

    def _on_proof(self, payload: bytes, exporter: Callable[[], bytes]) -> bytes:
        proof, policy = codec.decode(payload), self.local_node.policy
        if isinstance(proof, Grant) and policy.needs_grants and self._grant is None:
            self._grant = proof.packed
            return b""
        if isinstance(proof, Certificate) and policy.certificate and self._certificate is None:
            self._certificate = proof.certificate
            return b""
        if not isinstance(proof, Proof):
            raise self._out_of_order(proof)
        assert self._intro is not None and self.greeting is not None
        intro, text = self._intro, self._proof_text(self.side.other, exporter)
        if not self.local_node.verify(intro.public_key, proof.signature, text):
            raise RemoteError("the proof of the peer's key is false", Reason.PROOF)
        if not hmac.compare_digest(proof.mac, self._mac(text)):
            raise SubnetMismatch(_OTHER_NETWORK)
        peer = Peer(
            self.greeting.id,
            intro.public_key,
            intro.epoch,
            self.greeting.address,
            intro.settled,
            intro.replay,
            _known(Role, intro.role),
            _known(Purpose, intro.purpose),
            b"" if self._secret is None else self._secret.id,
            self._grant or b"",
            self._certificate or b"",
        )
        why = peer.why_not(policy, self.name)
        if why is not None and peer.id != self.local_node.id:  # else it is refused for its key
            raise NotAMember(why)
        self.stage, self.peer = Stage.DONE, peer
        return self._prove(exporter) if self.side is Side.ACCEPTOR else b""

    def _out_of_order(self, got: codec.Frame) -> RemoteError:
        if isinstance(got, Bye):
            return error_of(got)
        return RemoteError(f"{type(got).__name__} where {self.stage.value} was expected", Reason.ORDER)


def _known(kind: type[_Word], number: int) -> _Word:
    """*number* as a member of *kind*; a number of a later version counts as 0."""
    try:
        return kind(number)
    except ValueError:
        return kind(0)


def _knock_text(side: Side, exporter: Callable[[], bytes]) -> bytes:
    return _KNOCK_DOMAIN + side.value + exporter()


def _refusal_in(payload: bytes) -> RemoteError | None:
    """The error in the first frame of a peer, if it is a BYE or a KNOCK and no greeting."""
    try:
        first = codec.decode(payload)
    except RemoteError:
        return None
    match first:
        case Bye():
            return error_of(first)
        case Knock():
            return NotAMember("the peer knocks, and this node has no secret")
        case _:
            return None


def error_of(bye: Bye) -> RemoteError:
    """The error with the reason and the text of a peer's BYE."""
    try:
        reason = Reason(bye.reason)
    except ValueError:  # a reason of a later version
        reason = Reason.LOST
    # The text is logged, and must not look like another line of the log.
    detail = "".join(c if c.isprintable() else "?" for c in bye.detail or bye.reason)
    return RemoteError.of(reason, f"the peer closed: {detail}")
