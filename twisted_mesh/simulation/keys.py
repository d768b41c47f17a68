"""Keys of simulated nodes: Ed25519, or a stand-in that takes a hundredth of the time.

Contract: from a seed of 32 bytes, :data:`Keys` makes a node's origin, the function that signs with its key,
and a function that verifies the signatures of every node.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from twisted_mesh.core.handshake import Sign, Verify
from twisted_mesh.identity import Identity, verify

Keys = Callable[[bytes], tuple[bytes, Sign, Verify]]


def real_keys(seed: bytes) -> tuple[bytes, Sign, Verify]:
    """An Ed25519 key."""
    identity = Identity(Ed25519PrivateKey.from_private_bytes(seed))
    return identity.origin, identity.sign, verify


def stand_in(seed: bytes) -> tuple[bytes, Sign, Verify]:
    """A key whose signatures are hashes: fast, and refused if the text is another, but easy to forge."""

    def sign(data: bytes) -> bytes:
        return hashlib.sha256(seed + data).digest() * 2  # as long as a signature of Ed25519

    def check(origin: bytes, signature: bytes, data: bytes) -> bool:
        return hashlib.sha256(origin + data).digest() * 2 == signature

    return seed, sign, check
