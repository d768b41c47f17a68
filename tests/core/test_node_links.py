"""A node and two links to one peer: one stays, and nothing is lost on the way."""

from __future__ import annotations

from tests.core import network
from tests.core.network import batch, closing, of, roster
from tests.core.node_case import ALL, NodeTestCase
from twisted_mesh.core.events import Close, LinkClosed, LinkDown, LinkUp, Send
from twisted_mesh.errors import Reason
from twisted_mesh.wire.link import Ping

RELIEVED = LinkDown(1, Reason.DUPLICATE)  #: another is in its place


class TestDoubleLinks(NodeTestCase):
    """Two links to one node become one, and nothing is lost on the way."""

    def test_the_newer_replaces_the_older_when_it_is_up(self) -> None:
        self.up(1)
        effects = self.open(2)
        self.assertEqual(self.closed(effects), [])
        self.assertEqual({tuple(send.links) for send in of(effects, Send)}, {(2,)})
        effects = self.receive(2, ALL)
        # There is always a link to the node in the routing table.
        self.assertEqual(of(effects, LinkUp) + of(effects, LinkDown), [LinkUp(2), RELIEVED])
        up, down = network.events.Emit(LinkUp(2)), network.events.Emit(RELIEVED)
        self.assertLess(effects.index(up), effects.index(down))
        self.assertEqual(self.closed(effects), [(1, Reason.DUPLICATE)])

    def test_of_two_dialled_from_here_the_peer_says_which_goes(self) -> None:
        self.up(1, outgoing=True)
        effects = self.up(2, outgoing=True)
        self.assertEqual(self.closed(effects), [])
        self.assertEqual(of(effects, LinkUp), [LinkUp(2)])
        # The peer closes the newer link: the older one takes its place before it goes.
        effects = self.handle(closing(2))
        self.assertEqual(
            of(effects, LinkUp) + of(effects, LinkDown), [LinkUp(1), LinkDown(2, Reason.DISCONNECT)]
        )
        effects = self.handle(closing(1))
        self.assertEqual(of(effects, LinkUp) + of(effects, LinkDown), [LinkDown(1, Reason.DISCONNECT)])

    def test_what_waited_for_another_to_come_up_is_settled_when_that_goes(self) -> None:
        # Two links come in, and a third is dialled to the same node: it is kept, but never comes up.
        self.up(1)
        self.open(2)
        self.open(3, outgoing=True)
        self.assertEqual(self.closed(self.receive(2, ALL)), [])
        effects = self.handle(closing(3))
        self.assertEqual(self.closed(effects), [(1, Reason.DUPLICATE)])

    def test_one_that_two_parts_want_ended_is_closed_once(self) -> None:
        self.up(1)
        self.open(2)
        for why in ("one", "another"):
            self.node._effects.end(self.link(1), Reason.ROOM, why)
        self.assertEqual(self.closed(self.receive(2, ALL))[:1], [(1, Reason.ROOM)])

    def test_any_number_of_links_of_one_node_become_one(self) -> None:
        for number in range(1, 600):
            self.open(number)
        effects = self.receive(599, ALL)
        self.assertEqual(len(self.closed(effects)), 598)
        self.assertEqual(self.node.footprint()["fed_links"], 1)

    def test_one_that_loses_at_once_gets_nothing_but_a_bye(self) -> None:
        self.open(1, epoch=5)
        effects = self.open(2, epoch=4)
        self.assertEqual(effects, [Close(2, Reason.KEY, "another node uses this key, in a newer run")])

    def test_what_the_loser_brings_still_counts(self) -> None:
        self.open(1, epoch=5)
        self.open(2, epoch=4)
        effects = self.receive(2, ALL, roster(), batch("bert", 1), Ping(1))
        self.assertTrue(self.node.settled)
        self.assertEqual(of(effects, LinkUp), [])
        self.assertEqual(self.delivered(effects), [(1, [1])])
        # Nothing goes out over it, not even an answer.
        self.assertEqual({tuple(send.links) for send in of(effects, Send)}, {(1,)})

    def test_both_are_pushed_to_until_one_is_closed(self) -> None:
        # The older link may end before the newer one is read; the peer counts each message once.
        self.up(1)
        self.open(2)
        effects = self.publish("a")
        self.assertEqual((self.sent(effects, 1), self.sent(effects, 2)), ([(1, 1)], [(1, 1)]))

    def test_a_node_whose_next_link_is_proven_is_not_gone(self) -> None:
        # If two dials crossed, the end of one link can overtake the frontier on the other.
        for closed in (closing(1), LinkClosed(1)):
            self.make()
            self.up(1, outgoing=True)
            self.open(2)
            self.assertEqual(of(self.handle(closed), LinkDown), [])
            effects = self.receive(2, ALL)
            self.assertEqual(of(effects, LinkUp) + of(effects, LinkDown), [LinkUp(2), RELIEVED])

    def test_it_is_gone_when_that_goes_too(self) -> None:
        self.up(1, outgoing=True)
        self.open(2)
        self.handle(LinkClosed(1))
        self.assertEqual(of(self.handle(LinkClosed(2)), LinkDown), [LinkDown(1, Reason.LOST)])
