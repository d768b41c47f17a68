"""Seals direct messages with HPKE (RFC 9180), so that no node but the destination can read them.

Contract: :class:`HpkeKeys` has the keys of one run.  They are in memory only, so nobody can open an
intercepted message once its key is forgotten.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

_KEPT: Final = 2  # keys: records with the last one but one are still under way when a new one is made
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
#: Returns the object of a public key; to make it takes 2 us, of the 85 for a seal (measured).
_public_key: Final = lru_cache(maxsize=256)(X25519PublicKey.from_public_bytes)


class HpkeKeys:
    """The keys of one run of a node (``core.handshake.SealingKeys``).

    The context is HPKE's *info*: with one text a key exchange that binds as much as associated data does
    (RFC 9180, 8.1), and the library offers no associated data.
    """

    def __init__(self) -> None:
        self._keys: deque[X25519PrivateKey] = deque(maxlen=_KEPT)  # the newest first

    def renew(self) -> bytes:
        key = X25519PrivateKey.generate()
        self._keys.appendleft(key)
        return key.public_key().public_bytes_raw()

    def encrypt(self, text: bytes, key: bytes, context: bytes) -> bytes | None:
        try:
            return _SUITE.encrypt(text, _public_key(key), info=context)
        except ValueError:  # a point of low order, with which anybody could open the text
            return None

    def decrypt(self, sealed: bytes, context: bytes) -> bytes | None:
        for key in self._keys:
            try:
                return _SUITE.decrypt(sealed, key, info=context)
            except (InvalidTag, ValueError):
                continue
        return None
