"""What the tests of one node share."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core import network
from tests.core.network import entries, myself, of, peer
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import (
    Close,
    Deliver,
    Effect,
    LinkClosed,
    LinkOpened,
    Publish,
    Received,
    Send,
    Timer,
    TimerFired,
)
from twisted_mesh.core.node import Node
from twisted_mesh.errors import Reason
from twisted_mesh.wire import native
from twisted_mesh.wire.native import SignedBatch, Snapshot, SnapshotEntry

ALL = Snapshot(True, [])  # of a peer that knows nothing


class NodeTestCase(SynchronousTestCase):
    """A node "me", and whatever its links bring."""

    def setUp(self) -> None:
        self.verified = 0
        self.make()

    def make(self, epoch: int = 1, **limits: float) -> None:
        """Begin anew with *limits*."""
        self.now = 50.0
        self.config = MeshConfig(**limits)  # type: ignore[arg-type]
        self.node = Node(myself("me", epoch, verify=self.verify), self.config)

    def verify(self, origin: bytes, signature: bytes, text: bytes) -> bool:
        """Verify and count."""
        self.verified += 1
        return network.verify(origin, signature, text)

    def open(
        self, number: int, name: str = "bert", *, epoch: int = 1, outgoing: bool = False
    ) -> list[Effect]:
        """A proven link to *name*."""
        return self.node.handle(LinkOpened(number, peer(name, epoch), outgoing), self.now)

    def receive(self, number: int, *frames: native.Frame) -> list[Effect]:
        """*frames* over a link."""
        return self.node.handle(Received(number, frames), self.now)

    def up(
        self, number: int, name: str = "bert", *streams: SnapshotEntry, outgoing: bool = False
    ) -> list[Effect]:
        """A link that is up: the peer's snapshot has come."""
        effects = self.open(number, name, outgoing=outgoing)
        return effects + self.receive(number, Snapshot(True, list(streams)))

    def publish(self, *texts: object) -> list[Effect]:
        """Messages of this node, all of one turn."""
        return self.node.handle(Publish(entries(*texts), 1000), self.now)

    def fire(self, now: float) -> list[Effect]:
        """The gap timer."""
        self.now = now
        return self.node.handle(TimerFired(Timer.GAPS), now)

    def delivered(self, effects: list[Effect]) -> list[tuple[int, list[object]]]:
        """The first sequence and the packets of each delivery."""
        return [
            (deliver.first, [packet for _kind, _type, packet in deliver.entries])
            for deliver in of(effects, Deliver)
        ]

    def closed(self, effects: list[Effect]) -> list[tuple[int, Reason]]:
        """The links that are closed, each with the reason."""
        return [(close.link, close.reason) for close in of(effects, Close)]

    def sent(self, effects: list[Effect], number: int) -> list[tuple[int, int]]:
        """The first and last message of each batch that is sent over a link."""
        return [
            (send.frame.batch.first, send.frame.batch.last)
            for send in of(effects, Send)
            if number in send.links and isinstance(send.frame, SignedBatch)
        ]

    def snapshots(self, effects: list[Effect]) -> list[Snapshot]:
        """The snapshots that are sent."""
        return [send.frame for send in of(effects, Send) if isinstance(send.frame, Snapshot)]

    def assert_untouched(self, before: dict[str, int], number: int) -> None:
        """Assert that all a link leaves behind is nothing."""
        self.node.handle(LinkClosed(number), self.now)
        self.assertEqual(self.node.footprint(), before)
