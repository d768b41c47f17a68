"""The events that go into the core, and the effects that come out of it, as values.

Contract: ``Node.handle(event, now)`` takes one of :data:`Event` and returns a list of :data:`Effect`.  Two
drivers make events and carry out effects: ``runtime.driver`` and the simulator.  A link is a number, which
the driver gives to each connection and never uses twice.  A sequence counts the messages of a run from 1.
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
from twisted_mesh.wire.fields import MessageId
from twisted_mesh.wire.membership import Contact, Presence, Purpose

StreamId = tuple[bytes, int]  # origin, epoch


class Timer(StrEnum):  # a plain Enum's members are slow keys: 62 ns, four times as long (measured)
    """The timers of the core."""

    GAPS = "gaps"
    ANNOUNCE = "announce"
    ANSWER = "answer"
    REPAIR = "repair"
    COMPARE = "compare"
    AGE = "age"
    ROSTER = "roster"
    OVERLAY = "overlay"
    EXCHANGE = "exchange"
    REPLIES = "replies"
    KEEPALIVE = "keepalive"
    JOINING = "joining"
    SHARES = "shares"
    TURN = "turn"  # set for now: the end of the present turn, behind all that the application does in it


class Holders(NamedTuple):
    """The members that have a message, as origins."""

    delivered: frozenset[bytes]  # the members that have it
    pending: frozenset[bytes]  # the members that may still get it
    missed: frozenset[bytes]  # the members that never will


# ── events ──────────────────────────────────────────────────────────────────────────


class LinkOpened(msgspec.Struct, frozen=True):
    """A peer has proven its key over connection *link*."""

    link: int
    peer: Peer
    outgoing: bool
    settled: bool  # whether this node said in its INTRO that it is settled
    purpose: Purpose = Purpose.JOIN  # the purpose for which either end dialled the link
    host: str = ""  # the host at the far end, as the connection reports it; "" if that is no host
    named: bool = False  # whether the application named the peer, or the address where it was dialled


class SameKey(msgspec.Struct, frozen=True):
    """Another node has proven over connection *link* that it has this node's key; its run is *epoch*."""

    link: int
    epoch: int
    outgoing: bool


class LinkClosing(msgspec.Struct, frozen=True):
    """A BYE was sent or has come, or the connection broke: nothing more is sent over *link*.

    Frames that still come are handled.
    """

    link: int
    reason: Reason  # the reason in the BYE of the end that closes; LOST or SILENT if there was no BYE


class LinkClosed(msgspec.Struct, frozen=True):
    """The connection of *link* is gone."""

    link: int


class Received(msgspec.Struct, frozen=True):
    """Frames came over *link*, in this order."""

    link: int
    frames: Sequence[codec.Frame]


class Arriving(msgspec.Struct, frozen=True):
    """*size* bytes have come of a frame of *length* bytes that takes long to come (``core.arriving``)."""

    link: int
    begun: Begun | None  # the batch that its first bytes name; None for another frame
    size: int
    length: int


class Flowing(msgspec.Struct, frozen=True):
    """Bytes have come over *link* since its last event; the driver says so before Timer.KEEPALIVE fires."""

    link: int


class Resumed(msgspec.Struct, frozen=True):
    """The transport of *link* accepts more bytes after a pause, so the far end reads."""

    link: int


class Accepted(msgspec.Struct, frozen=True):
    """The transport of *link* has accepted *size* bytes in all."""

    link: int
    size: int


class Publish(msgspec.Struct, frozen=True):
    """The application's messages of one reactor turn, packed.

    :ivar wall_ms: this node's clock.
    :ivar fits: whether they are known to fit in one batch.
    """

    entries: Sequence[bytes]
    wall_ms: int
    fits: bool = False


class DialFailed(msgspec.Struct, frozen=True):
    """A :class:`Dial` of the node *id* has failed: no node with that id answered.

    :ivar met: whether a node of this mesh answered there, so that its host is no stranger's.
    """

    id: bytes
    met: bool = False


class Known(msgspec.Struct, frozen=True):
    """The nodes with which this node was linked in earlier runs, the latest last."""

    contacts: Sequence[Contact]


class PolicyChanged(msgspec.Struct, frozen=True):
    """This node's policy may answer otherwise than before who belongs to the mesh."""


class PolicyGiven(msgspec.Struct, frozen=True):
    """The application gives this node a policy of the mesh's authority, packed."""

    packed: bytes


class Moved(msgspec.Struct, frozen=True):
    """Others can dial this node at *address* from now on; None: nowhere."""

    address: tuple[str, int] | None


class Taken(msgspec.Struct, frozen=True):
    """The application has taken messages of *run*.

    :ivar sequence: the last message that handlers, listeners and all iterators without a name have taken.
    :ivar places: the last message that each named consumer has taken, by name.
    """

    run: StreamId
    sequence: int
    places: Mapping[str, int] = {}

    @property
    def slowest(self) -> int:
        """The last message that all consumers have taken."""
        return min((self.sequence, *self.places.values()))


class Consumers(msgspec.Struct, frozen=True):
    """The named consumers that the application has from now on.

    :ivar names: by name, since when nobody has the consumer open, in ms since 1970; 0 if somebody has.
    """

    names: Mapping[str, int]


class Place(msgspec.Struct, frozen=True):
    """A new consumer *name* begins in each stream with the messages that came in the last *seconds*."""

    name: str
    seconds: float


class Stored(msgspec.Struct, frozen=True):
    """The store has kept all changes of *runs*, and how far the application had taken them."""

    runs: Sequence[StreamId]


class Skipped(msgspec.Struct, frozen=True):
    """Some messages of *run* up to *sequence* will never be taken by the application."""

    run: StreamId
    sequence: int


class SendDirect(msgspec.Struct, frozen=True):
    """The application sends a *body* of one message to one node.

    *token* counts these messages from 1, and names the message in DirectsEnded.
    """

    token: int
    destination: bytes
    body: bytes
    answers: MessageId | None = None  # the message that this one answers


class SendDirects(msgspec.Struct, frozen=True):
    """The application's direct messages of one reactor turn, to whichever nodes; the turn ends now."""

    messages: Sequence[SendDirect]


class DirectRoom(msgspec.Struct, frozen=True):
    """Whether every consumer of the application has room for direct messages; at first they have."""

    has_room: bool


class Ask(msgspec.Struct, frozen=True):
    """The application asks for receipts of these own messages."""

    sequences: Sequence[int]


class Forget(msgspec.Struct, frozen=True):
    """The application no longer waits for the receipt of the own message *sequence*."""

    sequence: int


class ForgetMember(msgspec.Struct, frozen=True):
    """The application wants a member that is gone to leave the rosters of all nodes."""

    origin: bytes


class Leaving(msgspec.Struct, frozen=True):
    """This node is about to stop.

    :ivar retires: whether it leaves for good.
    """

    retires: bool = False


class TimerFired(msgspec.Struct, frozen=True):
    """The time of a :class:`SetTimer` has come."""

    timer: Timer


class Check(msgspec.Struct, frozen=True):
    """The application wants to know when a neighbour has read its messages."""


LinkChange = LinkOpened | SameKey | LinkClosing | LinkClosed
LinkTraffic = Received | Arriving | Flowing | Resumed | Accepted
Asking = Taken | Consumers | Place | Stored | Skipped | SendDirects | DirectRoom | Ask | Forget
Other = (
    Publish
    | DialFailed
    | Known
    | Moved
    | PolicyChanged
    | PolicyGiven
    | Check
    | ForgetMember
    | Leaving
    | TimerFired
)
Event = LinkChange | LinkTraffic | Asking | Other

# ── effects ─────────────────────────────────────────────────────────────────────────


class Send(msgspec.Struct, frozen=True):
    """Send *frame*, of *size* bytes as encoded, over each of *links*."""

    links: Sequence[int]
    frame: codec.Signed | codec.Plain
    size: int


class Deliver(msgspec.Struct, frozen=True):
    """Hand *entries*, which are messages, to the application.

    :ivar verified: whether their author is proven; False for a whisper over a link without TLS.
    """

    link: int  # the link that brought them; 0 if they waited behind a hole that was given up
    origin: bytes
    epoch: int
    first: int  # the sequence of the first message; 0 for whispers, which have none
    sent: int  # the author's clock in ms since 1970; 0 for whispers
    size: int  # their bytes (wire.bodies.unpack_weighed)
    entries: Sequence[Entry]
    verified: bool = True
    direct_number: int = 0  # counts the direct messages of its sender's run; 0 for broadcasts, whispers
    answers: MessageId | None = None  # the message that a direct message answers

    @property
    def last(self) -> int:
        """The sequence of the last message."""
        return self.first + len(self.entries) - 1


class DeliverDirects(msgspec.Struct, frozen=True):
    """Hand these direct messages of one run to the application, one after the other."""

    messages: Sequence[Deliver]


class Close(msgspec.Struct, frozen=True):
    """Close *link* with a BYE that holds *reason* and *detail*."""

    link: int
    reason: Reason
    detail: str


class Dial(msgspec.Struct, frozen=True):
    """Dial *contact* once, for *purpose*; :class:`LinkOpened` or :class:`DialFailed` follows."""

    contact: Contact
    purpose: Purpose


class SetTimer(msgspec.Struct, frozen=True):
    """Send :class:`TimerFired` at the time *at*; this replaces a time that was set before."""

    timer: Timer
    at: float


class LinkUp(msgspec.Struct, frozen=True):
    """*link* is in the routing table from now on; another link to the same node is replaced."""

    link: int


class LinkDown(msgspec.Struct, frozen=True):
    """*link* has left the routing table, because of *reason*."""

    link: int
    reason: Reason


class ExchangeBegun(msgspec.Struct, frozen=True):
    """*link* is an exchange and has begun; it does not enter the routing table."""

    link: int


class MemberChanged(msgspec.Struct, frozen=True):
    """A member is new, has changed its record, or has entered another state."""

    presence: Presence  # the member's newest record
    state: str  # ``"up"``, ``"suspect"``, ``"down"`` or ``"left"``
    since: float  # when the member entered that state

    @property
    def origin(self) -> bytes:
        """The public key of the member."""
        return self.presence.origin


class MemberGone(msgspec.Struct, frozen=True):
    """The roster has forgotten a member, which was gone for long, or was to be forgotten.

    :ivar asker: the public key of the node that asked for that; None if nobody did.
    """

    origin: bytes
    asker: bytes | None = None


class Joined(msgspec.Struct, frozen=True):
    """A neighbour has sent its roster, so this node knows the other members."""


class Receipted(msgspec.Struct, frozen=True):
    """The holders of these own messages, whose receipts are open, have changed."""

    sequences: Sequence[int]
    decided: Mapping[int, Holders]  # the holders of the messages for which no member is pending


class Numbered(msgspec.Struct, frozen=True):
    """*count* own messages were published in *run*, from the sequence *first* on."""

    run: StreamId
    first: int
    count: int


class Awaited(msgspec.Struct, frozen=True):
    """The author of *run* waits for a receipt for its messages up to *sequence*."""

    run: StreamId
    sequence: int  # 0 if the author no longer waits
    head: int  # the last message of *run* that was delivered or given up
    taken: int  # the last message that the application has taken, as far as the core knows


class Behind(NamedTuple):
    """A consumer has not taken the messages of *run* above *taken*, up to *head*."""

    run: StreamId
    taken: int
    head: int


class Placed(msgspec.Struct, frozen=True):
    """The new consumer *name* has a place in each stream.

    :ivar behind: the streams of which it is to get messages that are held already.
    """

    name: str
    behind: Sequence[Behind]


class Unplaced(msgspec.Struct, frozen=True):
    """The stream of *run* is closed, so that named consumers which are behind get no more of it."""

    run: StreamId


class ReceiptClosed(msgspec.Struct, frozen=True):
    """The receipt of the own message *sequence* was closed, since too many receipts were open."""

    sequence: int
    holders: Holders


class DirectsEnded(msgspec.Struct, frozen=True):
    """Direct messages were acknowledged, or given up because of *why*.

    :ivar hops: how many relays have handed the acknowledgement on, as the last of them says.
    """

    tokens: Sequence[int]
    why: str | None
    hops: int = 0


class GapFound(msgspec.Struct, frozen=True):
    """Messages *first* to *last* of a run are given up: they are not delivered."""

    origin: bytes
    epoch: int
    first: int
    last: int


class Poisoned(msgspec.Struct, frozen=True):
    """Messages *first* to *last* of a run cannot be unpacked, which is their author's fault."""

    origin: bytes
    epoch: int
    first: int
    last: int
    error: PoisonedBody


class Equivocation(msgspec.Struct, frozen=True):
    """The author of a run signed two different batches with the same sequence *first*."""

    origin: bytes
    epoch: int
    first: int


class CutShort(msgspec.Struct, frozen=True):
    """Messages *first* to *last* of a removed node were delivered here, and others do not deliver them."""

    origin: bytes
    epoch: int
    first: int
    last: int


class PolicyTaken(msgspec.Struct, frozen=True):
    """The mesh's authority has signed a newer policy."""


class EpochConflict(msgspec.Struct, frozen=True):
    """Other nodes know a run of this node's key with *epoch*: a new run must have a higher epoch."""

    epoch: int


class ListsDiffer(msgspec.Struct, frozen=True):
    """The node with the key *origin* has other lists of nodes than this one."""

    origin: bytes


class KeyInUse(msgspec.Struct, frozen=True):
    """Another node signs with this node's key in a newer run, so this node publishes nothing.

    :ivar proven: whether that node is known to run now; if not, its record may be of a run that is over.
    """

    epoch: int
    proven: bool = False


class Drained(msgspec.Struct, frozen=True):
    """The own messages that no transport has accepted are below half of ``unsent_bytes`` again."""


LinkNews = LinkUp | LinkDown | ExchangeBegun
MemberNews = MemberChanged | MemberGone | Joined | EpochConflict | KeyInUse | ListsDiffer | PolicyTaken
MessageNews = Numbered | Awaited | Placed | Unplaced | Receipted | ReceiptClosed | DirectsEnded | Drained
StreamNews = GapFound | Poisoned | Equivocation | CutShort
Happening = LinkNews | MemberNews | MessageNews | StreamNews


class Emit(msgspec.Struct, frozen=True):
    """Give *what* to the parts of the driver that subscribed to its type."""

    what: Happening


Effect = Send | Deliver | DeliverDirects | Close | Dial | SetTimer | Emit

# ── events of the driver itself ─────────────────────────────────────────────────────


class NewRun(msgspec.Struct, frozen=True):
    """A new run of the core has begun, which knows no other node and no direct message of the old run."""

    last: int  # the last message that is published in the old run alone
    again: int  # how many later messages are published again, in the new run
