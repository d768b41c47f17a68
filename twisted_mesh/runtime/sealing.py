"""Seals direct messages, so that no node but the destination can read them: HPKE (RFC 9180) wraps a key.

Contract: :class:`HpkeKeys` has the keys of one run.  They are in memory only, so nobody can open an
intercepted message once its keys are forgotten.
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

_KEPT: Final = 2  # keys: records with the last one but one are still under way when a new one is made
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_INFO: Final = b"twisted_mesh/1/content_key"
_WRAPPED: Final = 80  # bytes of a wrapped content key: 32 of the exchange, 32 of the key, 16 of its tag
_BEFORE: Final = _WRAPPED + 12  # bytes before the ciphertext: the nonce, too
#: Texts for which a content key is used: the nonces of so many are random and yet differ (guess).
_TEXTS: Final = 1_024
#: Content keys that are remembered for others, and as many for each own key (guess; 2.7 KB each: measured).
#: To make and wrap one takes 85 us, to unwrap one 47; with one, to seal a short text takes 3, to open it 2
#: (measured).
_PEERS: Final = 256


@dataclass(eq=False, slots=True)
class _Outgoing:
    """A content key for the owner of a sealing key."""

    cipher: ChaCha20Poly1305
    wrapped: bytes
    texts: int = 0  # that were sealed with it


@dataclass(eq=False, slots=True)
class _Own:
    """A key of this node, and the content keys in texts that it opened, the longest unused first."""

    key: X25519PrivateKey
    unwrapped: OrderedDict[bytes, ChaCha20Poly1305] = field(default_factory=OrderedDict)

    def unwrap(self, wrapped: bytes) -> ChaCha20Poly1305 | None:
        """The cipher of a content key; None if that was not wrapped for this key."""
        try:
            return ChaCha20Poly1305(_SUITE.decrypt(wrapped, self.key, info=_INFO))
        except (InvalidTag, ValueError):
            return None

    def opened(self, wrapped: bytes, cipher: ChaCha20Poly1305) -> None:
        """Remember the content key of a text that was opened."""
        self.unwrapped[wrapped] = cipher
        self.unwrapped.move_to_end(wrapped)
        if len(self.unwrapped) > _PEERS:
            self.unwrapped.popitem(last=False)


class HpkeKeys:
    """The keys of one run of a node (``core.handshake.SealingKeys``)."""

    def __init__(self) -> None:
        self._own: deque[_Own] = deque(maxlen=_KEPT)  # the newest first
        #: By the owner's sealing key, the longest unused first.
        self._outgoing: OrderedDict[bytes, _Outgoing] = OrderedDict()

    def __len__(self) -> int:
        return len(self._outgoing) + sum(len(own.unwrapped) for own in self._own)

    def renew(self) -> bytes:
        key = X25519PrivateKey.generate()
        self._own.appendleft(_Own(key))
        self._outgoing.clear()  # whoever reads this node's memory later cannot read what it sent before
        return key.public_key().public_bytes_raw()

    def encrypt(self, text: bytes, key: bytes, context: bytes) -> bytes | None:
        outgoing = self._outgoing.pop(key, None)
        if outgoing is None or outgoing.texts == _TEXTS:
            content_key = ChaCha20Poly1305.generate_key()
            try:
                wrapped = _SUITE.encrypt(content_key, X25519PublicKey.from_public_bytes(key), info=_INFO)
            except ValueError:  # a point of low order, with which anybody could open the text
                return None
            outgoing = _Outgoing(ChaCha20Poly1305(content_key), wrapped)
            if len(self._outgoing) == _PEERS:
                self._outgoing.popitem(last=False)
        self._outgoing[key] = outgoing
        outgoing.texts += 1
        # A counter would give two texts away if a copy of the process's memory ran on.
        nonce = os.urandom(_BEFORE - _WRAPPED)
        return b"".join((outgoing.wrapped, nonce, outgoing.cipher.encrypt(nonce, text, context)))

    def decrypt(self, sealed: bytes, context: bytes) -> bytes | None:
        if len(sealed) < _BEFORE:
            return None
        wrapped = sealed[:_WRAPPED]
        for own in sorted(self._own, key=lambda own: wrapped not in own.unwrapped):
            if (cipher := own.unwrapped.get(wrapped) or own.unwrap(wrapped)) is not None:
                try:
                    text = cipher.decrypt(sealed[_WRAPPED:_BEFORE], sealed[_BEFORE:], context)
                except InvalidTag:
                    return None
                own.opened(wrapped, cipher)
                return text
        return None
