"""Values and bytes that several tests of the wire floor start from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from twisted_mesh.identity import Identity
from twisted_mesh.network import Protocol
from twisted_mesh.wire import native
from twisted_mesh.wire.framing import LENGTH_BYTES
from twisted_mesh.wire.native import Batch, SignedBatch

TESTS = Path(__file__).parent.parent
VECTORS: dict[str, bytes] = {
    name: bytes.fromhex(text) for name, text in json.loads((TESTS / "vectors.json").read_text()).items()
}
PY2P: dict[str, Any] = json.loads((TESTS / "py2p_vectors.json").read_text())

IDENTITY = Identity(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
NETWORK = Protocol("mesh", "SSL")
EPOCH = 1_800_000_000_000


def payload(frame: bytes) -> bytes:
    """What a frame holds behind its length."""
    return frame[LENGTH_BYTES:]


def greeting(array: bytes) -> bytes:
    """The payload of a greeting that holds *array*, its checksum made good."""
    return hashlib.sha256(array).digest() + array


def signed(batch: Batch, array: bytes | None = None) -> SignedBatch:
    """*batch* as its author sends it, or *array* in its place."""
    array = native.pack(batch) if array is None else array
    text = native.signed_text(native.network_digest(NETWORK.id), array)
    return SignedBatch(batch, IDENTITY.sign(text), array)
