"""Keys of simulated nodes: real ones, and a stand-in that costs a hundredth.

Contract: 32 bytes make an origin, what signs for it, and what verifies for anyone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from twisted_mesh.core.handshake import Sign, Verify
from twisted_mesh.identity import Identity, verify

Keys = Callable[[bytes], tuple[bytes, Sign, Verify]]


def real_keys(seed: bytes) -> tuple[bytes, Sign, Verify]:
    """Ed25519 from 32 bytes."""
    identity = Identity(Ed25519PrivateKey.from_private_bytes(seed))
    return identity.origin, identity.sign, verify


def stand_in(seed: bytes) -> tuple[bytes, Sign, Verify]:
    """Signing and verifying at a hundredth of the cost; wrong where a real one is, but forgeable."""

    def sign(data: bytes) -> bytes:
        return hashlib.sha256(seed + data).digest() * 2  # as long as a real one

    def check(origin: bytes, signature: bytes, data: bytes) -> bool:
        return hashlib.sha256(origin + data).digest() * 2 == signature

    return seed, sign, check
