"""The kinds of frames, and the types of fields that several frames have.

Contract: msgspec checks every decoded value against these types.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, ClassVar, Final

import msgspec

from twisted_mesh.identity import MAX_EPOCH

MAX_NUMBER: Final = MAX_EPOCH  # 2^62: no honest epoch, sequence or time is greater
MAX_GRANT: Final = 512  # bytes of a grant, its signature and unknown fields included; it has 180 (guess)
#: Bytes of a node's certificate: it has some 400, or 600 to 900 if a CA with an RSA key has signed it.  A
#: record has room for it beside a secret; beside a grant, for some 180 less.
MAX_CERTIFICATE: Final = 960

Origin = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
SealingKey = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]  # of X25519, public
Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]  # a SHA-256
Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]  # of Ed25519
Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
Head = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER - 1)]  # one less, so that head + 1 is a Number
Sequence = Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]
#: The origin and epoch of a message's run, and its sequence; or minus the number of a direct message.
MessageId = tuple[Origin, Number, Annotated[int, msgspec.Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]]


class FrameBase(msgspec.Struct, frozen=True, gc=False):
    """The base of all frames.  No frame refers to itself, so the garbage collector looks at none.

    :cvar is_early: whether the frame may come before the sender's frontier.
    """

    is_early: ClassVar[bool] = False


class Span(msgspec.Struct, array_like=True, frozen=True):
    """Messages ``low..high`` of one run; none if ``low = high + 1``."""

    origin: Origin
    epoch: Number
    low: Sequence
    high: Head

    def __post_init__(self) -> None:
        if self.low > self.high + 1:
            raise ValueError("low is beyond high")


class Kind(IntEnum):
    """The kinds of frames of this version; later versions may use other numbers."""

    INTRO = 1
    PROOF = 2
    SNAPSHOT = 3
    ROSTER = 4
    BATCH = 5
    HAVE = 6
    WANT = 7
    PRUNE = 8
    PRESENCE = 9
    SUSPECT = 10
    RECEIPT = 11
    DIRECT = 12
    DIRECT_ACK = 13
    WHISPER = 14
    DIGEST = 15
    FORWARD_JOIN = 16
    SHUFFLE = 17
    SHUFFLE_REPLY = 18
    PING = 19
    PONG = 20
    BYE = 21
    HEADERS = 22
    KNOCK = 23
    DIRECT_KEY = 24
    RECORDS = 25
    GRANT = 26
    FORGET = 27
    POLICY = 28
    CERTIFICATE = 29
