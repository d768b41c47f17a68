"""Frames about the link itself: handshake, keepalive and BYE; and whispers, messages to the peer alone.

Contract: values, which :mod:`~twisted_mesh.wire.codec` packs and unpacks.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from twisted_mesh.wire.fields import MAX_CERTIFICATE, FrameBase, Hash, Kind, Number, Origin


class Intro(FrameBase, array_like=True, frozen=True):
    """A node tells its key, and what the link is for; the last frame before PROOF.

    ``role`` is a :class:`~twisted_mesh.wire.membership.Role`.  ``purpose`` is a
    :class:`~twisted_mesh.wire.membership.Purpose`; only the dialler's counts.  Unknown numbers count as 0.
    If the node is not ``settled``, it also wants to deliver the messages of the last ``replay`` seconds: 0
    for none, :data:`MAX_NUMBER` for all that are held.  If it is settled, ``replay`` does not count.
    """

    kind: ClassVar = Kind.INTRO
    version: Number
    epoch: Number
    role: Number
    settled: bool
    public_key: Origin
    nonce: Origin
    purpose: Number
    replay: Number


class Proof(FrameBase, array_like=True, frozen=True):
    """Signs the handshake with the key of INTRO, and proves by a MAC that the node is of the network."""

    kind: ClassVar = Kind.PROOF
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    mac: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Knock(FrameBase, array_like=True, frozen=True):
    """Proves that the sender knows a secret of the mesh; the first frame of each side, if there is one."""

    kind: ClassVar = Kind.KNOCK
    mac: Hash


class Certificate(FrameBase, array_like=True, frozen=True):
    """Shows the X.509 certificate of the sender's key, as DER; PROOF, which comes next, proves the key."""

    kind: ClassVar = Kind.CERTIFICATE
    certificate: Annotated[bytes, msgspec.Meta(max_length=MAX_CERTIFICATE)]


class Ping(FrameBase, array_like=True, frozen=True):
    """Asks for a PONG with the same token."""

    kind: ClassVar = Kind.PING
    is_early: ClassVar = True
    token: Number


class Pong(FrameBase, array_like=True, frozen=True):
    """Answers a PING."""

    kind: ClassVar = Kind.PONG
    is_early: ClassVar = True
    token: Number


class Bye(FrameBase, array_like=True, frozen=True):
    """The last frame on a link: why the sender ends it, as a Reason and as a sentence for people."""

    kind: ClassVar = Kind.BYE
    reason: Annotated[str, msgspec.Meta(max_length=32)]
    detail: Annotated[str, msgspec.Meta(max_length=512)]


class Whisper(FrameBase, frozen=True):
    """Messages for the peer alone, in a body as in BATCH; unsigned, since the author is at the far end."""

    kind: ClassVar = Kind.WHISPER
    body: bytes


class Unknown(FrameBase, frozen=True):
    """A frame of a kind that this version does not know; it is counted and ignored."""

    is_early: ClassVar = True
    kind: int


LinkFrame = Knock | Intro | Certificate | Proof | Ping | Pong | Bye
