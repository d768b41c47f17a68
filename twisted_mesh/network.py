"""Which network a node belongs to, and who belongs to that network.

Contract: only nodes whose :class:`Protocol` is equal connect.  A :class:`Policy` answers whether a node may
link, and whether an author may speak.  Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from typing import Protocol as Interface

import base58

from twisted_mesh.errors import LocalError

SSL: Final = "SSL"
PLAINTEXT: Final = "Plaintext"
_WIRE_VERSION: Final = "0.7"  # the version of py2p whose greeting this package sends


class Protocol(NamedTuple):
    """The name of a network.

    :ivar subnet: any text; nodes of different subnets refuse each other.
    :ivar encryption: ``"SSL"`` (TLS 1.3) or ``"Plaintext"``.
    """

    subnet: str = "mesh"
    encryption: str = SSL

    @property
    def id(self) -> bytes:
        """The protocol id in the greeting, if everybody may join: a SHA-256 as an integer in base58."""
        return self.id_with("")

    def id_with(self, mode: str) -> bytes:
        """The protocol id if the nodes of the network must prove what *mode* says (:attr:`Policy.mode`)."""
        text = f"{self.subnet}{self.encryption}{_WIRE_VERSION}{mode}"
        digest = hashlib.sha256(text.encode()).digest()
        return base58.b58encode_int(int.from_bytes(digest, "big"))

    def key_with(self, mode: str) -> bytes:
        """32 bytes made from the name and *mode*; by PROOF, a node proves that it knows them."""
        subnet = self.subnet.encode()
        size = len(subnet).to_bytes(8, "big")
        rest = f"{self.encryption}{mode}".encode()
        return hashlib.sha256(b"twisted_mesh/1/network" + size + subnet + rest).digest()

    @property
    def encrypted(self) -> bool:
        """Whether links of this network are TLS."""
        return self.encryption == SSL

    def checked(self) -> Protocol:
        """This protocol, if a node can speak it.

        :raises LocalError: an unknown encryption, or a subnet that is no text.
        """
        if not isinstance(self.subnet, str):
            raise LocalError(f"subnet must be a str, not {type(self.subnet).__name__}")
        try:
            self.subnet.encode()
        except UnicodeEncodeError:
            raise LocalError(f"subnet must be Unicode text, not {self.subnet!r}") from None
        if self.encryption not in (SSL, PLAINTEXT):
            raise LocalError(f"encryption must be 'SSL' or 'Plaintext', not {self.encryption!r}")
        return self


#: Of a removed node, by epoch: the last message of the run that is taken, and the hash of the header there.
Cuts = Mapping[int, tuple[int, bytes]]
#: By the author's key, or none for all others: its batches and bytes a second; 0 for those of the config.
Quotas = Mapping[bytes, tuple[int, int]]


class LinkSecret(Interface):
    """A secret that both ends of a link know.

    :ivar id: 8 bytes, which tell nothing about the secret.
    """

    id: bytes

    def knock(self, text: bytes) -> bytes:
        """The MAC of *text* in a KNOCK: 32 bytes."""

    def proof(self, text: bytes) -> bytes:
        """The MAC of *text* in a PROOF: 32 bytes."""


class Policy:
    """Who belongs to a network: here everybody.  The room ``trust`` has other policies.

    :ivar mode: what its nodes must prove, as a part of the network's id; empty for nothing.
    :ivar told: who belongs to the network, for people.
    :ivar secrets: the secrets of which both ends of a link must know the same; the first is used by a node
        that dials.  Without any, no end knocks.
    :ivar grant: this node's grant, which it shows in each handshake; empty if the mesh has no authority.
    :ivar certificate: this node's X.509 certificate, which it shows there, too; empty if there is no CA.
    """

    mode: str = ""
    told: str = "everybody"
    secrets: Sequence[LinkSecret] = ()
    grant: bytes = b""
    certificate: bytes = b""

    @property
    def needs_credentials(self) -> bool:
        """Whether an author must show a credential, in its record of presence."""
        return bool(self.secrets)

    @property
    def needs_grants(self) -> bool:
        """Whether each end of a link must show a grant before its PROOF."""
        return bool(self.grant)

    def may_link(self, origin: bytes, secret: bytes) -> str | None:
        """Why the node with the key *origin* may not link with this one; None if it may.

        :param secret: the id of the secret by which the node has proven itself; empty without any.
        """
        return None

    def why_not_granted(self, origin: bytes, grant: bytes, is_guest: bool) -> str | None:
        """Why the node with the key *origin* may not link, as a guest or else a member; None if it may.

        :param grant: as it was shown in the handshake; empty for none.
        """
        return None

    def why_not_certified(self, origin: bytes, certificate: bytes, name: str | None = None) -> str | None:
        """Why the node with the key *origin* may not link by its X.509 certificate; None if it may.

        :param certificate: as it was shown in the handshake; empty for none.
        :param name: the name by which this node has dialled it, which the certificate must have; None
            where there is none to check.
        """
        return None

    def why_strange(self, certificate: bytes) -> str | None:
        """Why a peer whose TLS session shows *certificate* is none of the mesh; None if it may be one."""
        return None

    @property
    def warning(self) -> str | None:
        """What the people who run this node must do soon, so that it still belongs to the mesh."""
        return None

    @property
    def newest(self) -> bytes:
        """The newest policy that the mesh's authority has signed, packed; empty if none is known."""
        return b""

    @property
    def removed(self) -> Mapping[bytes, Cuts]:
        """The nodes that the authority has removed, by key, each with the ends of its runs."""
        return {}

    @property
    def quotas(self) -> Quotas:
        """What authors may publish, as the authority says, while another author waits for a node's time."""
        return {}

    def take(self, packed: bytes) -> bool:
        """Take in a policy of the mesh's authority, if it is newer; return whether it is.

        :raises RemoteError: the authority has not signed it.
        """
        return False

    def bars(self, origin: bytes) -> bool:
        """Whether nothing of the author *origin* is taken, whatever it shows."""
        return False

    def may_speak(self, origin: bytes, credential: bytes) -> bool:
        """Whether the author *origin*, whose record has *credential*, belongs to the mesh.

        :raises RemoteError: the credential is such that no honest node hands the record on.
        """
        return True

    def may_be(self, origin: bytes, is_guest: bool) -> bool:
        """Whether the author *origin*, which may speak, may be a guest or else a member."""
        return True

    def only_listens(self, origin: bytes) -> bool:
        """Whether no message of the author *origin* is taken, though it may be a member."""
        return False

    def vouches(self, origin: bytes) -> bool:
        """Whether a list, an authority or a CA names *origin*, so that it is no made-up author."""
        return False

    def fit(self, id: bytes, is_guest: bool, beside: Path | None = None) -> None:
        """Check that this policy is one for the node *id*, which is a guest or else a member.

        :param beside: the file of the node's key, beside which the newest policy of the authority is kept.
        :raises TrustError: it is not; the text says what to do about it.
        """

    @property
    def why_silent(self) -> str | None:
        """Why this node may send no message; None if it may."""
        return None

    def credential(self, origin: bytes) -> bytes:
        """The credential of this node, whose key is *origin*: empty if it needs none."""
        return b""

    def differs(self, credential: bytes) -> bytes:
        """Names the two sets of lists if those of the node with *credential* differ from this node's."""
        return b""

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {}


EVERYBODY: Final = Policy()
