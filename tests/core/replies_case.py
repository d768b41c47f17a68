"""The case that the tests of receipts and direct messages share."""

from __future__ import annotations

from tests.core import network
from tests.core.membership_case import MembershipTestCase
from tests.core.network import asking, of, origin_of, presence
from tests.core.node_case import NAMES
from twisted_mesh.core.events import (
    Ask,
    Deliver,
    DirectsEnded,
    Effect,
    Holders,
    Receipted,
    SendDirect,
    SendDirects,
    Skipped,
    Taken,
)
from twisted_mesh.core.link import READ_SO_FAR
from twisted_mesh.network import SSL
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.codec import Frame
from twisted_mesh.wire.link import Pong
from twisted_mesh.wire.replies import Direct, DirectAck, Receipts, SignedReceipt
from twisted_mesh.wire.signed import SignedRecord

Told = list[tuple[str, int, int]]
MEMBERS = ("anna", "bert", "cleo")


class RepliesTestCase(MembershipTestCase):
    """A node "me" between Anna, Bert and Cleo; Dora is behind Anna."""

    def setUp(self) -> None:
        super().setUp()
        self.begin()

    def begin(self, **limits: float) -> None:
        """Begin anew with *limits*; no presence is due for 3,000 s."""
        self.star(*MEMBERS, presence_settle=1e6, presence_interval=3000.0, **limits)
        for number, name in enumerate(MEMBERS, 1):
            self.receive(number, presence(name, interval=3_000_000))
        self.receive(1, presence("dora", interval=3_000_000))

    def late(self, number: int) -> None:
        """Let a peer be asked (PING) when it has read so many bytes that it needs long for them."""
        flow = self.link(number).flow
        flow.sent += 20_000
        self.assertTrue(flow.meter.sent(flow.sent, self.now))

    def has_read(self, number: int) -> list[Effect]:
        """Let that peer say that it has read them."""
        return self.receive(number, Pong(READ_SO_FAR))

    # ── receipts ────────────────────────────────────────────────────────────────────

    def ask(self, *texts: object) -> list[Effect]:
        """Publish messages, and ask for receipts of the last one."""
        effects = self.publish(*texts)
        return effects + self.handle(Ask((self.node.outbox.head,)))

    def get(self, first: int, count: int = 1, author: str = "dora", link: int = 1) -> list[Effect]:
        """Let messages of *author* come, the last of which asks; the application takes all at once."""
        effects = self.receive(link, asking(author, first, count))
        return effects + self.take(first + count - 1, author)

    def take(self, sequence: int, author: str = "dora", epoch: int = 1) -> list[Effect]:
        """The application has taken all up to *sequence*."""
        return self.handle(Taken((origin_of(author), epoch), sequence))

    def lose(self, sequence: int, author: str = "dora") -> list[Effect]:
        """The application will not take all up to *sequence*."""
        return self.handle(Skipped((origin_of(author), 1), sequence))

    def bring(self, number: int, *receipts: SignedReceipt) -> list[Effect]:
        """Let *receipts* come over a link, in one frame."""
        return self.receive(number, Receipts(list(receipts)))

    def receipts(self, effects: list[Effect], number: int) -> Told:
        """The receipts that are sent over a link: member, first and last message of each."""
        return [one for frame in self.receipt_frames(effects, number) for one in frame]

    def receipt_frames(self, effects: list[Effect], number: int) -> list[Told]:
        """The receipts that are sent over a link, frame by frame."""
        frames = []
        for frame in of(self.all_frames(effects, number), Receipts):
            values = [codec.receipt(signed.array) for signed in frame.entries]
            frames.append([(NAMES[one.member], one.low, one.high) for one in values])
        return frames

    def no_receipts(self, effects: list[Effect]) -> None:
        """Assert that no receipt is sent over any link."""
        self.assertEqual([self.receipts(effects, number) for number in range(1, 9)], [[]] * 8)

    def holders(self, sequence: int = 1) -> tuple[str, str, str]:
        """The members that have an own message, may still get it, and never will."""
        holders = self.node.replies.holders(sequence)
        assert isinstance(holders, Holders)
        delivered, pending, missed = (" ".join(sorted(NAMES[one] for one in some)) for some in holders)
        return delivered, pending, missed

    def news(self, effects: list[Effect]) -> list[int]:
        """The own messages of which the application is told that something has changed."""
        return [sequence for one in of(effects, Receipted) for sequence in one.sequences]

    # ── direct messages ─────────────────────────────────────────────────────────────

    def send(self, token: int, name: str = "dora", text: object = "psst") -> list[Effect]:
        """Send a message to one node."""
        body = join_entries([pack_entry(2, [text])])
        return self.handle(SendDirects((SendDirect(token, origin_of(name), body),)))

    def directs(self, effects: list[Effect], number: int) -> list[tuple[str, int, int]]:
        """The direct messages that are sent over a link: destination, number, and oldest number."""
        return [
            (NAMES[record.destination], at, record.oldest)
            for record in self.direct_frames(effects, number)
            for at in range(record.first, record.last + 1)
        ]

    def direct_frames(self, effects: list[Effect], number: int) -> list[Direct]:
        """The DIRECTs that are sent over a link."""
        records = [one.record for one in of(self.all_frames(effects, number), SignedRecord)]
        return [record for record in records if isinstance(record, Direct)]

    def acks(self, effects: list[Effect], number: int) -> list[tuple[str, int]]:
        """The acknowledgements that are sent over a link: author, and number of the last message."""
        records = [one.record for one in of(self.all_frames(effects, number), SignedRecord)]
        return [(NAMES[one.origin], one.number) for one in records if isinstance(one, DirectAck)]

    def over(self, effects: list[Effect]) -> list[int]:
        """The links that direct messages are sent over."""
        return [number for number in range(1, 9) for _ in self.directs(effects, number)]

    def got(self, effects: list[Effect]) -> list[object]:
        """The packets of direct messages that are delivered."""
        return [entry[2] for one in of(effects, Deliver) if not one.first for entry in one.entries]

    def ended(self, effects: list[Effect]) -> list[tuple[int, bool]]:
        """The direct messages that are over, and whether each was acknowledged."""
        ends = of(effects, DirectsEnded)
        return [(token, one.why is None) for one in ends for token in one.tokens]

    def strays(self, *frames: Frame, link: int = 2) -> list[str]:
        """Assert that no frame, coming over a link, has an effect; how each was counted."""
        kinds = []
        for frame in frames:
            before = dict(self.node.counts)
            self.assertEqual(self.receive(link, frame), [], frame)
            counts = self.node.counts
            kinds += [name for name in counts for _ in range(counts[name] - before[name])]
        return kinds


class EncryptedTestCase(RepliesTestCase):
    """The same in an encrypted network, where a link proves who its peer is."""

    def setUp(self) -> None:
        encrypted = network.NETWORK._replace(encryption=SSL)
        self.patch(network, "DIGEST", codec.network_digest(encrypted.id))
        self.manner = {"network": encrypted}
        super().setUp()
