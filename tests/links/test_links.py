"""Links come and go: events, double links, refusals, and what is left of them."""

from __future__ import annotations

from twisted.internet.error import ConnectionRefusedError

from tests.support.meshcase import PORT, Raw, TlsCase
from twisted_mesh.errors import (
    ConnectFailed,
    EncryptionMismatch,
    HandshakeTimeout,
    LocalError,
    NotRunning,
    Reason,
    RemoteError,
    SelfConnection,
    SubnetMismatch,
)
from twisted_mesh.identity import Identity
from twisted_mesh.service import MeshService
from twisted_mesh.wire import codec
from twisted_mesh.wire import greeting as greetings
from twisted_mesh.wire.broadcast import SignedBatch
from twisted_mesh.wire.framing import frame
from twisted_mesh.wire.greeting import Greeting
from twisted_mesh.wire.link import Bye, Whisper


class TestEvents(TlsCase):
    def names(self, service: object) -> list[str]:
        return [name for name, _ in self.events(service) if "connect" in name]  # type: ignore[attr-defined]

    def test_connect_and_disconnect_tell_of_the_first_neighbour_and_the_last(self) -> None:
        a, b, c = self.node(), self.node(), self.node()
        self.link((a, b))
        self.link((a, c))
        self.assertEqual(self.names(a), ["connect"])
        self.unlink(a, b)
        self.assertEqual(self.names(a), ["connect"])
        self.unlink(a, c)
        self.assertEqual(self.names(a), ["connect", "disconnect"])
        self.assertEqual(self.names(b), ["connect", "disconnect"])

    def test_connect_comes_after_the_table_holds_the_peer_and_with_the_service(self) -> None:
        a, b = self.node(), self.node()
        seen: list[object] = []
        a.on("connect", lambda service: seen.extend((service, *service.routing_table)))
        a.on("disconnect", lambda service: seen.append(len(service.routing_table)))
        self.link((b, a))
        self.network.cut(self.host(a), self.host(b))
        self.assertEqual(seen, [a, b.id, 0])

    def test_settling_a_double_link_is_no_event(self) -> None:
        a, b = self.chain(2)
        old = a.routing_table[b.id]
        self.dialled_twice(a, b)
        self.assertIsNot(a.routing_table[b.id], old)
        self.assertEqual(len(self.network.ends), 2)
        self.assertEqual(self.names(a) + self.names(b), ["connect", "connect"])
        self.assertEqual(self.reasons(a) + self.reasons(b), [])
        self.send(a, "still")
        self.assertEqual(self.got(b), ["still"])

    def dialled_twice(self, a: object, b: object) -> None:
        # The second dial uses another name of the host, else it would count as the same target.
        self.network.ports["alias", PORT] = self.network.ports[self.host(b), PORT]  # type: ignore[arg-type]
        link = a.connect("alias", PORT)  # type: ignore[attr-defined]
        self.assertEqual(self.result_of(link).id, b.id)  # type: ignore[attr-defined]
        del self.network.ports["alias", PORT]

    def test_what_was_queued_on_the_older_of_two_links_still_arrives(self) -> None:
        a, b, c = self.chain(3)
        stuck = self.network.between(self.host(b), self.host(c))[1]
        stuck.reads = False
        for number in range(20):
            a.send(number, b"x" * 20_000)  # relayed by b, queued for c
            self.network.pump()
        stuck.reads = True
        for end in self.network.between(self.host(b), self.host(c)):
            end.chunk = 1000
        self.dialled_twice(c, b)
        self.network.pump()
        self.assertEqual(self.got(c), list(range(20)))

    def test_a_double_link_leaves_nothing_behind(self) -> None:
        a, b = self.chain(2)

        def left() -> list[dict[str, int]]:
            # The other address, its host, the link of the next record, and the claim of the second link's
            # snapshot differ.
            changed = (
                *("dialled_peers", "parents", "first_arrivals", "claims", "accept_rates"),
                "sites_met",
            )
            return [
                {name: count for name, count in service.footprint().items() if name not in changed}
                for service in (a, b)
            ]

        before = left()
        self.dialled_twice(a, b)
        self.network.advance(1)
        self.assertEqual(left(), before)

    def stuck_whispers(self, a: MeshService, b: MeshService, count: int) -> None:
        """Let *count* whispers of *a* to *b* wait; when the first is over, *a* closes the link."""
        link = a.routing_table[b.id]
        link._queue.paused = True
        whispers = [link.whisper(number) for number in range(count)]
        whispers[0].addBoth(lambda _: a.disconnect(link))
        for whisper in whispers[1:]:
            whisper.addErrback(lambda _: None)

    def test_a_close_within_a_callback_of_a_close_leaves_the_first_reason(self) -> None:
        a, b = self.chain(2)
        link, other = a.routing_table[b.id], b.routing_table[a.id]
        self.stuck_whispers(a, b, 2)
        link.close(RemoteError("too slow", Reason.SLOW))
        self.network.advance(1)
        assert other.error is not None
        self.assertEqual(other.error.reason, Reason.SLOW)

    def test_nor_does_it_lose_what_goes_out_at_the_peers_goodbye(self) -> None:
        a, b = self.chain(2)
        link, other = a.routing_table[b.id], b.routing_table[a.id]
        link._queue._write_bytes = 10  # so that each whisper is written by itself
        self.stuck_whispers(a, b, 4)
        other.close(RemoteError("no room", Reason.ROOM))
        self.network.advance(1)
        self.assertEqual(self.got(b), [0, 1, 2, 3])

    def test_connect_to_a_linked_peer_returns_that_link(self) -> None:
        a, b = self.chain(2)
        again = self.successResultOf(a.connect(self.host(b), PORT))
        self.assertIs(again, a.routing_table[b.id])
        self.assertEqual(len(self.network.dials), 1)


class TestRefusals(TlsCase):
    def assert_refused(
        self, a: object, b: object, error: type[Exception], reason: str, *, target: str | None = None
    ) -> str:
        """Assert that a.connect(b) fails with *error*, and that nothing is left of the attempt."""
        before = self.lasting(a.footprint()), self.lasting(b.footprint())  # type: ignore[attr-defined]
        link = a.connect(target or self.host(b), PORT)  # type: ignore[attr-defined, arg-type]
        self.network.advance(15)
        failure = self.failureResultOf(link, error)
        self.assertIs(failure.type, error)
        self.assertEqual((self.lasting(a.footprint()), self.lasting(b.footprint())), before)  # type: ignore[attr-defined]
        self.assertEqual(self.network.ends, [])
        self.assertEqual(self.reasons(a)[-1:], [reason] if reason else [])  # type: ignore[arg-type]
        dials = len(self.network.dials)
        self.network.advance(200)
        self.assertEqual(len(self.network.dials), dials, "dialled again")
        return str(failure.value)

    def test_another_subnet_is_told_to_both(self) -> None:
        a, b = self.node(subnet="one"), self.node(subnet="other")
        text = self.assert_refused(a, b, SubnetMismatch, "subnet")
        self.assertEqual(text, "another subnet, or trust by other means [subnet]")
        self.assertEqual(self.reasons(b), ["subnet"])
        (refusal,) = self.happened(b, "refused")
        self.assertFalse(refusal.outgoing)
        self.assertEqual(refusal.detail, "the peer closed: another subnet, or trust by other means")
        self.assertEqual(refusal.address[0], self.host(a))

    def test_who_is_not_of_the_subnet_is_told_nothing_by_a_refusal_but_its_reason(self) -> None:
        a = self.node(subnet="nobody's business")
        outsider = self.puppet().me
        hello = greetings.encode(Greeting(outsider.id, outsider.network.id, None, True, 0))
        refusals = {
            hello: Bye("subnet", "another subnet, or trust by other means"),
            frame(b"GET / HTTP/1.1"): Bye("greeting", ""),
            b"GET / HTTP/1.1": Bye("framing", ""),
            b"": Bye("timeout", ""),
        }
        dialled = [Raw() for _ in refusals]
        self.serve(dialled)
        for raw, (said, told) in zip(dialled, refusals.items(), strict=True):
            link = a.connect("10.9.9.9", PORT)
            stranger = self.dial(Raw(), a)
            self.network.pump()
            for one in (raw, stranger):
                one.write(said)
            self.failure_of(link, RemoteError, after=13)
            self.assertEqual(raw.received, codec.encode(told))
            self.assertEqual(stranger.frames(), [told])

    def test_tls_meets_plain_text(self) -> None:
        a, b = self.node(), self.node(encryption="Plaintext")
        self.assert_refused(a, b, EncryptionMismatch, "encryption")
        self.assertEqual(self.reasons(b), ["encryption"])

    def test_plain_text_meets_tls(self) -> None:
        a, b = self.node(encryption="Plaintext"), self.node()
        text = self.assert_refused(a, b, HandshakeTimeout, "timeout")
        self.assertIn("does only one side speak TLS?", text)
        self.assertEqual(len(self.reasons(b)), 1)

    def test_the_node_itself(self) -> None:
        a = self.node()
        self.assert_refused(a, a, SelfConnection, "self")

    def test_a_peer_that_is_the_node_itself_is_dropped(self) -> None:
        self.node(peers=[f"10.0.0.1:{PORT}"])
        self.network.advance(100)
        self.assertEqual(len(self.network.dials), 1)
        self.assertEqual(len(self.log("is this node itself: not dialled again")), 1)

    def test_silence(self) -> None:
        a = self.node(limits={"handshake_timeout": 3.0})
        raw = Raw()
        self.serve([raw], encrypted=False)
        link = a.connect("10.9.9.9", PORT)
        self.network.advance(2.9)
        self.assertEqual(self.reasons(a), [])
        self.network.advance(0.2)
        self.assertEqual(self.reasons(a), ["timeout"])
        self.network.advance(2)  # close_timeout: the BYE waits for a TLS session
        text = str(self.failureResultOf(link, HandshakeTimeout).value)
        self.assertIn("not over after 3 s; nothing came: does only one side speak TLS?", text)

    def test_a_peer_that_stops_in_the_middle_of_the_handshake(self) -> None:
        a = self.node()
        puppet = self.met(a, frontier=False)
        self.network.advance(9.9)
        self.assertIsNone(puppet.lost)
        self.assertEqual(a.footprint()["connections"], 1)
        self.network.advance(0.2)
        self.assertEqual(puppet.bye.reason, "timeout")
        self.assertNotIn("TLS", puppet.bye.detail)
        self.assertEqual(self.reasons(a), ["timeout"])

    def test_another_id_than_the_one_that_was_dialled(self) -> None:
        b = self.node()
        wrong = Identity.generate()
        a = self.node(peers=[f"{wrong.id.decode()}@10.0.0.1:{PORT}"])
        self.network.pump()
        self.assertEqual(self.reasons(a), ["identity"])
        self.assertEqual(self.reasons(b), ["identity"])
        self.assertEqual(dict(a.routing_table), {})
        self.assertIn(f"not {wrong.id.decode()}", self.happened(a, "refused")[0].detail)

    def test_the_id_that_was_dialled(self) -> None:
        b = self.node()
        a = self.node(peers=[f"{b.id.decode()}@10.0.0.1:{PORT}"])
        self.network.pump()
        self.assertEqual(list(a.routing_table), [b.id])

    def test_nobody_listens(self) -> None:
        a = self.node()
        link = a.connect("10.0.0.77", PORT)
        self.network.pump()
        failure = self.failureResultOf(link, ConnectFailed)
        self.assertIsInstance(failure.value, OSError)
        self.assertIsInstance(failure.value.__cause__, ConnectionRefusedError)
        self.assertIn("no connection to 10.0.0.77:4444: connection refused", str(failure.value))
        self.assertEqual(self.happened(a, "refused"), [])
        self.assertEqual(a.footprint()["connections"], 0)

    def test_no_answer(self) -> None:
        a, b = self.node(), self.node()
        self.network.part([self.host(a)], [self.host(b)])
        link = a.connect(self.host(b), PORT)
        self.network.advance(9.9)
        self.assertNoResult(link)
        self.failure_of(link, ConnectFailed, after=0.2)

    def test_a_link_beyond_links_limit(self) -> None:
        a = self.node(limits={"links_limit": 2})
        others = [self.node() for _ in range(3)]
        for other in others[:2]:
            self.link((other, a))
        refused = self.failure_of(others[2].connect(self.host(a), PORT), RemoteError)
        self.assertIs(refused.reason, Reason.FULL)
        self.assertEqual(self.reasons(a), ["full"])
        self.assertEqual(set(a.routing_table), {other.id for other in others[:2]})

    def test_connections_that_are_being_closed_take_nobodys_place(self) -> None:
        a, b = self.node(limits={"links_limit": 1}), self.node()
        for _ in range(3):
            raw = self.dial(Raw(), a)
            raw.write(b"\xff" * 8)
            self.network.between("10.9.9.9", self.host(a))[0].reads = False
        self.network.pump()
        self.link((b, a))

    def test_strangers_beyond_handshakes_limit_push_the_oldest_out(self) -> None:
        a = self.node(limits={"handshakes_limit": 3}, encryption="Plaintext")
        raws = [self.dial(Raw(), a, encrypted=False) for _ in range(5)]
        self.network.pump()
        self.assertEqual(a.footprint()["strangers"], 3)
        self.assertEqual([raw.lost is not None for raw in raws], [True, True, False, False, False])
        self.assertEqual(raws[0].bye.reason, "full")

    def test_many_that_say_nothing_leave_the_chain_alone(self) -> None:
        a, b = self.chain(2)
        for number in range(60):
            self.dial(Raw(), a, host=f"10.8.0.{number}")
        self.network.pump()
        self.send(a, "still", after=13)
        self.assertEqual(self.got(b), ["still"])
        self.assertEqual(a.footprint()["connections"], 1)

    def test_a_scan_is_nobody_to_tell_about(self) -> None:
        a = self.node(debug_level=2)
        for _ in range(3):
            self.dial(Raw(), a).close()
            self.network.pump()
        self.assertEqual(self.happened(a, "refused"), [])
        self.assertEqual(len(self.log("went without a word")), 3)

    def test_connect_to_a_node_that_goes_away_meanwhile(self) -> None:
        a = self.node()
        raw = Raw()
        self.serve([raw])
        link = a.connect("10.9.9.9", PORT)
        self.network.pump()
        raw.close()
        error = self.failure_of(link, RemoteError)
        self.assertIs(error.reason, Reason.LOST)
        self.assertEqual(self.reasons(a), ["lost"])


class TestTheApplicationsSide(TlsCase):
    def test_connect_checks_its_arguments_at_once(self) -> None:
        a = self.make()
        self.assertRaises(NotRunning, a.connect, "10.0.0.9", PORT)
        a.startService()
        for port in (0, 65536, -1, "80", True, 1.0, None):
            self.assertRaises(LocalError, a.connect, "10.0.0.9", port)
        self.assertEqual(self.network.dials, [])

    def test_the_empty_host_is_this_one(self) -> None:
        a = self.node()
        self.failureResultOf_after(a.connect("", 99))
        self.assertEqual(self.network.dials[0][1], ("127.0.0.1", 99))

    def failureResultOf_after(self, link: object) -> None:
        self.network.pump()
        self.failureResultOf(link, ConnectFailed)  # type: ignore[arg-type]

    def test_disconnect_tells_the_peer_and_sends_what_was_queued(self) -> None:
        a = self.node()
        puppet = self.joined(a)
        self.send(a, "last")
        link = a.routing_table[puppet.me.id]
        self.assertIn("10.9.9.9", repr(link))
        link.whisper("words")
        a.disconnect(link)
        self.network.pump()
        kinds = [type(frame) for frame in puppet.frames()][-3:]
        self.assertEqual(kinds, [SignedBatch, Whisper, Bye])
        self.assertEqual(puppet.bye.reason, "disconnect")
        self.assertEqual(a.footprint()["routing_table"], 0)
        a.disconnect(link)  # a second call changes nothing
        self.assertIs(self.failureResultOf(link.when_up(), RemoteError).value.reason, Reason.DISCONNECT)

    def test_rubbish_behind_our_bye_ends_the_connection_at_once(self) -> None:
        a = self.node()
        puppet = self.joined(a)
        self.unlink(a, puppet.me)
        self.assertIsNone(puppet.lost)
        puppet.write(b"\xff" * 8)
        self.network.pump()
        self.assertIsNotNone(puppet.lost)
        self.assertEqual(a.footprint()["connections"], 0)

    def test_there_may_be_no_other_link_to_wait_for(self) -> None:
        a, b = self.chain(2)
        connections = self.parts_of(a).connections
        self.assertIs(self.successResultOf(connections.link_with(b.id)), a.routing_table[b.id])
        self.assertIs(
            self.failureResultOf(connections.link_with(b"?"), RemoteError).value.reason, Reason.LOST
        )

    def test_a_peer_that_keeps_a_closed_connection_open_is_cut_off(self) -> None:
        a = self.node()
        puppet = self.joined(a)
        self.network.between("10.9.9.9", self.host(a))[0].reads = False
        self.unlink(a, puppet.me, after=1.9)
        self.assertEqual(a.footprint()["connections"], 1)
        self.network.advance(0.2)
        self.assertEqual(a.footprint()["connections"], 0)

    def test_the_address_of_a_link_is_where_its_peer_can_be_dialled(self) -> None:
        a = self.node(out_addr=("10.7.7.7", 1234))
        b = self.node()
        self.link((a, b))
        self.assertEqual(b.routing_table[a.id].address, ("10.7.7.7", 1234))
        self.assertFalse(b.routing_table[a.id].outgoing)
        self.assertTrue(a.routing_table[b.id].outgoing)
        c = self.node(listens=False)
        self.link((c, a))
        self.assertEqual(a.routing_table[c.id].address[0], self.host(c))
