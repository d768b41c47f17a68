"""Keys of simulated nodes: Ed25519, or a stand-in that takes a hundredth of the time.

Contract: from a seed of 32 bytes, :data:`Keys` makes a node's origin, the function that signs with its key,
and a function that verifies the signatures of every node.  :class:`StandInKeys` seals direct messages
without randomness, so that a seed gives the same frames each time.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from twisted_mesh.core.handshake import Sign, Verify
from twisted_mesh.identity import Identity, verify

_MARK: Final = 108  # bytes that a seal adds, as those of ``runtime.sealing`` do
_INVERTED: Final = bytes(range(255, -1, -1))  # each byte's complement

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


class StandInKeys:
    """Sealing keys (``SealingKeys``): a sealed text is not recognised, but anybody could open it."""

    def __init__(self, seed: bytes) -> None:
        """:param seed: the same seed makes the same keys."""
        self._seed = seed
        self._made = 0
        self._keys: deque[bytes] = deque(maxlen=2)

    def __len__(self) -> int:
        return 0

    def renew(self) -> bytes:
        self._made += 1
        key = stand_in_key(self._seed, self._made)
        self._keys.appendleft(key)
        return key

    def encrypt(self, text: bytes, key: bytes, context: bytes) -> bytes | None:
        return _mark(key, context) + text.translate(_INVERTED) if any(key) else None

    def decrypt(self, sealed: bytes, context: bytes) -> bytes | None:
        marks = (_mark(key, context) for key in self._keys)
        return sealed[_MARK:].translate(_INVERTED) if sealed[:_MARK] in marks else None


def stand_in_key(seed: bytes, number: int) -> bytes:
    """The key that is made as the *number*-th of :class:`StandInKeys` with *seed*."""
    return hashlib.sha256(seed + number.to_bytes(8, "big")).digest()


def _mark(key: bytes, context: bytes) -> bytes:
    return hashlib.shake_128(key + context).digest(_MARK)
