"""MeshSocket, used as scripts use it: each test blocks in a thread of its own.

These sockets use the reactor of the tests, which runs already and is not theirs;
`tests.processes.test_threads_and_exit` tests sockets that start a reactor.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import pickle
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial, wraps
from types import FrameType
from typing import Any, TypeVar

from pyee.base import EventEmitter
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread

from tests.support.meshcase import NO_TIMEOUTS
from tests.support.processes import eventually, reactor
from tests.support.threadcase import ThreadCase
from twisted_mesh import Member, MeshConfig, MeshSocket, base, mesh
from twisted_mesh.addressing import addresses
from twisted_mesh.addressing.addresses import lan_address
from twisted_mesh.core.broadcast.outflow import Outflow
from twisted_mesh.errors import (
    Congested,
    ConnectFailed,
    ListenFailed,
    LocalError,
    MessageTooLarge,
    NotRunning,
    SubnetMismatch,
    Unreachable,
)
from twisted_mesh.identity import Identity
from twisted_mesh.threads.reactor_thread import reactor_thread

T = TypeVar("T")
MIB = 2**20
OURS = os.path.dirname(mesh.__file__)


def blocks(test: Callable[[Any], None]) -> Callable[[Any], Deferred[None]]:
    """Run a test in a thread of its own, where it may block."""

    @wraps(test)
    def run(self: Any) -> Deferred[None]:
        return deferToThread(test, self)

    return run


class SocketCase(ThreadCase):
    """Makes sockets and closes them; each test runs in a thread of its own, where it may block."""

    def __init_subclass__(cls) -> None:
        for name, test in list(vars(cls).items()):
            if name.startswith("test_"):
                setattr(cls, name, blocks(test))

    def socket(self, *prot: base.Protocol, addr: str = "127.0.0.1", **options: Any) -> MeshSocket:
        """An open socket."""
        sock = MeshSocket(addr, 0, *prot, **options)
        self.addCleanup(deferToThread, sock.close)
        return sock

    def pair(self, **options: Any) -> tuple[MeshSocket, MeshSocket]:
        """Two sockets that are linked; both have the other in their routing table."""
        a, b = self.socket(**options), self.socket()
        a.connect(*b.out_addr)
        self.soon(lambda: b.routing_table)
        return a, b

    def soon(self, condition: Callable[[], Any]) -> Any:
        """Wait until *condition* is true."""
        return blockingCallFromThread(reactor, eventually, condition)

    def all_of(self, sock: MeshSocket, count: int) -> list[base.Message]:
        """Receive *count* messages."""
        got: list[base.Message] = []
        while len(got) < count:
            got += sock.recv(count - len(got) + 1, timeout=30)
        return got

    def beside(self, call: Callable[[], T]) -> Future[T]:
        """Begin *call* in another thread."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return future

    def in_reactor(self, f: Callable[[], Any]) -> Any:
        """Call *f* in the reactor's thread; return its result, even a Deferred, at once."""
        return blockingCallFromThread(reactor, lambda: [f()])[0]


class OpenTests(SocketCase):
    def test_what_it_says_of_itself(self) -> None:
        sock = self.socket()
        host, port = sock.out_addr
        self.assertEqual(host, "127.0.0.1")
        self.assertGreater(port, 0)
        self.assertEqual(sock.protocol, mesh.default_protocol)
        self.assertEqual(repr(mesh.default_protocol), "Protocol(subnet='mesh', encryption='SSL')")
        self.assertIsInstance(sock.id, bytes)
        self.assertEqual(sock.status, "Nominal")
        self.assertEqual((sock.routing_table, sock.awaiting_ids, sock.queue), ({}, [], []))
        self.assertEqual((sock.outgoing, sock.incoming), ([], []))
        self.assertEqual((sock.dropped["no_room"], set(sock.dropped.values())), (0, {0}))
        self.assertEqual(repr(sock), f"<MeshSocket {sock.id.decode()} at {sock.out_addr}, links: 0>")
        sock.close()
        self.assertTrue(repr(sock).endswith(", closed>"))

    def test_it_listens_everywhere_and_tells_the_lan_address(self) -> None:
        peer = self.socket()
        for addr in ("", "0.0.0.0"):
            sock = self.socket(addr=addr)
            self.assertEqual(sock.out_addr[0], lan_address())
            for host in ("127.0.0.1", lan_address()):
                socket.create_connection((host, sock.out_addr[1])).close()
        peer.connect(*sock.out_addr)
        self.assertEqual(list(peer.routing_table), [sock.id])

    def test_what_others_are_told_to_dial(self) -> None:
        self.assertEqual(self.socket(out_addr=("", 44565)).out_addr, (lan_address(), 44565))
        self.assertEqual(self.socket(out_addr=("10.1.2.3", 4)).out_addr, ("10.1.2.3", 4))

    def test_where_no_other_host_can_be_told_it_says_how_this_one_reaches_it(self) -> None:
        self.patch(addresses, "routed_address", lambda family: None)
        self.patch(addresses, "interface_addresses", lambda: ["127.0.0.1", "fd00::7"])
        sock, peer = self.socket(addr=""), self.socket()
        self.assertEqual(sock.out_addr[0], "127.0.0.1")
        peer.connect(*sock.out_addr)
        self.assertEqual(peer.routing_table[sock.id].address, sock.out_addr)
        self.soon(lambda: sock.id in peer.members)
        self.assertIsNone(peer.members[sock.id].address)

    def test_names_and_the_later_protocol(self) -> None:
        sock = self.socket(addr="localhost")
        later = MeshSocket("::1", 0)
        self.addCleanup(deferToThread, later.close)
        self.assertEqual((sock.out_addr[0], later.out_addr[0]), ("127.0.0.1", "::1"))
        later.connect("localhost", sock.out_addr[1])
        self.assertEqual(later.outgoing, [sock.id])

    def test_options_of_the_service(self) -> None:
        identity = Identity.generate()
        self.assertEqual(self.socket(identity=identity).id, identity.id)
        for name in ("listen", "subnet", "encryption", "reactor"):
            error = self.assertRaises(TypeError, MeshSocket, "", 0, **{name: ()})
            self.assertIn(f"no {name}=", str(error))
        error = self.assertRaises(TypeError, MeshSocket, "", 0, colour="red")
        told = "MeshSocket has no colour=: beside addr, port and prot there are peers, identity, out_addr, "
        self.assertTrue(str(error).startswith(told), error)
        error = self.assertRaises(LocalError, MeshSocket, "", 0, config={"ping_after": 1.0})
        self.assertIn("config is a MeshConfig", str(error))
        self.assertRaises(LocalError, MeshSocket, "", 0, base.Protocol("mesh", "ROT13"))
        for port in (-1, 65536, "4444", None):
            self.assertRaises(LocalError, MeshSocket, "", port)

    def test_peers_are_dialled_without_waiting(self) -> None:
        a = self.socket()
        b = self.socket(peers=[f"127.0.0.1:{a.out_addr[1]}"])
        self.soon(lambda: b.routing_table and a.routing_table)

    def test_a_port_that_another_socket_has(self) -> None:
        sock = self.socket()
        error = self.assertRaises(ListenFailed, MeshSocket, "", sock.out_addr[1])
        self.assertIsInstance(error, OSError)
        self.assertEqual(error.errno, errno.EADDRINUSE)
        self.assertIn(f"port {sock.out_addr[1]} is taken by another MeshSocket of this process", str(error))
        sock.close()
        again = MeshSocket("127.0.0.1", sock.out_addr[1])
        self.assertEqual(again.out_addr, sock.out_addr)
        again.close()

    def test_a_port_that_somebody_else_has_and_other_reasons(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            error = self.assertRaises(OSError, MeshSocket, "127.0.0.1", port)
            self.assertEqual(error.errno, errno.EADDRINUSE)
            self.assertIn(f"cannot listen on port {port} of 127.0.0.1: Address already in use", str(error))
        error = self.assertRaises(OSError, MeshSocket, "203.0.113.1", 0)
        self.assertEqual(error.errno, errno.EADDRNOTAVAIL)

    def test_arguments_that_cannot_be_say_so(self) -> None:
        prot: Any
        for prot in ("mesh", None, ("mesh",), "ab", ("mesh", "rot13")):
            self.assertRaises(LocalError, MeshSocket, "127.0.0.1", 0, prot)
        for addr in (None, 5, b""):
            self.assertRaises(LocalError, MeshSocket, addr, 0)
        wrong: dict[str, Any]
        for wrong in (
            {"out_addr": "ab"},
            {"out_addr": ("a",)},
            {"out_addr": (5, 5)},
            {"out_addr": ("a", "5")},
            {"debug_level": "5"},
            {"debug_level": None},
            {"identity": "node.key"},
            {"peers": "127.0.0.1:4444"},
        ):
            self.assertRaises(LocalError, MeshSocket, "127.0.0.1", 0, **wrong)
        sock: Any = self.socket()
        for quantity in ("1", None, 1.5):
            self.assertRaises(LocalError, sock.recv, quantity)
        receipt = sock.send("x", receipt=True)
        for timeout, kind in NO_TIMEOUTS:
            for wait in (sock.recv, sock.joined, receipt.complete):
                error = self.assertRaises(LocalError, wait, timeout=timeout)
                self.assertIsInstance(error, kind)
                self.assertRegex(str(error), "timeout must be .*seconds")
        self.assertEqual((sock.recv(0), sock.recv(-1), sock.recv(timeout=0)), ([], [], None))
        self.assertRaises(LocalError, sock.disconnect, b"id")
        for host in (None, b"127.0.0.1"):
            self.assertRaises(LocalError, sock.connect, host, 4444)
        for host in ("[::1]", "a host", "x" * 300):
            self.assertRaises(ConnectFailed, sock.connect, host, 4444)

    def test_closing_is_done_once_and_by_with(self) -> None:
        with self.socket() as sock:
            peer = self.socket()
            peer.connect(*sock.out_addr)
            sock.send("the last")
        self.assertEqual(peer.recv(timeout=30).packets, [0, "the last"])
        sock.close()
        for call in (lambda: sock.send("x"), lambda: sock.connect(*peer.out_addr)):
            self.assertIn("the socket is closed", str(self.assertRaises(NotRunning, call)))


class ConnectTests(SocketCase):
    def test_it_blocks_until_the_peer_is_in_the_table_and_the_listeners_have_run(self) -> None:
        a, b = self.socket(), self.socket()
        seen: list[Any] = []

        @a.on("connect")
        def connected(sock: MeshSocket) -> None:
            seen.append((sock, list(sock.routing_table)))

        for _ in range(5):
            self.assertIs(a.connect("", b.out_addr[1]), None)
            self.assertEqual(list(a.routing_table), [b.id])
            self.assertEqual(seen, [(a, [b.id])])
            seen.clear()
            b.close()
            self.soon(lambda: not a.routing_table)
            b = self.socket()

    def test_the_listeners_have_run_even_where_no_other_thread_gives_them_time(self) -> None:
        a, b = self.socket(), self.socket()
        seen: list[Any] = []
        a.on("connect", seen.append)
        connected = self.in_reactor(lambda: a.connect(*b.out_addr).addCallback(lambda _: seen[:]))
        self.assertEqual(blockingCallFromThread(reactor, lambda: connected), [a])

    def test_connect_and_once_and_disconnect(self) -> None:
        a, b = self.pair()
        happened: list[Any] = []
        b.once("connect", lambda sock: happened.append(("once", sock)))
        b.on("connect", lambda sock: happened.append(("on", sock)))
        b.on("disconnect", lambda sock: happened.append(("off", sock)))
        for _ in range(2):
            a.close()
            self.soon(lambda: not b.routing_table)
            a = self.socket()
            a.connect(*b.out_addr)
            self.soon(lambda: b.routing_table)
        self.assertEqual(happened, [("off", b), ("once", b), ("on", b), ("off", b), ("on", b)])

    def test_false_for_itself_and_for_whom_it_is_linked_with(self) -> None:
        a, b = self.pair()
        self.assertIs(a.connect("", b.out_addr[1]), False)
        self.assertIs(b.connect("", a.out_addr[1]), False)
        everywhere = self.socket(addr="")
        for host in ("", "127.0.0.1", "localhost", "0.0.0.0", lan_address()):
            self.assertIs(everywhere.connect(host, everywhere.out_addr[1]), False, host)
        self.assertIs(a.connect("", a.out_addr[1]), False)
        self.assertEqual(list(a.routing_table), [b.id])

    def test_another_subnet_is_told_to_both(self) -> None:
        a, b = self.socket(), self.socket(base.Protocol("mesh2", "SSL"))
        refused: list[Any] = []
        b.on("refused", refused.append)
        error = self.assertRaises(SubnetMismatch, a.connect, *b.out_addr)
        self.assertEqual(str(error), "another subnet, or trust by other means [subnet]")
        self.soon(lambda: refused)
        self.assertEqual((a.routing_table, b.routing_table), ({}, {}))
        # The dialler is told by its exception, so only the listener logs a line.
        self.assertRegex(self.told.getvalue(), "^mesh: connection from .* refused: .*'mesh2'.*\n$")

    def test_nobody_listens(self) -> None:
        a, b = self.pair()
        address = b.out_addr
        b.close()
        c = self.socket()
        with self.assertRaises(OSError) as caught:
            c.connect(*address)
        self.assertIsInstance(caught.exception, ConnectFailed)
        self.assertIn("refused", str(caught.exception))
        frames = [frame.name for frame in traceback.extract_tb(caught.exception.__traceback__)]
        self.assertEqual(frames[0], "test_nobody_listens")
        self.assertLess(len(frames), 6, frames)
        shown = "".join(traceback.format_exception(caught.exception))
        self.assertEqual(shown.count("Traceback"), 1, shown)  # one exception, not two in a chain
        self.assertRaises(LocalError, a.connect, "", 0)

    def test_what_no_rule_foresees_tells_where_it_comes_from(self) -> None:
        with self.assertRaises(TypeError) as caught:
            self.socket().send({1, 2})
        frames = [frame.name for frame in traceback.extract_tb(caught.exception.__traceback__)]
        self.assertEqual((frames[0], "pack_entry" in frames), (self._testMethodName, True))

    def test_closing_ends_a_connect_that_is_under_way(self) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            sock = self.socket()
            connecting = self.beside(lambda: sock.connect(*silent.getsockname()))
            self.soon(lambda: sock.awaiting_ids)
            (link,) = sock.awaiting_ids
            self.assertEqual((link.id, link.address, link.outgoing), (None, silent.getsockname(), True))
            sock.close()
            self.assertRaises(NotRunning, connecting.result, 30)
            self.assertEqual(sock.awaiting_ids, [])

    def test_links_and_snapshots_of_them(self) -> None:
        a, b = self.pair()
        table = a.routing_table
        link = table[b.id]
        self.assertEqual((link.id, link.address, link.addr), (b.id, b.out_addr, b.out_addr))
        self.assertEqual((a.outgoing, a.incoming, b.outgoing, b.incoming), ([b.id], [], [], [a.id]))
        self.assertEqual({link}, set(a.routing_table.values()))
        self.assertEqual(repr(link), f"<link 1 to 127.0.0.1:{b.out_addr[1]} open>")
        self.assertIs(link.whisper("psst"), None)
        self.assertIs(link.send(base.flags.whisper, 0x30, "psst"), None)
        self.assertEqual([m.packets for m in self.all_of(b, 2)], [[2, "psst"], [0x30, "psst"]])
        self.assertEqual(
            [b.stop_dialling(*a.out_addr), *(a.stop_dialling(*b.out_addr) for _ in range(2))],
            [False, True, False],
        )
        self.assertEqual(list(a.routing_table), [b.id])
        self.assertRaisesRegex(LocalError, "no member|is up: forget members that are down", a.forget, b.id)
        a.disconnect(link)
        self.assertEqual(a.routing_table, {})
        self.assertEqual(table, {b.id: link})
        self.assertRaises(Unreachable, link.whisper, "psst")
        self.assertRaises(ValueError, link.send, base.flags.broadcast, 0, "x")


class MemberTests(SocketCase):
    def test_who_the_others_are(self) -> None:
        a = self.socket(label="a", tags={"floor": "3"})
        self.assertEqual((a.members, a.joined(timeout=0)), ({}, False))
        self.assertEqual(len(a._node._run._joined), 0)
        told: list[Member] = []
        b, c = self.socket(), self.socket(label="c")
        c.on("member", told.append)
        b.connect(*a.out_addr)
        c.connect(*b.out_addr)
        self.assertIs(c.joined(timeout=30), True)
        self.assertIs(c.joined(), True)
        members = c.members
        self.assertEqual(set(members), {a.id, b.id})
        member = members[a.id]
        said = (member.label, member.tags, member.address, member.state)
        self.assertEqual(said, ("a", {"floor": "3"}, a.out_addr, "up"))
        self.soon(lambda: len(a.members) == 2)
        self.assertEqual(a.members[c.id].label, "c")
        a.close()
        self.soon(lambda: c.members[a.id].state == "left")
        self.assertEqual(members[a.id].state, "up")
        self.assertEqual([told.state for told in told if told.id == a.id], ["up", "left"])

    def test_they_link_with_each_other_unless_told_otherwise(self) -> None:
        for overlay, links in ((True, 3), (False, 1)):
            first = self.socket(overlay=overlay)
            others = [self.socket(overlay=overlay) for _ in range(3)]
            for sock in others:
                sock.connect(*first.out_addr)
                self.assertTrue(sock.joined(timeout=30))
            self.soon(lambda first=first: len(first.members) == 3)
            self.soon(lambda others=others, n=links: [len(o.routing_table) for o in others] == [n] * 3)

    def test_who_waits_for_them_is_told_that_it_is_closed(self) -> None:
        sock = self.socket()
        waiting = self.beside(sock.joined)
        self.soon(lambda: len(sock._node._run._joined))
        sock.close()
        self.assertRaises(NotRunning, waiting.result, 30)
        self.assertRaises(NotRunning, sock.joined)


class MessageTests(SocketCase):
    def test_each_argument_is_a_packet(self) -> None:
        a, b = self.pair()
        self.assertIs(a.send("this is", "a test"), None)
        message = b.recv(timeout=30)
        self.assertEqual(message.packets, [0, "this is", "a test"])
        self.assertEqual((message.type, message.sender), (0, a.id))
        self.assertIs(message.reply(b"yes", b"I did"), None)
        reply = a.recv(timeout=30)
        self.assertEqual(repr(reply), f"message(type=2, packets=[b'yes', b'I did'], sender={b.id!r})")
        self.assertEqual(reply.packets, [2, b"yes", b"I did"])
        self.assertIsNone(a.recv())
        self.assertEqual(a.recv(10), [])

    def test_a_whisper_is_not_relayed(self) -> None:
        a, b = self.pair(overlay=False)
        c = self.socket(overlay=False)  # else it can become a neighbour of a, too
        c.connect(*b.out_addr)
        a.send("near", flag=base.flags.whisper, type=0x31)
        a.send("far")
        self.assertEqual(c.recv(timeout=30).packets, [0, "far"])
        self.soon(lambda: len(b.queue) == 2)
        self.assertEqual(sorted(m.packets for m in b.recv(2)), [[0, "far"], [0x31, "near"]])
        self.assertIsNone(c.recv())

    def test_replying_to_a_list(self) -> None:
        a, b = self.pair()
        for number in range(3):
            a.send(number)
        self.soon(lambda: len(b.queue) == 3)
        waiting = b.queue
        self.assertEqual([m.packets[1] for m in waiting], [0, 1, 2])
        for message in b.recv(10):
            message.reply("Replying to a list")
        waiting[0].reply("and to what still waited")
        self.soon(lambda: len(a.queue) == 4)
        self.assertEqual([m.packets[1] for m in a.recv(3)], ["Replying to a list"] * 3)

    def test_one_can_be_copied_without_the_way_to_reply(self) -> None:
        a, b = self.pair()
        a.send("x")
        message = b.recv(timeout=30)
        for copied in (pickle.loads(pickle.dumps(message)), copy.deepcopy(message)):
            self.assertEqual((copied.packets, copied.id), (message.packets, message.id))
            self.assertRaises(LocalError, copied.reply, "yes")

    def test_a_sender_that_is_gone(self) -> None:
        b, a = self.pair(config=MeshConfig(direct_timeout=0.5))
        a.send("bye")
        message = b.recv(timeout=30)
        a.close()
        self.soon(lambda: not b.routing_table)
        self.assertRaises(Unreachable, message.reply, "too late")

    def test_waiting_for_a_message(self) -> None:
        a, b = self.pair()
        began = time.monotonic()
        self.assertIsNone(b.recv(timeout=0.05))
        self.assertEqual(b.recv(5, timeout=0.05), [])
        self.assertGreater(time.monotonic() - began, 0.1)
        self.assertEqual((b.recv(0, timeout=30), b.recv(-1, timeout=30)), ([], []))
        waiting = [self.beside(lambda: b.recv(timeout=None)) for _ in range(3)]
        for number in range(2):
            a.send(number)
        self.soon(lambda: sum(each.done() for each in waiting) == 2)
        b.close()
        got = [message for each in waiting if (message := each.result(30)) is not None]
        self.assertEqual(sorted(message.packets[1] for message in got), [0, 1])

    def test_what_had_come_can_be_received_when_it_is_closed(self) -> None:
        a, b = self.pair()
        a.send("x")
        a.close()
        self.soon(lambda: len(b.queue) == 1)
        b.close()
        self.assertEqual(b.recv(timeout=None).packets, [0, "x"])
        self.assertIsNone(b.recv(timeout=None))

    def test_with_a_history_what_was_not_received_is_there_at_the_next_start(self) -> None:
        file = self.mktemp()
        options: dict[str, Any] = {"identity": Identity.generate(), "history": file}
        a, b = self.pair(**options)
        for number in range(5):
            b.send(number)
        self.soon(lambda: len(a.queue) == 5)
        self.assertEqual([m.packets[1] for m in a.recv(2)], [0, 1])
        a.close()
        again = self.socket(**options)
        self.soon(lambda: len(again.queue) == 3)
        b.send("while it was away")
        again.connect(*b.out_addr)
        self.assertEqual([m.packets[1] for m in self.all_of(again, 4)], [2, 3, 4, "while it was away"])
        again.close()
        self.assertEqual(self.socket(**options).recv(10, timeout=0.1), [])

    def test_what_cannot_be_sent(self) -> None:
        sock = self.socket()
        self.assertRaises(TypeError, sock.send, object())
        self.assertRaises(ValueError, sock.send, "x", type=5)
        self.assertRaises(ValueError, sock.send, "x", flag=1)
        self.assertRaises(ValueError, sock.send, "x", flag=base.flags.whisper, receipt=True)
        self.assertRaises(MessageTooLarge, sock.send, bytes(MIB))

    def test_it_waits_for_room_while_a_neighbour_takes_what_was_sent(self) -> None:
        a, b = self.pair(config=MeshConfig(unsent_bytes=2 * MIB))
        received: list[int] = []
        b.register_handler(lambda message, link: received.append(message.packets[1]) or True)
        for number in range(12):
            a.send(number, bytes(MIB - 100))
        self.soon(lambda: len(received) == 12)
        self.assertEqual(received, list(range(12)))

    def test_many_wait_for_room_for_all_of_them(self) -> None:
        a, b = self.pair(config=MeshConfig(unsent_bytes=2 * MIB))
        received: list[int] = []
        b.register_handler(lambda message, link: received.append(message.packets[1][0]) or True)
        self.assertRaises(TypeError, a.send_many, "fire")
        for number in range(0, 12, 3):
            a.send_many([each, bytes(MIB // 2)] for each in range(number, number + 3))
        self.soon(lambda: len(received) == 12)
        self.assertEqual(received, list(range(12)))

    def test_without_one_it_does_not_wait_for_ever(self) -> None:
        sock = self.socket(config=MeshConfig(unsent_bytes=2 * MIB, handover_timeout=0.05))
        sock.send(bytes(MIB - 100))
        sock.send(bytes(MIB - 100))
        self.assertRaises(Congested, sock.send, bytes(MIB - 100))
        sock.close()
        self.assertIn("mesh: 2 messages were taken by no neighbour", self.told.getvalue())

    def test_peers_that_are_not_reached_in_time(self) -> None:
        gone = self.socket()
        address = f"127.0.0.1:{gone.out_addr[1]}"
        gone.close()
        config = MeshConfig(handover_timeout=0.1)
        for options in ({}, {"peers": [address], "config": config}):
            sock = self.socket(**options)
            sock.send("x")
            sock.close()
            told = self.told.getvalue()
            self.assertEqual(told.count("mesh: 1 message was taken by no neighbour"), 1, told)
            self.told.truncate(0)

    def test_what_may_have_reached_nobody_is_told_at_the_end(self) -> None:
        self.patch(Outflow, "pinged", lambda outflow, link, token: None)  # no PING is answered
        a, _b = self.pair(config=MeshConfig(farewell_timeout=0.05))
        a.send("x")
        a.close()
        self.assertIn(
            "mesh: 1 message may have reached nobody: 1 neighbour did not answer at the end\n",
            self.told.getvalue(),
        )

    def test_threads_may_share_it(self) -> None:
        a, b = self.pair()

        def send(author: int) -> None:
            for number in range(50):
                a.send(author, number)
                a.routing_table, a.queue, a.recv()

        sending = [self.beside(partial(send, author)) for author in range(4)]
        got: list[Any] = []
        while len(got) < 200:
            got += [m.packets[1:] for m in b.recv(7, timeout=30)]
        self.assertEqual(sorted(got), [[author, number] for author in range(4) for number in range(50)])
        for each in sending:
            each.result(30)


class HandlerTests(SocketCase):
    def test_handlers_are_called_until_one_takes_it(self) -> None:
        a, b = self.pair()
        called: list[str] = []

        def register_1(msg: Any, handler: Any) -> object:
            called.append("1")
            if msg.packets[1] == b"test":
                msg.reply(b"success")
                return True
            return None

        def register_2(msg: Any, handler: Any) -> object:
            called.append("2")
            if msg.packets[1] == b"other":
                handler.send(base.flags.whisper, base.flags.whisper, b"success", b"too")
            return msg.packets[1] == b"other"

        self.assertIs(b.register_handler(register_1), None)
        b.register_handler(register_2)
        for packet in (b"test", b"other", b"neither"):
            a.send(packet)
        self.assertEqual(b.recv(timeout=30).packets, [0, b"neither"])
        self.assertEqual(called, ["1", "1", "2", "1", "2"])
        self.soon(lambda: len(a.queue) == 2)
        self.assertEqual([m.packets for m in a.recv(2)], [[2, b"success"], [2, b"success", b"too"]])

    def test_anything_but_two_arguments(self) -> None:
        sock = self.socket()
        for f in (lambda: None, lambda one: None, lambda one, two, three: None, lambda *many: None, 5):
            self.assertRaises(ValueError, sock.register_handler, f)

        class Handler:
            def method(self, msg: Any, handler: Any) -> None: ...

            def __call__(self, msg: Any, handler: Any) -> None: ...

        sock.register_handler(Handler().method)
        sock.register_handler(Handler())

    def test_what_a_handler_keeps_can_be_used_in_another_thread(self) -> None:
        a, b = self.pair()
        kept: list[Any] = []
        b.register_handler(lambda message, link: kept.append((message, link)) or True)
        a.send("x")
        self.soon(lambda: kept)
        message, link = kept[0]
        self.assertEqual((link, link.id), (b.routing_table[a.id], a.id))
        message.reply("one")
        link.whisper("two")
        self.soon(lambda: len(a.queue) == 2)

    def test_a_link_that_is_gone_when_its_message_comes(self) -> None:
        link = mesh.Link(self.socket()._thread, None)
        self.assertEqual((link.id, link.address, link.outgoing), (None, None, False))
        self.assertEqual(repr(link), "<link that is gone>")
        self.assertRaises(Unreachable, link.whisper, "x")

    def test_listeners_of_messages_get_the_socket_and_receive_themselves(self) -> None:
        a, b = self.pair()
        got: list[Any] = []

        @b.on("message")
        def handle(conn: MeshSocket) -> None:
            msg = conn.recv()
            got.append((conn, len(conn.queue), msg.packets))
            msg.reply("this is an example")

        a.send(1)
        a.send(2)
        self.assertEqual(a.recv(timeout=30).packets, [2, "this is an example"])
        self.soon(lambda: len(got) == 2)
        self.assertEqual(got, [(b, 0, [0, 1]), (b, 0, [0, 2])])
        self.assertIsNone(b.recv())
        self.assertIsInstance(b, EventEmitter)
        self.assertEqual((b.listeners("message"), b.event_names()), ([handle], {"message"}))

    def test_failures_are_kept_and_told_and_take_nothing_with_them(self) -> None:
        a, b = self.pair()
        failures: list[Any] = []
        b.on("failure", failures.append)
        b.on("message", lambda sock: 1 / 0)

        def fails(message: Any, link: Any) -> None:
            raise KeyError("a handler's")

        b.register_handler(fails)
        for number in range(60):
            a.send(number)
        self.soon(lambda: len(failures) == 120)
        self.assertEqual(len(b.recv(100)), 60)
        self.assertEqual(len(b.status), MeshConfig().failures_limit)
        self.assertIn("a handler's", b.status[-2])
        self.assertIn("ZeroDivisionError", b.status[-1])
        self.assertEqual((a.status, list(b.routing_table)), ("Nominal", [a.id]))
        self.assertEqual(len(self.flushLoggedErrors(KeyError, ZeroDivisionError)), 120)

    def test_what_would_end_the_program_ends_nothing_and_costs_no_link(self) -> None:
        a, b = self.pair()
        table = b.routing_table
        b.on("message", lambda sock: sys.exit("in a listener"))
        b.register_handler(lambda message, link: sys.exit("in a handler"))
        a.send("x")
        self.soon(lambda: len(b.status) == 2)
        self.assertIn("in a handler", b.status[0])
        self.assertIn("in a listener", b.status[1])
        self.assertEqual(b.recv(timeout=30).packets, [0, "x"])
        self.assertEqual(b.routing_table, table)
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 2)

    def test_each_level_shows_what_it_says(self) -> None:
        for level, shows in ((0, []), (1, ["linked"]), (4, ["linked", "entered"])):
            a, b = self.pair()
            b.close()
            self.told.truncate(0)
            b = self.socket(debug_level=level)
            b.register_handler(lambda message, link: False)
            b.connect(*a.out_addr)
            a.send("x")
            b.recv(timeout=30)
            lines = self.told.getvalue()
            told = [word for word in ("linked", "entered", "in:", "out:") if word in lines]
            self.assertEqual(told, shows)
            self.assertIs(bool(lines), bool(shows))
            a.close()
            b.close()

    def test_why_a_link_ended_is_told_once(self) -> None:
        a, b = self.pair(debug_level=1)
        a.close()
        self.assertRegex(self.told.getvalue(), r"link with \w+ ended: .* \[leaving\]\n$")
        a = self.socket(debug_level=1)
        a.connect(*b.out_addr)
        (link,) = a.routing_table.values()
        self.in_reactor(link.inner.transport.abortConnection)
        self.soon(lambda: " ended\n" in self.told.getvalue())
        self.assertRegex(self.told.getvalue(), r"link 127\.0\.0\.1:\d+ closed: .* \[lost\]\n")
        self.assertNotRegex(self.told.getvalue(), r"ended: .* \[lost\]")

    def test_the_highest_shows_each_handler_and_each_message_in_or_out(self) -> None:
        a, b = self.pair(debug_level=5)

        def named(message: Any, handler: Any) -> None:
            handler.whisper("out 2")

        a.register_handler(named)
        a.send("out 1", "y" * 100)
        b.recv(timeout=30).reply("in 1")
        a.recv(timeout=30).reply("out 3")
        self.soon(lambda: len(b.queue) == 2)
        lines = self.told.getvalue()
        self.assertRegex(lines, r"mesh: out: type 0, 1\d\d bytes, \[0, 'out 1', 'yyyyyy*…\n")
        self.assertRegex(lines, r"mesh: in: type 2, \d+ bytes from \w{8}, \[2, 'in 1'\]\n")
        self.assertRegex(lines, r"mesh: handler <function .*named at .*> entered\n")
        self.assertRegex(lines, r"mesh: out: type 2, \d+ bytes, \[2, 'out 2'\]\n")
        self.assertRegex(lines, r"mesh: out: type 2, \d+ bytes, \[2, 'out 3'\]\n")


class Interrupted(BaseException):
    """The exception of a signal's handler."""


def interrupted_at(number: int, call: Callable[[], Any]) -> Any:
    """Do *call*; raise Interrupted at the line of the package that it runs as its *number*-th."""
    lines = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        code = frame.f_code
        # A `with` has a line event before it releases its lock, where no signal can come.
        if event == "line" and code.co_filename.startswith(OURS) and code.co_name != "admit":
            lines += 1
            if lines == number:
                raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return call()
    finally:
        sys.settrace(before)


class InterruptTests(SocketCase):
    def interrupt_everywhere(self, call: Callable[[], Any]) -> Any:
        """Interrupt *call* at each of its lines in turn; return the result of the call that ends."""
        number = 0
        while True:
            number += 1
            with contextlib.suppress(Interrupted):
                result = interrupted_at(number, call)
                self.assertGreater(number, 10)
                return result

    def test_what_an_interrupted_recv_has_taken_is_the_next_again(self) -> None:
        a, b = self.pair()
        for number in range(10):
            a.send(number)
        self.soon(lambda: len(b.queue) == 10)
        got = [self.interrupt_everywhere(b.recv)]
        got += self.interrupt_everywhere(lambda: b.recv(3))
        got.append(self.interrupt_everywhere(lambda: b.recv(timeout=30)))
        got += b.recv(10)
        self.assertEqual([message.packets[1] for message in got], list(range(10)))
        self.assertEqual((b.status, b.recv()), ("Nominal", None))

    def test_one_that_is_interrupted_while_it_waits_takes_nothing(self) -> None:
        a, b = self.pair()
        self.assertIsNone(self.interrupt_everywhere(lambda: b.recv(timeout=0.001)))
        a.send("x")
        self.assertEqual(b.recv(timeout=30).packets, [0, "x"])
        self.soon(lambda: not len(b._arrivals))

    def test_another_that_waits_gets_what_is_put_back(self) -> None:
        a, b = self.pair()
        taken: list[Any] = []
        a.send("x")
        self.soon(lambda: b.queue)
        self.in_reactor(lambda: b._take(1, taken))
        waiting = self.beside(lambda: b.recv(timeout=30))
        self.soon(lambda: len(b._arrivals))
        self.in_reactor(lambda: b._put_back(taken))
        self.assertEqual(waiting.result(30).packets, [0, "x"])

    def test_a_socket_whose_making_is_interrupted_is_closed(self) -> None:
        open_before = set(reactor_thread()._services)
        sock = self.interrupt_everywhere(lambda: MeshSocket("127.0.0.1", 0))
        self.assertEqual(sock.status, "Nominal")
        sock.close()
        self.soon(lambda: set(reactor_thread()._services) == open_before)


class ReactorThreadTests(SocketCase):
    """In the reactor's thread no method waits: it works at once, returns a Deferred, or raises."""

    def test_what_works_there(self) -> None:
        a, b = self.socket(), self.socket()
        connected = self.in_reactor(lambda: a.connect(*b.out_addr))
        self.assertIsInstance(connected, Deferred)
        self.assertIs(blockingCallFromThread(reactor, lambda: connected), None)
        again = blockingCallFromThread(reactor, a.connect, *b.out_addr)
        self.assertIs(again, False)
        self.assertIs(self.in_reactor(lambda: a.send("x")), None)
        self.soon(lambda: len(b.queue) == 1)
        message = self.in_reactor(lambda: b.recv(timeout=5))
        replied = self.in_reactor(lambda: message.reply("y"))
        self.assertIsInstance(replied, Deferred)
        self.assertIs(blockingCallFromThread(reactor, lambda: replied), None)
        self.assertEqual(a.recv(timeout=30).packets, [2, "y"])
        self.assertEqual(self.in_reactor(lambda: (a.recv(), a.recv(3), a.queue)), (None, [], []))
        c = self.in_reactor(lambda: MeshSocket("127.0.0.1", 0))
        c.close()

    def test_what_would_wait_raises_at_once(self) -> None:
        sock = self.socket()
        for call in (
            sock.close,
            sock.joined,
            lambda: sock.recv(timeout=1),
            lambda: sock.recv(5, timeout=None),
            lambda: sock.__exit__(None, None, None),
        ):
            error = self.assertRaises(RuntimeError, self.in_reactor, call)
            self.assertIn("use MeshService", str(error))

    def test_what_would_wait_in_a_listener_is_its_failure(self) -> None:
        a, b = self.pair()
        failures: list[Any] = []
        b.on("failure", failures.append)
        b.on("message", lambda sock: sock.recv(2, timeout=1) and sock.recv(timeout=1))
        a.send("x")
        self.soon(lambda: failures)
        self.assertIsInstance(failures[0].value, RuntimeError)
        self.flushLoggedErrors(RuntimeError)

    def test_congested_is_raised_at_once(self) -> None:
        sock = self.socket(config=MeshConfig(unsent_bytes=2 * MIB))
        for _ in range(2):
            sock.send(bytes(MIB - 100))
        self.assertRaises(Congested, self.in_reactor, lambda: sock.send(bytes(MIB - 100)))
        self.assertRaises(Congested, self.in_reactor, lambda: sock.send_many([bytes(MIB // 2)] * 2))
