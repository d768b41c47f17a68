"""What goes into the core and what comes out of it, as values.

Contract: ``Node.handle(event, now)`` takes one of :data:`Event` and returns a list of
:data:`Effect`.  The shell and the simulator are the two that make events and carry out effects.
Links are numbers the outside gives out and never uses twice; sequences count messages from 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import msgspec

from twisted_mesh.core.handshake import Peer
from twisted_mesh.errors import PoisonedBody, Reason
from twisted_mesh.wire import native
from twisted_mesh.wire.packets import Entry

Run = tuple[bytes, int]  # origin, epoch


class Timer(Enum):
    """The core's timers; setting one again moves it."""

    GAPS = "gaps"
    ANNOUNCE = "announce"
    REPAIR = "repair"
    COMPARE = "compare"
    AGE = "age"


# ── events ──────────────────────────────────────────────────────────────────────────


class LinkOpened(msgspec.Struct, frozen=True):
    """A peer has proven who it is over connection *link*.

    :ivar settled: what this node said of itself in the handshake.
    """

    link: int
    peer: Peer
    outgoing: bool
    settled: bool


class LinkClosing(msgspec.Struct, frozen=True):
    """Our BYE is on its way: nothing more goes out over *link*, what still comes in counts."""

    link: int


class LinkClosed(msgspec.Struct, frozen=True):
    """The connection of *link* is gone."""

    link: int


class Received(msgspec.Struct, frozen=True):
    """Frames came over *link*, in this order."""

    link: int
    frames: Sequence[native.Frame]


class Accepted(msgspec.Struct, frozen=True):
    """The transport of *link* has taken *size* bytes in all of what the core sent over it."""

    link: int
    size: int


class Publish(msgspec.Struct, frozen=True):
    """The application's messages of one turn, packed; *wall_ms* is the author's clock."""

    entries: Sequence[bytes]
    wall_ms: int


class TimerFired(msgspec.Struct, frozen=True):
    """The time of a SetTimer has come."""

    timer: Timer


Event = LinkOpened | LinkClosing | LinkClosed | Received | Accepted | Publish | TimerFired

# ── effects ─────────────────────────────────────────────────────────────────────────


class Send(msgspec.Struct, frozen=True):
    """Send *frame*, of *size* bytes as encoded, over each of *links*."""

    links: Sequence[int]
    frame: native.SignedBatch | native.Plain
    size: int


class Deliver(msgspec.Struct, frozen=True):
    """Hand *entries* to the application.

    :ivar link: the one they came over, 0 where a timer let them go.
    :ivar first: the sequence of the first of them, 0 for whispers, which have none.
    :ivar sent: the author's clock in ms, 0 for whispers.
    :ivar size: of their packed body, in bytes.
    """

    link: int
    origin: bytes
    epoch: int
    first: int
    sent: int
    size: int
    entries: Sequence[Entry]


class Close(msgspec.Struct, frozen=True):
    """Close *link*, telling the peer why."""

    link: int
    reason: Reason
    detail: str


class SetTimer(msgspec.Struct, frozen=True):
    """Fire *timer* at the time *at*."""

    timer: Timer
    at: float


class LinkUp(msgspec.Struct, frozen=True):
    """*link* is in the routing table from now on, in place of another to its node if there was one."""

    link: int


class LinkDown(msgspec.Struct, frozen=True):
    """*link* is out of the routing table."""

    link: int


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


class EpochTaken(msgspec.Struct, frozen=True):
    """A run of the own key with this epoch is known to others: a new run must begin above it."""

    epoch: int


class KeyInUse(msgspec.Struct, frozen=True):
    """Somebody signs with the own key in a newer run: this node publishes no more."""

    epoch: int


class Drained(msgspec.Struct, frozen=True):
    """Own messages not yet taken are below half of ``unsent_bytes``."""


Happening = LinkUp | LinkDown | GapFound | Poisoned | Equivocation | EpochTaken | KeyInUse | Drained


class Emit(msgspec.Struct, frozen=True):
    """Something the outside may want to know."""

    what: Happening


Effect = Send | Deliver | Close | SetTimer | Emit
