"""Start, stop, and start again: runs, dead links, and the messages that are handed over at the end."""

from __future__ import annotations

from functools import partial

from twisted.application.service import IService, MultiService
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, TimeoutError
from zope.interface.verify import verifyObject

from tests.support.meshcase import PORT, Raw, TlsCase, batch
from twisted_mesh.aio import Mesh
from twisted_mesh.core.broadcast.inbound import Inbound
from twisted_mesh.core.broadcast.outflow import Outflow
from twisted_mesh.errors import LocalError, NotRunning
from twisted_mesh.identity import Identity
from twisted_mesh.network import Protocol
from twisted_mesh.service import MeshService
from twisted_mesh.testing import MemoryMesh
from twisted_mesh.wire.link import Ping, Pong


class ReprTests(TlsCase):
    def test_a_service_shows_who_it_is(self) -> None:
        a, _ = self.chain(2)
        self.assertEqual(repr(a), f"<MeshService {a.id.decode()}, neighbours: 1>")
        self.stop(a)
        self.assertEqual(repr(a), f"<MeshService {a.id.decode()}, stopped>")


class TestConstruction(TlsCase):
    def test_it_opens_nothing(self) -> None:
        a = self.make(peers=["10.0.0.9:1"])
        verifyObject(IService, a)
        self.assertEqual((self.network.ports, self.network.dials), ({}, []))
        self.assertEqual(self.network.clock.getDelayedCalls(), [])
        self.assertEqual((a.addresses, dict(a.routing_table), a.footprint()), ((), {}, {}))
        self.assertEqual(a.protocol, Protocol("mesh", "SSL"))

    def test_arguments_that_cannot_work(self) -> None:
        wrong: list[dict[str, object]] = [
            {"listen": "tcp:4444"},
            {"listen": ("nonsense:1",)},
            {"listen": (5,)},
            {"listen": ("ssl:4444",)},
            {"listen": None},
            {"peers": ("nonsense",)},
            {"peers": (5,)},
            {"peers": ("host:0",)},
            {"encryption": "ROT13"},
            {"subnet": b"mesh"},
            {"out_addr": ("host", 0)},
        ]
        for options in wrong:
            with self.assertRaises(LocalError, msg=str(options)):
                MeshService(self.network.clock, **options)  # type: ignore[arg-type]

    def test_arguments_of_another_kind_are_told_what_to_be(self) -> None:
        for options, told in (
            ({"listen": [("127.0.0.1", 0)]}, "write 'tcp:PORT:interface=ADDRESS', or give an endpoint"),
            ({"config": {}}, "config is a MeshConfig, such as MeshConfig(ping_after=2.0), not {}"),
            (
                {"identity": None, "history": "node.history"},
                "a history is one node's: give its identity, too, such as "
                "identity=Identity.load_or_create('node.key')",
            ),
            ({"dial": 5}, "dial makes a client endpoint of a host and a port: it is not 5"),
        ):
            error = self.assertRaises(LocalError, MeshService, self.network.clock, **options)
            self.assertIn(told, str(error))
        error = self.assertRaises(LocalError, MeshService, None)
        self.assertEqual(
            str(error), "reactor is what `from twisted.internet import reactor` gives, not None"
        )

    def test_a_keyword_that_there_is_not_is_told_those_that_there_are(self) -> None:
        for made, beginning in (
            (
                partial(MeshService, self.network.clock),
                "MeshService has no colour=: there are reactor, ",
            ),
            (Mesh, "Mesh has no colour=: there are listen, peers, "),
            (
                partial(MemoryMesh, 0),
                "MemoryMesh has no colour=: beside count, seed and topology ",
            ),
            (self.mesh.add, "MemoryMesh.add() has no colour=: beside started there are listen, peers, "),
        ):
            error = self.assertRaises(TypeError, made, colour="red")
            self.assertTrue(str(error).startswith(beginning), error)
            self.assertRegex(str(error), ", dial, debug_level, (control, )?config$")

    def test_the_table_is_live_and_read_only(self) -> None:
        a, b = self.node(), self.node()
        table = a.routing_table
        self.link((a, b))
        self.assertEqual(list(table), [b.id])
        with self.assertRaises(TypeError):
            table[b"x"] = None  # type: ignore[index]


class TestRuns(TlsCase):
    def test_in_a_multi_service(self) -> None:
        parent = MultiService()
        a = self.make()
        a.setServiceParent(parent)
        parent.privilegedStartService()
        self.assertEqual(list(self.network.ports), [("10.0.0.1", PORT)])
        parent.startService()
        self.assertEqual(a.running, 1)
        self.result_of(parent.stopService())
        self.assertEqual((self.network.ports, a.running), ({}, 0))

    def test_a_start_again_is_a_new_run(self) -> None:
        a, b = self.chain(2)
        self.send(a, 1)
        self.result_of(a.stopService())
        self.assertEqual((a.footprint(), dict(a.routing_table)), ({}, {}))
        a.startService()
        self.link((a, b))
        self.send(a, 2)
        one, two = (message.id for message in self.received(b))
        self.assertGreater(two[1], one[1])
        self.assertEqual((one[2], two[2]), (1, 1))
        self.assertEqual(self.got(b), [1, 2])

    def test_a_new_run_replaces_the_links_of_one_that_vanished(self) -> None:
        key = Identity.generate()
        a, b = self.linked(self.node(identity=key), self.node())
        self.network.unplug(self.host(a), self.host(b))
        again = self.node(identity=key)
        self.link((again, b))
        self.send(again, "back")
        self.assertEqual(self.got(b), ["back"])
        self.assertEqual(len(b.routing_table), 1)

    def test_stop_without_start_and_stop_twice(self) -> None:
        a = self.make()
        self.successResultOf(a.stopService())
        b = self.node()
        a.startService()
        self.link((a, b))
        self.network.between(self.host(a), self.host(b))[1].reads = False
        first, second = a.stopService(), a.stopService()
        self.network.pump()
        self.assertNoResult(first)
        self.assertNoResult(second)
        for call in (a.startService, a.joined, a.drained):
            self.assertIn("is still stopping: wait for", str(self.assertRaises(NotRunning, call)))
        self.result_of(first, after=3)
        self.successResultOf(second)
        self.assertIn("does not run: start it", str(self.assertRaises(NotRunning, a.joined)))

    def test_connections_made_while_it_stops_or_stands_still_are_refused(self) -> None:
        for encryption in ("SSL", "Plaintext"):
            a = self.make(encryption=encryption)
            factory = a.factory
            self.assertIsNone(factory.buildProtocol(IPv4Address("TCP", "10.9.9.9", 1)))
            a.startService()
            self.network.pump()
            port = self.network.ports[self.host(a), PORT]
            puppet = self.puppet(encrypted=a.protocol.encrypted)
            self.dial(puppet, a, encrypted=a.protocol.encrypted)
            self.network.pump()
            self.network.between("10.9.9.9", self.host(a))[0].reads = False
            stopped = a.stopService()
            self.network.pump()
            self.assertNoResult(stopped)
            self.network.ports[self.host(a), PORT] = port  # an own port of the application
            late = self.dial(Raw(), a, encrypted=a.protocol.encrypted)
            self.result_of(stopped, after=4)
            self.assertIsNotNone(late.lost)
            self.assertEqual(late.bye.reason, "leaving")
            del self.network.ports[self.host(a), PORT]

    def test_a_connect_that_is_under_way_at_the_end_fails_at_once_and_makes_no_link(self) -> None:
        for connect_takes in (1.0, 0.0):
            a, b = self.node(), self.node()
            self.network.connect_takes = connect_takes
            link = a.connect(self.host(b), PORT)
            self.network.clock.advance(0)  # a made connection still has its handshake before it
            self.assertNoResult(link)
            stopped = a.stopService()
            error = self.failureResultOf(link, NotRunning).value
            self.assertEqual(str(error), f"the service stopped before it was linked with {self.address(b)}")
            self.result_of(stopped)
            self.network.advance(5)
            self.assertEqual((dict(b.routing_table), self.network.ends), ({}, []))

    def test_a_connect_that_is_given_up_says_so_in_twisteds_words(self) -> None:
        a, b = self.node(), self.node()
        for connect_takes in (1.0, 0.0):
            self.network.connect_takes = connect_takes
            in_time = a.connect(self.host(b), PORT).addTimeout(0.5, self.network.clock)
            given_up = a.connect(self.host(b), PORT)
            given_up.cancel()
            self.failureResultOf(given_up, CancelledError)
            if connect_takes:
                self.network.clock.advance(0.5)
                self.failureResultOf(in_time, TimeoutError)
                self.network.advance(5)
                self.assertEqual((dict(a.routing_table), self.network.ends), ({}, []))
            else:
                self.result_of(in_time)

    def test_who_gives_up_waiting_for_the_stop_changes_nothing_of_it(self) -> None:
        for when in (0.0, 0.5, 2.5):
            parent = MultiService()
            a, b = self.make(), self.node()
            a.setServiceParent(parent)
            parent.startService()
            self.link((a, b))
            self.say_too_much(a, b)  # so that the stop takes long
            given_up = a.stopService()
            again = a.stopService()
            self.network.advance(when)
            given_up.cancel()
            self.failureResultOf(given_up, CancelledError)
            at_the_end = parent.stopService()
            self.result_of(again, after=15)
            self.successResultOf(at_the_end)
            self.assertEqual(a.footprint(), {})
            a.startService()
            self.assertEqual(self.network.ports.keys() >= {(self.host(a), PORT)}, True)
            self.stop(a)


class TestFault(TlsCase):
    def test_a_fault_of_ours_is_seen_and_costs_no_more_than_its_event(self) -> None:
        a, b = self.chain(2)
        self.fail_once(Inbound, "batch")
        a.send("lost by it")
        self.assertRaises(ZeroDivisionError, self.network.pump)
        self.network.cut(self.host(a), self.host(b))  # as Twisted's reactor does after an error
        self.network.advance(5)
        a.send("after it")
        self.send(b, "and back", after=1)
        self.assertEqual((self.got(b), self.got(a)), (["lost by it", "after it"], ["and back"]))
        self.assertEqual(self.happened(b, "failure"), [])

    def test_a_fault_while_one_link_is_flushed_holds_up_no_other(self) -> None:
        b, a, c = self.chain(3)
        self.fail_once(Outflow, "accepted")
        a.send("to both")
        self.assertRaises(ZeroDivisionError, self.network.pump)
        self.network.pump()
        self.assertEqual((self.got(b), self.got(c)), (["to both"], ["to both"]))


class TestHandingOver(TlsCase):
    def test_stopping_hands_over_what_is_unsent(self) -> None:
        a, b = self.chain(2)
        self.measured(a)
        for number in range(30):
            a.send(number, b"x" * 50_000)
        self.result_of(a.stopService())
        self.assertEqual(self.got(b), list(range(30)))
        self.assertEqual(self.log("taken by no neighbour"), [])

    def test_to_slower_neighbours_as_well(self) -> None:
        b, a, c = self.chain(3)
        self.measured(a)
        slow = self.network.between(self.host(a), self.host(c))[1]
        slow.reads = False
        for number in range(40):
            a.send(number, b"x" * 20_000)
            self.network.pump()
        stopped = a.stopService()
        self.network.advance(5)
        self.assertNoResult(stopped)
        slow.reads = True
        self.result_of(stopped)
        self.assertEqual((self.got(b), self.got(c)), (list(range(40)),) * 2)

    def test_within_its_bound(self) -> None:
        limits = {"handover_timeout": 4.0, "farewell_timeout": 0.5, "close_timeout": 1.0}
        a, b = self.linked(self.node(limits=limits), self.node())
        self.say_too_much(a, b)
        stopped = a.stopService()
        self.network.advance(3.9)
        self.assertNoResult(stopped)
        self.result_of(stopped, after=1.7)
        self.assertEqual(len(self.log("taken by no neighbour")), 1)

    def test_without_a_neighbour_it_is_said_and_not_waited_for(self) -> None:
        a = self.node()
        a.send("to nobody")
        self.result_of(a.stopService())
        self.assertEqual(self.log("taken by no neighbour"), ["1 message was taken by no neighbour"])

    def test_peers_are_told_that_it_leaves(self) -> None:
        a = self.node()
        puppet = self.joined(a)
        a.stopService()
        self.network.pump()
        self.assertEqual(puppet.bye.reason, "leaving")
        self.assertEqual(self.happened(a, "refused"), [])

    def test_no_timer_outlives_it(self) -> None:
        a = self.node()
        puppet = self.joined(a)
        self.network.between("10.9.9.9", self.host(a))[0].reads = False
        stopped = a.stopService()
        puppet.send(batch(puppet.me, 5, "behind a hole"))
        self.result_of(stopped, after=4)
        self.assertEqual(self.network.clock.getDelayedCalls(), [])


class TestLiveness(TlsCase):
    def test_an_idle_link_is_pinged_and_lives(self) -> None:
        a, b = self.chain(2)
        puppet = self.joined(a)
        self.network.advance(6)
        pings = [frame for frame in puppet.frames() if isinstance(frame, Ping)]
        self.assertEqual([ping.token == 0 for ping in pings], [True, False])  # the second asks for life
        self.send_frames(puppet, Pong(pings[1].token), after=60)
        self.assertEqual(list(a.routing_table), [b.id])  # the puppet answered only once
        self.assertEqual(len(self.log("silent for 15 s [silent]")), 1)
        self.assertEqual(puppet.bye.reason, "silent")

    def test_an_unplugged_peer_is_given_up_and_dialled_again(self) -> None:
        a, b = self.chain(2, after=20)
        self.network.unplug(self.host(a), self.host(b))
        for number in range(14):
            self.network.advance(1)
            a.send(number)  # an accepted write is no sign of life
        self.assertEqual(list(a.routing_table), [b.id])
        self.network.advance(8)
        self.assertEqual(list(a.routing_table), [b.id])
        self.assertEqual(len(self.happened(a, "disconnect")), 1)
        self.assertEqual(len(self.happened(a, "connect")), 2)
        self.send(a, "through", after=1)
        self.assertEqual(self.got(b), [*range(14), "through"])
        self.assertEqual(self.happened(b, "gap"), [])

    def test_a_busy_peer_is_not_accused(self) -> None:
        a, b = self.chain(2)
        near, far = self.network.between(self.host(a), self.host(b))
        near.reads = True
        far.reads = False
        link = a.routing_table[b.id]
        for number in range(60):
            link.whisper(number, b"x" * 50_000)
        for _ in range(20):
            # It reads on, and nothing that it writes arrives.
            self.network.advance(2)
            near._arrived.clear()
            far._arrive() if far._arrived else None
        self.assertEqual(self.log("silent for"), [])

    def test_a_reactor_that_stood_still_accuses_nobody(self) -> None:
        a, b = self.chain(2, after=3)
        for _ in range(3):
            self.network.stall(40)
            self.network.advance(2)
        self.assertEqual((list(a.routing_table), list(b.routing_table)), ([b.id], [a.id]))
        self.assertEqual(self.log("silent for"), [])
