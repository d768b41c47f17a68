"""The verbs of ``mesh`` that ask other members, on two nodes of this process."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.support.processes import eventually
from twisted_mesh.admin import guard
from twisted_mesh.admin.control import Control
from twisted_mesh.admin.http import Paths
from twisted_mesh.admin.web import Web
from twisted_mesh.cli import client, tables, verbs
from twisted_mesh.cli.main import main
from twisted_mesh.errors import StoreError
from twisted_mesh.message import Message
from twisted_mesh.runtime import reporting
from twisted_mesh.service import MeshService

reactor: Any = _reactor


class AskingVerbsTests(TestCase):
    async def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())  # its path is short, as that of a socket has to be
        self.addCleanup(shutil.rmtree, folder)
        self.path = folder / "x.sock"
        self.a = MeshService(reactor, listen=("tcp:0:interface=127.0.0.1",))
        self.b = MeshService(reactor, listen=(), label="db")
        self.b.on("message", self.answer)
        self.paths = Paths(reactor, self.a)
        for service in (self.a, self.b, Control(reactor, self.a, self.path, paths=self.paths)):
            service.startService()
            self.addCleanup(service.stopService)
        await self.b.connect(*self.a.addresses[0])
        await self.a.joined()

    def answer(self, message: Message) -> None:
        """Answer all but one question."""
        if message.packets[1] != "silence":
            message.reply(*message.packets[1:], b"\x00")

    async def run_it(self, *arguments: str, node: str | None = None) -> tuple[int, str]:
        """Exit status and output of ``mesh`` with *arguments*."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            status = await deferToThread(main, [*arguments, f"--node={node or self.path}"])
        return status, out.getvalue()

    async def test_request(self) -> None:
        status, told = await self.run_it("request", "db", "how", "are you")
        self.assertEqual(status, 0)
        self.assertRegex(told, r"^db \(\w{8}\): how are you \{'\$b': 'AA=='\}\n$")
        status, told = await self.run_it("request", "db", "?", "--json")
        self.assertEqual((status, json.loads(told)["packets"]), (0, ["?", {"$b": "AA=="}]))
        status, told = await self.run_it("request", "db", "silence", "--wait=0.1")
        self.assertEqual(status, 1)
        self.assertRegex(told, r"^mesh: db \(\w{8}\): it has the message, and did not answer in 0.1 s\n$")

    async def test_query(self) -> None:
        status, told = await self.run_it("query", "who?")
        self.assertEqual(status, 0)
        self.assertRegex(told, r"^db \(\w{8}\): who\? \{'\$b': 'AA=='\}\n$")
        status, told = await self.run_it("query", "silence", "--wait=0.1")
        self.assertEqual(status, 1)
        self.assertRegex(told, r"^db \(\w{8}\) has not answered\n$")
        status, told = await self.run_it("query", "silence", "--wait=0.1", "--json")
        self.assertEqual((status, json.loads(told)["answers"]), (1, []))

    async def test_trace(self) -> None:
        status, told = await self.run_it("send", "fire", "--trace")
        self.assertEqual(status, 0)
        first, second = told.splitlines()
        self.assertRegex(first, r"^\w{8}: message 1$")
        self.assertRegex(second, r"^└─ db \(\w{8}\): pushed, 1 hop, taken after \d+ ms$")
        name = self.a.id.decode()
        for message in (name, f"{name}/1", f"{name}/{self.a.status().node.epoch}/1"):
            self.assertEqual((await self.run_it("trace", message))[1].splitlines()[0], first)
        told = (await self.run_it("trace", f"{name}/9"))[1]
        self.assertEqual(told, f"{name[:8]} has sent no message 9\n")
        status, told = await self.run_it("trace", f"{name}/9", "--json")
        self.assertEqual((status, json.loads(told)["steps"][1]["state"]), (1, "missing"))
        status, told = await self.run_it("send", "fire", "--trace", "--to=db")
        self.assertEqual(status, 2)
        self.assertIn("--trace is for messages to everybody", told)

    async def test_send_says_why_a_member_that_is_up_has_not_got_it(self) -> None:
        billing = self.b.messages(name="billing")
        for options in (("--wait=0.1",), ("--wait=0.1", "--trace")):
            status, told = await self.run_it("send", "fire", *options)
            self.assertEqual(status, 1)
            self.assertIn("taken", told)
        status, told = await self.run_it("send", "fire", "--wait=0.1")
        first, second = told.splitlines()
        self.assertEqual(first, "0 of 1 member has it")
        why = "but its application has not taken it yet"
        self.assertRegex(second, rf"^  db \(\w{{8}}\): up for \d+ s, {why}$")
        billing.close()
        states = ("came", "missing", "silent", "forgotten")
        self.assertEqual(
            [verbs._reason({"state": state}) for state in states],
            [
                why,
                "but the message has not come there",
                "but it does not answer",
                "and does not say whether it has it",
            ],
        )

    async def test_a_member_that_gets_it_while_it_is_asked_why_not_has_it(self) -> None:
        post = client.Client.post

        def taken_meanwhile(asked: client.Client, path: str, body: Any, timeout: float) -> Any:
            if path == "/trace" and "billing" in self.b.consumers:
                blockingCallFromThread(reactor, billing.close)
                blockingCallFromThread(reactor, self.b.forget_consumer, "billing")
            return post(asked, path, body, timeout)

        self.patch(client.Client, "post", taken_meanwhile)
        for options in ((), ("--trace",)):
            billing = self.b.messages(name="billing")
            status, told = await self.run_it("send", "fire", "--wait=0.1", *options)
            self.assertEqual(status, 0, told)
            if not options:
                self.assertEqual(told, "1 of 1 member has it\n")
        billing = self.b.messages(name="billing")
        await self.run_it("send", "fire")
        self.assertEqual((await self.run_it("receipts"))[0], 0)

    def test_one_that_says_so_has_it_before_its_receipt_is_here(self) -> None:
        db, web = {"id": "d" * 9, "label": "db"}, {"id": "w" * 9, "label": "web"}
        receipt = {"delivered": [], "pending": [db, web], "missed": [], "complete": False}
        came = {"state": "came", "taken": True}
        told = verbs._with_own_words(receipt, [db | came, web | came | {"taken": False}])
        self.assertEqual((told["delivered"], told["pending"], told["complete"]), ([db], [web], False))
        told = verbs._with_own_words(receipt, [db | came, web | came])
        self.assertEqual((told["pending"], told["complete"]), ([], True))
        told = verbs._with_own_words(receipt | {"missed": [{"id": "x"}]}, [db | came, web | came])
        self.assertFalse(told["complete"])
        nobody = receipt | {"pending": []}
        self.assertFalse(verbs._with_own_words(nobody, [])["complete"])

    async def test_receipts_and_ctrl_c_in_a_wait_tell_who_has_not_taken_which_message(self) -> None:
        none = "no receipt is open: all members have each message that was sent with one\n"
        self.assertEqual(await self.run_it("receipts"), (0, none))
        billing = self.b.messages(name="billing")
        for text in ("first", "second"):
            self.assertEqual(await self.run_it("send", text), (0, "sent\n"))
        why = "but its application has not taken it yet"
        at = r"[-\d]{10} [:\d]{8}"
        has = r"  0 of 1 member has it\n  db \(\w{8}\): up for \d+ s"
        told = rf"^message 2, {at}: second\n{has}, {why}\n"
        status, said = await self.run_it("receipts")
        self.assertEqual(status, 1)
        self.assertRegex(said, rf"{told}message 1, {at}: first\n{has}\n$")
        self.assertRegex((await self.run_it("receipts", "--count=1"))[1], told + "and 1 older message\n$")
        status, said = await self.run_it("receipts", "--json")
        self.assertEqual((status, [receipt["sequence"] for receipt in json.loads(said)]), (1, [1, 2]))
        # After Ctrl-C, who has the message so far is told, too.
        post = client.Client.post

        def interrupted(asked: client.Client, path: str, body: Any, timeout: float) -> Any:
            if path == "/receipt" and body["wait_seconds"]:
                raise KeyboardInterrupt
            return post(asked, path, body, timeout)

        self.patch(client.Client, "post", interrupted)
        told = r"^0 of 1 member has it\n  db \(\w{8}\): up for \d+ s\n$"
        for more in ((), ("--trace",)):
            status, said = await self.run_it("send", "fire", "--wait=9", *more)
            self.assertEqual(status, 130)
            self.assertRegex(said, told)
        status, said = await self.run_it("send", "fire", "--wait=9", "--json")
        self.assertEqual((status, json.loads(said)["delivered"]), (130, []))
        billing.close()

    async def test_lag_shows_how_much_each_node_lacks(self) -> None:
        self.patch(reporting, "LAG_SECONDS", 0.0)
        head = r"^MEMBER +STATE +SINCE +MISSING +NOT TAKEN *\n"
        own = r"\w{8} +this node +- +0 +0\n"
        status, said = await self.run_it("lag")
        self.assertEqual(status, 0)
        self.assertRegex(said, rf"{head}{own}db \(\w{{8}}\) +up +\d+ s +0 +0\n$")
        billing = self.b.messages(name="billing")
        self.a.send("fire")
        await eventually(lambda: self.b.consumers["billing"].lag)
        status, said = await self.run_it("lag", "--json")
        self.assertEqual(
            (status, [(node["missing"], node["untaken"]) for node in json.loads(said)]),
            (1, [(0, 0), (0, 1)]),
        )
        billing.close()

    def test_a_long_warning_is_one_line_in_a_pipe(self) -> None:
        out, options = io.StringIO(), argparse.Namespace(json=False)
        with contextlib.redirect_stdout(out):
            tables.show(options, lambda: "! " + "word " * 99, lambda told: iter([told]))
        self.assertEqual(out.getvalue(), "! " + ("word " * 99).rstrip() + "\n")

    def test_a_message_of_a_node_that_knows_no_member(self) -> None:
        nobody: dict[str, Any] = {"delivered": [], "pending": [], "missed": []}
        for error, told in (({}, "no other member is known"), ({"error": "no members"}, "no members")):
            lines = [*verbs._who_has_it(nobody | error, {}, {})]
            self.assertEqual(lines, ["0 of 0 members have it", f"  {told}"])

    def test_an_earlier_run_of_an_author_is_shown_as_such(self) -> None:
        counts = dict.fromkeys(("head", "missing", "taken", "first", "last", "bytes"), 1)
        ages = {"newest_seconds": 1.0, "oldest_seconds": 1.0}
        runs = [{"id": "x" * 9, "label": "db", "epoch": epoch, **counts, **ages} for epoch in (5, 7)]
        for table in (*tables.authors(runs), *tables.history(runs)):
            told = ["db (xxxxxxxx), earlier run", "db (xxxxxxxx)"]
            self.assertEqual([*table.columns[0].cells], told)

    def test_a_member_that_is_up_and_says_nothing_is_shown_so(self) -> None:
        own = {"id": "x" * 9, "label": "web", "state": "up", "missing": 0, "untaken": 0}
        silent = own | {"id": "y" * 9, "state": "silent", "missing": None, "untaken": None}
        member = {"id": "y" * 9, "state": "up", "since_unix_seconds": 0}
        (table,) = tables.lags([own, silent], {"y" * 9: member})
        self.assertEqual([*table.columns[1].cells], ["this node", "no answer"])
        self.assertEqual([*table.columns[3].cells], ["0", "-"])
        (table,) = tables.lags([own, silent], {})
        self.assertEqual([*table.columns[1].cells], ["this node", "silent"])

    async def test_a_name_that_fits_no_other_member_that_is_there_says_whose_it_is(self) -> None:
        me = self.a.id.decode()
        told = (await self.run_it("send", "fire", f"--to={me}"))[1]
        self.assertEqual(told, f"mesh: {me[:8]} is this node\n")
        self.assertEqual(await self.run_it("history", me), (1, "mesh: no message of that author is held\n"))
        await self.b.stopService()
        told = (await self.run_it("send", "fire", "--to=db"))[1]
        self.assertRegex(told, r"^mesh: db \(\w{8}\) has left\n$")

    async def test_of_several_nodes_here_one_is_chosen_by_its_label(self) -> None:
        other = self.path.with_name("y.sock")
        control = Control(reactor, self.b, other, paths=Paths(reactor, self.b))
        control.startService()
        self.addCleanup(control.stopService)
        self.patch(client.places, "found", lambda environ: [self.path, other])
        told = await deferToThread(self.assertRaises, client.Failed, client.the_node, None, {})
        ids = self.a.id.decode()[:8], self.b.id.decode()[:8]
        self.assertEqual(str(told), "2 nodes are found; choose one by --node LABEL, ID or PATH:")
        self.assertEqual([*told.rows], [f"{ids[0]} at {self.path}", f"db ({ids[1]}) at {other}"])
        Path("db").mkdir()  # a folder with the same name is no socket
        self.addCleanup(Path("db").rmdir)
        for named, path in (("db", other), (ids[0], self.path)):
            chosen = await deferToThread(client.the_node, named, {})
            self.assertEqual(chosen.path, path)
        told = await deferToThread(self.assertRaises, client.Failed, client.the_node, "nobody", {})
        self.assertEqual(str(told), "no node here has the label or id nobody")

    async def test_status_shows_the_consumers_with_names(self) -> None:
        self.assertRegex((await self.run_it("status"))[1], r"(?m)^consumers +none with a name *$")
        audit = self.a.messages(name="audit")
        self.a.messages(name="billing").close()
        self.patch(reporting, "UNOPENED", -1.0)  # for which its program is waited for
        self.b.send("fire")
        await eventually(lambda: self.a.consumers["billing"].lag)
        status, told = await self.run_it("status")
        self.assertEqual(status, 0)
        self.assertRegex(told, r"audit \(1 not taken\), billing \(1 not taken\), which nobody has open")
        self.assertRegex(told, r"(?m)^! nobody has the consumer 'billing' open")
        audit.close()

    async def test_page_and_health_as_json(self) -> None:
        status, told = await self.run_it("page")
        self.assertEqual(status, 1)
        self.assertIn("this node has no page: start it with --http", told)
        self.paths.addresses = ["http://127.0.0.1:8420/#secret"]
        self.assertEqual(await self.run_it("page"), (0, "http://127.0.0.1:8420/#secret\n"))
        status, told = await self.run_it("page", "--json")
        page = {"addresses": self.paths.addresses, "demo": False}
        self.assertEqual((status, json.loads(told)), (0, page))
        status, told = await self.run_it("health", "--json")
        self.assertEqual((status, json.loads(told)["warnings"]), (0, []))

    async def test_ping(self) -> None:
        for words in ((), ("db",)):
            status, told = await self.run_it("ping", *words)
            self.assertEqual(status, 0)
            self.assertRegex(told, r"^MEMBER +STATE +HOPS +RTT *\ndb \(\w{8}\) +up +1 +\d+\.\d ms\n$")
        status, told = await self.run_it("ping", "--json")
        self.assertEqual((status, json.loads(told)[0]["error"]), (0, None))
        await self.b.stopService()
        self.assertEqual(await self.run_it("ping"), (0, "no other member\n"))
        self.assertEqual(await self.run_it("query", "?"), (0, "no other member is up\n"))

    async def send(self, author: MeshService, text: str) -> None:
        """Let *author* send a message to the node here, and wait until it has come."""
        author.send(text)
        await eventually(lambda: text in [message.packets[1] for message in self.a.past()])

    async def test_listen_begins_in_the_past_and_in_the_order_of_time(self) -> None:
        c = MeshService(reactor, listen=(), label="web")
        c.startService()
        self.addCleanup(c.stopService)
        await c.connect(*self.a.addresses[0])
        self.a.send("own")
        for author, text in ((self.b, "first"), (c, "second"), (self.b, "third")):
            await self.send(author, text)
        status, told = await self.run_it("listen", "--since=5m", "--count=3")
        self.assertEqual(status, 0)
        lines = [re.sub(r"^[-\d]{10} [:\d]{8} (\w+) \(\w{8}\)", r"\1", line) for line in told.splitlines()]
        self.assertEqual(lines, ["db: first", "web: second", "db: third"])
        status, told = await self.run_it("listen", "--since=all", "--for=0.1", "--json")
        self.assertEqual(
            (status, [json.loads(line)["packets"] for line in told.splitlines()][2:]), (0, [["third"]])
        )

    async def test_listen_as_a_consumer_acknowledges_what_it_printed(self) -> None:
        for text in ("first", "second", "third"):
            await self.send(self.b, text)
        arguments = ("listen", "--consumer=ops", "--start=all", "--count=2")
        status, told = await self.run_it(*arguments)
        self.assertEqual(status, 0)
        self.assertRegex(told, r"^db \(\w{8}\): first\ndb \(\w{8}\): second\n$")
        await eventually(lambda: not self.a.consumers["ops"].open)
        self.assertEqual(self.a.consumers["ops"].lag, 1)
        status, told = await self.run_it("listen", "--consumer=ops", "--count=1", "--json")
        self.assertEqual(json.loads(told)["packets"], ["third"])
        await eventually(lambda: not self.a.consumers["ops"].open)
        self.assertEqual(self.a.consumers["ops"].lag, 0)
        messages = self.a.messages(name="ops")
        status, told = await self.run_it("listen", "--consumer=ops", "--for=9")
        messages.close()
        self.assertEqual(status, 1)
        self.assertIn("the consumer 'ops' is open already", told)

    async def test_history_shows_what_is_held_and_the_messages_of_an_author(self) -> None:
        self.assertEqual(await self.run_it("history"), (0, "no messages are held\n"))
        for text in ("first", "second", "third"):
            await self.send(self.b, text)
        status, told = await self.run_it("history")
        self.assertEqual(status, 0)
        self.assertRegex(
            told,
            r"^AUTHOR +FIRST +LAST +SIZE +OLDEST +NEWEST *\ndb \(\w{8}\) +1 +3 +[.\d]+ k?B +\d s +\d s\n$",
        )
        for option in ("--count=2", "--since=5m"):
            status, told = await self.run_it("history", option)
            self.assertEqual(
                (status, told[:56]), (2, "mesh: --count and --since choose messages of one member:")
            )
        status, told = await self.run_it("history", "db", "--count=2")
        self.assertEqual(status, 0)
        self.assertRegex(told, r"^ +2  [-\d]{10} [:\d]{8}  second\n +3  [-\d]{10} [:\d]{8}  third\n$")
        await self.b.stopService()
        status, told = await self.run_it("history", self.b.id.decode()[:8], "--count=1", "--json")
        self.assertEqual((status, json.loads(told)["sequence"]), (0, 3))
        status, told = await self.run_it("history", "nobody")
        self.assertEqual(status, 1)
        self.assertIn("no member is named 'nobody'", told)
        name = self.a.id.decode()
        self.assertEqual((await self.run_it("history", name))[0], 1)
        self.a.send("own")
        self.assertIn("own", (await self.run_it("history", name, "--since=1h"))[1])

    async def test_a_node_elsewhere_is_named_by_its_url_and_shown_its_token(self) -> None:
        token = self.path.with_name("token")
        web = Web(reactor, self.paths, "tcp:0:interface=127.0.0.1", guard.load_or_create(token))
        web.startService()
        self.addCleanup(web.stopService)
        url = f"http://127.0.0.1:{web.addresses[0][1]}"
        status, told = await self.run_it("members", f"--token={token}", node=url)
        self.assertEqual(status, 0)
        self.assertRegex(told, r"^MEMBER .*\ndb \(\w{8}\) +up ")
        await self.send(self.b, "fire")
        status, told = await self.run_it("listen", "--since=1h", "--count=1", f"--token={token}", node=url)
        self.assertRegex(told, r" db \(\w{8}\): fire\n$")
        self.assertEqual(await self.offered(f"--node={url}", "--token", str(token), "ping", ""), ["db"])
        status, told = await self.run_it("members", node=url)
        self.assertEqual(status, 1)
        self.assertIn("this port answers with its token alone", told)
        two = token.with_name("two")
        two.write_text("token a\ntoken b\n")
        for words, node, error in (
            ([f"--token={token}x"], url, f"the token {token}x: No such file or directory"),
            ([f"--token={two}"], url, f"the token {two} is not one line"),
            ([], "http://", "the URL of a node is http://ADDRESS:PORT, not http://"),
            (
                [],
                "https://127.0.0.1:1",
                "the URL of a node is http://ADDRESS:PORT, not https://127.0.0.1:1",
            ),
            ([], "http://127.0.0.1:x", "http://127.0.0.1:x is no URL: "),
            ([], "http://127.0.0.1:1", "no node answers at http://127.0.0.1:1: Connection refused"),
            ([f"--token={token}"], str(self.path), "--token is for a node that --node names by its URL"),
        ):
            status, told = await self.run_it("members", *words, node=node)
            self.assertEqual(status, 2)
            self.assertIn(error, told)

    async def test_a_history_that_cannot_be_read_is_told(self) -> None:
        def fails(*_: object) -> None:
            raise StoreError("the disk is gone")

        await self.send(self.b, "first")
        self.patch(self.a._running().driver.node, "read", fails)
        for words in (("listen", "--since=all", "--for=9"), ("history", "db")):
            self.assertEqual(await self.run_it(*words), (2, "mesh: the disk is gone\n"))

    async def test_forget(self) -> None:
        status, told = await self.run_it("forget", "db")
        error = (
            f"db ({self.b.id.decode()[:8]}) is up: only members that are down or have left are forgotten"
        )
        self.assertEqual((status, told), (1, f"mesh: {error}\n"))
        await self.b.stopService()
        self.a.messages(name="billing").close()
        forgotten = (0, "the consumer billing is forgotten\n")
        self.assertEqual(await self.run_it("forget", "--consumer=billing"), forgotten)
        self.assertEqual(self.a.consumers, {})
        status, told = await self.run_it("forget", "db")
        self.assertEqual(status, 0)
        self.assertRegex(told, r"^db \(\w{8}\) is forgotten\n$")
        self.assertEqual(await self.run_it("members"), (0, "no other member\n"))

    async def offered(self, *words: str) -> list[str]:
        """What a shell offers behind *words*."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            await deferToThread(main, ["complete", *words])
        return out.getvalue().split()

    async def test_completion_offers_members_and_no_label_that_a_shell_would_run(self) -> None:
        evil = MeshService(reactor, listen=(), label="x;reboot")
        evil.startService()
        self.addCleanup(evil.stopService)
        await evil.connect(*self.a.addresses[0])
        await eventually(lambda: evil.id in self.a.members)
        names = sorted(["db", evil.id.decode()[:8]])
        here = f"--node={self.path}"
        self.assertEqual(await self.offered(here, "request", ""), names)
        self.assertEqual(await self.offered(here, "send", "--to", "d"), ["db"])


class UnreadTests(SynchronousTestCase):
    def test_a_stream_ends_once_nobody_reads_the_output(self) -> None:
        reader, writer = os.pipe()
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        self.addCleanup(near.close)
        with open(writer, "w") as output, contextlib.redirect_stdout(output):
            is_unread = client._end_with_output(near)
        self.assertFalse(is_unread.is_set())
        os.close(reader)
        self.assertEqual(near.recv(1), b"")
        self.assertTrue(is_unread.is_set())
