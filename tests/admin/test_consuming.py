"""Named consumers by HTTP: a place moves when a client acknowledges, and never before."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutput
from twisted.trial.unittest import SkipTest, TestCase

from tests.admin.http_case import Client, HttpCase
from tests.delivery.test_named import KEPT
from tests.support.meshcase import batch
from tests.support.page_code import DOCS
from tests.support.processes import eventually
from twisted_mesh.admin import streams
from twisted_mesh.admin.control import Control
from twisted_mesh.admin.streams import BEAT, GONE, PATIENCE
from twisted_mesh.delivery.in_flight import MOST
from twisted_mesh.service import MeshService

reactor: Any = _reactor
CONSUMERS = (DOCS / "consumers.rst").read_text()


class ConsumingCase(HttpCase):
    def setUp(self) -> None:
        super().setUp()
        self.b, self.a = self.linked(self.started(limits=KEPT), self.node(label="web1"))
        self.serve(self.b)

    def reader(self, arguments: str = "consumer=billing", **headers: str) -> Client:
        """A client that reads a consumer's messages."""
        client = self.client()
        client.ask("GET", f"/messages?{arguments}", **headers)
        return client

    def heard(self, client: Client) -> list[Any]:
        return [data["packets"][0] for _, name, data in client.events() if name == "message"]

    def id_of(self, number: int) -> str:
        return f"{self.a.id.decode()}/{self.a.status().node.epoch}/{number}"

    def ack(self, number: int) -> tuple[int, Any]:
        return self.ask("POST", "/ack", json.dumps({"consumer": "billing", "id": self.id_of(number)}))

    @property
    def lag(self) -> int:
        return self.b.consumers["billing"].lag


class TestPlace(ConsumingCase):
    def test_a_message_is_taken_by_post_ack_and_not_when_it_is_written(self) -> None:
        reader = self.reader()
        receipt = self.a.send("fire", receipt=True)
        self.network.advance(10)
        ((id, name, data),) = reader.events()
        self.assertEqual((id, name, data["packets"]), (self.id_of(1), "message", ["fire"]))
        self.assertEqual(data["label"], "web1")
        self.assertEqual((receipt.pending, self.lag), ({self.b.id}, 1))
        self.assertEqual(self.ack(1), (200, {"consumer": "billing", "lag": 0}))
        self.network.advance(1)
        self.assertTrue(receipt.is_complete)

    def test_a_client_that_dies_before_it_acknowledges_gets_the_messages_again(self) -> None:
        reader = self.reader()
        self.send(self.a, *range(4))
        self.ack(1)
        self.assertEqual(self.heard(reader), [0, 1, 2, 3])
        reader.lose()
        self.assertEqual(self.heard(self.reader()), [1, 2, 3])

    def test_the_last_id_of_the_next_request_acknowledges(self) -> None:
        reader = self.reader()
        self.send(self.a, *range(4))
        reader.lose()
        self.assertEqual(self.lag, 4)
        self.assertEqual(self.heard(self.reader(last_event_id=self.id_of(3))), [3])
        self.assertEqual(self.lag, 1)

    def test_so_does_a_post_while_nobody_reads(self) -> None:
        reader = self.reader("consumer=billing&count=3")
        self.send(self.a, *range(4))
        self.assertEqual((self.heard(reader), reader.transport.connected), ([0, 1, 2], False))
        self.assertEqual(self.ack(2), (200, {"consumer": "billing", "lag": 2}))
        self.assertEqual(self.ack(3), (200, {"consumer": "billing", "lag": 1}))
        self.assertEqual(self.heard(self.reader()), [3])

    def test_a_place_outlives_the_node(self) -> None:
        reader = self.reader()
        self.send(self.a, *range(4))
        self.ack(1)
        self.stop(self.b, after=2)
        self.assertFalse(reader.transport.connected)
        self.b = self.started(limits=KEPT)
        self.link((self.b, self.a))
        self.serve(self.b)
        self.assertEqual(self.heard(self.reader(last_event_id=self.id_of(2))), [2, 3])

    def test_an_id_that_was_acknowledged_already_changes_nothing(self) -> None:
        reader = self.reader()
        self.send(self.a, *range(4))
        self.ack(2)
        self.assertEqual(self.ack(1), (200, {"consumer": "billing", "lag": 2}))
        reader.lose()
        self.assertEqual(self.heard(self.reader(last_event_id=self.id_of(2))), [2, 3])

    def test_start_is_where_a_new_name_begins(self) -> None:
        self.send(self.a, *range(4), after=5)
        self.send(self.a, 4)
        for arguments, expected in (
            ("consumer=a", []),
            ("consumer=b&start=new", []),
            ("consumer=c&start=all", [*range(5)]),
            ("consumer=d&start=2.5", [4]),
        ):
            self.assertEqual(self.heard(self.reader(arguments)), expected, arguments)

    def test_messages_that_were_given_up_are_told_in_the_stream(self) -> None:
        self.reader().lose()
        self.send(self.a, "lost", after=130)
        self.send(self.a, "next")
        (_, _, gap), message = (event for event in self.reader().events())
        self.assertEqual((gap["sender"], gap["first"], gap["last"]), (self.a.id.decode(), 1, 1))
        self.assertIn("the consumer 'billing' had not taken them", gap["reason"])
        self.assertEqual((message[0], message[2]["packets"]), (self.id_of(2), ["next"]))

    def test_so_are_those_that_never_came(self) -> None:
        reader = self.reader()
        self.unlink(self.a, self.b)
        peer = self.joined(self.b)
        author = self.puppet().me
        self.send_frames(peer, batch(author, 1, 1), batch(author, 3, 3), after=200)
        told = [(name, data.get("first"), data.get("packets")) for _, name, data in reader.events()]
        self.assertEqual(told, [("message", None, [1]), ("gap", 2, None), ("message", None, [3])])

    def test_direct_messages_are_acknowledged_too_and_whispers_have_no_id(self) -> None:
        reader = self.reader()
        self.result_of(self.a.send_to(self.b.id, "direct"), after=1)
        self.a.send("whisper", flag=2)
        self.network.pump()
        self.assertEqual([id for id, _, _ in reader.events()], [self.id_of(-1), ""])
        reader.lose()
        again = self.reader()
        self.assertEqual(self.heard(again), ["direct", "whisper"])
        for _ in range(2):
            self.assertEqual(self.ack(-1), (200, {"consumer": "billing", "lag": 0}))
        again.lose()
        self.assertEqual(self.heard(self.reader(last_event_id=self.id_of(-1))), [])


class TestFlow(ConsumingCase):
    def test_a_slow_reader_is_waited_for_and_nothing_is_dropped(self) -> None:
        reader = self.reader()
        reader.transport.producer.pauseProducing()
        self.send(self.a, *range(5), after=2 * PATIENCE)
        self.assertEqual((self.heard(reader), reader.transport.connected), ([], True))
        reader.transport.producer.resumeProducing()
        self.assertEqual(self.heard(reader), [*range(5)])
        self.network.advance(BEAT)
        self.assertIn("\n:\n\n", reader.received)

    def test_a_reader_that_acknowledges_nothing_is_told_and_waited_for(self) -> None:
        reader = self.reader()
        self.send(self.a, *range(MOST + 5))
        self.assertEqual(len(self.heard(reader)), MOST)
        self.assertEqual(reader.received.count(f": {MOST} messages wait to be acknowledged"), 1)
        self.assertEqual(self.b.footprint()["unacknowledged_messages"], MOST)
        self.ack(3)
        self.assertEqual(self.heard(reader)[MOST:], [MOST, MOST + 1, MOST + 2])
        self.assertEqual(self.b.dropped["dropped_messages"], 0)

    def test_a_second_reader_is_refused_until_the_first_is_gone(self) -> None:
        reader = self.reader()
        status, told = self.ask("GET", "/messages?consumer=billing")
        self.assertEqual(status, 409)
        self.assertIn("the consumer 'billing' is open already", told["error"])
        self.assertEqual(self.ask("GET", "/status")[1]["footprint"]["control_consumers"], 1)
        reader.lose()
        self.assertEqual(self.ask("GET", "/status")[1]["footprint"]["control_consumers"], 0)
        self.assertTrue(self.reader().transport.connected)

    def test_a_reader_whose_host_answers_nothing_any_more_is_cut_and_another_can_come(self) -> None:
        stalled, asked = self.reader(), []
        stalled.transport.producer.pauseProducing()
        gone: list[object] = []
        self.patch(
            streams, "has_vanished", lambda transport, seconds: asked.append(seconds) or transport in gone
        )
        self.network.advance(2 * PATIENCE)
        self.assertEqual((stalled.transport.connected, {*asked}), (True, {GONE}))
        gone.append(stalled.transport)
        self.network.advance(BEAT)
        self.assertFalse(stalled.transport.connected)
        self.assertTrue(self.reader().transport.connected)

    def test_so_is_one_while_the_application_has_it_open(self) -> None:
        messages = self.b.messages(name="billing")
        self.assertEqual(self.ask("GET", "/messages?consumer=billing")[0], 409)
        self.assertEqual(self.ack(1)[0], 409)
        messages.close()
        self.assertTrue(self.reader().transport.connected)

    def test_consumers_count_among_the_streams_that_clients_may_have(self) -> None:
        for number in range(24):
            self.reader(f"consumer={number}") if number % 2 and number < 16 else self.reader("")
        status, told = self.ask("GET", "/messages?consumer=billing")
        self.assertEqual((status, told["error"]), (503, "24 readers follow streams already"))

    def test_head_opens_nothing(self) -> None:
        client = self.client()
        client.ask("HEAD", "/messages?consumer=billing")
        self.assertIn("200 OK", client.received)
        self.assertIn("text/event-stream", client.received)
        self.assertEqual(self.b.consumers, {})


class TestErrors(ConsumingCase):
    def test_a_request_that_is_wrong_opens_nothing_and_says_why(self) -> None:
        for arguments, part in (
            ("start=all", "'start' is none of since, author, count"),
            ("consumer=", "1 to 64 printable characters"),
            ("consumer=%FF", "consumer is no text in UTF-8"),
            ("consumer=a&consumer=b", "consumer is given 2 times"),
            ("consumer=a&strat=all", "'strat' is none of consumer, start, count"),
            ("consumer=a&start=old", 'start is "new", "all" or a number of seconds'),
            ("consumer=a&start=nan", 'start is "new", "all" or a number of seconds'),
            ("consumer=a&count=0", f"count is 1 to {MOST}"),
            ("consumer=a&count=1001", f"count is 1 to {MOST}"),
            ("consumer=a&count=1e3", f"count is 1 to {MOST}"),
        ):
            status, told = self.ask("GET", f"/messages?{arguments}")
            self.assertEqual(status, 400, arguments)
            self.assertIn(part, told["error"])
        self.assertEqual(self.b.consumers, {})

    def test_an_id_that_is_none_or_of_no_message_here_is_refused(self) -> None:
        reader = self.reader("consumer=billing&count=1")
        self.send(self.a, *range(3))
        epoch = self.a.status().node.epoch
        for id, status in (
            ("", 400),
            ("run.7", 400),
            (self.id_of(1) + "0" * 20, 400),
            (self.id_of(4), 404),
            (self.id_of(0), 400),
            (f"{self.a.id.decode()}/{epoch + 1}/1", 404),
            (f"nobody/{epoch}/1", 404),
        ):
            body = json.dumps({"consumer": "billing", "id": id})
            self.assertEqual(self.ask("POST", "/ack", body)[0], status, id)
            if id:
                client = self.reader(last_event_id=id)
                self.assertEqual(client.answer()[0], status, id)
        self.assertEqual((self.heard(reader), self.lag), ([0], 3))
        self.assertEqual(self.heard(self.reader()), [0, 1, 2])

    def test_one_that_the_present_reader_was_not_given_is_refused(self) -> None:
        reader = self.reader()
        self.send(self.a, 0)
        reader.transport.producer.pauseProducing()
        self.send(self.a, 1, 2)
        status, told = self.ack(2)
        self.assertEqual(
            (status, told["error"]), (404, f"the consumer was given no message {self.id_of(2)}")
        )
        self.assertEqual(self.lag, 3)

    def test_one_that_no_reader_was_given_yet_is_refused_and_comes(self) -> None:
        self.reader().lose()
        self.send(self.a, *range(3))
        self.assertEqual((self.ack(1)[0], self.lag), (404, 3))
        reader = self.reader("consumer=billing&count=1")
        self.assertEqual(self.heard(reader), [0])
        self.assertEqual((self.ack(2)[0], self.lag), (404, 3))
        self.assertEqual(self.reader(last_event_id=self.id_of(3)).answer()[0], 404)
        self.assertEqual((self.ack(1)[0], self.ack(1)[0], self.lag), (200, 200, 2))
        self.assertEqual(self.heard(self.reader()), [1, 2])

    def test_nor_is_a_direct_message_taken_that_no_reader_was_given(self) -> None:
        reader = self.reader()
        reader.transport.producer.pauseProducing()
        self.result_of(self.a.send_to(self.b.id, "direct"), after=1)
        self.assertEqual(self.ack(-1)[0], 404)
        reader.lose()
        self.assertEqual(self.ack(-1)[0], 404)
        self.assertEqual(self.heard(self.reader()), ["direct"])

    def test_after_a_restart_one_counts_that_may_have_been_given_before_and_none_behind(self) -> None:
        self.reader().lose()
        self.send(self.a, *range(3))
        self.stop(self.b, after=2)
        self.b = self.started(limits=KEPT)
        self.link((self.b, self.a))
        self.serve(self.b)
        self.send(self.a, 3)
        self.assertEqual((self.ack(4)[0], self.lag), (404, 4))
        self.assertEqual((self.ack(2)[0], self.lag), (200, 2))

    def test_a_consumer_that_is_not_there_is_not_made_by_an_id(self) -> None:
        self.send(self.a, 1)
        self.assertEqual(self.ack(1)[0], 404)
        self.assertEqual(self.reader(last_event_id=self.id_of(1)).answer()[0], 404)
        self.assertEqual(self.b.consumers, {})

    def test_a_consumer_is_forgotten_when_nobody_has_it_open(self) -> None:
        reader = self.reader()
        self.assertEqual(self.ask("POST", "/forget", '{"consumer": "billing"}')[0], 409)
        reader.lose()
        told = {"forgotten": True, "consumer": "billing"}
        self.assertEqual(self.ask("POST", "/forget", '{"consumer": "billing"}'), (200, told))
        self.assertEqual(self.ask("POST", "/forget", '{"consumer": "billing"}')[0], 404)
        for body in ("{}", '{"consumer": "billing", "member": "db"}'):
            self.assertEqual(self.ask("POST", "/forget", body)[0], 400)
        self.assertEqual(self.b.consumers, {})

    def test_a_node_that_is_stopped_has_none(self) -> None:
        self.stop(self.b)
        self.assertEqual(self.ask("GET", "/messages?consumer=billing")[0], 503)


class RecipeTests(TestCase):
    """The recipes of docs/consumers.rst for shells, with curl."""

    async def test_a_program_that_fails_gets_the_message_again(self) -> None:
        if shutil.which("curl") is None:
            raise SkipTest("this needs curl")
        folder = Path(tempfile.mkdtemp())  # its path is short, as that of a socket has to be
        self.addCleanup(shutil.rmtree, folder)
        node = MeshService(reactor, listen=("tcp:0:interface=127.0.0.1",))
        author = MeshService(reactor, listen=())
        for service in (node, author, Control(reactor, node, folder / "node.sock")):
            service.startService()
            self.addCleanup(service.stopService)
        await author.connect(*node.addresses[0])
        node.messages(name="billing").close()
        for number in range(4):
            author.send(number)
        await eventually(lambda: node.consumers["billing"].lag == 4)
        one_by_one, acknowledged = re.findall(r"code-block:: bash\n\n((?:    .*\n|\n)+)", CONSUMERS)
        charge = 'charge() {{ echo "$1" >> charged; [[ $1 != *"[{}]"* ]]; }}\n'
        for fails in (1, 3):
            await run(folder, charge.format(fails) + one_by_one)
            self.assertEqual(node.consumers["billing"].lag, 4 - fails)
        charged = [json.loads(line)["packets"] for line in (folder / "charged").read_text().splitlines()]
        self.assertEqual(charged, [[0], [1], [1], [2], [3]])
        last = f"{author.id.decode()}/{author.status().node.epoch}/4"
        self.assertIn(b'"lag":0', await run(folder, f"last={last}\n{acknowledged}"))


def run(folder: Path, script: str) -> Deferred[bytes]:
    """What a script for bash prints."""
    arguments = ("-c", textwrap.dedent(script))
    return getProcessOutput("/bin/bash", arguments, os.environ, str(folder), reactor)
