"""Which network a node belongs to: a subnet's name and an encryption.

Contract: only nodes whose :class:`Protocol` is equal connect.  Pure.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

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
        """The protocol id in the greeting: a SHA-256, taken as an integer, in base58."""
        text = f"{self.subnet}{self.encryption}{_WIRE_VERSION}"
        digest = hashlib.sha256(text.encode()).digest()
        return base58.b58encode_int(int.from_bytes(digest, "big"))

    @property
    def key(self) -> bytes:
        """32 bytes made from the name; by the frame PROOF, a node proves that it knows them."""
        subnet = self.subnet.encode()
        size = len(subnet).to_bytes(8, "big")
        return hashlib.sha256(b"twisted_mesh/1/network" + size + subnet + self.encryption.encode()).digest()

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
