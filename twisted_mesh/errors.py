"""Errors that tell whose fault it was.

Contract: errors of the mesh are of the class :class:`MeshError`.  If the calling program is wrong, Python's
own exceptions are raised: TypeError, ValueError or IndexError for an argument that can never be right,
RuntimeError for a call that is not allowed where it is made.

* :class:`LocalError`: the call cannot work; nothing was sent.
* :class:`RemoteError`: a peer broke the protocol or refused this node.  Bytes from a peer raise no other
  error; if another exception is raised while they are handled, that is a bug of this package.
* all other errors are nobody's fault (no route, no room, a full disk).

:class:`Reason` lists all reasons that BYE frames, log lines and ``refused`` events give.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final


class Reason(StrEnum):
    """Why a link was refused or closed, as it is written in a BYE frame."""

    FRAMING = "framing"  #: a length beyond the limit, or bytes that are no frame
    SHAPE = "shape"  #: a frame whose array is not what its kind says
    ORDER = "order"  #: a frame that may not come yet, or not any more
    GREETING = "greeting"  #: no greeting of this protocol
    VERSION = "version"  #: another version of the native protocol
    SUBNET = "subnet"  #: another subnet or encryption in the greeting
    ENCRYPTION = "encryption"  #: one side speaks TLS and the other plain text
    IDENTITY = "identity"  #: the id does not belong to the key, or is not the id that was dialled
    PROOF = "proof"  #: the key's proof is false: replayed, relayed or forged
    TRUST = "trust"  #: the peer does not prove that it belongs to the mesh, or is not to belong to it
    SELF = "self"  #: the node met itself
    TIMEOUT = "timeout"  #: the handshake did not end in time
    SIGNATURE = "signature"  #: a signed frame whose signature is false
    LIMIT = "limit"  #: more frames, claims or bytes than a bound allows
    FULL = "full"  #: no room for another link
    SILENT = "silent"  #: nothing was received for too long
    SLOW = "slow"  #: the peer reads too slowly for what is sent to it
    DUPLICATE = "duplicate"  #: another link to the same node is kept
    KEY = "key"  #: a newer run of the same key is linked: another node has the key, or the run is over
    ROOM = "room"  #: the overlay has no room for the link, or another link takes its place
    DONE = "done"  #: the exchange for which the link was made is over
    DISCONNECT = "disconnect"  #: the application asked for it
    LEAVING = "leaving"  #: the node stops
    LOST = "lost"  #: the connection ended without a BYE


#: Reasons that are nobody's fault: queued frames are still sent, and frames on their way are received.
NO_FAULT: Final = frozenset(
    {Reason.DUPLICATE, Reason.KEY, Reason.DISCONNECT, Reason.LEAVING, Reason.ROOM, Reason.DONE}
)


class MeshError(Exception):
    """Base of all errors this package raises on purpose, except for mistakes of the calling program."""


class LocalError(MeshError):
    """The caller's fault: the call cannot work, and changed nothing."""


class WrongType(LocalError, TypeError):
    """An argument of a type that the call does not take."""


class WrongValue(LocalError, ValueError):
    """An argument with a value that the call does not take."""


class MessageTooLarge(LocalError, ValueError):
    """A message over 1 MiB packed; it was not sent."""


class IdentityError(LocalError):
    """An identity file that cannot be used; the text says what to do about it."""


class TrustError(LocalError):
    """A file of secrets or of members that cannot be used; the text says what to do about it."""


class StoreError(LocalError):
    """A history that cannot be used; the text says why, and what to do about it."""


class KeyInUse(LocalError):
    """Another node uses this node's key: until a new run can begin, this node publishes nothing."""


class NotRunning(LocalError):
    """The service is not started, or is stopping: nothing can be sent now."""


class ConsumerInUse(LocalError):
    """A named consumer has one iterator at a time, and that is open: close it first."""


class Congested(MeshError):
    """The message was not sent: earlier ones fill ``unsent_bytes``; wait for ``drained()``."""


class StoreFull(MeshError):
    """The message was not sent: the history cannot be written, so that a crash could lose the message.

    Its disk may be full.  Receiving goes on.  ``drained()`` fires once the history can be written again.
    """


class NotHandedOver(MeshError):
    """At the end of the time-out, some messages of this node were not known to be read by any neighbour."""


class ConnectFailed(MeshError, OSError):
    """No connection to the address could be made; the text holds the system's reason."""


class ListenFailed(MeshError, OSError):
    """A socket cannot listen at the given address; it is not open.

    :ivar errno: the system's number for the reason.
    """


class Unreachable(MeshError):
    """A message for one member could not be handed over; the text says why."""


class NoReply(MeshError):
    """A member has acknowledged a request, and did not answer it in time; it may still answer."""


class NoMembers(MeshError):
    """No other member is known, so nobody can sign a receipt."""


class NotDelivered(MeshError):
    """A member that should take a message has not taken it, or this node no longer waits for its receipt.

    :ivar receipt: the :class:`~twisted_mesh.Receipt`: the members that have taken the message.
    """

    def __init__(self, detail: str, receipt: Any) -> None:
        super().__init__(detail)
        self.receipt = receipt


class ReceiptTimeout(NotDelivered):
    """A member has not taken a message within the time-out; it may still take it."""


class RemoteError(MeshError):
    """A peer's fault or refusal.

    :ivar reason: the :class:`Reason`, as in BYE.
    :ivar detail: one sentence for people.
    """

    reason: Reason = Reason.SHAPE

    def __init__(self, detail: str, reason: Reason | None = None) -> None:
        # The detail may hold a peer's words, and is shown in logs and on terminals.
        self.detail = "".join(char if char.isprintable() else "\ufffd" for char in detail)
        super().__init__(self.detail)
        if reason is not None:
            self.reason = reason

    def __str__(self) -> str:
        return f"{self.detail} [{self.reason.value}]"

    @staticmethod
    def of(reason: Reason, detail: str) -> RemoteError:
        """An error of the class that stands for *reason*."""
        return _BY_REASON.get(reason, RemoteError)(detail, reason)


class SubnetMismatch(RemoteError):
    """The peer has another subnet or another encryption; neither node tells the other its own."""

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
    """The peer's id does not belong to its key, or is not the id that was dialled."""

    reason = Reason.IDENTITY


class NotAMember(RemoteError):
    """One end of the connection does not belong to the mesh of the other, as the trust of that end says."""

    reason = Reason.TRUST


class PoisonedBody(RemoteError):
    """The author of a batch signed a body that cannot be read.

    That is the author's fault, not the fault of the peer that relayed it: the batch is relayed and counted,
    and this error takes the place of its messages.
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
        NotAMember,
    )
}
