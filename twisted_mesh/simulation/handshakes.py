"""The handshake of a simulated link, if the nodes of the mesh must prove something.

Contract: :func:`shake` plays the core's handshake of both ends against each other; it takes no time.  An
end can send other bytes than an honest one, by :data:`Say`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from twisted_mesh.core.handshake import Handshake, LocalNode, Side
from twisted_mesh.errors import RemoteError
from twisted_mesh.wire.framing import FrameReader
from twisted_mesh.wire.membership import Purpose

Say = Callable[[bytes], bytes]  # takes the bytes that an honest dialler would send; returns those sent
_TIME: Final = 1  # the wall clock in greetings, which nobody looks at


class Shaken:
    """The result of a handshake.

    :ivar secret: the id of the secret by which both have proven themselves; None if an end has refused.
    :ivar said: all bytes that the dialler sent; :ivar heard: all bytes that it got.
    """

    def __init__(self) -> None:
        self.secret: bytes | None = None
        self.said = self.heard = b""


def shake(dialler: LocalNode, acceptor: LocalNode, purpose: Purpose, session: int, say: Say) -> Shaken:
    """Let *dialler* shake hands with *acceptor*.

    :param session: a number that no other session has.
    """
    exporter = hashlib.sha256(b"exporter %d" % session).digest()
    nonces = [hashlib.sha256(b"%s %d" % (side.value, session)).digest() for side in Side]
    ends = [
        Handshake(side, node, nonce=nonce, time=_TIME, purpose=purpose)
        for side, node, nonce in zip(Side, (dialler, acceptor), nonces, strict=True)
    ]
    near, far = ends
    shaken = Shaken()
    to_far, to_near = FrameReader(), FrameReader()
    answer = far.start()
    sent = say(near.session_made(lambda: exporter))
    try:
        while sent or answer:
            shaken.said += sent
            answer += b"".join(far.receive(payload, lambda: exporter) for payload in to_far.feed(sent))
            shaken.heard += answer
            sent = b"".join(near.receive(payload, lambda: exporter) for payload in to_near.feed(answer))
            sent, answer = say(sent), b""
    except (RemoteError, AssertionError):  # the latter: a repeated handshake went on behind its end
        return shaken
    if near.peer is not None and far.peer is not None:
        shaken.secret = far.peer.secret
    return shaken
