"""What goes into the core and what comes out of it, as values.

Contract: ``Node.handle(event, now)`` takes one of :data:`Event` and returns a list of
:data:`Effect`.  The shell and the simulator are the two that make events and carry out effects.
Links are numbers the outside gives out and never uses twice; sequences count messages from 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from twisted_mesh.core.handshake import Peer
from twisted_mesh.errors import PoisonedBody, Reason
from twisted_mesh.wire import codec
from twisted_mesh.wire.begun import Begun
from twisted_mesh.wire.bodies import Entry
from twisted_mesh.wire.membership import Contact, Presence, Purpose

StreamId = tuple[bytes, int]  # origin, epoch


class Timer(StrEnum):  # a plain Enum's members are keys that take four times as long (measured: 62 ns)
    """The core's timers; setting one again moves it."""

    GAPS = "gaps"
    ANNOUNCE = "announce"
    REPAIR = "repair"
    COMPARE = "compare"
    AGE = "age"
    ROSTER = "roster"
    OVERLAY = "overlay"
    EXCHANGE = "exchange"
    REPLIES = "replies"
    KEEPALIVE = "keepalive"


class Holders(NamedTuple):
    """Who has a message: origins.

    :ivar delivered: have it; :ivar pending: may get it still; :ivar missed: never will.
    """

    delivered: frozenset[bytes]
    pending: frozenset[bytes]
    missed: frozenset[bytes]


# ── events ──────────────────────────────────────────────────────────────────────────


class LinkOpened(msgspec.Struct, frozen=True):
    """A peer has proven who it is over connection *link*.

    :ivar settled: what this node said of itself in the handshake.
    :ivar purpose: what the link was dialled for, by whichever end.
    :ivar host: where the far end is as the connection has it; "" where that is no host.
    """

    link: int
    peer: Peer
    outgoing: bool
    settled: bool
    purpose: Purpose = Purpose.JOIN
    host: str = ""


class SameKey(msgspec.Struct, frozen=True):
    """Another node has proven over connection *link* that it has the own key, and is now in run *epoch*."""

    link: int
    epoch: int
    outgoing: bool


class LinkClosing(msgspec.Struct, frozen=True):
    """A BYE is on its way, or the connection broke: nothing more goes out over *link*.

    What still comes in counts.

    :ivar reason: of the end that closes it; LOST or SILENT where nobody said a word.
    """

    link: int
    reason: Reason


class LinkClosed(msgspec.Struct, frozen=True):
    """The connection of *link* is gone."""

    link: int


class Received(msgspec.Struct, frozen=True):
    """Frames came over *link*, in this order."""

    link: int
    frames: Sequence[codec.Frame]


class Arriving(msgspec.Struct, frozen=True):
    """Over *link* a frame of *length* bytes is coming, and *size* bytes of it are here.

    It takes long enough to be told; :mod:`~twisted_mesh.core.arriving` says when.

    :ivar begun: the batch it is, by the peer's word; None: another frame.
    """

    link: int
    begun: Begun | None
    size: int
    length: int


class Flowing(msgspec.Struct, frozen=True):
    """Bytes have come over *link* of which no other event tells; told before Timer.KEEPALIVE fires."""

    link: int


class Resumed(msgspec.Struct, frozen=True):
    """The transport of *link* takes more again, after it had had enough: the far end reads."""

    link: int


class Accepted(msgspec.Struct, frozen=True):
    """The transport of *link* has taken *size* bytes in all of what the core sent over it."""

    link: int
    size: int


class Publish(msgspec.Struct, frozen=True):
    """The application's messages of one turn, packed; *wall_ms* is the author's clock."""

    entries: Sequence[bytes]
    wall_ms: int


class DialFailed(msgspec.Struct, frozen=True):
    """What was dialled for a :class:`Dial` did not prove to be the node with that *id*."""

    id: bytes


class Known(msgspec.Struct, frozen=True):
    """Nodes that were linked with in earlier runs, the latest last."""

    contacts: Sequence[Contact]


class Moved(msgspec.Struct, frozen=True):
    """Others can dial this node at *address* from now on, or nowhere."""

    address: tuple[str, int] | None


class Taken(msgspec.Struct, frozen=True):
    """Every consumer of the application has taken *run* up to message *sequence*."""

    run: StreamId
    sequence: int


class Stored(msgspec.Struct, frozen=True):
    """What changed of *runs* is stored, with what was taken of them by then."""

    runs: Sequence[StreamId]


class Skipped(msgspec.Struct, frozen=True):
    """The application will never take *run* up to message *sequence*, or some of it."""

    run: StreamId
    sequence: int


class SendDirect(msgspec.Struct, frozen=True):
    """A message, as a *body* of one entry, for one node; *token* names it in DirectEnded."""

    token: int
    destination: bytes
    body: bytes


class Ask(msgspec.Struct, frozen=True):
    """The application waits to hear who has these own messages, by number."""

    sequences: Sequence[int]


class Forget(msgspec.Struct, frozen=True):
    """Nobody waits for the receipt of the own message *sequence* any more."""

    sequence: int


class Leaving(msgspec.Struct, frozen=True):
    """This node is about to stop."""


class TimerFired(msgspec.Struct, frozen=True):
    """The time of a SetTimer has come."""

    timer: Timer


class Check(msgspec.Struct, frozen=True):
    """The application waits until some neighbour has read what it has sent."""


Asking = Taken | Stored | Skipped | SendDirect | Ask | Forget
Event = (
    LinkOpened
    | SameKey
    | LinkClosing
    | LinkClosed
    | Received
    | Arriving
    | Flowing
    | Resumed
    | Accepted
    | Publish
    | DialFailed
    | Known
    | Moved
    | Check
    | Taken
    | Stored
    | Skipped
    | SendDirect
    | Ask
    | Forget
    | Leaving
    | TimerFired
)

# ── effects ─────────────────────────────────────────────────────────────────────────


class Send(msgspec.Struct, frozen=True):
    """Send *frame*, of *size* bytes as encoded, over each of *links*."""

    links: Sequence[int]
    frame: codec.Signed | codec.Plain
    size: int


class Deliver(msgspec.Struct, frozen=True):
    """Hand *entries* to the application.

    :ivar link: the one they came over, 0 where a timer let them go.
    :ivar first: the sequence of the first of them, 0 for whispers, which have none.
    :ivar sent: the author's clock in ms, 0 for whispers.
    :ivar size: of their packed body, in bytes.
    :ivar verified: whether their author is proven; not so for a whisper over a link that is plain text.
    """

    link: int
    origin: bytes
    epoch: int
    first: int
    sent: int
    size: int
    entries: Sequence[Entry]
    verified: bool = True

    @property
    def last(self) -> int:
        """The sequence of the last of them."""
        return self.first + len(self.entries) - 1


class Close(msgspec.Struct, frozen=True):
    """Close *link*, telling the peer why."""

    link: int
    reason: Reason
    detail: str


class Dial(msgspec.Struct, frozen=True):
    """Dial *contact* once, for *purpose*; a link comes of it, or :class:`DialFailed`."""

    contact: Contact
    purpose: Purpose


class SetTimer(msgspec.Struct, frozen=True):
    """Fire *timer* at the time *at*."""

    timer: Timer
    at: float


class LinkUp(msgspec.Struct, frozen=True):
    """*link* is in the routing table from now on, in place of another to its node if there was one."""

    link: int


class LinkDown(msgspec.Struct, frozen=True):
    """*link* is out of the routing table, because of *reason*."""

    link: int
    reason: Reason


class ExchangeBegun(msgspec.Struct, frozen=True):
    """*link*, which is an exchange, has begun well: it stays out of the routing table."""

    link: int


class MemberChanged(msgspec.Struct, frozen=True):
    """A member of the roster is new, has other things to say of itself, or is in another state.

    :ivar presence: its newest record; :ivar state: ``"up"``, ``"suspect"``, ``"down"`` or ``"left"``.
    :ivar since: when it entered that state.
    """

    presence: Presence
    state: str
    since: float

    @property
    def origin(self) -> bytes:
        """Its public key."""
        return self.presence.origin


class MemberGone(msgspec.Struct, frozen=True):
    """A member was down for so long that the roster has forgotten it."""

    origin: bytes


class Joined(msgspec.Struct, frozen=True):
    """A neighbour has told its roster: this node knows of the others."""


class Receipted(msgspec.Struct, frozen=True):
    """More is known of who has these own messages, by number, whose receipts are open.

    :ivar decided: who has each of those of which nobody is pending.
    """

    sequences: Sequence[int]
    decided: Mapping[int, Holders]


class Numbered(msgspec.Struct, frozen=True):
    """Own messages have numbers: *count* from *first* on, in *run*."""

    run: StreamId
    first: int
    count: int


class Awaited(msgspec.Struct, frozen=True):
    """The author of *run* waits to hear that the application has taken it up to message *sequence*.

    :ivar sequence: 0 if it waits no more; :ivar head: the last message that was delivered or given up.
    :ivar taken: how far the application was as the core knows.
    """

    run: StreamId
    sequence: int
    head: int
    taken: int


class ReceiptClosed(msgspec.Struct, frozen=True):
    """The receipt of the own message *sequence* was given up, there are too many: who had it by then."""

    sequence: int
    holders: Holders


class DirectEnded(msgspec.Struct, frozen=True):
    """A direct message was acknowledged, or given up: *why*."""

    token: int
    why: str | None


class GapFound(msgspec.Struct, frozen=True):
    """Messages *first* to *last* of a run are given up."""

    origin: bytes
    epoch: int
    first: int
    last: int


class Poisoned(msgspec.Struct, frozen=True):
    """Messages *first* to *last* of a run cannot be read; their author is to blame."""

    origin: bytes
    epoch: int
    first: int
    last: int
    error: PoisonedBody


class Equivocation(msgspec.Struct, frozen=True):
    """The author of a run signed two different things under the number *first*."""

    origin: bytes
    epoch: int
    first: int


class EpochConflict(msgspec.Struct, frozen=True):
    """A run of the own key with this epoch is known to others: a new run must begin above it."""

    epoch: int


class KeyInUse(msgspec.Struct, frozen=True):
    """Another node signs with the own key, in a newer run: this one publishes nothing meanwhile.

    :ivar proven: whether it runs now, and this is not a late word of a run that is over.
    """

    epoch: int
    proven: bool = False


class Drained(msgspec.Struct, frozen=True):
    """Own messages not yet taken are below half of ``unsent_bytes``."""


Happening = (
    LinkUp
    | LinkDown
    | ExchangeBegun
    | MemberChanged
    | MemberGone
    | Joined
    | Receipted
    | Numbered
    | Awaited
    | ReceiptClosed
    | DirectEnded
    | GapFound
    | Poisoned
    | Equivocation
    | EpochConflict
    | KeyInUse
    | Drained
)


class Emit(msgspec.Struct, frozen=True):
    """Something the outside may want to know."""

    what: Happening


Effect = Send | Deliver | Close | Dial | SetTimer | Emit

# ── what the driver of the core adds ────────────────────────────────────────────────


class NewRun(msgspec.Struct, frozen=True):
    """A new run of the core has begun, which knows of no other node, nor of direct messages under way.

    :ivar last: the last message of the old run that stays in it; *again* get numbers of the new run.
    """

    last: int
    again: int
