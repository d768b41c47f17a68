"""The case that the tests of repair share."""

from __future__ import annotations

from tests.core.network import batch, have, of, origin_of
from tests.core.node_case import NAMES, NodeTestCase
from twisted_mesh.core.events import Effect
from twisted_mesh.wire.broadcast import Have, HaveEntry, SignedBatch


class RepairTestCase(NodeTestCase):
    """A node with links to Anna, Bert, Cleo and Dora, all up; Emil is an author behind them."""

    def setUp(self) -> None:
        super().setUp()
        self.star()

    def star(self, **limits: float) -> None:
        """Begin anew with *limits*."""
        self.make(**{"graft_timeout": 0.15, "graft_retry": 1.0, **limits})
        for number, name in enumerate(("anna", "bert", "cleo", "dora"), 1):
            self.up(number, name)

    def make_lazy_by_us(self, *numbers: int) -> None:
        """Let Emil's first message come over link 1, and again over links *numbers*: these are pruned."""
        self.receive(1, batch("emil", 1))
        for number in numbers:
            self.assertEqual(self.prunes(self.receive(number, batch("emil", 1)), number), ["emil"])

    def practise(self) -> None:
        """Let small answers come until the node expects the next ones to be small, too."""
        for last in range(1, 16):
            self.receive(4, have("practice", 1, last))
            self.receive(4, batch("practice", last), have("practice", 1, last, answer=True))

    def announce(self, *numbers: int, high: int = 9) -> list[Effect]:
        """Let links *numbers* announce Emil's messages 1 to *high*."""
        return [effect for number in numbers for effect in self.receive(number, have("emil", 1, high))]

    def coming(
        self, number: int, coming: int, name: str = "emil", *, high: int = 0, low: int = 0
    ) -> list[Effect]:
        """Let a neighbour say that more of a stream is on its way to a node *coming* hops away."""
        entry = HaveEntry(origin_of(name), 1, low or high + 1, high, coming)
        return self.receive(number, Have([entry], False))

    def told_coming(self, effects: list[Effect], number: int) -> list[tuple[str, int]]:
        """The streams that a neighbour is told to be on their way, each with the hops to where."""
        return [
            (NAMES[one.origin], one.coming)
            for frame in of(self.frames(effects, number), Have)
            for one in frame.streams
            if one.coming
        ]

    def answer(self, number: int, *frames: SignedBatch, low: int = 1, high: int) -> list[Effect]:
        """Let a link answer with *frames*, and close its answer: it holds *low* to *high*."""
        return self.receive(number, *frames, have("emil", low, high, answer=True))
