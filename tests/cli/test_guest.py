"""Verbs of mesh that join as a guest, where no node runs."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.support.length import only_at_length
from twisted_mesh.cli import guest
from twisted_mesh.cli.main import main
from twisted_mesh.service import MeshService

reactor: Any = _reactor
_ROOT = Path(__file__).parent.parent.parent


class Greeter(Protocol):
    """Another server than a node, such as one of SSH."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"SSH-2.0-OpenSSH_9.2\r\n")


class GuestTests(TestCase):
    def setUp(self) -> None:
        path = os.environ.get("PYTHONPATH", "")  # for the guest, which starts where the test runs
        self.patch(os, "environ", os.environ | {"PYTHONPATH": f"{path}{os.pathsep}{_ROOT}"})

    async def run_it(self, *arguments: str) -> tuple[object, str]:
        """Exit status and output of ``mesh`` with *arguments*."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                status: object = await deferToThread(main, arguments)
            except SystemExit as end:
                status = end.code
        return status, out.getvalue()

    async def test_a_message_is_sent_by_a_guest_that_no_list_of_members_has(self) -> None:
        node = MeshService(reactor, listen=("tcp:0:interface=127.0.0.1",), label="db")
        node.startService()
        self.addCleanup(node.stopService)
        members: list[Any] = []
        node.on("member", members.append)
        queue = node.messages()
        peer = f"--peer=127.0.0.1:{node.addresses[0][1]}"
        self.assertEqual(await self.run_it("send", peer, "fire", "now"), (0, "sent\n"))
        self.assertEqual((await anext(queue)).packets, [0, "fire", "now"])
        self.assertEqual((members, dict(node.routing_table)), ([], {}))

    async def test_one_that_cannot_start_or_join_says_why(self) -> None:
        only_at_length()
        told = "mesh: the secret /nonexistent: No such file or directory; "
        told += "name a file that this node can read\n"
        words = ("members", "--peer=127.0.0.1:9", "--secret=/nonexistent")
        self.assertEqual(await self.run_it(*words), (2, told))
        self.patch(guest, "JOINS", 0.01)
        status, said = await self.run_it("members", "--peer=127.0.0.1:9")
        self.assertEqual(status, 2)
        self.assertRegex(said, r"^mesh: joined no mesh in 0\.01 s: ")

    async def test_one_that_all_peers_refuse_says_so_after_the_second_attempt(self) -> None:
        only_at_length()
        other = reactor.listenTCP(0, Factory.forProtocol(Greeter), interface="127.0.0.1")
        self.addCleanup(other.stopListening)
        peers = "--peer=127.0.0.1:9", f"--peer=127.0.0.1:{other.getHost().port}"
        began = reactor.seconds()
        status, said = await self.run_it("send", *peers, "fire")
        self.assertLess(reactor.seconds() - began, guest.JOINS)
        self.assertEqual(status, 2)
        self.assertRegex(
            said, r"^mesh: joined no mesh: no connection to 127\.0\.0\.1:9: connection refused"
        )
        self.assertIn(f"; 127.0.0.1:{other.getHost().port}: ", said)

    def test_peers_are_given_up_once_all_have_refused_twice(self) -> None:
        def peer(failures: int, reason: str = "no") -> dict[str, object]:
            return {"address": "db:1", "failures": failures, "reason": reason}

        for peers, why in (
            ([], None),
            ([peer(2), peer(1)], None),
            ([peer(2), peer(3, "db:1 is full")], "db:1: no; db:1 is full"),
        ):
            self.assertEqual(guest._refusals(peers), why)

    async def test_options_of_a_guest_go_with_a_peer_and_not_with_a_node(self) -> None:
        for words in (("--secret=x",), ("--peer=127.0.0.1:9", "--node=x")):
            status, said = await self.run_it("members", *words)
            self.assertEqual(status, 2)
            self.assertRegex(
                said, r"--secret is of a guest: give --peer|--node names a node that runs here"
            )
        self.assertEqual((await self.run_it("status", "--peer=127.0.0.1:9"))[0], 2)

    async def test_messages_that_a_guest_hears_are_not_on_the_disk(self) -> None:
        only_at_length()
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        self.patch(tempfile, "tempdir", folder)
        node = MeshService(reactor, listen=("tcp:0:interface=127.0.0.1",))
        node.startService()
        self.addCleanup(node.stopService)
        kept: list[bytes] = []
        end = guest._end

        def ended(child: Any) -> None:
            end(child)
            kept.extend(path.read_bytes() for path in Path(folder).glob("*/*") if path.is_file())

        self.patch(guest, "_end", ended)
        again = LoopingCall(node.send, "fire")
        again.start(0.1)
        self.addCleanup(again.stop)
        status, said = await self.run_it("listen", "--count=1", f"--peer=127.0.0.1:{node.addresses[0][1]}")
        self.assertEqual((status, said[-7:]), (0, ": fire\n"))
        self.assertTrue(kept)
        self.assertNotIn(b"fire", b"".join(kept))

    async def test_it_listens_to_the_past_that_its_neighbour_has(self) -> None:
        only_at_length()
        node = MeshService(reactor, listen=("tcp:0:interface=127.0.0.1",))
        node.startService()
        self.addCleanup(node.stopService)
        node.send("fire")
        peer = f"--peer=127.0.0.1:{node.addresses[0][1]}"
        status, said = await self.run_it("listen", "--count=1", "--since=5m", peer)
        self.assertEqual((status, said[-7:]), (0, ": fire\n"))

    def test_the_reason_of_its_end_is_the_line_for_people(self) -> None:
        log = Path(self.mktemp())
        for lines, told in (
            ("12:00 mesh: is up\nmesh: the disk is full\n12:01 Server Shut Down.\n\n", "the disk is full"),
            ("Traceback:\nKeyError: 1\n", "KeyError: 1"),
            ("", "the guest has ended, and did not say why"),
        ):
            log.write_text(lines)
            self.assertEqual(guest._reason(log), told)

    def test_a_guest_that_does_not_end_is_killed(self) -> None:
        self.patch(guest, "_ENDS", 0.01)
        child = subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE)
        guest._end(child)
        self.assertEqual(child.returncode, -9)
