"""Errors that say whose fault it was.

Contract: what can go wrong with a mesh is a :class:`MeshError`.  What is wrong with the program is Python's
own: TypeError, ValueError or IndexError for an argument that can never be right, RuntimeError for a call
that has no place where it is made.

* :class:`LocalError`: the caller did something that cannot work; nothing was sent.
* :class:`RemoteError`: a peer broke the protocol or refused us.  Bytes from a peer raise this and
  nothing else; whatever else comes out of handling them is a fault of ours and stays visible as
  one.
* the others name what happened when nobody is to blame (no route, no room, not running).

:class:`Reason` is the closed vocabulary that BYE frames, log lines and ``refused`` events share.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final


class Reason(StrEnum):
    """Why a link was refused or closed, as it is written in a BYE frame."""

    FRAMING = "framing"  #: a length beyond the limit, or bytes that are no frame
    SHAPE = "shape"  #: a frame whose array is not what its kind says
    ORDER = "order"  #: a frame that has no place at this point of the conversation
    GREETING = "greeting"  #: no greeting of this protocol
    VERSION = "version"  #: another version of the native protocol
    SUBNET = "subnet"  #: another subnet or encryption in the greeting
    ENCRYPTION = "encryption"  #: TLS met plain text
    IDENTITY = "identity"  #: the id is not the key's, or not the one that was dialled
    PROOF = "proof"  #: the key's proof is false: replayed, relayed or forged
    SELF = "self"  #: the node met itself
    TIMEOUT = "timeout"  #: the handshake was not over in time
    SIGNATURE = "signature"  #: a signed frame whose signature is false
    LIMIT = "limit"  #: more of something than a bound allows
    FULL = "full"  #: no room for another link
    SILENT = "silent"  #: nothing was heard for too long
    SLOW = "slow"  #: the peer reads too slowly for what is sent to it
    DUPLICATE = "duplicate"  #: another link to the same node is kept
    KEY = "key"  #: a newer run of the same key is linked: another node uses it, or the older run is over
    ROOM = "room"  #: the overlay has no room for the link, or another takes its place
    DONE = "done"  #: an exchange is over
    DISCONNECT = "disconnect"  #: the application asked for it
    LEAVING = "leaving"  #: the node stops
    LOST = "lost"  #: the connection ended without a word


#: Nobody is to blame: after these what was queued is sent to the end, and what the peer had sent counts.
NO_FAULT: Final = frozenset(
    {Reason.DUPLICATE, Reason.KEY, Reason.DISCONNECT, Reason.LEAVING, Reason.ROOM, Reason.DONE}
)


class MeshError(Exception):
    """Base of everything this package raises on purpose, but for mistakes in the program that calls it."""


class LocalError(MeshError):
    """The caller's fault: the call cannot work as it was made, and changed nothing."""


class MessageTooLarge(LocalError, ValueError):
    """A message over 1 MiB packed; it was not sent."""


class IdentityError(LocalError):
    """An identity file that cannot be used; the text says what to do about it."""


class StoreError(LocalError):
    """A history file that cannot be used; the text says why, and what to do about it."""


class KeyInUse(LocalError):
    """Another node uses this node's key, in a newer run: nothing is published until that one stops."""


class NotRunning(LocalError):
    """The service is not started, or is stopping: nothing can be sent now."""


class Congested(MeshError):
    """Own messages that no neighbour has taken yet fill ``unsent_bytes``; wait for ``drained()``.

    The message it was raised for was not sent.
    """


class StoreFull(MeshError):
    """The history cannot be written, as when the disk is full: a message might be lost in a crash.

    The message it was raised for was not sent.  Receiving goes on, and so does sending once the history
    can be written again; wait for ``drained()``.
    """


class NotHandedOver(MeshError):
    """Of some own messages no neighbour is known to have read them, and the time for it is over."""


class ConnectFailed(MeshError, OSError):
    """No connection to the address could be made; the text holds the system's reason."""


class ListenFailed(MeshError, OSError):
    """A socket cannot listen where it was told to; it is not open.

    :ivar errno: the system's number for the reason.
    """


class Unreachable(MeshError):
    """A message for one member could not be handed over; the text says why."""


class NoMembers(MeshError):
    """A receipt that nobody can sign: no other member is known."""


class NotDelivered(MeshError):
    """Not every member that should have a message has taken it, or nobody will know any more.

    :ivar receipt: the :class:`~twisted_mesh.Receipt`, which says who has.
    """

    def __init__(self, detail: str, receipt: Any) -> None:
        super().__init__(detail)
        self.receipt = receipt


class ReceiptTimeout(NotDelivered):
    """Likewise, when the time for it was over; some may take it still."""


class RemoteError(MeshError):
    """A peer's fault or refusal.

    :ivar reason: the :class:`Reason`, as it is told in BYE.
    :ivar detail: one sentence for people.
    """

    reason: Reason = Reason.SHAPE

    def __init__(self, detail: str, reason: Reason | None = None) -> None:
        # Some of it may be a peer's words, and is going to stand in logs and on terminals.
        self.detail = "".join(char if char.isprintable() else "\ufffd" for char in detail)
        super().__init__(self.detail)
        if reason is not None:
            self.reason = reason

    def __str__(self) -> str:
        return f"{self.detail} [{self.reason.value}]"

    @staticmethod
    def of(reason: Reason, detail: str) -> RemoteError:
        """The error of the class that stands for *reason*."""
        return _BY_REASON.get(reason, RemoteError)(detail, reason)


class SubnetMismatch(RemoteError):
    """The peer is of another subnet, or of the same with another encryption; neither is told which."""

    reason = Reason.SUBNET


class EncryptionMismatch(RemoteError):
    """One side speaks TLS and the other plain text."""

    reason = Reason.ENCRYPTION


class SelfConnection(RemoteError):
    """The address leads back to this node."""

    reason = Reason.SELF


class HandshakeTimeout(RemoteError):
    """The peer did not finish the handshake in time."""

    reason = Reason.TIMEOUT


class IdentityMismatch(RemoteError):
    """The peer's id is not its key's, or not the id that was dialled."""

    reason = Reason.IDENTITY


class PoisonedBody(RemoteError):
    """A batch whose author signed a body that cannot be read.

    The author's fault, never that of the link it came over: the batch is relayed and counted, and
    this error takes the place of its messages.
    """

    reason = Reason.SHAPE


_BY_REASON: dict[Reason, type[RemoteError]] = {
    error.reason: error
    for error in (
        SubnetMismatch,
        EncryptionMismatch,
        SelfConnection,
        HandshakeTimeout,
        IdentityMismatch,
    )
}
