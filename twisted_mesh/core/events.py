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


class Timer(Enum):
    """The core's timers; setting one again moves it."""

    GAPS = "gaps"


# ── events ──────────────────────────────────────────────────────────────────────────


class LinkOpened(msgspec.Struct, frozen=True):
    """A peer has proven who it is over connection *link*."""

    link: int
    peer: Peer
    outgoing: bool


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
    """The transport of *link* has taken own messages up to *sequence*, the mark of their Send."""

    link: int
    sequence: int


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
    """Send *frame* over each of *links*; report a *mark* above 0 as Accepted when it is taken."""

    links: Sequence[int]
    frame: native.SignedBatch | native.Plain
    mark: int = 0


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


class Drained(msgspec.Struct, frozen=True):
    """Own messages not yet taken are below half of ``unsent_bytes``."""


Happening = LinkUp | LinkDown | GapFound | Poisoned | Drained


class Emit(msgspec.Struct, frozen=True):
    """Something the outside may want to know."""

    what: Happening


Effect = Send | Deliver | Close | SetTimer | Emit
