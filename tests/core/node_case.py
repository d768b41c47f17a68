"""The cases that the tests of one node share."""

from __future__ import annotations

from collections import Counter
from random import Random

from msgspec import structs
from twisted.trial.unittest import SynchronousTestCase

from tests.core import network
from tests.core.network import entries, forget_hashes, local_node, of, origin_of, peer
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast.frontier import digest
from twisted_mesh.core.events import (
    Accepted,
    Arriving,
    Close,
    Deliver,
    Effect,
    Event,
    GapFound,
    LinkClosed,
    LinkOpened,
    Publish,
    Received,
    Send,
    SetTimer,
    Timer,
    TimerFired,
)
from twisted_mesh.core.history.history import History
from twisted_mesh.core.link import READ_SO_FAR, Link
from twisted_mesh.core.node import Node
from twisted_mesh.errors import Reason
from twisted_mesh.identity import id_of
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import (
    Digest,
    Have,
    HaveEntry,
    Prune,
    SignedBatch,
    SignedHeader,
    Snapshot,
    SnapshotEntry,
    Want,
)
from twisted_mesh.wire.link import Ping, Pong
from twisted_mesh.wire.membership import Contact, Purpose, Roster
from twisted_mesh.wire.signed import SignedRecord

ALL = Snapshot(True, [])  # of a peer that knows nothing
MembershipChecks = Roster | SignedRecord  # what nodes say of who is there
PING = Ping(0)  # behind a node's own frontier, for the round trip

FIRED_MOST = 100_000  # timers in one wait (guess)

HOST = "192.0.2.1"  # where every peer is, as the connections have it

NAMES = {origin_of(name): name for name in ("me", "anna", "bert", "cleo", "dora", "emil", "fred")}


def contact(name: str, host: str = HOST, port: int = 4444) -> Contact:
    """Where *name* can be dialled."""
    return Contact(id_of(origin_of(name)), host, port)


class NodeTestCase(SynchronousTestCase):
    """A node "me", and the events of its links."""

    def setUp(self) -> None:
        self.verified = 0
        self.make()

    #: Whether the first neighbour tells that it has an empty roster, so that the node knows its bases.
    tells_roster = True
    #: Whether the turn of the reactor ends behind each event.
    ends_turns = True
    #: What the node says of itself besides what :func:`local_node` has.
    manner: dict[str, object] = {}

    def make(self, epoch: int = 1, **limits: float) -> None:
        """Begin anew with *limits*."""
        forget_hashes()
        self.now = 50.0
        # Peers send only the frames that the test sends, so no PONG: by default nobody is asked.
        self.config = MeshConfig(**({"ping_after": 1e6, "dead_after": 2e6} | limits))  # type: ignore[arg-type]
        me = structs.replace(local_node("me", epoch, verify=self.verify), **self.manner)
        self.node = Node(me, self.config, Random(1), self.history())
        self.timers: dict[Timer, float] = {}
        self.queued: Counter[int] = Counter()  # bytes that were ever sent over each link
        self.pings: dict[int, list[int]] = {}  # of those that ask whether a peer has read all: their tokens

    def history(self) -> History | None:
        """The history that the node begins with; None is an empty one without a store."""
        return None

    def verify(self, origin: bytes, signature: bytes, text: bytes) -> bool:
        """Verify a signature, and count that."""
        self.verified += 1
        return network.verify(origin, signature, text)

    # ── what happens ────────────────────────────────────────────────────────────────

    def handle(self, event: Event) -> list[Effect]:
        """Let the node handle *event*; note the timers that it sets and the bytes that it sends.

        With :attr:`ends_turns`, the event is alone in its turn of the reactor.
        """
        effects = self.node.handle(event, self.now)
        if self.ends_turns and SetTimer(Timer.TURN, self.now) in effects:
            effects.remove(SetTimer(Timer.TURN, self.now))
            effects += self.node.handle(TimerFired(Timer.TURN), self.now)
        for timer in of(effects, SetTimer):
            self.timers[timer.timer] = timer.at
        for send in of(effects, Send):
            self.queued.update(dict.fromkeys(send.links, send.size))
            if send.frame in (Ping(READ_SO_FAR), PING):
                for number in send.links:
                    self.pings.setdefault(number, []).append(send.frame.token)
        return effects

    def open(
        self,
        number: int,
        name: str = "bert",
        *,
        epoch: int = 1,
        outgoing: bool = False,
        settled: bool = False,
        purpose: Purpose = Purpose.JOIN,
        host: str = HOST,
        **more: object,
    ) -> list[Effect]:
        """Open a link to *name*, which has proven itself.

        :param settled: what both ends said of themselves.
        :param host: at the far end.
        :param more: other fields of the peer.
        """
        who = structs.replace(peer(name, epoch, settled), **more)
        return self.handle(LinkOpened(number, who, outgoing, settled, purpose, host))

    def receive(self, number: int, *frames: codec.Frame) -> list[Effect]:
        """Let *frames* come over a link."""
        return self.handle(Received(number, frames))

    def up(
        self, number: int, name: str = "bert", *streams: SnapshotEntry, outgoing: bool = False
    ) -> list[Effect]:
        """Open a link, and let the peer's snapshot of *streams* come: the link is up.

        An empty roster follows the first, if :attr:`tells_roster`.
        """
        effects = self.open(number, name, outgoing=outgoing)
        effects += self.receive(number, Snapshot(True, list(streams)))
        if self.tells_roster and self.node._broadcast.joining.settled_by == number:
            effects += self.receive(number, Roster(True, [], 0))
        return effects

    def meet(self, number: int, name: str, **heads: int) -> list[Effect]:
        """Open a link between settled nodes; the digest of the peer's *heads* comes, so it is up."""
        effects = self.open(number, name, settled=True)
        return effects + self.receive(number, self.digest(heads))

    def digest(self, heads: dict[str, int]) -> Digest:
        """The digest of a peer with these *heads*, which knows the header there if this node does."""
        told = []
        for name, head in heads.items():
            stream = self.node.history.get((origin_of(name), 1))
            known = stream is not None and stream.head == head
            told.append(((origin_of(name), 1), head, stream.hash if stream is not None and known else b""))
        return digest(told)

    def publish(self, *texts: object) -> list[Effect]:
        """Let the application send *texts*, all in one turn."""
        return self.handle(Publish(entries(*texts), 1000))

    def own_header(self, first: int) -> SignedHeader:
        """The header of the own batch that begins with message *first*."""
        stream = self.node.history.get(self.node.outbox.run)
        held = None if stream is None else stream.batches.get(first)
        assert held is not None
        return held.header

    def has_mine(self, first: int) -> Have:
        """The HAVE of a peer that has the own batch that begins with *first*, and all before."""
        header = self.own_header(first)
        batch = header.batch
        return Have([HaveEntry(batch.origin, batch.epoch, 1, batch.last, 0, header.hash)], False)

    def accept(self, number: int) -> list[Effect]:
        """Let the transport of a link accept all bytes that were sent, and the peer read them."""
        effects = self.handle(Accepted(number, self.queued[number]))
        while tokens := self.pings.pop(number, ()):
            for token in tokens:
                effects += self.receive(number, Pong(token))
        return effects

    def wait(self, seconds: float) -> list[Effect]:
        """Let time pass; each timer fires at exactly the time that it was set for."""
        until = self.now + seconds
        effects: list[Effect] = []
        fired = 0
        while due := [(at, timer.value) for timer, at in self.timers.items() if at <= until]:
            fired += 1
            self.assertLess(fired, FIRED_MOST, "a timer sets itself again and again")
            at, value = min(due)
            del self.timers[Timer(value)]
            self.now = max(self.now, at)
            effects += self.handle(TimerFired(Timer(value)))
        self.now = until
        return effects

    def slow(self, seconds: float, *numbers: int) -> list[Effect]:
        """Let a frame other than a BATCH come slowly over links *numbers*, for *seconds*."""
        effects: list[Effect] = []
        for _ in range(int(2 * seconds)):
            for number in numbers:
                effects += self.handle(Arriving(number, None, 100, 1000))
            effects += self.wait(0.5)
        return effects

    def fire(self, timer: Timer, now: float) -> list[Effect]:
        """Let a timer fire at the time *now*, whatever time it was set for."""
        self.now = now
        self.timers.pop(timer, None)
        return self.handle(TimerFired(timer))

    # ── what comes of it ────────────────────────────────────────────────────────────

    def link(self, number: int) -> Link:
        """The node's struct of a link."""
        link = self.node._links.get(number)
        assert link is not None
        return link

    def gaps(self, effects: list[Effect]) -> list[tuple[int, int]]:
        """The first and the last message of each gap that the application is told of."""
        return [(gap.first, gap.last) for gap in of(effects, GapFound)]

    def delivered(self, effects: list[Effect]) -> list[tuple[int, list[object]]]:
        """The first sequence and the packets of each delivery."""
        return [
            (deliver.first, [packet for _kind, _type, packet in deliver.entries])
            for deliver in of(effects, Deliver)
        ]

    def closed(self, effects: list[Effect]) -> list[tuple[int, Reason]]:
        """The links that are closed, each with the reason."""
        return [(close.link, close.reason) for close in of(effects, Close)]

    def frames(self, effects: list[Effect], number: int) -> list[object]:
        """The frames that are sent over a link, without rosters, signed records and measuring PINGs."""
        return [
            frame
            for frame in self.all_frames(effects, number)
            if not isinstance(frame, MembershipChecks) and frame != Ping(READ_SO_FAR)
        ]

    def all_frames(self, effects: list[Effect], number: int) -> list[object]:
        """Every frame that is sent over a link."""
        return [send.frame for send in of(effects, Send) if number in send.links]

    def sent(self, effects: list[Effect], number: int) -> list[tuple[int, int]]:
        """The first and last message of each batch that is sent over a link."""
        batches = of(self.frames(effects, number), SignedBatch)
        return [(frame.batch.first, frame.batch.last) for frame in batches]

    def wants(self, effects: list[Effect], number: int) -> list[tuple[str, int, int]]:
        """The WANTs that are sent over a link: author, first and last message of each."""
        asked = of(self.frames(effects, number), Want)
        for frame in asked:
            self.assertTrue(frame.graft)
        return [(NAMES[frame.origin], frame.first, frame.last) for frame in asked]

    def asked(self, effects: list[Effect]) -> list[int]:
        """The links over which WANTs are sent, in order."""
        return [
            number for send in of(effects, Send) if isinstance(send.frame, Want) for number in send.links
        ]

    def haves(
        self, effects: list[Effect], number: int, *, answer: bool = False
    ) -> list[tuple[str, int, int]]:
        """The streams in HAVEs to a link, either those that close an *answer* or the others."""
        told = of(self.frames(effects, number), Have)
        return [
            (NAMES[one.origin], one.low, one.high)
            for frame in told
            if frame.answer is answer
            for one in frame.streams
        ]

    def prunes(self, effects: list[Effect], number: int) -> list[str]:
        """The authors that PRUNEs to a link name."""
        return [NAMES[one] for frame in of(self.frames(effects, number), Prune) for one in frame.origins]

    def snapshots(self, effects: list[Effect]) -> list[Snapshot]:
        """The snapshots that are sent."""
        return [send.frame for send in of(effects, Send) if isinstance(send.frame, Snapshot)]

    def assert_untouched(self, before: dict[str, int], number: int) -> None:
        """Let a link be gone; assert that the footprint is as *before*."""
        self.handle(LinkClosed(number))
        self.assertEqual(self.node.footprint(), before)


class TriangleTestCase(NodeTestCase):
    """A node with links to Anna, Bert and Cleo, who hold nothing; all three links are up."""

    def setUp(self) -> None:
        super().setUp()
        self.triangle()

    def triangle(self, epoch: int = 1, **limits: float) -> None:
        """Begin anew with *limits*."""
        forget_hashes()
        self.make(epoch, **limits)
        for number, name in enumerate(("anna", "bert", "cleo"), 1):
            self.up(number, name)
            self.accept(number)
